//! Every machine that cases can be executed on: those of [`vmcs_hw::targets`], and the emulator.
//!
//! A [`MachineChoice`] is a machine by its name, which can be opened as often as needed. A [`CapturedMachine`] was asked
//! what its processor is: what a campaign needs to know of it. A [`TestedMachine`] is open, and what it does is judged.
//!
//! ```
//! use vmcs_fuzz::deviations::Deviations;
//! use vmcs_hw::metal::MetalOptions;
//! use vmcs_machines::{MachineChoice, TestedMachine};
//!
//! let emulator = MachineChoice::one(&"emu".parse()?, Some("tiger-lake"))?;
//! let mut machine = TestedMachine::new(&emulator, emulator.open(&MetalOptions::default())?)?;
//! let case = vmcs_fuzz::Generator::Boundary.case(&machine.processor, 1, 0);
//! let judged = machine.judge(&[case], &Deviations::embedded()?)?;
//! assert_eq!(judged[0].judgement, vmcs_fuzz::oracle::Judgement::Agree);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod captured;
mod choice;
mod tested;

pub use captured::{CapturedMachine, OpenMachine, capture_each};
pub use choice::{MachineChoice, MachineChoiceError};
pub use tested::{Instead, TestedMachine};
