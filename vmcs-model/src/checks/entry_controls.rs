//! Checks on VM-entry control fields, event injection included.

use super::{Failure, checks, msr_area_last_byte};
use crate::context::EntryContext;
use crate::controls::{Entry, Primary};
use crate::field::{self, FieldValue};
use crate::formats::event_type::{
    HARDWARE_EXCEPTION, NMI, OTHER_EVENT, PRIVILEGED_SOFTWARE_EXCEPTION, RESERVED, SOFTWARE_EXCEPTION,
    SOFTWARE_INTERRUPT,
};
use crate::memory::ReadMemory;
use crate::msr::CapabilityMsr;
use crate::profile::CpuidLeaf;
use crate::registers::{Cr0, Cr4};
use crate::vmcs::ReadFields;

checks! {
    /// Checks on VM-entry control fields.
    pub enum EntryControlCheck, ControlsAndHost, sdm "27.2.1.3" "VM-Entry Control Fields", fails Failure::valid(7), |c|
    when true, "" => {
        /// Every bit that the processor reports as must-be-1 is 1.
        EntryAllowed0 "ctl.entry.reserved-bits.allowed0" [VM_ENTRY_CONTROLS] =>
            c.entry_allowed().missing(c.entry().to_raw()) == 0;
        /// Every bit that the processor reports as must-be-0 is 0.
        EntryAllowed1 "ctl.entry.reserved-bits.allowed1" [VM_ENTRY_CONTROLS] =>
            c.entry_allowed().forbidden(c.entry().to_raw()) == 0;
        /// “entry to SMM” and “deactivate dual-monitor treatment” are not both 1.
        SmmBoth "ctl.entry.smm.not-both" [VM_ENTRY_CONTROLS] =>
            !c.entry().contains(Entry::ENTRY_TO_SMM.union(Entry::DEACTIVATE_DUAL_MONITOR_TREATMENT));
    }
    when !c.cpu().smm, "the processor is not in SMM" => {
        /// “entry to SMM” is 0.
        EntryToSmm "ctl.entry.smm.entry-to-smm-outside" [VM_ENTRY_CONTROLS] => !c.entry().contains(Entry::ENTRY_TO_SMM);
        /// “deactivate dual-monitor treatment” is 0.
        DeactivateDualMonitor "ctl.entry.smm.deactivate-outside" [VM_ENTRY_CONTROLS] =>
            !c.entry().contains(Entry::DEACTIVATE_DUAL_MONITOR_TREATMENT);
    }
    when c.get(field::VM_ENTRY_MSR_LOAD_COUNT) != 0, "the VM-entry MSR-load count is not 0" => {
        /// Bits 3:0 of the VM-entry MSR-load address are 0.
        LoadAlign "ctl.entry-msr-load.align" [VM_ENTRY_MSR_LOAD_ADDRESS, VM_ENTRY_MSR_LOAD_COUNT] => c.get(field::VM_ENTRY_MSR_LOAD_ADDRESS) & 0xF == 0;
        /// The VM-entry MSR-load address does not exceed the physical-address width.
        LoadWidth "ctl.entry-msr-load.width" [VM_ENTRY_MSR_LOAD_ADDRESS, VM_ENTRY_MSR_LOAD_COUNT] => c.address_fits(c.get(field::VM_ENTRY_MSR_LOAD_ADDRESS));
        /// The last byte of the area, address + 16 × count − 1, does not exceed the physical-address width.
        LoadLastByte "ctl.entry-msr-load.last-byte-width" [VM_ENTRY_MSR_LOAD_ADDRESS, VM_ENTRY_MSR_LOAD_COUNT] =>
            msr_area_last_byte(c.get(field::VM_ENTRY_MSR_LOAD_ADDRESS), c.get(field::VM_ENTRY_MSR_LOAD_COUNT)).is_some_and(|last| c.address_fits(last));
    }
    when c.event().valid(), "an event is injected" => {
        /// The event type is not 1, which is reserved.
        InjectReservedType "ctl.inject.type-1" [VM_ENTRY_INTERRUPTION_INFORMATION] =>
            c.event().event_type() != RESERVED;
        /// Event type 7 needs support of the monitor trap flag or of FRED transitions.
        InjectOtherSupported "ctl.inject.type-7-supported" [VM_ENTRY_INTERRUPTION_INFORMATION] =>
            !c.injects(OTHER_EVENT) || supports_mtf(c) || supports_fred(c);
        /// An NMI has vector 2.
        InjectNmiVector "ctl.inject.nmi-vector" [VM_ENTRY_INTERRUPTION_INFORMATION] =>
            !c.injects(NMI) || c.event().vector() == 2;
        /// A hardware exception has a vector of at most 31.
        InjectExceptionVector "ctl.inject.hw-exception-vector" [VM_ENTRY_INTERRUPTION_INFORMATION] =>
            !c.injects(HARDWARE_EXCEPTION) || c.event().vector() <= 31;
        /// An event of type 7 has vector 0 (pending MTF VM exit, where the monitor trap flag is supported) or, if
        /// the guest's CR4.FRED is 1, vector 1 (SYSCALL) or 2 (SYSENTER). A processor without FRED knows vector 0 only:
        /// the editions before FRED have no other, and that CR4.FRED is reserved there is found later.
        InjectOtherVector "ctl.inject.other-event-vector" [VM_ENTRY_INTERRUPTION_INFORMATION, GUEST_CR4] =>
            !c.injects(OTHER_EVENT) || (c.event().vector() == 0 && supports_mtf(c)) || injects_fred_call(c);
        /// An error code is delivered with a hardware exception of vector 8, 10-14 or 17 if the guest's CR0.PE is 1, unless
        /// IA32_VMX_BASIC[56] is 1. Where “unrestricted guest” and CR0.PE are both 0, the check is open: the SDM wants no
        /// error code, but processors take CR0.PE for 1 there (a Haswell gives error 7 without one). Such an entry fails
        /// in any case, for CR0 at the latest.
        InjectErrorCodeRequired "ctl.inject.errcode-required"
            [VM_ENTRY_INTERRUPTION_INFORMATION, GUEST_CR0, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            c.event().deliver_error_code()
                || !c.injects(HARDWARE_EXCEPTION)
                || !pushes_error_code(c.event().vector())
                || any_error_code(c)
                || outside_protected_mode(c) && (c.unrestricted_guest() || c.open_question());
        /// An error code is delivered with hardware exceptions only. IA32_VMX_BASIC[56] does not change that.
        InjectErrorCodeType "ctl.inject.errcode-forbidden-type" [VM_ENTRY_INTERRUPTION_INFORMATION] =>
            !c.event().deliver_error_code() || c.event().event_type() == HARDWARE_EXCEPTION;
        /// No error code is delivered if the guest's CR0.PE is 0. Where “unrestricted guest” is 0 as well, the check is open:
        /// the SDM makes no exception, but processors take CR0.PE for 1 there. Such an entry fails in any case, for CR0
        /// at the latest.
        InjectErrorCodeRealMode "ctl.inject.errcode-forbidden-realmode"
            [VM_ENTRY_INTERRUPTION_INFORMATION, GUEST_CR0, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            !c.event().deliver_error_code()
                || !outside_protected_mode(c)
                || !c.unrestricted_guest() && c.open_question();
        /// No error code is delivered with a hardware exception of vector 0-7, 9, 15, 16 or 18-31, unless
        /// IA32_VMX_BASIC[56] is 1.
        InjectErrorCodeVector "ctl.inject.errcode-forbidden-vector" [VM_ENTRY_INTERRUPTION_INFORMATION] =>
            !c.event().deliver_error_code()
                || !c.injects(HARDWARE_EXCEPTION)
                || c.event().vector() > 31
                || pushes_error_code(c.event().vector())
                || any_error_code(c);
        /// Bit 13 (nested exception) is 0 unless IA32_VMX_BASIC[58] is 1.
        InjectNestedSupported "ctl.inject.nested-exception-supported" [VM_ENTRY_INTERRUPTION_INFORMATION] =>
            !c.event().nested_exception() || nested_exceptions(c);
        /// Bit 13 (nested exception) is 1 for hardware exceptions only.
        InjectNestedType "ctl.inject.nested-exception-type" [VM_ENTRY_INTERRUPTION_INFORMATION] =>
            !c.event().nested_exception() || !nested_exceptions(c) || c.event().event_type() == HARDWARE_EXCEPTION;
        /// Bits 12 and 30:14 are 0.
        InjectReserved "ctl.inject.reserved-bits" [VM_ENTRY_INTERRUPTION_INFORMATION] =>
            !c.event().bit_12() && c.event().reserved_30_14() == 0;
        /// Bits 31:16 of the error code are 0 if it is delivered.
        InjectErrorCodeHigh "ctl.inject.errcode-high" [VM_ENTRY_EXCEPTION_ERROR_CODE, VM_ENTRY_INTERRUPTION_INFORMATION] =>
            !c.event().deliver_error_code() || c.get(field::VM_ENTRY_EXCEPTION_ERROR_CODE) >> 16 == 0;
        /// The instruction length of a software interrupt or software exception is at most 15.
        InjectLengthMax "ctl.inject.instr-len-max" [VM_ENTRY_INSTRUCTION_LENGTH, VM_ENTRY_INTERRUPTION_INFORMATION] =>
            !injects_software_event(c) || c.get(field::VM_ENTRY_INSTRUCTION_LENGTH) <= 15;
        /// The instruction length of a software interrupt, software exception, SYSCALL or SYSENTER is 0 only where
        /// IA32_VMX_MISC[30] is 1.
        InjectLengthZero "ctl.inject.instr-len-zero"
            [VM_ENTRY_INSTRUCTION_LENGTH, VM_ENTRY_INTERRUPTION_INFORMATION, GUEST_CR4] =>
            !(injects_software_event(c) || injects_fred_call(c))
                || c.get(field::VM_ENTRY_INSTRUCTION_LENGTH) != 0
                || c.msr(CapabilityMsr::Misc).misc & 1 << 30 != 0;
        /// The instruction length of SYSCALL and SYSENTER is at most 15.
        InjectFredLength "ctl.inject.fred-syscall-len"
            [VM_ENTRY_INSTRUCTION_LENGTH, VM_ENTRY_INTERRUPTION_INFORMATION, GUEST_CR4] =>
            !injects_fred_call(c) || c.get(field::VM_ENTRY_INSTRUCTION_LENGTH) <= 15;
    }
}

/// Hardware exceptions that push an error code: #DF, #TS, #NP, #SS, #GP, #PF, #AC.
const fn pushes_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17)
}

fn supports_mtf<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    c.primary_allowed().may() & u64::from(Primary::MONITOR_TRAP_FLAG.bits()) != 0
}

fn supports_fred<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    c.cpuid(CpuidLeaf::Extended1).fred()
}

/// Any hardware exception can be injected with or without an error code: IA32_VMX_BASIC\[56\].
fn any_error_code<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    c.msr(CapabilityMsr::Basic).basic & 1 << 56 != 0
}

/// Nested exceptions can be injected: IA32_VMX_BASIC\[58\].
fn nested_exceptions<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    c.msr(CapabilityMsr::Basic).basic & 1 << 58 != 0
}

/// The guest's CR0.PE is 0.
fn outside_protected_mode<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    !c.get(field::GUEST_CR0).contains(Cr0::PE)
}

/// A software interrupt, privileged software exception or software exception is injected.
fn injects_software_event<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    matches!(c.event().event_type(), SOFTWARE_INTERRUPT | PRIVILEGED_SOFTWARE_EXCEPTION | SOFTWARE_EXCEPTION)
}

/// SYSCALL or SYSENTER is injected into a guest that uses FRED.
fn injects_fred_call<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    c.injects(OTHER_EVENT)
        && matches!(c.event().vector(), 1 | 2)
        && c.get(field::GUEST_CR4).contains(Cr4::FRED)
        && supports_fred(c)
}
