//! Targets that execute the real VMX instructions.
//!
//! A [`Target`] takes [`Case`]s, which are short programs of VMX instructions, and answers each with an
//! [`Observation`]. [`bochs::BochsTarget`] is an emulated processor, [`kvm::KvmTarget`] KVM's emulation of one over a real
//! processor, [`kvm::KvmOnBochs`] both, [`metal::MetalTarget`] a machine at the other end of a serial line. The probe that executes the cases there is embedded in this crate
//! ([`probe_image`]).

mod batch;
pub mod bochs;
mod case;
mod error;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod kvm;
pub mod latency;
pub mod lines;
pub mod metal;
pub mod number;
pub mod probe_image;
pub mod profile;
pub mod program;
pub mod recording;
mod target;

pub use case::{Case, End, Observation, Session};
pub use error::TargetError;
pub use target::{CpuClock, CpuidReading, Implementation, ProbeReport, Target};
pub use vmcs_wire::profile::FieldReport;
pub use vmcs_wire::{Ending, NO_VIOLATION, Op, Start, StepResult, Timed, layout};
