//! A fuzz target for any VMCS on any processor: the checks give a verdict, and all ways of asking for it agree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcs_fuzz::invariants;

fuzz_target!(|bytes: &[u8]| invariants::entry(bytes));
