//! Failures of the machinery around a target.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::bochs::BochsVersion;

/// The machinery failed. What a processor answers is never one of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The probe is built on x86-64 Linux only, and this program was not.
    #[error("this program was built on a host that cannot build the probe (it takes x86-64 Linux)")]
    NoProbe,
    /// The embedded probe is not what the ROM's maker expects.
    #[error("the embedded probe cannot be made into a ROM: {0}")]
    BadProbe(&'static str),
    /// The first process of a Linux in Bochs is built where there is a static C library, and this program was not.
    #[error(
        "this program was built without the part that runs under KVM inside Bochs: building that takes x86-64 Linux and a \
         static C library (Debian: `apt-get install libc6-dev`)"
    )]
    NoInit,
    /// A file is not a Linux kernel that can be started.
    #[error("the kernel cannot be started: {0}")]
    BadKernel(&'static str),
    /// KVM cannot be used, or failed.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[error(transparent)]
    Kvm(#[from] vmcs_kvm::KvmError),
    /// There is no Bochs.
    #[error(
        "no Bochs was found: neither `bochs-bin` nor `bochs` is in PATH (Debian: `apt-get install bochs bochs-term`; without root rights: `vmcs targets install bochs --suite sid`)"
    )]
    BochsMissing,
    /// Bochs is there but lacks a file.
    #[error("Bochs lacks {what}: {path} does not exist")]
    BochsIncomplete {
        /// What is missing.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The version of Bochs is older than what is supported.
    #[error("Bochs {found} is too old: {} or newer is needed", BochsVersion::OLDEST)]
    BochsTooOld {
        /// Version that was found.
        found: BochsVersion,
    },
    /// Bochs prints something else than expected.
    #[error("the output of {command} names no version of Bochs; it ended in:\n{output}")]
    NotBochs {
        /// What was started.
        command: String,
        /// Its last lines.
        output: String,
    },
    /// Bochs has no such CPU model.
    #[error("Bochs {version} has no CPU model {model:?}; it has: {}", models.join(", "))]
    UnknownModel {
        /// Version that was asked.
        version: BochsVersion,
        /// Model that was asked for.
        model: String,
        /// Models that there are.
        models: Vec<String>,
    },
    /// The machine ended before it took any work.
    #[error("the machine ended before it was ready; its last output was:\n{output}")]
    DiedAtStart {
        /// Last lines of output.
        output: String,
    },
    /// The machine neither ended nor used its processor.
    #[error("the machine made no progress and used no CPU time for {0:?}")]
    Stalled(Duration),
    /// The probe gave up and said why.
    #[error("the probe gave up: {0}")]
    Probe(String),
    /// The probe's answers do not decode.
    #[error("the probe's answer is garbled: {0}")]
    Garbled(&'static str),
    /// The session does not fit what probe and host agreed on.
    #[error("the session is too large: {0}")]
    SessionTooLarge(&'static str),
    /// A case does not fit into a batch of its own.
    #[error("case {0} is too large")]
    CaseTooLarge(usize),
    /// The name of a serial line cannot be understood.
    #[error("{0:?} is no serial line: expected a device or a socket's path, and perhaps @ and a number of baud")]
    BadLine(String),
    /// The serial line does not answer.
    #[error(
        "nothing answers at {place} for {waited:?}: is the machine started from the image of `vmcs metal iso`, the line \
         connected, and its speed {baud} baud at both ends?"
    )]
    NoAnswer {
        /// The line.
        place: String,
        /// How long it was tried.
        waited: Duration,
        /// Its speed.
        baud: u32,
    },
    /// The probe at the other end is of another version.
    #[error("the probe speaks version {found} of the protocol, this program {expected}: build the image anew")]
    ProbeVersion {
        /// Version of the probe.
        found: u8,
        /// Version of this program.
        expected: u8,
    },
    /// Somebody wants to stop.
    #[error("stopped")]
    Stopped,
    /// A program that was unpacked does not work.
    #[error("{tool} does not work: {output}")]
    ToolFailed {
        /// The program.
        tool: String,
        /// What it says.
        output: String,
    },
    /// A recording was asked for something else than its cases.
    #[error("the recording does not hold {0}")]
    NotRecorded(&'static str),
    /// A file or process operation failed.
    #[error("{action}")]
    Io {
        /// What was attempted.
        action: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl TargetError {
    /// For `map_err`: says what was attempted.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}
