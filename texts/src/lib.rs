//! What people hand to the `vmcs` command: VMCS images, the cases that change them, and VMCS dumps out of kernel logs.
//!
//! Texts in, values out: nothing here opens a file. Whatever the text is, it is read or refused with the line and what was
//! expected, in time and memory that do not grow faster than the text.
#![forbid(unsafe_code)]

pub mod answer;
pub mod case;
pub mod diagnosis;
pub mod dump;
pub mod image;
mod json;
pub mod near;

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {message}")]
pub struct LineError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it, and what was expected.
    pub message: String,
}
