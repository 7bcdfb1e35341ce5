//! Checks on the non-register state of the guest-state area.

use super::{Failure, aligned_4k, checks};
use crate::context::EntryContext;
use crate::controls::{Entry, PinBased, Secondary};
use crate::field;
use crate::formats::event_type::{EXTERNAL_INTERRUPT, HARDWARE_EXCEPTION, NMI, OTHER_EVENT};
use crate::formats::{ActivityState, Interruptibility, PendingDebug};
use crate::memory::ReadMemory;
use crate::msr::CapabilityMsr;
use crate::outcome::Outcome;
use crate::profile::CpuidLeaf;
use crate::registers::Rflags;
use crate::vmcs::ReadFields;

checks! {
    /// Checks on guest non-register state: activity, interruptibility, pending debug exceptions and the VMCS link pointer.
    pub enum GuestNonRegisterCheck, GuestState, sdm "27.3.1.5" "Checks on Guest Non-Register State", fails Failure::guest_state(0), |c|
    when true, "" => {
        /// The activity state is 0 (active), 1 (HLT), 2 (shutdown) or 3 (wait for SIPI).
        ActivityRange "guest.activity.range" [GUEST_ACTIVITY_STATE] => activity(c).0 <= 3;
    }
    [seldom] when activity(c) != ActivityState::ACTIVE, "the guest will not be active" => {
        /// IA32_VMX_MISC[8:6] reports support of the activity state.
        ActivitySupported "guest.activity.supported" [GUEST_ACTIVITY_STATE] => activity_supported(c);
        /// DPL of SS is 0 if the activity state is HLT.
        HltDpl "guest.activity.hlt-dpl" [GUEST_ACTIVITY_STATE, GUEST_SS_ACCESS_RIGHTS] =>
            activity(c) != ActivityState::HLT || c.get(field::GUEST_SS_ACCESS_RIGHTS).dpl() == 0;
        /// There is no blocking by STI or by MOV SS.
        BlockingActive "guest.activity.blocking-needs-active" [GUEST_ACTIVITY_STATE, GUEST_INTERRUPTIBILITY_STATE] =>
            !blocking(c).intersects(Interruptibility::STI | Interruptibility::MOV_SS);
    }
    [seldom] when activity(c) != ActivityState::ACTIVE && c.event().valid(), "the guest will not be active and an event is injected" => {
        /// In HLT the event is an external interrupt, an NMI, a hardware exception with vector 1 (#DB) or 18 (#MC), or a
        /// pending MTF VM exit.
        InjectHlt "guest.activity.inject-hlt" [GUEST_ACTIVITY_STATE, VM_ENTRY_INTERRUPTION_INFORMATION] =>
            activity(c) != ActivityState::HLT
                || matches!(
                    (c.event().event_type(), c.event().vector()),
                    (EXTERNAL_INTERRUPT | NMI, _) | (HARDWARE_EXCEPTION, 1 | 18) | (OTHER_EVENT, 0)
                );
        /// In shutdown the event is an NMI or a hardware exception with vector 18 (#MC).
        InjectShutdown "guest.activity.inject-shutdown" [GUEST_ACTIVITY_STATE, VM_ENTRY_INTERRUPTION_INFORMATION] =>
            activity(c) != ActivityState::SHUTDOWN
                || matches!((c.event().event_type(), c.event().vector()), (NMI, _) | (HARDWARE_EXCEPTION, 18));
        /// In wait-for-SIPI there is no event to inject.
        InjectWaitForSipi "guest.activity.inject-wait-for-sipi" [GUEST_ACTIVITY_STATE, VM_ENTRY_INTERRUPTION_INFORMATION] =>
            activity(c) != ActivityState::WAIT_FOR_SIPI;
    }
    [seldom] when c.entry().contains(Entry::ENTRY_TO_SMM), "“entry to SMM” is 1" => {
        /// The activity state is not wait-for-SIPI.
        SmmWaitForSipi "guest.activity.smm-not-wfs" [GUEST_ACTIVITY_STATE, VM_ENTRY_CONTROLS] =>
            activity(c) != ActivityState::WAIT_FOR_SIPI;
    }
    when c.returns_to_root(), "the entry returns from SMM to VMX root operation" => {
        /// The activity state is not wait-for-SIPI. SDM 32.15.4.4, Checks on the Guest State Area.
        RootWaitForSipi "smm.guest.activity-not-wfs" [GUEST_ACTIVITY_STATE, EXECUTIVE_VMCS_POINTER] =>
            activity(c) != ActivityState::WAIT_FOR_SIPI;
    }
    when true, "" => {
        /// Bits 31:5 of the interruptibility state are 0.
        InterruptibilityReserved "guest.intr.reserved" [GUEST_INTERRUPTIBILITY_STATE] => blocking(c).bits() >> 5 == 0;
        /// There is not blocking both by STI and by MOV SS.
        StiMovSs "guest.intr.sti-and-movss" [GUEST_INTERRUPTIBILITY_STATE] =>
            !blocking(c).contains(Interruptibility::STI | Interruptibility::MOV_SS);
        /// There is no blocking by STI if RFLAGS.IF is 0.
        StiIf "guest.intr.sti-needs-if" [GUEST_INTERRUPTIBILITY_STATE, GUEST_RFLAGS] =>
            !blocking(c).contains(Interruptibility::STI) || c.get(field::GUEST_RFLAGS).contains(Rflags::IF);
    }
    [seldom] when c.injects(EXTERNAL_INTERRUPT), "an external interrupt is injected" => {
        /// There is no blocking by STI.
        ExternalInterruptSti "guest.intr.extint-sti" [GUEST_INTERRUPTIBILITY_STATE, VM_ENTRY_INTERRUPTION_INFORMATION] =>
            !blocking(c).contains(Interruptibility::STI);
        /// There is no blocking by MOV SS.
        ExternalInterruptMovSs "guest.intr.extint-movss" [GUEST_INTERRUPTIBILITY_STATE, VM_ENTRY_INTERRUPTION_INFORMATION] =>
            !blocking(c).contains(Interruptibility::MOV_SS);
    }
    [seldom] when c.injects(NMI), "an NMI is injected" => {
        /// There is no blocking by MOV SS.
        NmiMovSs "guest.intr.nmi-movss" [GUEST_INTERRUPTIBILITY_STATE, VM_ENTRY_INTERRUPTION_INFORMATION] =>
            !blocking(c).contains(Interruptibility::MOV_SS);
        /// There is no blocking by STI. Qualification 3 is reserved for this rule, which editions of the SDM left to the
        /// processor: it may report 0, or inject the NMI.
        NmiSti "guest.intr.nmi-sti" [GUEST_INTERRUPTIBILITY_STATE, VM_ENTRY_INTERRUPTION_INFORMATION]
            -> Failure::guest_state(3).or(Outcome::invalid_guest_state(0)).optional() =>
            !blocking(c).contains(Interruptibility::STI);
        /// There is no blocking by NMI if “virtual NMIs” is 1.
        VirtualNmi "guest.intr.virtual-nmi" [GUEST_INTERRUPTIBILITY_STATE, VM_ENTRY_INTERRUPTION_INFORMATION, PIN_BASED_VM_EXECUTION_CONTROLS] =>
            !c.guest_pin().contains(PinBased::VIRTUAL_NMIS) || !blocking(c).contains(Interruptibility::NMI);
    }
    when !c.cpu().smm, "the processor is not in SMM" => {
        /// There is no blocking by SMI.
        SmiOutside "guest.intr.smi-outside-smm" [GUEST_INTERRUPTIBILITY_STATE] => !blocking(c).contains(Interruptibility::SMI);
    }
    [seldom] when c.entry().contains(Entry::ENTRY_TO_SMM), "“entry to SMM” is 1" => {
        /// There is blocking by SMI.
        SmiEntry "guest.intr.smi-entry-to-smm" [GUEST_INTERRUPTIBILITY_STATE, VM_ENTRY_CONTROLS] =>
            blocking(c).contains(Interruptibility::SMI);
    }
    [seldom] when blocking(c).contains(Interruptibility::ENCLAVE), "the enclave-interruption bit is 1" => {
        /// There is no blocking by MOV SS.
        EnclaveMovSs "guest.intr.enclave-movss" [GUEST_INTERRUPTIBILITY_STATE] => !blocking(c).contains(Interruptibility::MOV_SS);
        /// The processor supports SGX.
        EnclaveSgx "guest.intr.enclave-sgx" [GUEST_INTERRUPTIBILITY_STATE] => c.cpuid(CpuidLeaf::Extended0).sgx();
    }
    when true, "" => {
        /// Bits 11:4, 13, 15 and 63:17 of the pending debug exceptions are 0. Where the processor detects bus locks, bit 11
        /// (BLD) is defined in the format of the field, yet the check still names bits 11:4: it is open whether a 1 fails.
        PendingReserved "guest.pdbg.reserved" [GUEST_PENDING_DEBUG_EXCEPTIONS] => pending_reserved_clear(c);
    }
    [seldom] when single_step_matters(c), "there is blocking by STI or MOV SS, or the activity state is HLT" => {
        /// BS (bit 14) of the pending debug exceptions is 1 if RFLAGS.TF is 1 and BTF (bit 1) of the IA32_DEBUGCTL field is 0.
        /// If “load debug controls” is 0 that field is not loaded, and it is open whether it still counts.
        BsSet "guest.pdbg.bs-must-be-set" [GUEST_PENDING_DEBUG_EXCEPTIONS, GUEST_INTERRUPTIBILITY_STATE, GUEST_ACTIVITY_STATE, GUEST_RFLAGS, GUEST_IA32_DEBUGCTL, VM_ENTRY_CONTROLS] =>
            pending(c).contains(PendingDebug::BS) || !steps_instructions(c);
        /// BS (bit 14) of the pending debug exceptions is 0 if RFLAGS.TF is 0 or BTF (bit 1) of the IA32_DEBUGCTL field is 1.
        /// If “load debug controls” is 0 that field is not loaded, and it is open whether it still counts.
        BsClear "guest.pdbg.bs-must-be-clear" [GUEST_PENDING_DEBUG_EXCEPTIONS, GUEST_INTERRUPTIBILITY_STATE, GUEST_ACTIVITY_STATE, GUEST_RFLAGS, GUEST_IA32_DEBUGCTL, VM_ENTRY_CONTROLS] =>
            !pending(c).contains(PendingDebug::BS) || may_step_instructions(c);
    }
    [seldom] when pending(c).contains(PendingDebug::RTM), "RTM of the pending debug exceptions is 1" => {
        /// Bits 11:0, 15:13 and 63:17 of the pending debug exceptions are 0, and bit 12 is 1.
        RtmBits "guest.pdbg.rtm-bits" [GUEST_PENDING_DEBUG_EXCEPTIONS] =>
            pending(c) == PendingDebug::RTM | PendingDebug::ENABLED_BREAKPOINT;
        /// The processor supports RTM.
        RtmSupport "guest.pdbg.rtm-support" [GUEST_PENDING_DEBUG_EXCEPTIONS] => c.cpuid(CpuidLeaf::Extended0).rtm();
        /// There is no blocking by MOV SS.
        RtmMovSs "guest.pdbg.rtm-movss" [GUEST_PENDING_DEBUG_EXCEPTIONS, GUEST_INTERRUPTIBILITY_STATE] =>
            !blocking(c).contains(Interruptibility::MOV_SS);
    }
    [seldom] when c.get(field::VMCS_LINK_POINTER) != u64::MAX, "the VMCS link pointer is not FFFFFFFF_FFFFFFFFH" => {
        /// Bits 11:0 of the VMCS link pointer are 0.
        LinkAlign "guest.link.align" [VMCS_LINK_POINTER] -> Failure::guest_state(4) => aligned_4k(c.get(field::VMCS_LINK_POINTER));
        /// The VMCS link pointer does not exceed the physical-address width.
        LinkWidth "guest.link.width" [VMCS_LINK_POINTER] -> Failure::guest_state(4) => c.address_fits(c.get(field::VMCS_LINK_POINTER));
        /// Bits 30:0 of the dword at the VMCS link pointer are the VMCS revision identifier.
        LinkRevision "guest.link.revision" [VMCS_LINK_POINTER] -> Failure::guest_state(4) => link_revision_matches(c);
        /// Bit 31 of the dword at the VMCS link pointer, the shadow-VMCS indicator, equals “VMCS shadowing”.
        LinkShadow "guest.link.shadow-bit" [VMCS_LINK_POINTER, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] -> Failure::guest_state(4) =>
            link_shadow_matches(c);
    }
    [seldom] when !c.returns_from_smm() && c.get(field::VMCS_LINK_POINTER) != u64::MAX,
        "the VMCS link pointer is not FFFFFFFF_FFFFFFFFH, and the processor is not in SMM or “entry to SMM” is 1" => {
        /// The VMCS link pointer is not the current-VMCS pointer.
        LinkCurrent "guest.link.not-current" [VMCS_LINK_POINTER, VM_ENTRY_CONTROLS] -> Failure::guest_state(4) =>
            c.get(field::VMCS_LINK_POINTER) != c.cpu().vmcs_pointer;
    }
    [seldom] when c.returns_from_smm() && c.get(field::VMCS_LINK_POINTER) != u64::MAX,
        "the VMCS link pointer is not FFFFFFFF_FFFFFFFFH, the processor is in SMM and “entry to SMM” is 0" => {
        /// The VMCS link pointer is not the executive-VMCS pointer.
        LinkExecutive "guest.link.not-executive" [VMCS_LINK_POINTER, EXECUTIVE_VMCS_POINTER, VM_ENTRY_CONTROLS] -> Failure::guest_state(4) =>
            c.get(field::VMCS_LINK_POINTER) != c.get(field::EXECUTIVE_VMCS_POINTER);
    }
}

/// Bits 10:4, 13, 15 and 63:17: reserved on every processor.
const PENDING_RESERVED: u64 = u64::MAX << 17 | 1 << 15 | 1 << 13 | 0x7F0;

#[inline]
fn activity<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> ActivityState {
    c.get(field::GUEST_ACTIVITY_STATE)
}

#[inline]
fn blocking<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> Interruptibility {
    c.get(field::GUEST_INTERRUPTIBILITY_STATE)
}

#[inline]
fn pending<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> PendingDebug {
    c.get(field::GUEST_PENDING_DEBUG_EXCEPTIONS)
}

/// Whether the processor supports the activity state: IA32_VMX_MISC\[6\] is for HLT, \[7\] for shutdown and \[8\] for
/// wait-for-SIPI. States that are not defined are the concern of another row.
fn activity_supported<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    let state = activity(c).0;
    state > 3 || c.msr(CapabilityMsr::Misc).misc >> (5 + state) & 1 != 0
}

fn pending_reserved_clear<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    let pending = pending(c);
    pending.bits() & PENDING_RESERVED == 0
        && (!pending.contains(PendingDebug::BLD)
            || (c.cpuid(CpuidLeaf::Extended0).bus_lock_detection() && c.open_question()))
}

#[inline]
fn single_step_matters<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    blocking(c).intersects(Interruptibility::STI | Interruptibility::MOV_SS) || activity(c) == ActivityState::HLT
}

/// RFLAGS.TF is 1 and BTF is certainly 0.
fn steps_instructions<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    c.get(field::GUEST_RFLAGS).contains(Rflags::TF)
        && if c.entry().contains(Entry::LOAD_DEBUG_CONTROLS) { !branch_steps(c) } else { !c.open_question() }
}

/// RFLAGS.TF is 1 and BTF is not certainly 1.
fn may_step_instructions<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    c.get(field::GUEST_RFLAGS).contains(Rflags::TF)
        && if c.entry().contains(Entry::LOAD_DEBUG_CONTROLS) { !branch_steps(c) } else { c.open_question() }
}

/// BTF of the IA32_DEBUGCTL field.
fn branch_steps<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    c.get(field::GUEST_IA32_DEBUGCTL) & 1 << 1 != 0
}

/// The dword at the VMCS link pointer; `None` if the pointer itself breaks a rule, which other rows report.
fn linked_header<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> Option<u32> {
    let pointer = c.get(field::VMCS_LINK_POINTER);
    (aligned_4k(pointer) && c.address_fits(pointer)).then(|| c.read_u32(pointer))
}

fn link_revision_matches<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    linked_header(c).is_none_or(|header| header & 0x7FFF_FFFF == c.msr(CapabilityMsr::Basic).revision())
}

fn link_shadow_matches<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    linked_header(c).is_none_or(|header| (header >> 31 != 0) == c.guest_secondary().contains(Secondary::VMCS_SHADOWING))
}
