//! Campaigns, in which targets execute cases and their observations are judged.
//!
//! [`run()`] executes cases on one target, in their order. [`drive()`] runs the cases of a stream on several machines
//! at once, for as long as it is given, and can go on where it stopped.

mod done;
mod drive;
mod error;
mod plan;
mod report;
mod run;
mod setting;
mod shard;
mod state;
pub mod timeline;

pub use drive::{Budget, Campaign, CampaignOutcome, CampaignProcessor, drive};
pub use error::CampaignError;
pub use report::{Basis, CampaignReport, Finding, MergeError, add_counts, program_of};
pub use run::{Broken, Cases, run};
pub use setting::CampaignSetting;
pub use shard::Shard;
pub use state::{StateDirectory, StateError, reports as saved_reports};
