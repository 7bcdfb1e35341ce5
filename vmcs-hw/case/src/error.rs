//! Failures of the machinery around a target.

use std::error::Error;
use std::io;
use std::time::Duration;

/// The machinery failed. What a processor answers is never one of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The machine is missing or does not work; its own kind of error says why.
    #[error(transparent)]
    Machine(Box<dyn Error + Send + Sync>),
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
    /// The caller asked to stop.
    #[error("stopped")]
    Stopped,
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
    pub fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// What is wrong with the machine, if it is an error of that type.
    #[must_use]
    pub fn machine<E: Error + 'static>(&self) -> Option<&E> {
        match self {
            Self::Machine(error) => error.downcast_ref(),
            _ => None,
        }
    }
}
