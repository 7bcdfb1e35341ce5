//! Programs of VMX instructions on the emulator: no panic, and the launch-state rules hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcs_fuzz::invariants;

fuzz_target!(|bytes: &[u8]| invariants::program(bytes));
