//! A VM exit as the oracle sees it, and whether the guest had executed anything before it.

use vmcs_emu::exit_causes;
use vmcs_model::Vmcs;
use vmcs_model::controls::{Entry, Exit as ExitControl, PinBased, Primary, Secondary};
use vmcs_model::field::{self, Field, FieldId};
use vmcs_model::formats::{AccessRights, ExitReason, Interruptibility, InterruptionInformation, PendingDebug};
use vmcs_model::formats::{event_type, exit_reason};
use vmcs_model::registers::{Cr0, Cr4};
use vmcs_wire::layout;

/// An exit, and what the guest did before it.
pub(super) struct ObservedExit<'a> {
    /// The VMCS as the entry found it.
    pub(super) entered: &'a Vmcs,
    pub(super) reason: ExitReason,
    /// The guest executed nothing and was interrupted by nothing: its registers are those that the entry loaded.
    pub(super) untouched: bool,
}

/// The segment registers as fields: base, limit, access rights.
const SEGMENTS: [(FieldId, FieldId, Field<AccessRights>); 8] = [
    (field::GUEST_ES_BASE.id(), field::GUEST_ES_LIMIT.id(), field::GUEST_ES_ACCESS_RIGHTS),
    (field::GUEST_CS_BASE.id(), field::GUEST_CS_LIMIT.id(), field::GUEST_CS_ACCESS_RIGHTS),
    (field::GUEST_SS_BASE.id(), field::GUEST_SS_LIMIT.id(), field::GUEST_SS_ACCESS_RIGHTS),
    (field::GUEST_DS_BASE.id(), field::GUEST_DS_LIMIT.id(), field::GUEST_DS_ACCESS_RIGHTS),
    (field::GUEST_FS_BASE.id(), field::GUEST_FS_LIMIT.id(), field::GUEST_FS_ACCESS_RIGHTS),
    (field::GUEST_GS_BASE.id(), field::GUEST_GS_LIMIT.id(), field::GUEST_GS_ACCESS_RIGHTS),
    (field::GUEST_LDTR_BASE.id(), field::GUEST_LDTR_LIMIT.id(), field::GUEST_LDTR_ACCESS_RIGHTS),
    (field::GUEST_TR_BASE.id(), field::GUEST_TR_LIMIT.id(), field::GUEST_TR_ACCESS_RIGHTS),
];

// Basic exit reasons. SDM Appendix C, VMX Basic Exit Reasons.
pub(super) const EXCEPTION_OR_NMI: u16 = 0;
pub(super) const EXTERNAL_INTERRUPT: u16 = 1;
const INTERRUPT_WINDOW: u16 = 7;
const NMI_WINDOW: u16 = 8;
const MONITOR_TRAP_FLAG: u16 = 37;
const TPR_BELOW_THRESHOLD: u16 = 43;

impl<'a> ObservedExit<'a> {
    /// An exit for `reason` from the guest of a VMCS that was entered with these fields.
    pub(super) fn new(entered: &'a Vmcs, reason: ExitReason) -> Self {
        let mut exit = Self { entered, reason, untouched: false };
        exit.untouched =
            exit.leaves_before_the_first_instruction() && !exit.delivers_an_event() && exit.loads_msrs_within_limits();
        exit
    }

    /// The exit came before the guest's first instruction was completed. Whether the SDM wants it there is another
    /// question.
    fn leaves_before_the_first_instruction(&self) -> bool {
        match self.reason.basic() {
            INTERRUPT_WINDOW | NMI_WINDOW | TPR_BELOW_THRESHOLD => true,
            MONITOR_TRAP_FLAG => !self.primary().contains(Primary::MONITOR_TRAP_FLAG),
            exit_reason::PREEMPTION_TIMER => {
                self.pin().contains(PinBased::ACTIVATE_VMX_PREEMPTION_TIMER)
                    && self.entered.get(field::VMX_PREEMPTION_TIMER_VALUE) == 0
            }
            exit_reason::VMCALL => self.starts_at_vmcall(),
            _ => false,
        }
    }

    /// The VM-entry MSR-load area has no more entries than every processor takes. Behaviour is undefined beyond. SDM A.6,
    /// Miscellaneous Data.
    fn loads_msrs_within_limits(&self) -> bool {
        self.entered.get(field::VM_ENTRY_MSR_LOAD_COUNT) <= 512
    }

    /// The first instruction is the VMCALL of plain guests.
    fn starts_at_vmcall(&self) -> bool {
        let rip = self.entered.get(field::GUEST_RIP);
        let base = self.entered.get(field::GUEST_CS_BASE);
        let linear = if self.in_64_bit_mode() { rip } else { base.wrapping_add(rip) & 0xFFFF_FFFF };
        linear == layout::GUEST_RIP
    }

    /// Something is delivered in the guest before its first instruction: an injected event, pending debug exceptions, a
    /// virtual interrupt. SDM 27.6, Event Injection, and 27.7, Special Features of VM Entry.
    fn delivers_an_event(&self) -> bool {
        let event = self.entered.get(field::VM_ENTRY_INTERRUPTION_INFORMATION);
        let pending = self.entered.get(field::GUEST_PENDING_DEBUG_EXCEPTIONS);
        injects(event)
            || pending.intersects(PendingDebug::BS | PendingDebug::ENABLED_BREAKPOINT) && !self.blocks_by_mov_ss()
            || self.secondary().contains(Secondary::VIRTUAL_INTERRUPT_DELIVERY)
                && self.entered.get(field::GUEST_INTERRUPT_STATUS) != 0
    }

    fn blocks_by_mov_ss(&self) -> bool {
        self.entered.get(field::GUEST_INTERRUPTIBILITY_STATE).contains(Interruptibility::MOV_SS)
    }

    /// Pending debug exceptions may be saved. Their bits are then partly the processor's choice.
    pub(super) fn keeps_debug_exceptions(&self) -> bool {
        let reason = self.reason.basic();
        // Of exceptions #MC keeps them, of accesses those that are asynchronous: which it was is not part of the reason.
        reason == EXCEPTION_OR_NMI
            || exit_causes::caused_by_access(reason)
            || exit_causes::always_saves_pending_debug_exceptions(reason)
            || self.blocks_by_mov_ss()
    }

    /// Whether the segment register that the field is of was entered as unusable.
    pub(super) fn is_unusable(&self, of: FieldId) -> bool {
        SEGMENTS.iter().any(|(base, limit, rights)| {
            [*base, *limit, rights.id()].contains(&of) && self.entered.get(*rights).unusable()
        })
    }

    pub(super) fn in_64_bit_mode(&self) -> bool {
        self.entry_controls().contains(Entry::IA_32E_MODE_GUEST)
            && self.entered.get(field::GUEST_CS_ACCESS_RIGHTS).long()
    }

    pub(super) fn uses_pae_paging(&self) -> bool {
        self.entered.get(field::GUEST_CR0).contains(Cr0::PG)
            && self.entered.get(field::GUEST_CR4).contains(Cr4::PAE)
            && !self.entry_controls().contains(Entry::IA_32E_MODE_GUEST)
    }

    fn pin(&self) -> PinBased {
        self.entered.get(field::PIN_BASED_VM_EXECUTION_CONTROLS)
    }

    fn primary(&self) -> Primary {
        self.entered.get(field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS)
    }

    pub(super) fn secondary(&self) -> Secondary {
        if self.primary().contains(Primary::ACTIVATE_SECONDARY_CONTROLS) {
            self.entered.get(field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS)
        } else {
            Secondary::empty()
        }
    }

    pub(super) fn entry_controls(&self) -> Entry {
        self.entered.get(field::VM_ENTRY_CONTROLS)
    }

    pub(super) fn exit_controls(&self) -> ExitControl {
        self.entered.get(field::PRIMARY_VM_EXIT_CONTROLS)
    }
}

/// The entry delivers an event; a pending MTF VM exit is none. SDM 27.6.
fn injects(event: InterruptionInformation) -> bool {
    event.valid() && !(event.event_type() == event_type::OTHER_EVENT && event.vector() == 0)
}
