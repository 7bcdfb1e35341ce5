//! Any text as every file that the command reads: read or refused, never a panic, and written back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcs_fuzz::invariants;

fuzz_target!(|bytes: &[u8]| invariants::files(bytes));
