//! A pure model of the Intel VMCS: its fields, its launch state, and every check of a VM entry.
//!
//! [`EntryAttempt`] says which instruction executes on which processor; `on` adds the VMCS and memory. The [`VmEntry`] that it
//! returns can be asked for the violated checks, for every outcome that the architecture permits, and for explanations.
//! The crate uses neither `std` nor an allocator nor `unsafe` code, and it does not panic. Section numbers are those of the 2024
//! editions of the SDM.
//!
//! ```
//! use vmcs_model::memory::ZeroMemory;
//! use vmcs_model::{Capabilities, CpuProfile, CpuState, EntryAttempt, baseline, field};
//!
//! // A profile is filled with the capability MSRs and CPUID leaves of a processor. Of this one nothing is known,
//! // not even whether it has Intel 64.
//! let capabilities = Capabilities::new(&CpuProfile::default());
//! let mut vmcs = baseline::plain_64bit(&capabilities);
//! vmcs.set_raw(field::GUEST_RFLAGS.id(), 0);
//! let cpu = CpuState::host_64();
//! let entry = EntryAttempt::vmlaunch(&cpu, &capabilities).on(&vmcs, &ZeroMemory);
//! let check = "guest.rflags.bit1".parse().expect("it is the id of a check");
//! assert!(entry.violations().contains(check));
//! println!("{}", entry.explain(check));
//! ```
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
