//! Cases, which are what a processor is asked, and observations, which are its answers.
//!
//! A [`Case`] is a short program of VMX instructions; whatever implements [`Target`] executes it and answers with an
//! [`Observation`]. This crate holds both as values and as files, without any machine. [`program`] is a case as JSON,
//! [`profile`] is a processor as JSON, and [`recording`] is a file of cases with their observations, which is a target itself.
//! [`latency`] has the cases that measure how long a VM entry takes. [`number`] and [`lines`] read numbers and lines for all of
//! these files. The instructions of a program and their results are those of the probe's language, [`vmcs_wire`].
//!
//! ```
//! use vmcs_case::Op;
//! use vmcs_case::profile::NamedProfile;
//! use vmcs_case::program::Program;
//! use vmcs_model::Capabilities;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let line = r#"{"id": "first", "memory": [{"address": "0x10000", "u32": "revision"}],
//!                "ops": [{"op": "vmxon", "address": "0x10000"}]}"#;
//! let program: Program = serde_json::from_str(line)?;
//! // What the dword "revision" is depends on the processor.
//! let processor = NamedProfile::by_name("Tiger Lake")?;
//! let revision = Capabilities::new(&processor.profile).revision();
//! let case = program.to_case(revision, &[])?;
//! assert_eq!(case.ops[1], Op::Vmxon { address: 0x10000 });
//! # Ok(())
//! # }
//! ```

pub mod answer;
mod case;
mod error;
pub mod latency;
pub mod lines;
pub mod number;
mod probe_state;
pub mod profile;
pub mod program;
pub mod recording;
mod target;

pub use case::{Case, End, Observation, Session};
pub use error::TargetError;
pub use probe_state::{PROBE_ADDRESSES, probe_host};
pub use target::{CpuClock, CpuidReading, Implementation, ProbeReport, Target};
pub use vmcs_wire::profile::FieldReport;
pub use vmcs_wire::{Ending, NO_VIOLATION, Op, Start, StepResult, Timed, layout};
