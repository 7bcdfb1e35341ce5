//! Bytes as cases of the default generator: the emulator does what the oracle permits. `vmcs diff --corpus` feeds what
//! libFuzzer finds interesting here to a machine.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcs_fuzz::{Generator, invariants};

fuzz_target!(|bytes: &[u8]| invariants::generated(Generator::Boundary, bytes));
