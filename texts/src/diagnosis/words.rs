//! What happened, and why, in sentences.

use vmcs_model::Outcome;
use vmcs_model::checks::{CheckId, Phase};
use vmcs_model::controls::WORDS;
use vmcs_model::explain::Meaning;
use vmcs_model::field::{self, FieldId};
use vmcs_model::formats::{InstructionError, exit_reason};
use vmcs_model::partial::PartialVmcs;
use vmcs_model::registers::{Cr0, Cr4, Efer, Rflags};

use super::{Diagnosis, Finding, Group, Standing, what_is_wrong};
use crate::dump::Reported;

/// What a report says, as the beginning of a sentence.
pub(super) fn what_happened(reported: Reported) -> String {
    let (outcome, qualified) = match reported {
        Reported::Outcome { outcome, qualified } => (outcome, qualified),
        Reported::FailWithoutNumber => return "The entry failed, and no VM-instruction error was stored".to_owned(),
        Reported::Svm => {
            return "An AMD processor refused its VMCB (VMEXIT_INVALID, printed as 0xffffffff): neither VMX nor a VMCS is \
                    involved"
                .to_owned();
        }
    };
    match outcome {
        Outcome::EntryFailed { reason: exit_reason::INVALID_GUEST_STATE, qualification } => {
            let qualification = if qualified && qualification != 0 {
                format!(", qualification {qualification}")
            } else {
                String::new()
            };
            format!("The guest state was refused (exit reason 33{qualification})")
        }
        Outcome::EntryFailed { reason: exit_reason::MSR_LOADING, qualification } if qualified => {
            format!("Entry {qualification} of the VM-entry MSR-load area was not loaded (exit reason 34)")
        }
        Outcome::EntryFailed { reason: exit_reason::MSR_LOADING, .. } => {
            "An entry of the VM-entry MSR-load area was not loaded (exit reason 34)".to_owned()
        }
        Outcome::EntryFailed { reason: exit_reason::MACHINE_CHECK, .. } => {
            "A machine check ended the VM entry (exit reason 41)".to_owned()
        }
        Outcome::EntryFailed { reason, .. } => format!("The VM entry failed (exit reason {reason})"),
        Outcome::FailValid(InstructionError(7)) => {
            "The control fields were refused (VM-instruction error 7)".to_owned()
        }
        Outcome::FailValid(InstructionError(8)) => "The host state was refused (VM-instruction error 8)".to_owned(),
        Outcome::FailValid(error) => match error.meaning() {
            Some(meaning) => format!("The instruction failed (VM-instruction error {}): {meaning}", error.0),
            None => format!("The instruction failed (VM-instruction error {})", error.0),
        },
        Outcome::FailInvalid => "The instruction failed without a VM-instruction error (VMfailInvalid)".to_owned(),
        Outcome::Fault(exception) => format!("The instruction raised {exception}"),
        Outcome::Exited { reason } => format!("The instruction caused a VM exit (exit reason {reason})"),
        Outcome::Entered => "The VM entry succeeded".to_owned(),
    }
}

/// What an outcome says by itself of its cause, whatever the values are: `None` if it leaves more than one.
pub(super) fn cause_by_outcome(reported: Reported) -> Option<&'static str> {
    let Reported::Outcome { outcome, qualified: true } = reported else { return None };
    Some(match outcome {
        Outcome::EntryFailed { reason: exit_reason::INVALID_GUEST_STATE, qualification } => match qualification {
            2 => "a PDPTE of the guest, which uses PAE paging, is present and has a reserved bit",
            3 => "an NMI is injected while there is blocking by STI",
            4 => "the VMCS link pointer is not valid",
            _ => return None,
        },
        Outcome::FailValid(InstructionError(4)) => "VMLAUNCH needs a VMCS whose launch state is clear",
        Outcome::FailValid(InstructionError(5)) => "VMRESUME needs a VMCS whose launch state is launched",
        Outcome::FailValid(InstructionError(26)) => "an instruction that blocks events stood just before the entry",
        _ => return None,
    })
}

/// Where to look if no value that is shown explains the outcome.
pub(super) fn where_to_look(reported: Reported) -> &'static str {
    let outcome = match reported {
        Reported::Svm => {
            return "What the processor refuses is in the VMCB: load kvm_amd with dump_invalid_vmcb=1 and look at the VMCB that \
                    it prints.";
        }
        Reported::FailWithoutNumber => {
            return "Either there was no current VMCS (VMfailInvalid: VMPTRLD was not executed or failed, or the VMCS is a shadow \
                    VMCS), or this hypervisor runs on another one that stores no number: look at the log of that one.";
        }
        Reported::Outcome { outcome, .. } => outcome,
    };
    match outcome {
        Outcome::EntryFailed { reason: exit_reason::INVALID_GUEST_STATE, qualification } => match qualification {
            2 => {
                "Look at guest_pdpte0 to guest_pdpte3 if “enable EPT” is 1, else at the four quadwords in memory at bits 31:5 \
                 of CR3: bits 2:1, 8:5 and those beyond the physical-address width must be 0 where bit 0 is 1."
            }
            3 => "Look at vm_entry_interruption_information and at bit 0 of guest_interruptibility_state.",
            4 => {
                "It must be FFFFFFFF_FFFFFFFFH, or the address of another VMCS: aligned to 4 KBytes, within the \
                 physical-address width, with the processor's VMCS revision identifier in its first dword."
            }
            _ => {
                "Look at the guest's control registers and segments, at the interruptibility state and at the event to be \
                 injected, as the VMCS holds them when the entry fails."
            }
        },
        Outcome::EntryFailed { reason: exit_reason::MSR_LOADING, .. } => {
            "WRMSR would refuse that value, or VM entry must not load that MSR: IA32_FS_BASE, IA32_GS_BASE, the x2APIC registers \
             (800H-8FFH), MSRs that can be written in SMM only, and MSRs that the processor does not have."
        }
        Outcome::EntryFailed { reason: exit_reason::MACHINE_CHECK, .. } => {
            "No field causes this. Look at the machine-check banks: mcelog, rasdaemon, or \"mce:\" in the kernel log."
        }
        Outcome::FailValid(InstructionError(error)) => match error {
            4 => {
                "Execute VMCLEAR before the first VMLAUNCH, and VMRESUME after it. A VMCS stays launched until VMCLEAR, also \
                 when it moves to another processor."
            }
            5 => {
                "Execute VMLAUNCH first. After VMCLEAR, as when the VMCS moves to another processor, it has to be launched \
                 again; a VMLAUNCH that fails does not launch it."
            }
            6 => "Execute VMCLEAR for every launched VMCS before VMXOFF.",
            7 => {
                "Look at the controls: bits that the processor does not support or demands (IA32_VMX_*_CTLS), controls that \
                 need other controls, addresses that are not aligned, and the event to be injected."
            }
            8 => {
                "Look at the host-state area: selectors with RPL or TI, a TR or CS selector of 0, bases that are not canonical, \
                 CR0 and CR4 against IA32_VMX_CR0_FIXED0 and the like, and IA32_EFER."
            }
            26 => "Look for MOV SS, POP SS or LSS just before VMLAUNCH or VMRESUME.",
            12 => {
                "A field was read or written that this processor does not have: `vmcs fields` lists those of a processor."
            }
            _ => "It comes from a VMX instruction and not from the values in the VMCS.",
        },
        Outcome::FailInvalid => {
            "There was no current VMCS: VMPTRLD was not executed or failed, VMCLEAR took it away, or it is a shadow VMCS."
        }
        _ => "No value in the VMCS causes this.",
    }
}

/// The value of a field as it is shown: `guest_rflags = 0x2`, or that it is not known.
pub(super) fn value(vmcs: &PartialVmcs, field: FieldId) -> String {
    let name = field.info().name;
    vmcs.raw(field).map_or_else(|| format!("{name} is not known"), |value| format!("{name} = {value:#x}"))
}

/// The same with the encoding of the field and what the value means.
pub(super) fn value_in_full(vmcs: &PartialVmcs, field: FieldId) -> String {
    let info = field.info();
    let Some(value) = vmcs.raw(field) else { return format!("{} ({}) is not known", info.name, info.encoding) };
    let meaning = Meaning { field, value }.to_string();
    let meaning = if meaning.is_empty() { meaning } else { format!(" ({meaning})") };
    format!("{} ({}) = {value:#x}{meaning}", info.name, info.encoding)
}

/// What is wrong with the field of a group in words: of what its checks have in common, or of the first.
pub(super) fn wrong(group: &Group, vmcs: &PartialVmcs) -> String {
    let first = group.first();
    let rights =
        [field::GUEST_TR_ACCESS_RIGHTS.id(), field::GUEST_LDTR_ACCESS_RIGHTS.id(), field::GUEST_CS_ACCESS_RIGHTS.id()];
    let of = |id: FieldId| first.check.info().fields.contains(&id) && first.check.info().id.contains(".seg.");
    let same_cause = group.findings.iter().filter(|finding| finding.standing == first.standing).count() > 1;
    if same_cause && of(rights[0]) {
        let bits = vmcs.raw(field::VM_ENTRY_CONTROLS.id()).is_some_and(|entry| entry >> 9 & 1 != 0);
        return if bits {
            "TR is not a usable 64-bit busy TSS".to_owned()
        } else {
            "TR is not a usable busy TSS".to_owned()
        };
    }
    if same_cause && of(rights[1]) {
        return "LDTR is neither unusable nor a present LDT".to_owned();
    }
    match first.or {
        Some(other) if what_is_wrong(other) != what_is_wrong(first.check) => {
            format!("{}, or else {}", what_is_wrong(first.check), what_is_wrong(other))
        }
        _ => what_is_wrong(first.check).to_owned(),
    }
}

/// Bits that choose a mode: a change of them avoids a rule more often than it follows it.
fn mode_bits(field: FieldId) -> u64 {
    if field == field::GUEST_RFLAGS.id() {
        Rflags::VM.bits()
    } else if field == field::GUEST_CR0.id() {
        (Cr0::PE | Cr0::PG).bits()
    } else if field == field::GUEST_CR4.id() {
        (Cr4::PAE | Cr4::FRED).bits()
    } else if [field::GUEST_IA32_EFER.id(), field::HOST_IA32_EFER.id()].contains(&field) {
        (Efer::LMA | Efer::LME).bits()
    } else if is_rights(field) {
        1 << 16 | 1 << 13
    } else {
        0
    }
}

/// The access rights of a segment of the guest.
fn is_rights(field: FieldId) -> bool {
    (0x4814..=0x4822).contains(&field.info().encoding.0)
}

/// A control word, which puts rules in force but is seldom what they are about. VM-function controls put no other rules in force
/// than their own.
fn is_control(field: FieldId) -> bool {
    field != field::VM_FUNCTION_CONTROLS.id() && WORDS.contains(&field)
}

/// Most fields that are shown of a rule that no change of a single field mends.
const SHOWN: usize = 6;

impl Diagnosis<'_> {
    /// The fields that a violated check is about: those of which a small change makes it hold, `blamed` first. If no change
    /// of a single field helps, the segments that break the rule, or else every field that the rule reads and that is not 0.
    #[must_use]
    pub fn offending(&self, check: CheckId, blamed: Option<FieldId>) -> Vec<FieldId> {
        let vmcs = &self.entry.dump.vmcs;
        let known: Vec<_> = check.info().fields.iter().copied().filter(|field| vmcs.raw(*field).is_some()).collect();
        let blamed = blamed.filter(|field| vmcs.raw(*field).is_some());
        if check.info().phase == Phase::MsrLoading && !self.msrs.is_empty() {
            // The entries themselves are shown.
            return Vec::new();
        }
        if !self.attempt_for(check).on(vmcs, &self.entry.memory).violations().contains(check) {
            return blamed.or(known.first().copied()).into_iter().collect();
        }
        let others = known.iter().copied().filter(|field| Some(*field) != blamed && !is_control(*field));
        let helping = blamed.into_iter().filter(|field| is_control(*field) || self.helps(check, *field));
        // A control that is to blame puts a rule in force; what the rule is about belongs to it.
        let about =
            blamed.filter(|field| is_control(*field)).and(known.first().copied()).filter(|field| !is_control(*field));
        let helping: Vec<_> = helping
            .chain(about)
            .chain(others.filter(|field| Some(*field) != about && self.helps(check, *field)))
            .collect();
        if !helping.is_empty() {
            return helping;
        }
        let segments = self.offending_segments(check);
        if !segments.is_empty() {
            return segments;
        }
        let about = known.iter().copied().filter(|field| !is_control(*field) && vmcs.raw(*field) != Some(0));
        let about: Vec<_> = about.take(SHOWN).collect();
        if about.is_empty() { known.into_iter().take(1).collect() } else { about }
    }

    /// Whether a small change of the field alone makes the check hold.
    fn helps(&self, check: CheckId, field: FieldId) -> bool {
        let Some(old) = self.entry.dump.vmcs.raw(field) else { return false };
        let bits = field.info().width().mask();
        let free = bits & !mode_bits(field);
        let flips = (0..64).map(|bit| 1 << bit).filter(|bit| free & bit != 0).map(|bit| old ^ bit);
        let levels = (0..4).flat_map(|level| [old & !3 | level, old & !0x60 | level << 5]);
        let whole = [0, bits, old & 0xFFFF_FFFF, old & !0xFFF].into_iter();
        let mut vmcs = self.entry.dump.vmcs.clone();
        flips.chain(levels).chain(whole).filter(|new| new & bits != old && (new ^ old) & mode_bits(field) == 0).any(
            |new| {
                vmcs.set_raw(field, new & bits);
                !self.attempt.on(&vmcs, &self.entry.memory).violations().contains(check)
            },
        )
    }

    /// The access rights of the segments that break a rule on several of them, and their limits if the rule is about limits.
    fn offending_segments(&self, check: CheckId) -> Vec<FieldId> {
        let declared = check.info().fields;
        let rights: Vec<_> = declared.iter().copied().filter(|field| is_rights(*field)).collect();
        if rights.len() < 3 {
            return Vec::new();
        }
        let violated_by = |kept: FieldId| {
            let mut vmcs = self.entry.dump.vmcs.clone();
            for other in rights.iter().filter(|other| **other != kept && **other != field::GUEST_CS_ACCESS_RIGHTS.id())
            {
                vmcs.set_raw(*other, 1 << 16);
            }
            self.attempt_for(check).on(&vmcs, &self.entry.memory).violations().contains(check)
        };
        let cs = field::GUEST_CS_ACCESS_RIGHTS.id();
        let offending: Vec<_> = if rights.contains(&cs) && violated_by(cs) {
            vec![cs]
        } else {
            rights.iter().copied().filter(|rights| violated_by(*rights)).collect()
        };
        let limit = |rights: &FieldId| {
            // Limits lie as far from each other as access rights.
            let encoding = rights.info().encoding.0 - 0x4814 + 0x4800;
            declared.iter().copied().find(|field| field.info().encoding.0 == encoding)
        };
        offending.iter().flat_map(|rights| limit(rights).into_iter().chain([*rights])).collect()
    }

    /// The first sentence of the answer: what happened and the most likely cause.
    #[must_use]
    pub fn headline(&self, groups: &[Group]) -> String {
        let dump = &self.entry.dump;
        let failed = self.failure();
        let lead = failed.map(what_happened);
        if let (Some(msr), Some(lead)) = (self.reported_msr(), &lead) {
            let name = msr.name.map_or_else(String::new, |name| format!(" ({name})"));
            let wrong = msr.violated.first().map_or_else(String::new, |check| format!(": {}", what_is_wrong(*check)));
            return format!("{lead}{wrong}: MSR {:#x}{name} = {:#x}", msr.entry.index, msr.entry.value);
        }
        let cause = groups.first().filter(|group| group.first().standing == Standing::Cause);
        if let Some(group) = cause {
            let lead = lead.unwrap_or_else(|| format!("A VM entry with these values fails ({})", fails_with(group)));
            let cause = self.in_words(group);
            return match group.first() {
                Finding { guessed: true, named: true, .. } => format!("{lead}: {} says that {cause}", dump.format),
                Finding { guessed: true, .. } => format!("{lead}: probably {cause}"),
                _ => format!("{lead}: {cause}"),
            };
        }
        let Some((reported, lead)) = failed.zip(lead) else {
            if let Some(named) = dump.named.first() {
                return format!("A VM entry failed: {} says {}", dump.format, named.words);
            }
            let wrong = groups.first().map(|group| wrong(group, &dump.vmcs));
            return wrong.map_or_else(
                || self.nothing_wrong(),
                |wrong| format!("A VM entry with these values may fail: {wrong}"),
            );
        };
        if let Some(named) = dump.named.first() {
            return format!("{lead}: {} says {}", dump.format, named.words);
        }
        if let Some(cause) = cause_by_outcome(reported) {
            return format!("{lead}: {cause}");
        }
        if dump.known() == 0 {
            return lead;
        }
        match dump.known() {
            1 => format!("{lead}, and the one value that is known does not explain it"),
            known => format!("{lead}, and none of the {known} values that are known explains it"),
        }
    }

    /// What is wrong, with the values.
    pub(super) fn in_words(&self, group: &Group) -> String {
        let vmcs = &self.entry.dump.vmcs;
        let fields = self.offending(group.first().check, group.field);
        let values: Vec<_> = fields.iter().take(3).map(|field| value(vmcs, *field)).collect();
        let values = if values.is_empty() { String::new() } else { format!(": {}", values.join(", ")) };
        format!("{}{values}", wrong(group, vmcs))
    }

    fn nothing_wrong(&self) -> String {
        let known = self.entry.dump.known();
        let values =
            if known == 1 { "The one value that is known violates" } else { "The values that are known violate" };
        if self.entry.dump.mixed {
            return format!(
                "{values} no check; two dumps are printed into each other, so that much is unknown, also how their entries ended"
            );
        }
        format!("{values} no check, and no failed entry is reported")
    }

    /// The entry of the MSR-load area that is reported not to have been loaded, if the dump lists it.
    #[must_use]
    pub fn reported_msr(&self) -> Option<&super::JudgedMsr> {
        let number = super::msr_load::reported_entry(self.entry.dump.reported?.outcome()?)?;
        self.msrs.iter().find(|msr| u64::from(msr.entry.number) == number)
    }
}

/// How an entry ends that violates the first check of the group, in words.
fn fails_with(group: &Group) -> String {
    match group.first().check.info().failure.outcome {
        Outcome::FailValid(InstructionError(error)) => format!("VM-instruction error {error}"),
        Outcome::EntryFailed { reason, qualification: 0 } => format!("exit reason {reason}"),
        Outcome::EntryFailed { reason, qualification } => {
            format!("exit reason {reason}, qualification {qualification}")
        }
        outcome => outcome.to_string(),
    }
}
