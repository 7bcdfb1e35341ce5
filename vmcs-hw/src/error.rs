//! Why a machine cannot be had or does not work.

use std::path::PathBuf;
use std::time::Duration;

use vmcs_case::TargetError;

use crate::bochs::BochsVersion;

/// A machine cannot be had or does not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
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
    Kvm(vmcs_kvm::KvmError),
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
    /// A program that was unpacked does not work.
    #[error("{tool} does not work: {output}")]
    ToolFailed {
        /// The program.
        tool: String,
        /// What it says.
        output: String,
    },
}

impl From<MachineError> for TargetError {
    fn from(error: MachineError) -> Self {
        Self::Machine(Box::new(error))
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
impl From<vmcs_kvm::KvmError> for MachineError {
    fn from(error: vmcs_kvm::KvmError) -> Self {
        Self::Kvm(error)
    }
}
