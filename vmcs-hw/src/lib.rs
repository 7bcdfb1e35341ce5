//! Machines that execute the real VMX instructions, as [`vmcs_case::Target`]s.
//!
//! [`bochs::BochsTarget`] is an emulated processor, [`kvm::KvmTarget`] KVM's emulation of one over a real processor,
//! [`kvm::KvmOnBochs`] both, [`metal::MetalTarget`] a machine at the other end of a serial line. The probe that executes the
//! cases there is embedded in this crate ([`probe_image`]).

mod answers;
pub mod bochs;
mod error;
pub mod kvm;
pub mod metal;
pub mod probe_image;
mod run;

pub use error::MachineError;
