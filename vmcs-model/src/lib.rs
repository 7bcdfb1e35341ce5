//! A pure model of the Intel VMCS: its fields, its launch state, and every check of a VM entry.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod baseline;
pub mod capabilities;
pub mod checks;
pub mod context;
pub mod controls;
pub mod cpu;
pub mod explain;
pub mod field;
pub mod formats;
pub mod memory;
pub mod msr;
pub mod outcome;
pub mod partial;
pub mod profile;
pub mod registers;
pub mod verdict;
pub mod vmcs;

pub use capabilities::Capabilities;
pub use context::{EntryAttempt, EntryInstruction};
pub use cpu::{CpuState, LaunchState, VmxOperation};
pub use field::{Field, FieldId, FieldValue};
pub use memory::ReadMemory;
pub use outcome::{Exception, Outcome, ParseOutcomeError};
pub use profile::CpuProfile;
pub use verdict::{Permitted, Verdict, VmEntry};
pub use vmcs::{ReadFields, Vmcs};
