//! The VMX instructions except VMLAUNCH and VMRESUME. SDM 31.3, VMX Instructions.

mod fields;
mod invalidate;
mod operation;
mod pointers;
mod vmcall;
mod vmfunc;
