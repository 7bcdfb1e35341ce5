//! The VMX instructions except VMLAUNCH and VMRESUME, one file for each group. SDM 31.3, VMX Instructions.
//!
//! Each method tests in the order of the SDM's pseudo-code, because an instruction with several faults reports the
//! first.

mod fields;
mod invalidate;
mod operation;
mod pointers;
mod vmcall;
mod vmfunc;
