//! Why a check is violated, in a few lines for a person: the rule, what the fields hold, and what would be legal.

use core::fmt;

use crate::capabilities::Capabilities;
use crate::checks::{CheckId, CheckInfo};
use crate::context::EntryAttempt;
use crate::controls::{Entry, Exit, PinBased, Primary, Secondary, SecondaryExit, Tertiary, VmFunctions};
use crate::field::{self, FieldId};
use crate::memory::ReadMemory;
use crate::registers::{Cr0, Cr4, Efer, Rflags};
use crate::verdict::violations;
use crate::vmcs::ReadFields;

/// The explanation of a violated check; `Display` writes it, without a final newline.
///
/// ```text
/// ctl.entry.smm.entry-to-smm-outside: VMfailValid(7)
///   “entry to SMM” is 0. [SDM 27.2.1.3, VM-Entry Control Fields]
///   in force because the processor is not in SMM
///   vm_entry_controls (4012H) = 0xd7fb
///   clear bit 10 “entry to SMM”: vm_entry_controls = 0xd3fb
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

impl<R: ReadFields, M: ReadMemory> Explanation<'_, R, M> {
    /// The smallest change of one of the fields that the rule reads that makes the check hold, if it is one bit or one
    /// of the usual corrections: an address cut to pages or to the physical-address width, a control word with the
    /// allowed settings, a canonical address, 0. Other checks may be violated then.
    #[must_use]
    pub fn repair(&self) -> Option<Repair> {
        let fields = self.check.info().fields;
        let bit = |field: FieldId, bit: u32| self.repaired(field, self.vmcs.read(field) ^ 1 << bit);
        let bits = |field: FieldId| (0..field.info().width().bits()).find_map(|n| bit(field, n));
        fields.iter().find_map(|field| bits(*field)).or_else(|| fields.iter().find_map(|field| self.usual(*field)))
    }

    /// The usual correction of `field` that changes the fewest bits.
    fn usual(&self, field: FieldId) -> Option<Repair> {
        let old = self.vmcs.read(field);
        let caps = self.attempt.capabilities;
        let shift = 64 - caps.linear_bits.clamp(1, 64);
        #[allow(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "the sign is what is extended")]
        let canonical = ((old << shift) as i64 >> shift) as u64;
        let word = allowed(caps, field).map_or(old, |allowed| allowed.nearest(old));
        let page = old & !0xFFF;
        let fitting = old & !caps.address_reserved;
        [word, page, fitting, page & fitting, canonical, old & 0xFFFF_FFFF, old & 0xFFFF, 0]
            .into_iter()
            .filter_map(|new| self.repaired(field, new & field.info().width().mask()))
            .min_by_key(|repair| (repair.old ^ repair.new).count_ones())
    }

    /// The repair, if the check holds with `new` in `field`.
    fn repaired(&self, field: FieldId, new: u64) -> Option<Repair> {
        let changed = Changed { vmcs: self.vmcs, field, value: new };
        let holds = !violations(self.attempt, &changed, self.memory).contains(self.check);
        holds.then(|| Repair { field, old: self.vmcs.read(field), new })
    }
}

impl<R: ReadFields, M: ReadMemory> fmt::Display for Explanation<'_, R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CheckInfo { id, rule, gate, sdm, title, fields, failure, .. } = self.check.info();
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
        for field in *fields {
            let info = field.info();
            write!(f, "\n  {} ({}) = ", info.name, info.encoding)?;
            if self.vmcs.knows(*field) {
                write!(f, "{:#x}", self.vmcs.read(*field))?;
            } else {
                f.write_str("unknown")?;
            }
        }
        match self.repair() {
            Some(repair) => write!(f, "\n  {repair}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, old, new } = *self;
        let changed = old ^ new;
        if changed.is_power_of_two() {
            let bit = changed.trailing_zeros();
            write!(f, "{} bit {bit}", if new & changed != 0 { "set" } else { "clear" })?;
            if let Some(name) = bit_name(field, bit) {
                write!(f, " “{name}”")?;
            }
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
    fn read(&self, field: FieldId) -> u64 {
        if field == self.field { self.value } else { self.vmcs.read(field) }
    }
}

/// The settings that a processor allows in a control word.
fn allowed(caps: &Capabilities, word: FieldId) -> Option<crate::capabilities::Allowed> {
    [
        (field::PIN_BASED_VM_EXECUTION_CONTROLS.id(), caps.pin),
        (field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), caps.primary),
        (field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), caps.secondary),
        (field::TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), caps.tertiary),
        (field::PRIMARY_VM_EXIT_CONTROLS.id(), caps.exit),
        (field::SECONDARY_VM_EXIT_CONTROLS.id(), caps.secondary_exit),
        (field::VM_ENTRY_CONTROLS.id(), caps.entry),
        (field::VM_FUNCTION_CONTROLS.id(), caps.vm_functions),
        (field::GUEST_CR0.id(), caps.cr0),
        (field::HOST_CR0.id(), caps.cr0),
        (field::GUEST_CR4.id(), caps.cr4),
        (field::HOST_CR4.id(), caps.cr4),
    ]
    .into_iter()
    .find_map(|(id, allowed)| (id == word).then_some(allowed))
}

/// The name of a bit of a control word, by the SDM's table, or of a register.
#[must_use]
pub fn bit_name(field: FieldId, bit: u32) -> Option<&'static str> {
    let words: [(FieldId, &'static [(u32, &'static str)]); 8] = [
        (field::PIN_BASED_VM_EXECUTION_CONTROLS.id(), PinBased::NAMES),
        (field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), Primary::NAMES),
        (field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), Secondary::NAMES),
        (field::TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), Tertiary::NAMES),
        (field::PRIMARY_VM_EXIT_CONTROLS.id(), Exit::NAMES),
        (field::SECONDARY_VM_EXIT_CONTROLS.id(), SecondaryExit::NAMES),
        (field::VM_ENTRY_CONTROLS.id(), Entry::NAMES),
        (field::VM_FUNCTION_CONTROLS.id(), VmFunctions::NAMES),
    ];
    if let Some((_, names)) = words.into_iter().find(|(word, _)| *word == field) {
        return names.iter().find(|(n, _)| *n == bit).map(|(_, name)| *name);
    }
    if field == field::GUEST_CR0.id() || field == field::HOST_CR0.id() {
        return flag_name::<Cr0>(bit);
    }
    if field == field::GUEST_CR4.id() || field == field::HOST_CR4.id() {
        return flag_name::<Cr4>(bit);
    }
    if field == field::GUEST_IA32_EFER.id() || field == field::HOST_IA32_EFER.id() {
        return flag_name::<Efer>(bit);
    }
    if field == field::GUEST_RFLAGS.id() {
        return flag_name::<Rflags>(bit);
    }
    None
}

/// The name of a flag of a register.
fn flag_name<F: bitflags::Flags<Bits = u64> + 'static>(bit: u32) -> Option<&'static str> {
    F::FLAGS.iter().find(|flag| !flag.name().is_empty() && flag.value().bits() == 1 << bit).map(bitflags::Flag::name)
}

#[cfg(test)]
mod tests {
    use super::bit_name;
    use crate::field;

    #[test]
    fn bits_have_the_names_of_the_sdm() {
        assert_eq!(bit_name(field::VM_ENTRY_CONTROLS.id(), 10), Some("entry to SMM"));
        assert_eq!(bit_name(field::HOST_CR4.id(), 13), Some("VMXE"));
        assert_eq!(bit_name(field::GUEST_RFLAGS.id(), 17), Some("VM"));
        assert_eq!(bit_name(field::HOST_CR4.id(), 63), None);
        assert_eq!(bit_name(field::GUEST_RIP.id(), 0), None);
    }
}
