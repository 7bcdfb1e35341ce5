//! A finding as a file that any target can be asked to repeat: the program, what was observed and by whom, what the
//! model permits and why.

mod cause;
mod finding;
mod text;

pub use cause::{Cause, Origin};
pub use finding::{CaseFile, FieldChange, ModelReason};
pub use text::CaseFileError;
