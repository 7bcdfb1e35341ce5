//! Differential testing of [`vmcs_model`] against machines that execute the VMX instructions.
//!
//! A case is a short program of VMX instructions. The modules of this crate are the steps from a case to a finding:
//!
//! | step | module |
//! |---|---|
//! | the processor that cases are made for, and the valid images that they start from | [`processor`] |
//! | making cases: generators, their order, what takes a machine down | [`generate`] |
//! | the steps of a case, and what each ended in, as values | [`step`] |
//! | executing a case on the reference emulator | [`emulator`] |
//! | judging what a machine did: agreement, left open, known deviation, disagreement | [`oracle`] |
//! | what implementations are known to do otherwise than the SDM | [`deviations`] |
//! | which components a VMCS has, against what the capabilities promise | [`components`] |
//! | many cases on several machines, with a state on disk | [`campaign`] |
//! | making a disagreement small, and keeping it as a file | [`findings`] |
//! | which checks were tried, and on which side of them | [`coverage`] |
//! | values as the texts that files have | [`as_text`] |
//! | what is true for every input, for fuzz targets and property tests | [`invariants`] |
//!
//! Machines are chosen by their names and opened by the crate `vmcs-machines`; what people read of a campaign's result is
//! made by `vmcs-report`.
//!
//! This example makes a case, lets the emulator execute it, and judges what the emulator did:
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use vmcs_case::Target;
//! use vmcs_case::profile::NamedProfile;
//! use vmcs_fuzz::emulator::EmulatorTarget;
//! use vmcs_fuzz::oracle::{Judgement, Oracle};
//! use vmcs_fuzz::{Generator, TestProcessor};
//!
//! let profile = NamedProfile::by_name("Tiger Lake").expect("it is a shipped profile").profile.clone();
//! let processor = TestProcessor::new(&profile);
//! let session = processor.session();
//! let case = Generator::Images.case(&processor, 1, 0);
//!
//! let oracle = Oracle::new(&processor, &session, Vec::new());
//! let mut machine = EmulatorTarget::new(profile, "Tiger Lake");
//! let cases = vec![case.clone()];
//! machine
//!     .run(&session, &mut cases.into_iter(), &mut |_, observation| {
//!         assert!(matches!(oracle.judge(&case, &observation).judgement, Judgement::Agree | Judgement::Unspecified(_)));
//!         ControlFlow::Continue(())
//!     })
//!     .expect("the emulator needs no machinery");
//! ```
#![forbid(unsafe_code)]

pub mod as_text;
pub mod campaign;
pub mod components;
pub mod coverage;
pub mod deviations;
pub mod emulator;
pub mod findings;
pub mod generate;
pub mod invariants;
pub mod oracle;
pub mod processor;
pub mod step;

pub use generate::stream::{Generated, Stream};
pub use generate::{Generator, TestProcessor};
pub use processor::{BaseImage, Processor, volatile_areas};
