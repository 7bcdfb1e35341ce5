//! The instructions, row by row of their specification, and what VM entries and VM exits do.

mod entry;
mod error_numbers;
mod exits;
mod failures;
mod fields;
mod invalidate;
mod launch_state;
mod loading;
mod modes;
mod operation;
mod pointers;
mod rows;
mod shipped_profiles;
mod support;
mod vmcall_vmfunc;
