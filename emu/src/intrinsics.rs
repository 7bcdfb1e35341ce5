//! The VMX instructions under the names of the C compilers' intrinsics, with their status values.
//!
//! A hypervisor that is written with these intrinsics can be tried on the emulator with the same calls. Each function
//! returns one of these status values:
//!
//! | Status | Meaning |
//! |---|---|
//! | 0 | The operation succeeded. |
//! | 1 | It failed, and the VM-instruction error field of the current VMCS says why. |
//! | 2 | It failed, and no status is available. |
//! | 3 | The real intrinsic would not have returned. |
//!
//! A real intrinsic does not return where control goes elsewhere: to a guest, to an exception handler, to the host's
//! RIP. The functions here return [`SUCCEEDED`] after a VM entry that is complete, and [`DIVERTED`] in the other cases.
//!
//! VMLAUNCH works only on a VMCS whose launch state is clear, VMRESUME only on one that was launched, and VMCLEAR makes
//! the launch state clear again. SDM 25.1, Overview.
//!
//! ```
//! use vmcs_emu::LogicalProcessor;
//! use vmcs_emu::intrinsics::{FAILED, FAILED_WITH_STATUS, SUCCEEDED, __vmx_on, __vmx_vmptrld, __vmx_vmread};
//! use vmcs_model::CpuProfile;
//! use vmcs_model::msr::CapabilityMsr;
//! use vmcs_model::profile::MsrValue;
//!
//! let mut profile = CpuProfile::default();
//! profile.set_msr(CapabilityMsr::Basic, MsrValue::Value(17));
//! profile.set_msr(CapabilityMsr::Cr0Fixed1, MsrValue::Value(0xFFFF_FFFF));
//! profile.set_msr(CapabilityMsr::Cr4Fixed1, MsrValue::Value(0xFFFF_FFFF));
//! let mut cpu = LogicalProcessor::new(&profile);
//! for region in [0x1000, 0x2000] {
//!     cpu.memory_mut().write_u32(region, 17);
//! }
//!
//! assert_eq!(__vmx_on(&mut cpu, &0x1008), FAILED); // The address is not aligned.
//! assert_eq!(__vmx_on(&mut cpu, &0x1000), SUCCEEDED);
//! assert_eq!(__vmx_vmptrld(&mut cpu, &0x2000), SUCCEEDED);
//! assert_eq!(__vmx_vmptrld(&mut cpu, &0x1000), FAILED_WITH_STATUS);
//! let mut error = 0;
//! assert_eq!(__vmx_vmread(&mut cpu, 0x4400, &mut error), SUCCEEDED);
//! assert_eq!(error, 10); // VMPTRLD with the VMXON pointer.
//! ```

use crate::{EntryResult, InstructionFailure, LogicalProcessor};

/// Status 0: the operation succeeded.
pub const SUCCEEDED: u8 = 0;
/// Status 1: the operation failed, and the VM-instruction error field of the current VMCS holds the error number
/// (VMfailValid).
pub const FAILED_WITH_STATUS: u8 = 1;
/// Status 2: the operation failed, and no error number is available (VMfailInvalid).
pub const FAILED: u8 = 2;
/// Status 3, which is the emulator's own: an exception, a VM exit, a failed VM entry or a processor that is shut down.
/// The real intrinsic would not have returned.
pub const DIVERTED: u8 = 3;

/// The status of an instruction.
fn status<T>(result: Result<T, InstructionFailure>) -> u8 {
    match result {
        Ok(_) => SUCCEEDED,
        Err(failure) => failure.status().unwrap_or(DIVERTED),
    }
}

/// The status of VMLAUNCH or VMRESUME.
fn entry_status(result: Result<EntryResult, InstructionFailure>) -> u8 {
    match result {
        Ok(EntryResult::Failed { .. } | EntryResult::Aborted(_)) => DIVERTED,
        other => status(other),
    }
}

/// VMXON with the region at `address`.
pub fn __vmx_on(cpu: &mut LogicalProcessor, address: &u64) -> u8 {
    status(cpu.vmxon(*address))
}

/// VMXOFF. The C intrinsic has no return value.
pub fn __vmx_off(cpu: &mut LogicalProcessor) -> u8 {
    status(cpu.vmxoff())
}

/// VMCLEAR of the VMCS at `address`.
pub fn __vmx_vmclear(cpu: &mut LogicalProcessor, address: &u64) -> u8 {
    status(cpu.vmclear(*address))
}

/// VMPTRLD of the VMCS at `address`.
pub fn __vmx_vmptrld(cpu: &mut LogicalProcessor, address: &u64) -> u8 {
    status(cpu.vmptrld(*address))
}

/// VMPTRST to `address`, which changes only on success. The C intrinsic has no return value.
pub fn __vmx_vmptrst(cpu: &mut LogicalProcessor, address: &mut u64) -> u8 {
    status(cpu.vmptrst().map(|pointer| *address = pointer))
}

/// VMREAD of the field with the encoding `field` into `value`, which changes only on success.
pub fn __vmx_vmread(cpu: &mut LogicalProcessor, field: u64, value: &mut u64) -> u8 {
    status(cpu.vmread(field).map(|read| *value = read))
}

/// VMWRITE of `value` to the field with the encoding `field`.
pub fn __vmx_vmwrite(cpu: &mut LogicalProcessor, field: u64, value: u64) -> u8 {
    status(cpu.vmwrite(field, value))
}

/// VMLAUNCH of the current VMCS.
pub fn __vmx_vmlaunch(cpu: &mut LogicalProcessor) -> u8 {
    entry_status(cpu.vmlaunch())
}

/// VMRESUME of the current VMCS.
pub fn __vmx_vmresume(cpu: &mut LogicalProcessor) -> u8 {
    entry_status(cpu.vmresume())
}
