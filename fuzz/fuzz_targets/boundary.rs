//! A fuzz target that makes a case of the generator `boundary` from any bytes. The emulator has to do what the oracle
//! permits, and the case has to be the same after it was written as text and read back. `vmcs diff --corpus DIR` gives the
//! inputs that were found to a machine.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcs_fuzz::{Generator, invariants};

fuzz_target!(|bytes: &[u8]| invariants::generated(Generator::Boundary, bytes));
