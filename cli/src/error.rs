//! What can go wrong in the command, and its exit status.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use vmcs_case::TargetError;
use vmcs_case::latency::LatencyError;
use vmcs_case::profile::FindProfileError;
use vmcs_case::recording::RecordingError;
use vmcs_debian::InstallError;
use vmcs_fuzz::campaign::{CampaignError, StateError};
use vmcs_fuzz::deviations::DeviationError;
use vmcs_fuzz::findings::case_file::CaseFileError;
use vmcs_hw::bochs::BochsError;
use vmcs_hw::metal::MetalError;
use vmcs_hw::metal::iso::IsoError;
use vmcs_hw::probe_image::EmbeddedError;
use vmcs_hw::targets::{ChoiceError, TargetName};
use vmcs_machines::MachineChoiceError;
use vmcs_report::ResultsError;
use vmcs_texts::LineError;

/// How a command that could do its work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Nothing is wrong: exit status 0.
    Clean,
    /// A violation or disagreement was found: exit status 1.
    Found,
    /// A failed entry is reported, and nothing that is known explains it: exit status 3.
    Unexplained,
}

impl Status {
    /// [`Status::Found`] if `found`.
    pub(crate) fn found(found: bool) -> Self {
        if found { Self::Found } else { Self::Clean }
    }
}

/// The input or the machinery was at fault: exit status 2.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// A line of an input file is wrong.
    #[error("{}:{line}: {message}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong and what was expected.
        message: String,
    },
    /// An input file is wrong as a whole, or cannot be read.
    #[error("{}: {message}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The arguments contradict each other or name something that does not exist.
    #[error("{0}")]
    Usage(String),
    /// A target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A target's name.
    #[error(transparent)]
    Choice(#[from] MachineChoiceError),
    /// What is embedded in this program.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// A measurement.
    #[error(transparent)]
    Latency(#[from] LatencyError),
    /// A campaign.
    #[error(transparent)]
    Campaign(#[from] CampaignError),
    /// The state of a campaign.
    #[error(transparent)]
    State(#[from] StateError),
    /// A profile.
    #[error(transparent)]
    Profile(#[from] FindProfileError),
    /// A recording.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// A deviation file.
    #[error(transparent)]
    Deviation(#[from] DeviationError),
    /// A case file.
    #[error(transparent)]
    CaseFile(#[from] CaseFileError),
    /// A file of results.
    #[error(transparent)]
    Report(#[from] ResultsError),
    /// An installation.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// A boot image.
    #[error(transparent)]
    Iso(#[from] IsoError),
    /// Standard output.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// A file that cannot be read or written, or is wrong.
    pub(crate) fn file(file: &Path, error: &dyn Display) -> Self {
        Self::File { file: file.to_owned(), message: error.to_string() }
    }

    /// A line of a file that is wrong.
    pub(crate) fn line(file: &Path, LineError { line, message }: LineError) -> Self {
        Self::Line { file: file.to_owned(), line, message }
    }
}

impl From<ChoiceError> for CliError {
    fn from(error: ChoiceError) -> Self {
        Self::Choice(error.into())
    }
}

/// What a person can do about an error, if this command has something for it.
fn advice(error: &CliError) -> Option<&'static str> {
    const BOCHS: &str = "Debian: `apt-get install bochs bochs-term`; without root rights: `vmcs targets install bochs \
                         --suite sid`";
    const SUITES: &str =
        "`vmcs targets install bochs --suite SUITE` unpacks one: bookworm has 2.7, trixie 3.0, sid 3.1";
    const KERNEL: &str = "`vmcs targets install kvm-on-bochs --suite SUITE` gets one: bookworm has 6.1, trixie 6.12, sid the \
                          newest";
    const RECORDING: &str = "a recording answers only the cases that are in it: use `vmcs diff --target replay` or `vmcs \
                             replay`";
    const LINE: &str = "`vmcs metal iso` makes the image";
    let target = match error {
        CliError::Choice(MachineChoiceError::Hardware(error)) => match error {
            ChoiceError::NoSuchBochs { .. } => return Some(SUITES),
            ChoiceError::NoKernel | ChoiceError::NoSuchKernel { .. } => return Some(KERNEL),
            ChoiceError::NoMachine(TargetName::Replay(_)) => return Some(RECORDING),
            ChoiceError::FixedProcessor(_) => return Some("leave --cpu out"),
            ChoiceError::NotFoundAgain(_) => return Some("say with --target where to execute the case"),
            ChoiceError::Target(target) => target,
            _ => return None,
        },
        CliError::Target(target) => target,
        _ => return None,
    };
    if let Some(BochsError::Missing) = target.machine() {
        return Some(BOCHS);
    }
    if let Some(MetalError::NoAnswer { .. } | MetalError::ProbeVersion { .. }) = target.machine() {
        return Some(LINE);
    }
    without_intel(target)
}

/// Advice for a host whose KVM cannot be used because it has no Intel processor with VMX.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn without_intel(error: &TargetError) -> Option<&'static str> {
    use vmcs_hw::kvm::{KvmError, Refusal};
    match error.machine() {
        Some(KvmError::Refused(Refusal::NoVmx | Refusal::Amd | Refusal::Software(_))) => {
            Some("`--target kvm@bochs` runs without one")
        }
        _ => None,
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn without_intel(_: &TargetError) -> Option<&'static str> {
    None
}

/// The error with its causes, and what can be done about it, on one line.
pub(crate) fn with_advice(error: &CliError) -> String {
    let text = one_line(error);
    match advice(error) {
        Some(advice) => format!("{text} ({advice})"),
        None => text,
    }
}

/// The error with its causes, on one line.
pub(crate) fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text.trim_end().replace('\n', " | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the libraries say of themselves does not name the command; the command adds what it can do about it.
    #[test]
    fn what_can_be_done_is_added_by_the_command() {
        let name: TargetName = "replay".parse().expect("a name");
        let kvm: TargetName = "kvm".parse().expect("a name");
        let silent = MetalError::NoAnswer { place: "x".to_owned(), waited: std::time::Duration::ZERO, baud: 9600 };
        let errors: [(CliError, &str); 7] = [
            (TargetError::from(BochsError::Missing).into(), "`vmcs targets install bochs --suite sid`"),
            (ChoiceError::from(TargetError::from(BochsError::Missing)).into(), "`vmcs targets install bochs"),
            (ChoiceError::NoSuchBochs { version: "9.9".to_owned(), known: Vec::new() }.into(), "trixie 3.0"),
            (ChoiceError::NoKernel.into(), "`vmcs targets install kvm-on-bochs"),
            (name.machine(None).expect_err("a recording").into(), "`vmcs diff --target replay`"),
            (kvm.machine(Some("x")).expect_err("a processor that is what it is").into(), "leave --cpu out"),
            (TargetError::from(silent).into(), "`vmcs metal iso`"),
        ];
        for (error, advice) in errors {
            let (said, shown) = (one_line(&error), with_advice(&error));
            assert!(!said.contains("`vmcs ") && !said.contains("--"), "{said}");
            assert!(shown.starts_with(&said) && shown.contains(advice), "{shown}");
        }
    }
}
