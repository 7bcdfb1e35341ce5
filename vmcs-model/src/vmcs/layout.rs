//! Where a [`Vmcs`](super::Vmcs) holds each field: in an array of qwords or in one of dwords.
//!
//! The *near* fields are those that the checks of an ordinary entry read. They come last among the qwords and first among
//! the dwords. As the dwords follow the qwords, the near fields lie side by side, in eight cache lines: judging an
//! image that is far away in memory waits for these alone.

use core::ops::Range;

use super::LINE;
use crate::checks::CheckId;
use crate::field::{self, FIELD_COUNT, FIELDS, FieldId, FieldSet, Width};

/// The array that holds a field, and the index there.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// The index among the qwords, of a 64-bit field or of one of natural width.
    Qword(u8),
    /// The index among the dwords, of a 32-bit field.
    Dword(u8),
    /// Twice the index among the dwords, plus 1 for the upper half, of a 16-bit field.
    Word(u8),
}

impl Place {
    /// The place of a field. The compiler makes it a constant if it knows the field.
    #[inline(always)]
    pub(super) fn of(field: FieldId) -> Self {
        LAYOUT.places[field.index()]
    }
}

/// How long an array is, and where its near fields are.
#[derive(Clone, Copy)]
pub(super) struct Length {
    pub(super) all: usize,
    near_from: usize,
    near_to: usize,
}

impl Length {
    /// Where the near fields are.
    pub(super) const fn near(&self) -> Range<usize> {
        self.near_from..self.near_to
    }
}

pub(super) const QWORDS: Length = LAYOUT.qwords;
pub(super) const DWORDS: Length = LAYOUT.dwords;

/// Fields that not every processor has, but that hypervisors generally use. The last two are control words that count only if
/// another word activates them: the compiler may read them first and choose afterwards.
const IN_GENERAL_USE: [FieldId; 13] = [
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
    field::TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(),
    field::SECONDARY_VM_EXIT_CONTROLS.id(),
];

/// Fields that every processor has, but that checks read only in rare cases.
const SELDOM_READ: [FieldId; 7] = [
    field::IO_BITMAP_A_ADDRESS.id(),
    field::IO_BITMAP_B_ADDRESS.id(),
    field::EXECUTIVE_VMCS_POINTER.id(),
    field::VM_ENTRY_INSTRUCTION_LENGTH.id(),
    field::GUEST_LDTR_SELECTOR.id(),
    field::GUEST_LDTR_BASE.id(),
    field::GUEST_LDTR_LIMIT.id(),
];

/// The near fields: those that a check names and that every processor has, without [`SELDOM_READ`], and with
/// [`IN_GENERAL_USE`].
const NEAR: FieldSet = {
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
    qwords: Length,
    dwords: Length,
}

const LAYOUT: &Layout = &{
    let none = Length { all: 0, near_from: 0, near_to: 0 };
    let mut layout = Layout { places: [Place::Word(0); 256], qwords: none, dwords: none };
    layout.append(Size::Word, true);
    layout.append(Size::Dword, true);
    layout.dwords.near_to = layout.dwords.all;
    layout.append(Size::Word, false);
    layout.append(Size::Dword, false);
    layout.append(Size::Qword, false);
    // The near qwords begin with a cache line.
    layout.qwords.near_from = layout.qwords.all.next_multiple_of(LINE / 8);
    layout.qwords.all = layout.qwords.near_from;
    layout.append(Size::Qword, true);
    layout.qwords.near_to = layout.qwords.all;
    layout
};

/// How much room a field takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    Word,
    Dword,
    Qword,
}

impl Size {
    const fn of(width: Width) -> Self {
        match width {
            Width::Bits16 => Self::Word,
            Width::Bits32 => Self::Dword,
            Width::Bits64 | Width::Natural => Self::Qword,
        }
    }
}

impl Layout {
    /// Gives the next places to the fields of a size: to the near ones or to the others, as `near` says.
    #[allow(clippy::cast_possible_truncation, reason = "there are no more fields than a FieldId can tell")]
    const fn append(&mut self, size: Size, near: bool) {
        let mut words = 0;
        let mut i = 0;
        while i < FIELD_COUNT {
            let info = &FIELDS[i];
            if NEAR.contains(info.id) == near && Size::of(info.width()) as u8 == size as u8 {
                self.places[i] = match size {
                    Size::Word => {
                        // Every other word begins a new dword.
                        self.dwords.all += (words + 1) % 2;
                        words += 1;
                        Place::Word((2 * self.dwords.all - 1 - words % 2) as u8)
                    }
                    Size::Dword => {
                        self.dwords.all += 1;
                        Place::Dword(self.dwords.all as u8 - 1)
                    }
                    Size::Qword => {
                        self.qwords.all += 1;
                        Place::Qword(self.qwords.all as u8 - 1)
                    }
                };
            }
            i += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controls::{Exit, Primary, Secondary};
    use crate::memory::ZeroMemory;
    use crate::msr::CapabilityMsr;
    use crate::profile::{CpuidLeaf, MsrValue};
    use crate::vmcs::FieldReader;
    use crate::{Capabilities, CpuProfile, CpuState, EntryAttempt, Vmcs, baseline};

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
    fn near_fields_take_eight_cache_lines() {
        let from = QWORDS.near().start * 8;
        let to = QWORDS.all * 8 + DWORDS.near().end * 4;
        assert_eq!((from % LINE, (to - from).div_ceil(LINE)), (0, 8));
    }

    #[test]
    fn the_checks_of_an_ordinary_guest_read_near_fields_only() {
        let mut profile = CpuProfile::default();
        for word in CapabilityMsr::ALL {
            profile.set_msr(word, MsrValue::Value(!0 << 32)); // Of a control word: every bit may be 0 or 1.
        }
        for leaf in CpuidLeaf::ALL {
            profile.set_cpuid(leaf, [0; 4]);
        }
        profile.set_cpuid(CpuidLeaf::ExtendedFeatures, [0, 0, 0, 1 << 29]);
        let capabilities = Capabilities::new(&profile);
        assert!(capabilities.complete());
        let mut vmcs = baseline::plain_64bit(&capabilities);
        vmcs.set(
            field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
            Primary::ACTIVATE_SECONDARY_CONTROLS
                | Primary::ACTIVATE_TERTIARY_CONTROLS
                | Primary::USE_MSR_BITMAPS
                | Primary::USE_TPR_SHADOW,
        );
        let exit = vmcs.get(field::PRIMARY_VM_EXIT_CONTROLS) | Exit::ACTIVATE_SECONDARY_CONTROLS;
        vmcs.set(field::PRIMARY_VM_EXIT_CONTROLS, exit);
        vmcs.set(
            field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
            Secondary::ENABLE_EPT | Secondary::ENABLE_VPID | Secondary::VIRTUALIZE_APIC_ACCESSES,
        );
        let cpu = CpuState::host_64();
        let attempt = EntryAttempt::vmlaunch(&cpu, &capabilities);
        let read = core::cell::RefCell::new(FieldSet::EMPTY);
        let noting = FieldReader(|field| {
            read.borrow_mut().insert(field);
            vmcs.raw(field)
        });
        let _ = attempt.on(&noting, &ZeroMemory).violations();
        let read = read.into_inner();
        let in_general_use = IN_GENERAL_USE.into_iter().collect::<FieldSet>();
        assert_eq!(read.iter().filter(|field| !NEAR.contains(*field)).collect::<Vec<_>>(), []);
        assert_eq!(in_general_use.iter().filter(|field| !read.contains(*field)).collect::<Vec<_>>(), []);
    }
}
