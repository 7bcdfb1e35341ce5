//! Any bytes as a case of the generator `boundary`: the emulator does what the oracle permits, and the case survives its
//! text. `vmcs diff --corpus DIR` feeds what was found to a machine.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcs_fuzz::{Generator, invariants};

fuzz_target!(|bytes: &[u8]| invariants::generated(Generator::Boundary, bytes));
