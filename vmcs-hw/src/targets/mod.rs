//! Targets by their names, such as `bochs@2.7` or `metal:/dev/ttyS0`.
//!
//! A [`TargetName`] is what a person types; [`TargetName::machines`] finds the [`Machine`]s that it means here, each of which
//! can be opened as often as needed. [`present`] lists what there is. Two names mean no machine of this crate: `emu`, the
//! emulator, which is that of another crate, and `replay`, a recording.
//!
//! ```no_run
//! use vmcs_hw::metal::MetalOptions;
//! use vmcs_hw::targets::TargetName;
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let name: TargetName = "bochs@2.7".parse()?;
//! let target = name.machine(Some("corei7_skylake_x"))?.open(&MetalOptions::default())?;
//! assert_eq!(target.implementation().to_string(), "Bochs 2.7 corei7_skylake_x");
//! # Ok(())
//! # }
//! ```

mod choose;
mod machine;
mod name;
mod present;

pub use choose::{ChoiceError, Cpus, default_model, find_bochs};
pub use machine::Machine;
pub use name::{BochsChoice, NotATarget, TargetName};
pub use present::{Present, present};
