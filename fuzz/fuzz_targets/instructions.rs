//! A fuzz target for programs of VMX instructions on the emulator, which must not panic and must keep the rules of the
//! launch state.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcs_fuzz::invariants;

fuzz_target!(|bytes: &[u8]| invariants::program(bytes));
