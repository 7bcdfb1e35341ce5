//! The results of campaigns, for people: tables for a terminal, one self-contained page for a browser, and the Markdown
//! document that says which machine agreed with the model on which check.
//!
//! A [`Run`] is a report of [`vmcs_fuzz::campaign`] together with its circumstances, such as the command line and the
//! throughput. The files that `vmcs diff --report` writes hold runs. A [`summary::Summary`] adds the runs of one
//! implementation up. Everything that is shown is made from these two.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runs = vmcs_report::run::read_all(&["report.json".into()])?;
//! vmcs_report::terminal::write(&mut std::io::stdout(), &runs)?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod chart;
mod counts;
mod error;
mod findings;
pub mod html;
pub mod run;
pub mod sections;
pub mod summary;
pub mod table;
pub mod terminal;
pub mod validation;

pub use error::ResultsError;
pub use run::Run;
