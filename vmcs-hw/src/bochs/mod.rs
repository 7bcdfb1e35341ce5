//! Bochs: an emulator whose VMX instructions a host without VT-x can execute.
//!
//! [`BochsInstall`] is a Bochs on this machine, [`BochsTarget`] one CPU model of it as a [`vmcs_case::Target`]. Each run boots
//! the probe from a ROM, with the cases on a raw disk; answers are read from the disk while it runs.

mod config;
mod error;
mod found;
mod image;
mod install;
pub mod packages;
mod process;
mod run;
mod scratch;
mod target;
mod version;

pub(crate) use config::Guest;
pub use error::BochsError;
pub use found::installs;
pub use install::BochsInstall;
pub use target::{BochsOptions, BochsTarget};
pub use version::BochsVersion;
