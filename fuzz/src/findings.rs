//! What is done with a case that disagrees: it is made as small as it gets, and kept as a file that any target can be
//! asked to repeat.

pub mod again;
pub mod case_file;
pub mod deviation_cases;
pub mod minimise;
