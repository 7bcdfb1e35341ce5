//! Case files. Each holds a finding, so that any target can execute its case again: the program, what was observed on which
//! machine, and what the model permits and why.

mod cause;
mod finding;
mod text;

pub use cause::{Cause, Origin};
pub use finding::{CaseFile, FieldChange, ModelReason};
pub use text::CaseFileError;
