//! What people hand to the `vmcs` command: VMCS images, the cases that change them, and VMCS dumps out of kernel logs.
//!
//! This crate makes values of texts and opens no files. Every text is either read, or refused with the line and what was
//! expected there. That takes time and memory that do not grow faster than the text.
//!
//! ```
//! use vmcs_model::field::GUEST_RIP;
//! use vmcs_texts::image::{Image, Syntax};
//!
//! let image = Image::parse("[fields]\nguest_rip = 0x1000", Syntax::Toml).expect("it is an image");
//! assert_eq!(image.to_vmcs().get(GUEST_RIP), 0x1000);
//!
//! let error = Image::parse("[fields]\nguest_rap = 0x1000", Syntax::Toml).unwrap_err();
//! assert_eq!(error.line, 2);
//! ```
#![forbid(unsafe_code)]

pub mod answer;
pub mod case;
pub mod diagnosis;
pub mod dump;
pub mod explanation;
pub mod image;
pub mod input;
mod json;
pub mod known_processor;
pub mod log;
mod names;
pub mod partial_entry;
pub mod processor;
pub mod question;
pub mod similar_names;

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {message}")]
pub struct LineError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it, and what was expected.
    pub message: String,
}
