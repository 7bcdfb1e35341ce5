//! A fuzz target that takes any text as every kind of file that the command reads. The text is read or refused, never with a
//! panic, and what was read is the same after it was written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcs_fuzz::invariants;

fuzz_target!(|bytes: &[u8]| invariants::files(bytes));
