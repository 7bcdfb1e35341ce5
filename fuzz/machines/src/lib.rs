//! Every machine that cases can be executed on: those of [`vmcs_hw::targets`], and the emulator.
//!
//! A [`MachineChoice`] is a machine that was chosen by its name, and can be opened as often as needed. A [`CapturedMachine`] is
//! a machine with what it reported about its processor, which is all that a campaign needs to know of the machine. A
//! [`TestedMachine`] is an open machine whose answers are judged.
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
