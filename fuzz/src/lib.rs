//! Differential testing of [`vmcs_model`] against machines: generators of cases, the oracle that judges what a target
//! did, and campaigns over many cases.
#![forbid(unsafe_code)]

mod aftermath;
pub mod campaign;
pub mod case_file;
pub mod coverage;
pub mod deviations;
mod draft;
pub mod generators;
pub mod invariants;
pub mod machine;
mod memory;
pub mod minimise;
pub mod oracle;
mod reach;
mod risk;
pub mod rounding;
mod steering;
mod stream;
pub mod timeline;
mod world;

pub use generators::Generator;
pub use stream::{Generated, Stream};
pub use world::{Base, World, volatile_areas};
