//! Entries that return from SMM under the dual-monitor treatment.

use super::{Failure, aligned_4k, checks};
use crate::context::EntryContext;
use crate::controls::Entry;
use crate::cpu::ExecutiveVmcs;
use crate::field;
use crate::formats::event_type::OTHER_EVENT;
use crate::memory::ReadMemory;
use crate::vmcs::{ReadFields, Unknown};

checks! {
    /// Checks that a VM entry makes in addition, or differently, when it returns from SMM.
    pub enum SmmCheck, ControlsAndHost, sdm "32.15.4" "VM Entries that Return from SMM", fails Failure::valid(16), |c|
    [seldom] when c.returns_from_smm(), "the entry returns from SMM" => {
        /// Bits 11:0 of the executive-VMCS pointer are 0.
        ExecutiveAlign "smm.exec-vmcs.align" [EXECUTIVE_VMCS_POINTER] =>
            aligned_4k(c.get(field::EXECUTIVE_VMCS_POINTER));
        /// The executive-VMCS pointer does not exceed the physical-address width.
        ExecutiveWidth "smm.exec-vmcs.width" [EXECUTIVE_VMCS_POINTER] =>
            c.address_fits(c.get(field::EXECUTIVE_VMCS_POINTER));
        /// The dword at the executive-VMCS pointer is the VMCS revision identifier.
        ExecutiveRevision "smm.exec-vmcs.revision" [EXECUTIVE_VMCS_POINTER] => executive_revision_matches(c);
        /// With “deactivate dual-monitor treatment” 0 and a pointer that is not the VMXON pointer, the executive VMCS
        /// is launched.
        ExecutiveLaunched "smm.exec-vmcs.launched" [EXECUTIVE_VMCS_POINTER, VM_ENTRY_CONTROLS] -> Failure::valid(17) =>
            c.entry().contains(Entry::DEACTIVATE_DUAL_MONITOR_TREATMENT)
                || returns_to_root(c)
                || executive(c).launched;
        /// With “deactivate dual-monitor treatment” 1, the executive-VMCS pointer is the VMXON pointer.
        ExecutiveDeactivate "smm.exec-vmcs.deactivate-needs-vmxon-ptr" [EXECUTIVE_VMCS_POINTER, VM_ENTRY_CONTROLS]
            -> Failure::valid(18) =>
            !c.entry().contains(Entry::DEACTIVATE_DUAL_MONITOR_TREATMENT) || returns_to_root(c);
        /// The VM-execution controls of the executive VMCS pass the checks on VM-execution control fields, unless the
        /// pointer is the VMXON pointer.
        ExecutiveControls "smm.exec-vmcs.controls" [EXECUTIVE_VMCS_POINTER] -> Failure::valid(25) =>
            returns_to_root(c) || executive(c).controls_valid;
        /// An entry that stays in VMX root operation does not inject a pending MTF VM exit.
        InjectMtfToRoot "smm.inject.no-mtf-to-root" [VM_ENTRY_INTERRUPTION_INFORMATION, EXECUTIVE_VMCS_POINTER]
            -> Failure::valid(7) =>
            !(returns_to_root(c) && c.injects(OTHER_EVENT) && c.event().vector() == 0);
    }
}

/// The entry returns to VMX root operation: the executive-VMCS pointer is the VMXON pointer.
fn returns_to_root<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    c.get(field::EXECUTIVE_VMCS_POINTER) == c.cpu().vmxon_pointer
}

/// Whether the dword at the executive-VMCS pointer is right. Memory is read only if the pointer itself passes its checks.
fn executive_revision_matches<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    let pointer = c.get(field::EXECUTIVE_VMCS_POINTER);
    !aligned_4k(pointer)
        || !c.address_fits(pointer)
        || c.read_u32(pointer) == c.msr(crate::msr::CapabilityMsr::Basic).revision()
}

/// What is known of the executive VMCS. If nothing is, this is one that passes every check, and the check that asked is
/// undecidable.
fn executive<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> ExecutiveVmcs {
    c.cpu().executive.unwrap_or_else(|| {
        c.met_unknown(Unknown::ExecutiveVmcs);
        ExecutiveVmcs { launched: true, controls_valid: true }
    })
}
