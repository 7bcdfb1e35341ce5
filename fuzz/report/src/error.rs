//! What can go wrong with files of results.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use vmcs_fuzz::campaign::StateError;

/// A file of results that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// A file cannot be read or written, or does not hold results.
    #[error("{}: {message}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
}

impl ResultsError {
    pub(crate) fn file(file: &Path, error: &dyn Display) -> Self {
        Self::File { file: file.to_owned(), message: error.to_string() }
    }
}
