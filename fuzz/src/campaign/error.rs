//! Why a campaign could not go on.

use vmcs_case::{Implementation, TargetError};

use super::state::StateError;

/// A campaign that could not go on.
#[derive(Debug, thiserror::Error)]
pub enum CampaignError {
    /// The machinery of the target failed.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The machinery of one of several targets failed, time and again.
    #[error("{implementation} was given up")]
    GivenUp {
        /// The target.
        implementation: Implementation,
        /// How it failed the last time.
        #[source]
        source: Box<TargetError>,
    },
    /// The recording could not be written.
    #[error("cannot write the recording: {0}")]
    Record(#[source] std::io::Error),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
}
