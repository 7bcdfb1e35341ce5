//! A small change of one field that makes a violated check hold.

use core::cell::Cell;
use core::fmt;

use super::limit::allowed;
use super::names::{named_bits, parts};
use super::{Bits, Explanation};
use crate::checks::CheckSet;
use crate::context::{EntryContext, Notes};
use crate::controls::{Entry, Exit};
use crate::field::{self, FieldId, FieldSet, ones};
use crate::formats::{AccessRights, InterruptionInformation};
use crate::memory::UnknownMemory;
use crate::partial::Watch;
use crate::registers::{Cr0, Cr4, Efer, Rflags};
use crate::verdict::{Decision, judge_row};
use crate::vmcs::{AnyFields, ReadFields, Vmcs};

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

impl Explanation<'_> {
    /// A change of one field after which the check holds and no check is violated that was not before: one bit, a part of
    /// the field such as the type of a segment, or one of the usual corrections (an address cut to pages or to the
    /// physical-address width, a control word with the allowed settings, a canonical address, 0).
    ///
    /// It is a field that the rule is about, not one that only puts the rule in force, and the modes of guest and host stay
    /// unless no other value of such a field will do. `None` if no single change of this kind helps.
    ///
    /// No memory is read: what a candidate points to is not known, and one that makes a check depend on it is a second
    /// choice.
    #[must_use]
    pub fn repair(&self) -> Option<Repair> {
        let original = RepairedVmcs::new(self.vmcs);
        let subjects = self.subjects(&original);
        let mut before = None;
        let mut second_choice = None;
        let mut changed = original.clone();
        for keep_mode in [true, false] {
            for field in subjects.iter().filter(|field| !original.unknown.contains(*field)) {
                let (old, mode) = (original.values.raw(field), mode_bits(field));
                if !keep_mode && mode == 0 {
                    continue;
                }
                let first_choice = self.candidates(field, old, |new| {
                    if ((old ^ new) & mode == 0) != keep_mode {
                        return false;
                    }
                    changed.values.set_raw(field, new);
                    if !self.holds(&changed) {
                        return false;
                    }
                    let after = self.decide(&changed);
                    let mut held = |check| !before.get_or_insert_with(|| self.not_held(&original)).contains(check);
                    if after.violated.iter().any(&mut held) {
                        return false;
                    }
                    second_choice.get_or_insert(Repair { field, old, new });
                    !after.undecidable.iter().any(&mut held)
                });
                if let Some(new) = first_choice {
                    return Some(Repair { field, old, new });
                }
                changed.values.set_raw(field, old);
            }
            if second_choice.is_some() {
                return second_choice;
            }
        }
        None
    }

    /// The fields that the rule is about: those that its predicate reads. What only puts the rule in force is left out.
    fn subjects(&self, original: &RepairedVmcs) -> FieldSet {
        let watch = Watch::new(original);
        let notes = Notes::default();
        let entry = self.attempt.on(&watch, &UnknownMemory);
        let context = EntryContext::new(&entry, &notes);
        original.asked_for.set(FieldSet::EMPTY);
        self.check.predicate(&context);
        let asked_for = original.asked_for.get();
        let declared = self.check.info().fields.iter().copied();
        let subjects: FieldSet = declared.clone().filter(|field| asked_for.contains(*field)).collect();
        if subjects == FieldSet::EMPTY { declared.collect() } else { subjects }
    }

    /// Whether the check certainly holds.
    fn holds(&self, image: &RepairedVmcs) -> bool {
        let watch = Watch::new(image);
        let notes = Notes::default();
        let entry = self.attempt.on(&watch, &UnknownMemory);
        judge_row(&EntryContext::new(&entry, &notes), self.check) == Some(true)
    }

    fn decide(&self, image: &RepairedVmcs) -> Decision {
        self.attempt.on(image, &UnknownMemory).decide_of_a_part()
    }

    /// The checks that do not certainly hold.
    fn not_held(&self, image: &RepairedVmcs) -> CheckSet {
        let Decision { violated, undecidable } = self.decide(image);
        violated.union(&undecidable)
    }

    /// The first other value of the field that `helps`: corrections that change one bit, other single bits, rather ones that
    /// have a name, then parts of the field and corrections that change more.
    fn candidates(&self, field: FieldId, old: u64, mut helps: impl FnMut(u64) -> bool) -> Option<u64> {
        let usual = self.usual(field, old);
        let (one_bit, more) = usual.split_at(usual.partition_point(|new| (old ^ new).count_ones() <= 1));
        let named = named_bits(field);
        let bits = field.info().width().mask();
        let single = |mask: u64| ones(mask).map(move |bit| old ^ 1 << bit);
        let parts = parts(field).iter().flat_map(move |(low, width)| {
            let mask = ((1u64 << width) - 1) << low;
            (0..1u64 << width).map(move |value| old & !mask | value << low)
        });
        one_bit
            .iter()
            .copied()
            .chain(single(named & bits))
            .chain(single(!named & bits))
            .chain(parts)
            .chain(more.iter().copied())
            .find(|new| *new != old && helps(*new))
    }

    /// The usual corrections of a field, those that change few bits first.
    fn usual(&self, field: FieldId, old: u64) -> [u64; 9] {
        let caps = self.attempt.capabilities;
        let shift = 64 - caps.linear_bits.clamp(1, 64);
        let canonical = ((old << shift).cast_signed() >> shift).cast_unsigned();
        let word = allowed(caps, field).map_or(old, |(allowed, ..)| allowed.nearest(old));
        let page = old & !0xFFF;
        let fitting = old & !caps.address_reserved;
        // A link pointer that points to nothing has all bits set.
        let none = if field == field::VMCS_LINK_POINTER.id() { u64::MAX } else { 0 };
        let mut news = [word, page, fitting, page & fitting, canonical, old & 0xFFFF_FFFF, old & 0xFFFF, none, 0]
            .map(|new| new & field.info().width().mask());
        news.sort_unstable_by_key(|new| (old ^ new).count_ones());
        news
    }
}

/// Bits that decide the mode of guest or host, or whether there is a segment or an event at all: a change of them avoids a
/// rule more often than it follows it.
fn mode_bits(field: FieldId) -> u64 {
    const UNUSABLE: u64 = 1 << 16;
    const SEGMENTS: [FieldId; 8] = [
        field::GUEST_ES_ACCESS_RIGHTS.id(),
        field::GUEST_CS_ACCESS_RIGHTS.id(),
        field::GUEST_SS_ACCESS_RIGHTS.id(),
        field::GUEST_DS_ACCESS_RIGHTS.id(),
        field::GUEST_FS_ACCESS_RIGHTS.id(),
        field::GUEST_GS_ACCESS_RIGHTS.id(),
        field::GUEST_LDTR_ACCESS_RIGHTS.id(),
        field::GUEST_TR_ACCESS_RIGHTS.id(),
    ];
    let long = u64::from(AccessRights::new().with_long(true).into_bits());
    let event = InterruptionInformation::new().with_valid(true);
    let of_segment = if SEGMENTS.contains(&field) { UNUSABLE } else { 0 };
    let of_field = [
        (field::GUEST_CR0.id(), (Cr0::PE | Cr0::PG).bits()),
        (field::GUEST_CR4.id(), Cr4::PAE.bits()),
        (field::GUEST_IA32_EFER.id(), (Efer::LME | Efer::LMA).bits()),
        (field::GUEST_RFLAGS.id(), Rflags::VM.bits()),
        (field::GUEST_CS_ACCESS_RIGHTS.id(), long),
        (field::VM_ENTRY_CONTROLS.id(), (Entry::IA_32E_MODE_GUEST | Entry::ENTRY_TO_SMM).bits().into()),
        (field::VM_ENTRY_INTERRUPTION_INFORMATION.id(), event.into_bits().into()),
        (field::PRIMARY_VM_EXIT_CONTROLS.id(), Exit::HOST_ADDRESS_SPACE_SIZE.bits().into()),
        (field::HOST_IA32_EFER.id(), (Efer::LME | Efer::LMA).bits()),
    ];
    of_field.into_iter().find_map(|(id, bits)| (id == field).then_some(bits)).unwrap_or(0) | of_segment
}

/// A copy of the fields of a VMCS that notes which of them are asked for. It is a copy because hundreds of candidates are
/// judged: a field is read faster from an array than through a pointer to any reader.
#[derive(Clone)]
struct RepairedVmcs {
    values: Vmcs,
    unknown: FieldSet,
    asked_for: Cell<FieldSet>,
}

impl RepairedVmcs {
    fn new(vmcs: &dyn AnyFields) -> Self {
        let (values, unknown) = vmcs.copied();
        Self { values, unknown, asked_for: Cell::new(FieldSet::EMPTY) }
    }
}

impl ReadFields for RepairedVmcs {
    const PARTIAL: bool = true;

    #[inline(always)]
    fn read(&self, field: FieldId) -> u64 {
        self.values.raw(field)
    }

    #[inline(always)]
    fn knows(&self, field: FieldId) -> bool {
        let mut asked_for = self.asked_for.get();
        asked_for.insert(field);
        self.asked_for.set(asked_for);
        !self.unknown.contains(field)
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
