//! What a VM exit does to each field of the VMCS, and which bits of it the SDM leaves open.
//!
//! A field without a row is not written by VM exits. Bits that a row does not leave open hold what the emulator
//! predicts. There are no rows for what comes before an exit: a VM-entry failure during or after loading guest state
//! writes the exit reason and the exit qualification and nothing else (SDM 27.8, VM-Entry Failures During or After Loading
//! Guest State), VMfailValid writes the VM-instruction error (SDM 31.2, Conventions), and every other instruction nothing.

use vmcs_emu::guest_state;
use vmcs_model::controls::{Entry, Exit as ExitControl, Secondary, SecondaryExit};
use vmcs_model::field::{self, FieldId};
use vmcs_model::formats::exit_reason;

use super::exit::{EXCEPTION_OR_NMI, EXTERNAL_INTERRUPT, ObservedExit};

/// What an exit does to some fields.
pub(super) struct Effect {
    pub(super) fields: &'static [FieldId],
    /// Section of the SDM.
    pub(super) sdm: &'static str,
    /// What it says.
    pub(super) rule: &'static str,
    left: fn(&ObservedExit<'_>, FieldId) -> Left,
}

/// What is known of a field after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It holds what the emulator says but for these bits, which the SDM or the unknown guest leaves open.
    Open(u64),
    /// It holds this, whatever the emulator says, but for these bits.
    Value { value: u64, open: u64 },
}

impl Left {
    const KNOWN: Self = Self::Open(0);
    const UNDEFINED: Self = Self::Open(u64::MAX);
    const ZERO: Self = Self::Value { value: 0, open: 0 };

    const fn known_if(known: bool) -> Self {
        if known { Self::KNOWN } else { Self::UNDEFINED }
    }
}

/// The row of a field, if exits write it.
pub(super) fn of(field: FieldId) -> Option<&'static Effect> {
    EFFECTS.iter().find(|effect| effect.fields.contains(&field))
}

/// What every field that exits write holds after that exit.
pub(super) fn after<'a>(exit: &'a ObservedExit<'a>) -> impl Iterator<Item = (FieldId, Left)> + 'a {
    EFFECTS.iter().flat_map(move |effect| effect.fields.iter().map(|field| (*field, (effect.left)(exit, *field))))
}

const BASIC: &str = "28.2.1 Basic VM-Exit Information";
const EVENTS: &str = "28.2.2 Information for VM Exits Due to Vectored Events";
const DELIVERY: &str = "28.2.4 Information for VM Exits During Event Delivery";
const INSTRUCTIONS: &str = "28.2.5 Information for VM Exits Due to Instruction Execution";
const RECORDING: &str = "28.2 Recording VM-Exit Information and Updating VM-Entry Control Fields";
const SAVING_REGISTERS: &str = "28.3.1 Saving Control Registers, Debug Registers, and MSRs";
const SAVING_SEGMENTS: &str = "28.3.2 Saving Segment Registers and Descriptor-Table Registers";
const SAVING_RIP: &str = "28.3.3 Saving RIP, RSP, RFLAGS, and SSP";
const SAVING_OTHERS: &str = "28.3.4 Saving Non-Register State";

/// Bit 31 of the fields that hold events.
const VALID: u64 = 1 << 31;

static EFFECTS: [Effect; 30] = [
    // What the exit reports.
    Effect {
        fields: &[field::EXIT_REASON.id()],
        sdm: BASIC,
        rule: "the exit reason is what it was when the exit was first looked at",
        left: |_, _| Left::KNOWN,
    },
    Effect {
        fields: &[field::EXIT_QUALIFICATION.id()],
        sdm: BASIC,
        rule: "the exit qualification is cleared to 0 for every cause that does not define it",
        left: |exit, _| if has_no_qualification(exit.reason.basic()) { Left::ZERO } else { Left::KNOWN },
    },
    Effect {
        fields: &[field::GUEST_LINEAR_ADDRESS.id(), field::GUEST_PHYSICAL_ADDRESS.id()],
        sdm: BASIC,
        rule: "undefined but for exits due to accesses that have such an address, which the model does not know",
        left: |_, _| Left::UNDEFINED,
    },
    Effect {
        fields: &[field::VM_EXIT_INTERRUPTION_INFORMATION.id()],
        sdm: EVENTS,
        rule: "valid for exceptions, NMIs and acknowledged external interrupts; bit 31 is cleared by every other exit",
        left: |exit, _| match exit.reason.basic() {
            EXCEPTION_OR_NMI => Left::Value { value: VALID, open: !(VALID | EVENT_RESERVED) },
            EXTERNAL_INTERRUPT => Left::UNDEFINED,
            _ => Left::Value { value: 0, open: !VALID },
        },
    },
    Effect {
        fields: &[field::VM_EXIT_INTERRUPTION_ERROR_CODE.id()],
        sdm: EVENTS,
        rule: "undefined but for exceptions with an error code, which the model does not know",
        left: |_, _| Left::UNDEFINED,
    },
    Effect {
        fields: &[field::IDT_VECTORING_INFORMATION.id()],
        sdm: DELIVERY,
        rule: "valid for some causes if they came up during the delivery of an event; bit 31 is cleared by every other exit",
        left: |exit, _| {
            if may_come_during_delivery(exit.reason.basic()) {
                Left::UNDEFINED
            } else {
                Left::Value { value: 0, open: !VALID }
            }
        },
    },
    Effect {
        fields: &[field::IDT_VECTORING_ERROR_CODE.id(), field::ORIGINAL_EVENT_DATA.id()],
        sdm: DELIVERY,
        rule: "undefined but for exits during the delivery of an event, which the model does not know",
        left: |_, _| Left::UNDEFINED,
    },
    Effect {
        fields: &[field::VM_EXIT_INSTRUCTION_LENGTH.id()],
        sdm: INSTRUCTIONS,
        rule: "the length of the instruction that caused the exit, if one did",
        left: |exit, _| {
            // The instruction of plain guests, which has no prefixes.
            const VMCALL_BYTES: u64 = 3;
            if exit.untouched && exit.reason.basic() == exit_reason::VMCALL {
                Left::Value { value: VMCALL_BYTES, open: 0 }
            } else {
                Left::UNDEFINED
            }
        },
    },
    Effect {
        fields: &[
            field::VM_EXIT_INSTRUCTION_INFORMATION.id(),
            field::IO_RCX.id(),
            field::IO_RSI.id(),
            field::IO_RDI.id(),
            field::IO_RIP.id(),
            field::MSR_DATA.id(),
        ],
        sdm: INSTRUCTIONS,
        rule: "undefined but for certain instructions, which the model's guest does not execute",
        left: |_, _| Left::UNDEFINED,
    },
    // The two VM-entry controls that exits update.
    Effect {
        fields: &[field::VM_ENTRY_INTERRUPTION_INFORMATION.id()],
        sdm: RECORDING,
        rule: "bit 31 is cleared, and no other",
        left: |_, _| Left::KNOWN,
    },
    Effect {
        fields: &[field::VM_ENTRY_CONTROLS.id()],
        sdm: RECORDING,
        rule: "“IA-32e mode guest” becomes IA32_EFER.LMA if IA32_VMX_MISC[5] is 1; no other bit is written",
        left: |exit, _| Left::Open(if exit.untouched { 0 } else { u64::from(Entry::IA_32E_MODE_GUEST.bits()) }),
    },
    // Control registers, debug registers, MSRs.
    Effect {
        fields: &[
            field::GUEST_CR0.id(),
            field::GUEST_CR3.id(),
            field::GUEST_CR4.id(),
            field::GUEST_IA32_SYSENTER_CS.id(),
            field::GUEST_IA32_SYSENTER_ESP.id(),
            field::GUEST_IA32_SYSENTER_EIP.id(),
        ],
        sdm: SAVING_REGISTERS,
        rule: "saved",
        left: |exit, _| Left::known_if(exit.untouched),
    },
    Effect {
        fields: &[field::GUEST_DR7.id(), field::GUEST_IA32_DEBUGCTL.id()],
        sdm: SAVING_REGISTERS,
        rule: "saved if “save debug controls” is 1",
        left: |exit, _| saved_by(exit, ExitControl::SAVE_DEBUG_CONTROLS, Entry::LOAD_DEBUG_CONTROLS),
    },
    Effect {
        fields: &[field::GUEST_IA32_PAT.id()],
        sdm: SAVING_REGISTERS,
        rule: "saved if “save IA32_PAT” is 1",
        left: |exit, _| saved_by(exit, ExitControl::SAVE_IA32_PAT, Entry::LOAD_IA32_PAT),
    },
    Effect {
        fields: &[field::GUEST_IA32_EFER.id()],
        sdm: SAVING_REGISTERS,
        rule: "saved if “save IA32_EFER” is 1",
        left: |exit, _| saved_by(exit, ExitControl::SAVE_IA32_EFER, Entry::LOAD_IA32_EFER),
    },
    Effect {
        fields: &[field::GUEST_IA32_PERF_GLOBAL_CTRL.id()],
        sdm: SAVING_REGISTERS,
        rule: "saved if “save IA32_PERF_GLOBAL_CTRL” is 1",
        left: |exit, _| saved_by(exit, ExitControl::SAVE_IA32_PERF_GLOBAL_CTRL, Entry::LOAD_IA32_PERF_GLOBAL_CTRL),
    },
    Effect {
        fields: &guest_state::SAVED_IF_SUPPORTED,
        sdm: SAVING_REGISTERS,
        rule: "saved by every exit of a processor with the control that loads it",
        left: |exit, field| {
            let mut loads = guest_state::LOADED_BY_CONTROL.iter().filter(|(_, fields)| fields.contains(&field));
            let loaded = loads.any(|(control, _)| exit.entry_controls().contains(*control));
            Left::known_if(exit.untouched && loaded)
        },
    },
    Effect {
        fields: &guest_state::FRED_STATE,
        sdm: SAVING_REGISTERS,
        rule: "saved if “save FRED” is 1",
        left: |exit, _| {
            let activated = exit.exit_controls().contains(ExitControl::ACTIVATE_SECONDARY_CONTROLS);
            let saves = exit.entered.get(field::SECONDARY_VM_EXIT_CONTROLS).contains(SecondaryExit::SAVE_FRED);
            saved(exit, activated && saves, Entry::LOAD_FRED)
        },
    },
    Effect {
        fields: &[field::GUEST_SMBASE.id()],
        sdm: SAVING_REGISTERS,
        rule: "undefined after an exit that is no SMM VM exit",
        left: |_, _| Left::UNDEFINED,
    },
    // Segment registers and descriptor tables.
    Effect {
        fields: &[
            field::GUEST_ES_SELECTOR.id(),
            field::GUEST_CS_SELECTOR.id(),
            field::GUEST_SS_SELECTOR.id(),
            field::GUEST_DS_SELECTOR.id(),
            field::GUEST_FS_SELECTOR.id(),
            field::GUEST_GS_SELECTOR.id(),
            field::GUEST_LDTR_SELECTOR.id(),
            field::GUEST_TR_SELECTOR.id(),
            field::GUEST_GDTR_BASE.id(),
            field::GUEST_GDTR_LIMIT.id(),
            field::GUEST_IDTR_BASE.id(),
            field::GUEST_IDTR_LIMIT.id(),
        ],
        sdm: SAVING_SEGMENTS,
        rule: "saved",
        left: |exit, _| Left::known_if(exit.untouched),
    },
    Effect {
        fields: &[
            field::GUEST_ES_BASE.id(),
            field::GUEST_CS_BASE.id(),
            field::GUEST_SS_BASE.id(),
            field::GUEST_DS_BASE.id(),
            field::GUEST_FS_BASE.id(),
            field::GUEST_GS_BASE.id(),
            field::GUEST_LDTR_BASE.id(),
            field::GUEST_TR_BASE.id(),
        ],
        sdm: SAVING_SEGMENTS,
        rule: "saved; of an unusable register only for CS, FS and GS, and for SS, DS and ES as 0 in bits 63:32",
        left: |exit, field| {
            const ALWAYS: [FieldId; 3] =
                [field::GUEST_CS_BASE.id(), field::GUEST_FS_BASE.id(), field::GUEST_GS_BASE.id()];
            if !exit.is_unusable(field) || ALWAYS.contains(&field) {
                Left::known_if(exit.untouched)
            } else if field == field::GUEST_LDTR_BASE.id() || !exit.untouched {
                Left::UNDEFINED
            } else {
                Left::Value { value: 0, open: 0xFFFF_FFFF }
            }
        },
    },
    Effect {
        fields: &[
            field::GUEST_ES_LIMIT.id(),
            field::GUEST_CS_LIMIT.id(),
            field::GUEST_SS_LIMIT.id(),
            field::GUEST_DS_LIMIT.id(),
            field::GUEST_FS_LIMIT.id(),
            field::GUEST_GS_LIMIT.id(),
            field::GUEST_LDTR_LIMIT.id(),
            field::GUEST_TR_LIMIT.id(),
        ],
        sdm: SAVING_SEGMENTS,
        rule: "saved; of an unusable register only for CS",
        left: |exit, field| {
            let defined = !exit.is_unusable(field) || field == field::GUEST_CS_LIMIT.id();
            Left::known_if(exit.untouched && defined)
        },
    },
    Effect {
        fields: &[
            field::GUEST_ES_ACCESS_RIGHTS.id(),
            field::GUEST_CS_ACCESS_RIGHTS.id(),
            field::GUEST_SS_ACCESS_RIGHTS.id(),
            field::GUEST_DS_ACCESS_RIGHTS.id(),
            field::GUEST_FS_ACCESS_RIGHTS.id(),
            field::GUEST_GS_ACCESS_RIGHTS.id(),
            field::GUEST_LDTR_ACCESS_RIGHTS.id(),
            field::GUEST_TR_ACCESS_RIGHTS.id(),
        ],
        sdm: SAVING_SEGMENTS,
        rule: "bits 7:0 and 15:12 saved, the others 0; of an unusable register bit 16 is 1, and only L, D and G of CS and the \
               DPL of SS are defined besides; bit 13 is L for CS and reserved for the others",
        left: |exit, field| {
            const UNUSABLE: u64 = 1 << 16;
            const L: u64 = 1 << 13;
            const L_D_G: u64 = 0xE000;
            const DPL: u64 = 0x60;
            let is_cs = field == field::GUEST_CS_ACCESS_RIGHTS.id();
            let defined = match field {
                _ if !exit.is_unusable(field) => {
                    if is_cs {
                        u64::MAX
                    } else {
                        !L
                    }
                }
                _ if is_cs => UNUSABLE | L_D_G,
                _ if field == field::GUEST_SS_ACCESS_RIGHTS.id() => UNUSABLE | DPL,
                _ => UNUSABLE,
            };
            Left::Open(if exit.untouched { !defined } else { u64::MAX })
        },
    },
    // RIP, RSP, RFLAGS.
    Effect {
        fields: &[field::GUEST_RIP.id(), field::GUEST_RFLAGS.id()],
        sdm: SAVING_RIP,
        rule: "saved; RIP is that of the instruction that caused the exit or of the next one, RF by the cause",
        left: |exit, _| Left::known_if(exit.untouched),
    },
    Effect {
        fields: &[field::GUEST_RSP.id()],
        sdm: SAVING_RIP,
        rule: "saved; outside 64-bit mode entries may not have loaded bits 63:32",
        left: |exit, _| match (exit.untouched, exit.in_64_bit_mode()) {
            (false, _) => Left::UNDEFINED,
            (true, true) => Left::KNOWN,
            (true, false) => Left::Open(0xFFFF_FFFF << 32),
        },
    },
    // What is no register.
    Effect {
        fields: &[field::GUEST_ACTIVITY_STATE.id(), field::GUEST_INTERRUPTIBILITY_STATE.id()],
        sdm: SAVING_OTHERS,
        rule: "saved as before the exit; blocking by SMI as 0",
        left: |exit, _| Left::known_if(exit.untouched),
    },
    Effect {
        fields: &[field::GUEST_PENDING_DEBUG_EXCEPTIONS.id()],
        sdm: SAVING_OTHERS,
        rule: "cleared but for certain causes, and but for exits under blocking by MOV SS that are not due to #DB",
        left: |exit, _| Left::known_if(exit.untouched && !exit.keeps_debug_exceptions()),
    },
    Effect {
        fields: &[field::VMX_PREEMPTION_TIMER_VALUE.id()],
        sdm: SAVING_OTHERS,
        rule: "saved if “save VMX-preemption timer value” is 1: 0 if it expired, else what is left of it",
        left: |exit, _| {
            let saves = exit.exit_controls().contains(ExitControl::SAVE_VMX_PREEMPTION_TIMER_VALUE);
            Left::known_if(!saves || exit.reason.basic() == exit_reason::PREEMPTION_TIMER)
        },
    },
    Effect {
        fields: &[
            field::GUEST_PDPTE0.id(),
            field::GUEST_PDPTE1.id(),
            field::GUEST_PDPTE2.id(),
            field::GUEST_PDPTE3.id(),
        ],
        sdm: SAVING_OTHERS,
        rule: "saved if EPT is enabled and the guest uses PAE paging, bits 11:9 undefined, of one that is not present all but \
               bit 0; otherwise undefined",
        left: |exit, field| {
            const PRESENT: u64 = 1;
            const IGNORED: u64 = 0xE00;
            if !exit.untouched || !exit.secondary().contains(Secondary::ENABLE_EPT) || !exit.uses_pae_paging() {
                Left::UNDEFINED
            } else if exit.entered.raw(field) & PRESENT == 0 {
                Left::Open(!PRESENT)
            } else {
                Left::Open(IGNORED)
            }
        },
    },
    Effect {
        fields: &[field::GUEST_INTERRUPT_STATUS.id(), field::PML_INDEX.id(), field::GUEST_DEADLINE.id()],
        sdm: SAVING_OTHERS,
        rule: "saved if the feature is in use, which the model does not follow",
        left: |exit, field| {
            let feature = match field {
                _ if field == field::GUEST_INTERRUPT_STATUS.id() => Secondary::VIRTUAL_INTERRUPT_DELIVERY,
                _ if field == field::PML_INDEX.id() => Secondary::ENABLE_PML,
                _ => return Left::UNDEFINED,
            };
            Left::known_if(!exit.secondary().contains(feature))
        },
    },
];

/// A register that the exit saves if the control `save` is 1, known if the entry loaded it.
fn saved_by(exit: &ObservedExit<'_>, save: ExitControl, load: Entry) -> Left {
    saved(exit, exit.exit_controls().contains(save), load)
}

fn saved(exit: &ObservedExit<'_>, saves: bool, load: Entry) -> Left {
    Left::known_if(!saves || exit.untouched && exit.entry_controls().contains(load))
}

/// Bits 30:14 of VM-exit interruption information.
const EVENT_RESERVED: u64 = 0x7FFF_C000;

/// External interrupt, triple fault, INIT, other SMI, the windows, monitor trap flag, TPR below threshold, EPT
/// misconfiguration, VMX-preemption timer, bus lock; and the instructions CPUID, GETSEC, HLT, INVD, RDPMC, RDTSC, RSM,
/// VMCALL, VMLAUNCH, VMRESUME, VMXOFF, MONITOR, PAUSE, RDTSCP, XSETBV, RDRAND, VMFUNC, ENCLS, RDSEED, PCONFIG, UMWAIT,
/// TPAUSE, LOADIWKEY, ENCLV, SEAMCALL, TDCALL. RDMSR, WRMSR and WBINVD had no qualification before newer instructions
/// came to share their reasons, and ENQCMD's is not settled.
const fn has_no_qualification(reason: u16) -> bool {
    matches!(
        reason,
        1..=3 | 6..=8 | 10..=13 | 15..=18 | 20 | 24 | 26 | 37 | 39 | 40 | 43 | 49 | 51 | 52 | 55 | 57 | 59..=61 | 65 |
        67..=70 | 74 | 76 | 77
    )
}

/// Exception, task switch, APIC access, EPT violation and misconfiguration, page-modification log full, SPP-related
/// event, instruction timeout; and what the SDM does not list.
const fn may_come_during_delivery(reason: u16) -> bool {
    matches!(reason, EXCEPTION_OR_NMI | 9 | 44 | 48 | 49 | 62 | 66 | 75) || reason > 79
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use vmcs_model::field::Area;

    use super::*;

    #[test]
    fn every_field_has_one_row_at_most_and_no_host_state_has_any() {
        let mut seen = BTreeSet::new();
        for effect in &EFFECTS {
            assert!(effect.sdm.starts_with("28.") && !effect.rule.is_empty());
            for field in effect.fields {
                assert!(seen.insert(field.index()), "{field:?} has two rows");
                assert_ne!(field.info().area(), Area::HostState, "{field:?}");
            }
        }
    }

    /// Of the guest-state area exits leave alone the link pointer only; of the information fields the instruction error.
    #[test]
    fn fields_without_a_row_are_few() {
        let without: Vec<_> = FieldId::all().filter(|field| of(*field).is_none()).collect();
        let of_area =
            |area| without.iter().copied().filter(move |field| field.info().area() == area).collect::<Vec<_>>();
        assert_eq!(of_area(Area::GuestState), [field::VMCS_LINK_POINTER.id()]);
        assert_eq!(of_area(Area::ExitInformation), [field::VM_INSTRUCTION_ERROR.id()]);
    }
}
