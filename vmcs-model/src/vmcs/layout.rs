//! Where a [`Vmcs`](super::Vmcs) holds each field: the near fields first, and the far ones behind them.
//!
//! Near are the fields that the checks of an ordinary entry read. They fill the first eight of an image's cache lines, so
//! that judging an image that is far away in memory waits for these alone.

use crate::checks::CheckId;
use crate::field::{self, FIELD_COUNT, FIELDS, FieldId, FieldSet, Width};

/// Some of the fields, in an array for each width.
#[derive(Clone, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Part<const QWORDS: usize, const DWORDS: usize, const WORDS: usize> {
    qwords: [u64; QWORDS],
    dwords: [u32; DWORDS],
    words: [u16; WORDS],
}

impl<const QWORDS: usize, const DWORDS: usize, const WORDS: usize> Part<QWORDS, DWORDS, WORDS> {
    /// All fields 0.
    pub(super) const fn new() -> Self {
        Self { qwords: [0; QWORDS], dwords: [0; DWORDS], words: [0; WORDS] }
    }

    #[inline(always)]
    pub(super) fn get(&self, slot: Slot) -> u64 {
        // Every slot is within its array; `get` says so without a panic path.
        match slot {
            Slot::Qword(i) => self.qwords.get(usize::from(i)).map_or(0, |qword| *qword),
            Slot::Dword(i) => self.dwords.get(usize::from(i)).map_or(0, |dword| u64::from(*dword)),
            Slot::Word(i) => self.words.get(usize::from(i)).map_or(0, |word| u64::from(*word)),
        }
    }

    /// Bits of `value` above the field's width are dropped.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "the bits above the width are dropped")]
    pub(super) fn set(&mut self, slot: Slot, value: u64) {
        match slot {
            Slot::Qword(i) => self.qwords[usize::from(i)] = value,
            Slot::Dword(i) => self.dwords[usize::from(i)] = value as u32,
            Slot::Word(i) => self.words[usize::from(i)] = value as u16,
        }
    }

    /// Reads a value of each cache line.
    #[inline]
    pub(super) fn touch(&self) {
        /// Bytes of a cache line.
        const LINE: usize = 64;
        let qwords = self.qwords.iter().step_by(LINE / 8).fold(0, |any, qword| any | qword);
        let dwords = self.dwords.iter().step_by(LINE / 4).fold(0, |any, dword| any | dword);
        let words = self.words.iter().step_by(LINE / 2).fold(0, |any, word| any | word);
        core::hint::black_box(qwords | u64::from(dwords) | u64::from(words));
    }
}

/// The array of a part that holds a field, and the index there.
#[derive(Clone, Copy)]
pub(super) enum Slot {
    /// A 64-bit field, or one of natural width.
    Qword(u8),
    /// A 32-bit field.
    Dword(u8),
    /// A 16-bit field.
    Word(u8),
}

/// The part that holds a field, and the place there.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Near(Slot),
    Far(Slot),
}

impl Place {
    /// The place of a field. Of a constant field it is a constant.
    #[inline(always)]
    pub(super) fn of(field: FieldId) -> Self {
        LAYOUT.places[field.index()]
    }
}

/// How many fields of each width a part has.
#[derive(Clone, Copy)]
pub(super) struct Lengths {
    pub(super) qwords: usize,
    pub(super) dwords: usize,
    pub(super) words: usize,
}

pub(super) const NEAR: Lengths = LAYOUT.near;
pub(super) const FAR: Lengths = LAYOUT.far;

/// Fields that are not in every processor, but in general use.
const IN_GENERAL_USE: [FieldId; 11] = [
    field::VIRTUAL_PROCESSOR_IDENTIFIER.id(),
    field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(),
    field::MSR_BITMAP_ADDRESS.id(),
    field::VIRTUAL_APIC_ADDRESS.id(),
    field::APIC_ACCESS_ADDRESS.id(),
    field::TPR_THRESHOLD.id(),
    field::EPT_POINTER.id(),
    field::GUEST_IA32_PAT.id(),
    field::GUEST_IA32_EFER.id(),
    field::HOST_IA32_PAT.id(),
    field::HOST_IA32_EFER.id(),
];

/// Fields that every processor has and that checks read in seldom cases only.
const SELDOM_READ: [FieldId; 7] = [
    field::IO_BITMAP_A_ADDRESS.id(),
    field::IO_BITMAP_B_ADDRESS.id(),
    field::EXECUTIVE_VMCS_POINTER.id(),
    field::VM_ENTRY_INSTRUCTION_LENGTH.id(),
    field::GUEST_LDTR_SELECTOR.id(),
    field::GUEST_LDTR_BASE.id(),
    field::GUEST_LDTR_LIMIT.id(),
];

/// What a check names and every processor has, but for what is seldom read, and what is in general use.
const NEAR_FIELDS: FieldSet = {
    let mut near = FieldSet::EMPTY;
    let mut check = 0;
    while check < CheckId::ALL.len() {
        let fields = CheckId::ALL[check].info().fields;
        let mut i = 0;
        while i < fields.len() {
            if fields[i].info().exists_if.is_empty() && !contains(&SELDOM_READ, fields[i]) {
                near.insert(fields[i]);
            }
            i += 1;
        }
        check += 1;
    }
    let mut i = 0;
    while i < IN_GENERAL_USE.len() {
        near.insert(IN_GENERAL_USE[i]);
        i += 1;
    }
    near
};

const fn contains(fields: &[FieldId], field: FieldId) -> bool {
    let mut i = 0;
    while i < fields.len() {
        if fields[i].index() == field.index() {
            return true;
        }
        i += 1;
    }
    false
}

struct Layout {
    /// By [`FieldId::index`]; every value of its type has an element, so that no look-up needs a bounds check.
    places: [Place; 256],
    near: Lengths,
    far: Lengths,
}

const LAYOUT: &Layout = &{
    let none = Lengths { qwords: 0, dwords: 0, words: 0 };
    let mut layout = Layout { places: [Place::Far(Slot::Word(0)); 256], near: none, far: none };
    let mut i = 0;
    while i < FIELD_COUNT {
        let info = &FIELDS[i];
        layout.places[i] = if NEAR_FIELDS.contains(info.id) {
            Place::Near(layout.near.add(info.width()))
        } else {
            Place::Far(layout.far.add(info.width()))
        };
        i += 1;
    }
    layout
};

impl Lengths {
    /// Makes room for one more field.
    const fn add(&mut self, width: Width) -> Slot {
        let length = match width {
            Width::Bits16 => &mut self.words,
            Width::Bits32 => &mut self.dwords,
            Width::Bits64 | Width::Natural => &mut self.qwords,
        };
        #[allow(clippy::cast_possible_truncation, reason = "there are no more fields than a FieldId can tell")]
        let next = *length as u8;
        *length += 1;
        match width {
            Width::Bits16 => Slot::Word(next),
            Width::Bits32 => Slot::Dword(next),
            Width::Bits64 | Width::Natural => Slot::Qword(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controls::{Primary, Secondary};
    use crate::memory::ZeroMemory;
    use crate::msr::CapabilityMsr;
    use crate::profile::MsrValue;
    use crate::vmcs::FieldReader;
    use crate::{Capabilities, CpuProfile, CpuState, EntryAttempt, EntryInstruction, LaunchState, Vmcs};
    use crate::{baseline, violations};

    #[test]
    fn fields_do_not_overlap() {
        for field in FieldId::all() {
            let mut vmcs = Vmcs::new();
            vmcs.set_raw(field, u64::MAX);
            let set: Vec<_> = vmcs.iter().filter(|(_, value)| *value != 0).collect();
            assert_eq!(set, [(field, field.info().width().mask())]);
        }
    }

    #[test]
    fn the_checks_of_an_ordinary_guest_read_near_fields_only() {
        let mut profile = CpuProfile::default();
        for word in CapabilityMsr::ALL {
            profile.set_msr(word, MsrValue::Value(!0 << 32)); // Of a control word: every bit may be 0 or 1.
        }
        let capabilities = Capabilities::new(&profile);
        let mut vmcs = baseline::plain_64bit(&capabilities);
        vmcs.set(
            field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
            Primary::ACTIVATE_SECONDARY_CONTROLS | Primary::USE_MSR_BITMAPS | Primary::USE_TPR_SHADOW,
        );
        vmcs.set(
            field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
            Secondary::ENABLE_EPT | Secondary::ENABLE_VPID | Secondary::VIRTUALIZE_APIC_ACCESSES,
        );
        let attempt = EntryAttempt {
            instruction: EntryInstruction::Vmlaunch,
            launch_state: LaunchState::Clear,
            shadow: false,
            cpu: &CpuState::host_64(),
            capabilities: &capabilities,
        };
        let read = core::cell::RefCell::new(FieldSet::EMPTY);
        violations(
            attempt,
            &FieldReader(|field| {
                read.borrow_mut().insert(field);
                vmcs.raw(field)
            }),
            &ZeroMemory,
        );
        let read = read.into_inner();
        let in_general_use = IN_GENERAL_USE.into_iter().collect::<FieldSet>();
        assert_eq!(read.iter().filter(|field| !NEAR_FIELDS.contains(*field)).collect::<Vec<_>>(), []);
        assert_eq!(in_general_use.iter().filter(|field| !read.contains(*field)).collect::<Vec<_>>(), []);
    }
}
