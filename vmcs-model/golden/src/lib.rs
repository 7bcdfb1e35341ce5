//! What each check of a VM entry says, as examples: a smallest violation and its nearest legal neighbour, as lines of
//! text that tests and generators read.
#![forbid(unsafe_code)]

pub mod corpus;
mod memory;
pub mod profiles;

pub use memory::Sparse;
