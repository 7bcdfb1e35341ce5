//! Why a check is violated, in a few lines for a person: the rule, what the fields hold, and what would be legal.

mod names;

use core::fmt;

use crate::capabilities::{Allowed, Capabilities, Facts};
use crate::checks::{CheckId, CheckInfo, CheckSet};
use crate::context::EntryAttempt;
use crate::controls::{Primary, Secondary};
use crate::field::{self, FieldId, FieldValue};
use crate::memory::ReadMemory;
use crate::msr::CapabilityMsr;
use crate::partial::judge_known;
use crate::registers::Cr0;
use crate::verdict::violations;
use crate::vmcs::ReadFields;
pub use names::{Bits, Meaning, bit_name};

/// The explanation of a violated check; `Display` writes it, without a final newline.
///
/// ```text
/// ctl.pin.reserved-bits.allowed0: VMfailValid(7)
///   Every bit that the processor reports as must-be-1 is 1. [SDM 27.2.1.1, VM-Execution Control Fields]
///   pin_based_vm_execution_controls (4000H) = 0x0
///   bits 2:1, 4 are 0 and must be 1: the allowed-0 mask of IA32_VMX_TRUE_PINBASED_CTLS is 0x16
///   legal, for example: pin_based_vm_execution_controls = 0x16
/// ```
#[derive(Clone, Copy)]
pub struct Explanation<'a, R, M> {
    check: CheckId,
    attempt: EntryAttempt<'a>,
    vmcs: &'a R,
    memory: &'a M,
}

impl CheckId {
    /// Explains why the check does not hold for that entry.
    #[must_use]
    pub fn explain<'a, R: ReadFields, M: ReadMemory>(
        self,
        attempt: EntryAttempt<'a>,
        vmcs: &'a R,
        memory: &'a M,
    ) -> Explanation<'a, R, M> {
        Explanation { check: self, attempt, vmcs, memory }
    }
}

/// The change of one field that makes a check hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The field.
    pub field: FieldId,
    /// What it holds.
    pub old: u64,
    /// What it could hold.
    pub new: u64,
}

/// Which settings of a bit a capability MSR allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Bits of the mask must be 1 (“allowed-0 settings” of the SDM).
    MustBe1,
    /// Bits outside of the mask must be 0 (“allowed-1 settings” of the SDM).
    MayBe1,
}

/// What a capability MSR says about the bits of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The field.
    pub field: FieldId,
    /// The capability MSR.
    pub msr: CapabilityMsr,
    /// How the mask is meant.
    pub setting: Setting,
    /// The mask.
    pub mask: u64,
    /// Bits of the field that are not as they must be.
    pub wrong: u64,
}

impl<'a, R: ReadFields, M: ReadMemory> Explanation<'a, R, M> {
    /// The check.
    #[must_use]
    pub const fn check(&self) -> CheckId {
        self.check
    }

    /// What puts the rule in force; empty if it always is.
    #[must_use]
    pub const fn gate(&self) -> &'static str {
        self.check.info().gate
    }

    /// The fields that the rule reads and what they hold, `None` where that is not known.
    pub fn fields(&self) -> impl Iterator<Item = (FieldId, Option<u64>)> + use<'a, R, M> {
        let vmcs = self.vmcs;
        self.check.info().fields.iter().map(|field| (*field, vmcs.knows(*field).then(|| vmcs.read(*field))))
    }

    /// What a capability MSR says, if it is one that the rule compares a field with.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        let CheckInfo { id, fields, .. } = self.check.info();
        let field = *fields.first()?;
        let caps = self.attempt.capabilities;
        let (allowed, ones, may) = allowed(caps, field)?;
        let setting = if id.ends_with("allowed0") || id.ends_with("fixed0") {
            Setting::MustBe1
        } else if id.ends_with("allowed1") || id.ends_with("fixed1") || id.ends_with("reserved-bits") {
            Setting::MayBe1
        } else {
            return None;
        };
        let value = self.vmcs.read(field);
        let (msr, mask, wrong) = match setting {
            Setting::MustBe1 => (ones, allowed.ones, allowed.missing(value)),
            Setting::MayBe1 => (may, allowed.may, allowed.forbidden(value)),
        };
        let wrong = wrong & !self.unchecked(field);
        (self.vmcs.knows(field) && wrong != 0 && !caps.unknown.intersects(Facts::msr(msr))).then_some(Limit {
            field,
            msr,
            setting,
            mask,
            wrong,
        })
    }

    /// Bits of CR0 that the rules on fixed bits leave out.
    fn unchecked(&self, field: FieldId) -> u64 {
        let secondary = field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS;
        let primary = self.vmcs.read(field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id());
        let unrestricted = Primary::from_raw(primary).contains(Primary::ACTIVATE_SECONDARY_CONTROLS)
            && Secondary::from_raw(self.vmcs.read(secondary.id())).contains(Secondary::UNRESTRICTED_GUEST);
        let caching = Cr0::NW | Cr0::CD;
        if field == field::HOST_CR0.id() || field == field::GUEST_CR0.id() && !unrestricted {
            caching.bits()
        } else if field == field::GUEST_CR0.id() {
            (caching | Cr0::PE | Cr0::PG).bits()
        } else {
            0
        }
    }

    /// A small change of one of the fields that the rule reads that makes the check hold: one bit, rather one that has a
    /// name, or one of the usual corrections (an address cut to pages or to the physical-address width, a control word
    /// with the allowed settings, a canonical address, 0). Rather one that makes no other check fail.
    #[must_use]
    pub fn repair(&self) -> Option<Repair> {
        let before = self.not_held(self.vmcs);
        let fields = self.check.info().fields;
        let mut second_best = None;
        for field in fields.iter().copied().filter(|field| self.vmcs.knows(*field)) {
            let old = self.vmcs.read(field);
            let bits = 0..field.info().width().bits();
            let named = bits.clone().filter(|bit| bit_name(field, *bit).is_some());
            let unnamed = bits.filter(|bit| bit_name(field, *bit).is_none());
            let single = named.chain(unnamed).map(|bit| old ^ 1 << bit);
            for new in single.chain(self.usual(field, old)) {
                let after = self.not_held(&Changed { vmcs: self.vmcs, field, value: new });
                if after.contains(self.check) {
                    continue;
                }
                let repair = Repair { field, old, new };
                if after.iter().all(|check| before.contains(check)) {
                    return Some(repair);
                }
                second_best.get_or_insert(repair);
            }
        }
        second_best
    }

    /// The usual corrections of a field, those that change few bits first.
    fn usual(&self, field: FieldId, old: u64) -> [u64; 8] {
        let caps = self.attempt.capabilities;
        let shift = 64 - caps.linear_bits.clamp(1, 64);
        #[allow(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "the sign is what is extended")]
        let canonical = ((old << shift) as i64 >> shift) as u64;
        let word = allowed(caps, field).map_or(old, |(allowed, ..)| allowed.nearest(old));
        let page = old & !0xFFF;
        let fitting = old & !caps.address_reserved;
        let mut news = [word, page, fitting, page & fitting, canonical, old & 0xFFFF_FFFF, old & 0xFFFF, 0]
            .map(|new| new & field.info().width().mask());
        news.sort_unstable_by_key(|new| (old ^ new).count_ones());
        news
    }

    /// The checks that are not certain to hold for `vmcs`.
    fn not_held<C: ReadFields>(&self, vmcs: &C) -> CheckSet {
        if C::PARTIAL || self.attempt.capabilities.unknown != Facts::default() {
            let (violated, undecidable) = judge_known(self.attempt, vmcs, self.memory);
            violated.union(&undecidable)
        } else {
            violations(self.attempt, vmcs, self.memory)
        }
    }
}

impl<R: ReadFields, M: ReadMemory> fmt::Display for Explanation<'_, R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CheckInfo { id, rule, gate, sdm, title, failure, .. } = self.check.info();
        write!(f, "{id}: {}", failure.outcome)?;
        if let Some(other) = failure.or {
            write!(f, " or {other}")?;
        }
        if failure.optional {
            f.write_str(", if the processor makes this check")?;
        }
        write!(f, "\n  {rule} [SDM {sdm}, {title}]")?;
        if !gate.is_empty() {
            write!(f, "\n  in force because {gate}")?;
        }
        for (field, value) in self.fields() {
            let info = field.info();
            write!(f, "\n  {} ({}) = ", info.name, info.encoding)?;
            match value {
                Some(value) => write!(f, "{value:#x}{}", InParentheses(Meaning { field, value }))?,
                None => f.write_str("unknown")?,
            }
        }
        if let Some(limit) = self.limit() {
            write!(f, "\n  {limit}")?;
        }
        match self.repair() {
            Some(repair) => write!(f, "\n  {repair}"),
            None => Ok(()),
        }
    }
}

/// A meaning behind its value.
struct InParentheses(Meaning);

impl fmt::Display for InParentheses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Opens the parenthesis when something is written.
        struct Opening<'a, 'b> {
            f: &'a mut fmt::Formatter<'b>,
            open: bool,
        }
        impl fmt::Write for Opening<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                if !text.is_empty() && !core::mem::replace(&mut self.open, true) {
                    self.f.write_str(" (")?;
                }
                self.f.write_str(text)
            }
        }
        let mut out = Opening { f, open: false };
        fmt::Write::write_fmt(&mut out, format_args!("{}", self.0))?;
        if out.open { out.f.write_str(")") } else { Ok(()) }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, msr, setting, mask, wrong } = *self;
        let verb = if wrong.count_ones() == 1 { "is" } else { "are" };
        let (is, must, name) = match setting {
            Setting::MustBe1 => (0, 1, "allowed-0"),
            Setting::MayBe1 => (1, 0, "allowed-1"),
        };
        write!(f, "{} {verb} {is} and must be {must}: ", Bits { field, mask: wrong })?;
        if matches!(
            msr,
            CapabilityMsr::Cr0Fixed0 | CapabilityMsr::Cr0Fixed1 | CapabilityMsr::Cr4Fixed0 | CapabilityMsr::Cr4Fixed1
        ) {
            return write!(f, "{} is {mask:#x}", msr.name());
        }
        write!(f, "the {name} mask of {} is {mask:#x}", msr.name())
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, old, new } = *self;
        let changed = old ^ new;
        if changed.is_power_of_two() {
            let verb = if new & changed != 0 { "set" } else { "clear" };
            write!(f, "{verb} {}", Bits { field, mask: changed })?;
        } else {
            f.write_str("legal, for example")?;
        }
        write!(f, ": {} = {new:#x}", field.info().name)
    }
}

/// A VMCS with one field changed.
struct Changed<'a, R> {
    vmcs: &'a R,
    field: FieldId,
    value: u64,
}

impl<R: ReadFields> ReadFields for Changed<'_, R> {
    const PARTIAL: bool = R::PARTIAL;

    fn read(&self, field: FieldId) -> u64 {
        if field == self.field { self.value } else { self.vmcs.read(field) }
    }

    fn knows(&self, field: FieldId) -> bool {
        field == self.field || self.vmcs.knows(field)
    }
}

/// The settings that a processor allows in a field, with the MSRs that say which bits must be 1 and which may.
fn allowed(caps: &Capabilities, word: FieldId) -> Option<(Allowed, CapabilityMsr, CapabilityMsr)> {
    use CapabilityMsr::{
        Cr0Fixed0, Cr0Fixed1, Cr4Fixed0, Cr4Fixed1, Entry, Exit, Exit2, Pinbased, Procbased, Procbased2, Procbased3,
        TrueEntry, TrueExit, TruePinbased, TrueProcbased, Vmfunc,
    };
    let one = |allowed: Allowed, msr: CapabilityMsr| (allowed, msr, msr);
    let precise = |allowed: Allowed, default: CapabilityMsr, precise: CapabilityMsr| {
        one(allowed, if caps.basic & 1 << 55 != 0 { precise } else { default })
    };
    [
        (field::PIN_BASED_VM_EXECUTION_CONTROLS.id(), precise(caps.pin, Pinbased, TruePinbased)),
        (field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), precise(caps.primary, Procbased, TrueProcbased)),
        (field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), one(caps.secondary, Procbased2)),
        (field::TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), one(caps.tertiary, Procbased3)),
        (field::PRIMARY_VM_EXIT_CONTROLS.id(), precise(caps.exit, Exit, TrueExit)),
        (field::SECONDARY_VM_EXIT_CONTROLS.id(), one(caps.secondary_exit, Exit2)),
        (field::VM_ENTRY_CONTROLS.id(), precise(caps.entry, Entry, TrueEntry)),
        (field::VM_FUNCTION_CONTROLS.id(), one(caps.vm_functions, Vmfunc)),
        (field::GUEST_CR0.id(), (caps.cr0, Cr0Fixed0, Cr0Fixed1)),
        (field::HOST_CR0.id(), (caps.cr0, Cr0Fixed0, Cr0Fixed1)),
        (field::GUEST_CR4.id(), (caps.cr4, Cr4Fixed0, Cr4Fixed1)),
        (field::HOST_CR4.id(), (caps.cr4, Cr4Fixed0, Cr4Fixed1)),
    ]
    .into_iter()
    .find_map(|(id, allowed)| (id == word).then_some(allowed))
}

#[cfg(test)]
mod tests {
    use super::{Bits, Meaning, bit_name};
    use crate::field;

    #[test]
    fn bits_have_the_names_of_the_sdm() {
        assert_eq!(bit_name(field::VM_ENTRY_CONTROLS.id(), 10), Some("entry to SMM"));
        assert_eq!(bit_name(field::HOST_CR4.id(), 13), Some("VMXE"));
        assert_eq!(bit_name(field::GUEST_RFLAGS.id(), 17), Some("VM"));
        assert_eq!(bit_name(field::GUEST_INTERRUPTIBILITY_STATE.id(), 1), Some("blocking by MOV SS"));
        assert_eq!(bit_name(field::GUEST_LDTR_ACCESS_RIGHTS.id(), 16), Some("segment unusable"));
        assert_eq!(bit_name(field::HOST_CR4.id(), 63), None);
        assert_eq!(bit_name(field::GUEST_RIP.id(), 0), None);
        let bits = |field, mask| Bits { field, mask }.to_string();
        assert_eq!(bits(field::HOST_CR4.id(), 1 << 13), "bit 13 “VMXE”");
        assert_eq!(bits(field::HOST_CR4.id(), 0xF << 60 | 1 << 13 | 1 << 40), "bits 13 “VMXE”, 40, 63:60");
        assert_eq!(bits(field::GUEST_RIP.id(), u64::MAX), "bits 63:0");
    }

    #[test]
    fn values_say_what_they_mean() {
        let meaning = |field, value| Meaning { field, value }.to_string();
        let event = field::VM_ENTRY_INTERRUPTION_INFORMATION.id();
        assert_eq!(meaning(event, 0x8000_030D), "hardware exception, vector 13, without error code");
        assert_eq!(meaning(event, 0x30D), "not valid: no event");
        assert_eq!(meaning(field::GUEST_CS_ACCESS_RIGHTS.id(), 0xA09B), "type 11, DPL 0, S, P, L, G");
        assert_eq!(meaning(field::GUEST_TR_ACCESS_RIGHTS.id(), 0x1_008B), "unusable");
        assert_eq!(meaning(field::GUEST_INTERRUPTIBILITY_STATE.id(), 9), "blocking by STI, blocking by NMI");
        assert_eq!(meaning(field::EPT_POINTER.id(), 0x105E), "memory type 6, 4 levels, accessed and dirty flags");
        assert_eq!(meaning(field::GUEST_ACTIVITY_STATE.id(), 1), "HLT");
        assert_eq!(meaning(field::HOST_CS_SELECTOR.id(), 7), "RPL 3, TI");
        assert_eq!(meaning(field::GUEST_RIP.id(), 7), "");
    }
}
