//! Why a Bochs cannot be used.

use std::path::PathBuf;

use vmcs_case::TargetError;

use super::version::BochsVersion;

/// A Bochs cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BochsError {
    /// There is no Bochs.
    #[error("there is no Bochs: neither `bochs-bin` nor `bochs` is in PATH, and none was unpacked for this user")]
    Missing,
    /// Bochs is there but lacks a file.
    #[error("Bochs lacks {what}: {path} does not exist")]
    Incomplete {
        /// What is missing.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The version of Bochs is older than what is supported.
    #[error("Bochs {found} is too old: {} or newer is needed", BochsVersion::OLDEST)]
    TooOld {
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
}

impl From<BochsError> for TargetError {
    fn from(error: BochsError) -> Self {
        Self::Machine(Box::new(error))
    }
}
