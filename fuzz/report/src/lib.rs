//! The results of campaigns, for people: tables for a terminal, one self-contained page for a browser, and the Markdown
//! document that says which machine agreed with the model on which check.
//!
//! A [`Run`] is a report of [`vmcs_fuzz::campaign`] with what is known around it, and what the files hold that
//! `vmcs diff --report` writes. A [`summary::Summary`] adds the runs of one implementation; everything that is shown is
//! made from these two.
#![forbid(unsafe_code)]

mod chart;
mod findings;
pub mod html;
pub mod run;
pub mod sections;
pub mod summary;
pub mod table;
pub mod terminal;
pub mod validation;

use std::fmt::Display;
use std::path::{Path, PathBuf};

use vmcs_fuzz::campaign::StateError;

pub use run::Run;

/// A file of results that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
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

impl ReportError {
    fn file(file: &Path, error: &dyn Display) -> Self {
        Self::File { file: file.to_owned(), message: error.to_string() }
    }
}
