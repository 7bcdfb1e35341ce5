//! Checks on VM-exit control fields.

use super::{Failure, checks, msr_area_last_byte};
use crate::controls::{Exit, PinBased};
use crate::field::{self, FieldValue};
use crate::msr::CapabilityMsr;

checks! {
    /// Checks on VM-exit control fields.
    pub enum ExitControlCheck, ControlsAndHost, sdm "27.2.1.2" "VM-Exit Control Fields", fails Failure::valid(7), |c|
    when true, "" => {
        /// Every bit that the processor reports as must-be-1 is 1.
        ExitAllowed0 "ctl.exit1.reserved-bits.allowed0" [PRIMARY_VM_EXIT_CONTROLS] =>
            c.exit_allowed().missing(c.exit().to_raw()) == 0;
        /// Every bit that the processor reports as must-be-0 is 0.
        ExitAllowed1 "ctl.exit1.reserved-bits.allowed1" [PRIMARY_VM_EXIT_CONTROLS] =>
            c.exit_allowed().forbidden(c.exit().to_raw()) == 0;
    }
    [seldom] when c.exit().contains(Exit::ACTIVATE_SECONDARY_CONTROLS), "“activate secondary controls” is 1" => {
        /// No unsupported bit is 1. The word counts as 0, and is not checked, unless it is activated.
        SecondaryExitReserved "ctl.exit2.reserved-bits" [SECONDARY_VM_EXIT_CONTROLS, PRIMARY_VM_EXIT_CONTROLS] =>
            c.msr(CapabilityMsr::Exit2).secondary_exit.forbidden(c.secondary_exit().to_raw()) == 0;
    }
    when !c.returns_from_smm(), "the entry does not return from SMM" => {
        /// “save VMX-preemption timer value” requires “activate VMX-preemption timer”.
        SavePreemptionTimer "ctl.exit.save-preemption-timer"
            [PRIMARY_VM_EXIT_CONTROLS, PIN_BASED_VM_EXECUTION_CONTROLS] =>
            !c.exit().contains(Exit::SAVE_VMX_PREEMPTION_TIMER_VALUE)
                || c.pin().contains(PinBased::ACTIVATE_VMX_PREEMPTION_TIMER);
    }
    when c.get(field::VM_EXIT_MSR_STORE_COUNT) != 0, "the VM-exit MSR-store count is not 0" => {
        /// Bits 3:0 of the VM-exit MSR-store address are 0.
        StoreAlign "ctl.exit-msr-store.align" [VM_EXIT_MSR_STORE_ADDRESS, VM_EXIT_MSR_STORE_COUNT] => c.get(field::VM_EXIT_MSR_STORE_ADDRESS) & 0xF == 0;
        /// The VM-exit MSR-store address does not exceed the physical-address width.
        StoreWidth "ctl.exit-msr-store.width" [VM_EXIT_MSR_STORE_ADDRESS, VM_EXIT_MSR_STORE_COUNT] => c.address_fits(c.get(field::VM_EXIT_MSR_STORE_ADDRESS));
        /// The last byte of the area, address + 16 × count − 1, does not exceed the physical-address width.
        StoreLastByte "ctl.exit-msr-store.last-byte-width" [VM_EXIT_MSR_STORE_ADDRESS, VM_EXIT_MSR_STORE_COUNT] =>
            msr_area_last_byte(c.get(field::VM_EXIT_MSR_STORE_ADDRESS), c.get(field::VM_EXIT_MSR_STORE_COUNT)).is_some_and(|last| c.address_fits(last));
    }
    when c.get(field::VM_EXIT_MSR_LOAD_COUNT) != 0, "the VM-exit MSR-load count is not 0" => {
        /// Bits 3:0 of the VM-exit MSR-load address are 0.
        LoadAlign "ctl.exit-msr-load.align" [VM_EXIT_MSR_LOAD_ADDRESS, VM_EXIT_MSR_LOAD_COUNT] => c.get(field::VM_EXIT_MSR_LOAD_ADDRESS) & 0xF == 0;
        /// The VM-exit MSR-load address does not exceed the physical-address width.
        LoadWidth "ctl.exit-msr-load.width" [VM_EXIT_MSR_LOAD_ADDRESS, VM_EXIT_MSR_LOAD_COUNT] => c.address_fits(c.get(field::VM_EXIT_MSR_LOAD_ADDRESS));
        /// The last byte of the area, address + 16 × count − 1, does not exceed the physical-address width.
        LoadLastByte "ctl.exit-msr-load.last-byte-width" [VM_EXIT_MSR_LOAD_ADDRESS, VM_EXIT_MSR_LOAD_COUNT] =>
            msr_area_last_byte(c.get(field::VM_EXIT_MSR_LOAD_ADDRESS), c.get(field::VM_EXIT_MSR_LOAD_COUNT)).is_some_and(|last| c.address_fits(last));
    }
}
