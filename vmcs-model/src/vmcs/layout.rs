//! Where a [`Vmcs`](super::Vmcs) holds each field: an array for each width, and in each array the near fields first.
//!
//! Near are the fields that the checks of an ordinary entry read. They fill nine cache lines of twenty-one, so that
//! judging an image that is far away in memory waits for these alone.

use crate::checks::CheckId;
use crate::field::{self, FIELD_COUNT, FIELDS, FieldId, FieldSet, Width};

/// The array that holds a field, and the index there.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// A 16-bit field.
    Word(u8),
    /// A 32-bit field.
    Dword(u8),
    /// A 64-bit field, or one of natural width.
    Qword(u8),
}

impl Place {
    /// The place of a field. Of a constant field it is a constant.
    #[inline(always)]
    pub(super) fn of(field: FieldId) -> Self {
        LAYOUT.places[field.index()]
    }
}

/// How many values an array has.
#[derive(Clone, Copy)]
pub(super) struct Length {
    /// All of them.
    pub(super) all: usize,
    /// The near ones, which come first.
    pub(super) near: usize,
}

/// 16-bit fields.
pub(super) const WORDS: Length = LAYOUT.lengths[0];
/// 32-bit fields.
pub(super) const DWORDS: Length = LAYOUT.lengths[1];
/// 64-bit fields and those of natural width.
pub(super) const QWORDS: Length = LAYOUT.lengths[2];

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

/// What a check names and every processor has, and what is in general use.
const NEAR: FieldSet = {
    let mut near = FieldSet::EMPTY;
    let mut check = 0;
    while check < CheckId::ALL.len() {
        let fields = CheckId::ALL[check].info().fields;
        let mut i = 0;
        while i < fields.len() {
            if fields[i].info().exists_if.is_empty() {
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

struct Layout {
    /// By [`FieldId::index`]; every value of its type has an element, so that no look-up needs a bounds check.
    places: [Place; 256],
    lengths: [Length; 3],
}

const LAYOUT: &Layout = &{
    let mut layout = Layout { places: [Place::Word(0); 256], lengths: [Length { all: 0, near: 0 }; 3] };
    layout.append(true);
    layout.append(false);
    layout
};

impl Layout {
    /// Gives the next places to the fields that are near, or to those that are not.
    const fn append(&mut self, near: bool) {
        let mut i = 0;
        while i < FIELD_COUNT {
            let info = &FIELDS[i];
            if NEAR.contains(info.id) == near {
                let array = match info.width() {
                    Width::Bits16 => 0,
                    Width::Bits32 => 1,
                    Width::Bits64 | Width::Natural => 2,
                };
                let length = &mut self.lengths[array];
                #[allow(clippy::cast_possible_truncation, reason = "there are no more fields than a FieldId can tell")]
                let next = length.all as u8;
                length.all += 1;
                length.near += near as usize;
                self.places[i] = [Place::Word(next), Place::Dword(next), Place::Qword(next)][array];
            }
            i += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controls::{Primary, Secondary};
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
            Primary::ACTIVATE_SECONDARY_CONTROLS | Primary::USE_MSR_BITMAPS | Primary::USE_TPR_SHADOW,
        );
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
