//! Machines that execute the real VMX instructions, as [`vmcs_case::Target`]s.
//!
//! [`bochs::BochsTarget`] is an emulated processor, [`kvm::KvmTarget`] is KVM's emulation of VMX over a real processor,
//! [`kvm::KvmOnBochs`] is a KVM over an emulated processor, and [`metal::MetalTarget`] is a machine at the other end of a serial
//! line. The probe that executes the
//! cases there is embedded in this crate ([`probe_image`]). [`targets`] opens each by its name:
//!
//! ```no_run
//! use vmcs_hw::metal::MetalOptions;
//! use vmcs_hw::targets::{TargetName, present};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! for target in present()? {
//!     println!("{}", target.name);
//! }
//! let name: TargetName = "bochs@3.1".parse()?;
//! let mut machine = name.machine(Some("arrow_lake"))?.open(&MetalOptions::default())?;
//! println!("{} VMCS components", machine.capture()?.fields.len());
//! # Ok(())
//! # }
//! ```

mod answers;
pub mod bochs;
pub mod kvm;
pub mod metal;
pub mod probe_image;
mod run;
pub mod targets;
