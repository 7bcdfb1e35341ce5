//! Findings: a case that disagrees is made as small as it gets, and kept as a file from which any target can execute it
//! again.

pub mod again;
pub mod case_file;
pub mod deviation_cases;
pub mod minimise;
