//! A fuzz target that damages dumps as loggers, mail programs and people do: what is read of them is what they showed before,
//! or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcs_fuzz::invariants;

fuzz_target!(|bytes: &[u8]| invariants::damage(bytes));
