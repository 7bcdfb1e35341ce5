//! Examples for each check of a VM entry: a smallest change of a valid image that violates it, and the nearest change that is
//! legal. Tests of the model, of the emulator and of real machines read them, and generators start from them. The examples are
//! lines of text; [`corpus`] describes their format.
//!
//! ```
//! use vmcs_golden::{corpus, profiles};
//! use vmcs_model::Capabilities;
//!
//! let lines = corpus::lines();
//! let line = lines.iter().find(|line| line.expected.violated == ["guest.rflags.bit1"]).expect("every check has a line");
//! let capabilities = Capabilities::new(&profiles::by_name(line.scene.profile()));
//! let stage = line.scene.on(&capabilities);
//! let verdict = stage.attempt(&capabilities).on(&stage.vmcs, &stage.memory).verdict();
//! assert_eq!(corpus::Expected::of(&verdict), line.expected);
//! ```
#![forbid(unsafe_code)]

pub mod corpus;
mod memory;
pub mod profiles;

pub use memory::Sparse;
