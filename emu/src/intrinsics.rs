//! The VMX instructions under the names of the C compilers' intrinsics, and with their status values.
//!
//! | Status | Meaning |
//! |---|---|
//! | 0 | The operation succeeded. |
//! | 1 | It failed, and the VM-instruction error field of the current VMCS says why. |
//! | 2 | It failed, and no status is available. |
//!
//! The real intrinsics do not return where control goes elsewhere: to a guest, to an exception handler, to the host's
//! RIP. The functions here return [`SUCCEEDED`] after a completed VM entry and [`DIVERTED`] in the other cases.
//!
//! The launch-state rules in these terms: VMLAUNCH works only on a VMCS that is clear, VMRESUME only on one that was
//! launched, and VMCLEAR makes it clear again. SDM 25.1, Overview.

use crate::{EntryResult, InstructionFailure, LogicalProcessor};

/// The operation succeeded.
pub const SUCCEEDED: u8 = 0;
/// The operation failed with the status in the VM-instruction error field.
pub const FAILED_WITH_STATUS: u8 = 1;
/// The operation failed without a status.
pub const FAILED: u8 = 2;
/// An exception, a VM exit or a failed VM entry: an intrinsic would not have returned.
pub const DIVERTED: u8 = 3;

fn status<T>(result: Result<T, InstructionFailure>) -> u8 {
    match result {
        Ok(_) => SUCCEEDED,
        Err(failure) => failure.status().unwrap_or(DIVERTED),
    }
}

fn entry_status(result: Result<EntryResult, InstructionFailure>) -> u8 {
    match result {
        Ok(EntryResult::Failed { .. } | EntryResult::Aborted(_)) => DIVERTED,
        other => status(other),
    }
}

/// VMXON.
pub fn __vmx_on(cpu: &mut LogicalProcessor, address: &u64) -> u8 {
    status(cpu.vmxon(*address))
}

/// VMXOFF. The C intrinsic returns nothing.
pub fn __vmx_off(cpu: &mut LogicalProcessor) -> u8 {
    status(cpu.vmxoff())
}

/// VMCLEAR.
pub fn __vmx_vmclear(cpu: &mut LogicalProcessor, address: &u64) -> u8 {
    status(cpu.vmclear(*address))
}

/// VMPTRLD.
pub fn __vmx_vmptrld(cpu: &mut LogicalProcessor, address: &u64) -> u8 {
    status(cpu.vmptrld(*address))
}

/// VMPTRST; `address` changes only on success. The C intrinsic returns nothing.
pub fn __vmx_vmptrst(cpu: &mut LogicalProcessor, address: &mut u64) -> u8 {
    status(cpu.vmptrst().map(|pointer| *address = pointer))
}

/// VMREAD; `value` changes only on success.
pub fn __vmx_vmread(cpu: &mut LogicalProcessor, field: u64, value: &mut u64) -> u8 {
    status(cpu.vmread(field).map(|read| *value = read))
}

/// VMWRITE.
pub fn __vmx_vmwrite(cpu: &mut LogicalProcessor, field: u64, value: u64) -> u8 {
    status(cpu.vmwrite(field, value))
}

/// VMLAUNCH.
pub fn __vmx_vmlaunch(cpu: &mut LogicalProcessor) -> u8 {
    entry_status(cpu.vmlaunch())
}

/// VMRESUME.
pub fn __vmx_vmresume(cpu: &mut LogicalProcessor) -> u8 {
    entry_status(cpu.vmresume())
}
