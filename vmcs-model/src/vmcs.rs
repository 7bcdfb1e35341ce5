//! The contents of a VMCS as an array, and the trait by which checks read fields from an array, an image or a processor.

mod layout;

use crate::capabilities::Facts;
use crate::field::{FIELDS, Field, FieldId, FieldSet, FieldValue};
use layout::{DWORDS, Place, QWORDS};

/// Bytes of a cache line.
const LINE: usize = 64;

/// The fields of one VMCS, stored in arrays. All of them are 0 at first.
///
/// A value never has bits above its field's width.
// In this order, because the near qwords come last and the near dwords first, so that they lie side by side.
#[derive(Clone, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Vmcs {
    qwords: [u64; QWORDS.all],
    dwords: [u32; DWORDS.all],
}

impl Vmcs {
    /// A VMCS whose fields are all 0.
    #[must_use]
    pub const fn new() -> Self {
        Self { qwords: [0; QWORDS.all], dwords: [0; DWORDS.all] }
    }

    /// The value of `field`.
    #[must_use]
    #[inline(always)]
    pub fn get<T: FieldValue>(&self, field: Field<T>) -> T {
        T::from_raw(self.raw(field.id()))
    }

    /// Sets `field`.
    #[inline]
    pub fn set<T: FieldValue>(&mut self, field: Field<T>, value: T) {
        self.set_raw(field.id(), value.to_raw());
    }

    /// The raw bits of a component.
    // With a field that is known at compile time, this is one load.
    #[must_use]
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "one half of a dword")]
    pub fn raw(&self, field: FieldId) -> u64 {
        // Every place is within its array; `get` says so without a panic path.
        match Place::of(field) {
            Place::Qword(i) => self.qwords.get(usize::from(i)).map_or(0, |qword| *qword),
            Place::Dword(i) => self.dwords.get(usize::from(i)).map_or(0, |dword| u64::from(*dword)),
            Place::Word(i) => {
                let dword = self.dwords.get(usize::from(i / 2)).map_or(0, |dword| *dword);
                u64::from((dword >> (i % 2 * 16)) as u16)
            }
        }
    }

    /// Sets the raw bits of a component; bits above its width are dropped.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the bits above the width are dropped")]
    pub fn set_raw(&mut self, field: FieldId, value: u64) {
        match Place::of(field) {
            Place::Qword(i) => self.qwords[usize::from(i)] = value,
            Place::Dword(i) => self.dwords[usize::from(i)] = value as u32,
            // The other half stays.
            Place::Word(i) => {
                let (dword, shift) = (&mut self.dwords[usize::from(i / 2)], i % 2 * 16);
                *dword = *dword & !(0xFFFF << shift) | u32::from(value as u16) << shift;
            }
        }
    }

    /// Every component and its value, in the order of Appendix B.
    pub fn iter(&self) -> impl Iterator<Item = (FieldId, u64)> + '_ {
        FIELDS.iter().map(|info| (info.id, self.raw(info.id)))
    }
}

impl Default for Vmcs {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Vmcs {
    /// Writes the fields that are not 0.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_map().entries(self.iter().filter(|(_, value)| *value != 0)).finish()
    }
}

/// Something that a check asked for and that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The value of a field.
    Field(FieldId),
    /// Some of these facts about the processor.
    Facts(Facts),
    /// What memory holds at that physical address.
    Memory(u64),
    /// The executive VMCS, by whose controls an entry that returns from SMM is checked.
    ExecutiveVmcs,
    /// No value is missing, but the SDM leaves open what the processor does.
    Open,
}

/// Anything that can say what a VMCS field holds: a [`Vmcs`], a partial image, or VMREAD itself.
pub trait ReadFields {
    /// Whether some fields or facts may be unknown. Then [`Self::knows`] and [`Self::met_unknown`] count.
    const PARTIAL: bool = false;

    /// The raw bits of a component. If they are not known, the reader may return any value.
    fn read(&self, field: FieldId) -> u64;

    /// What [`Self::read`] says of every component.
    fn values(&self) -> Vmcs {
        let mut values = Vmcs::new();
        FieldId::all().for_each(|field| values.set_raw(field, self.read(field)));
        values
    }

    /// Whether the component's value is known.
    #[inline]
    fn knows(&self, _field: FieldId) -> bool {
        true
    }

    /// Called some time before the fields are read. A reader whose fields lie in memory may bring them into the cache.
    #[inline]
    fn touch(&self) {}

    /// Called when a check has used something that is not known.
    #[inline]
    fn met_unknown(&self, _what: Unknown) {}
}

/// A reader behind a pointer, so that code which need not be fast exists once and not for each type of reader.
pub(crate) trait AnyFields {
    fn read(&self, field: FieldId) -> u64;
    fn knows(&self, field: FieldId) -> bool;
    /// What [`Self::read`] says of all fields, and those that are not known.
    fn copied(&self) -> (Vmcs, FieldSet);
}

impl<R: ReadFields> AnyFields for R {
    fn read(&self, field: FieldId) -> u64 {
        ReadFields::read(self, field)
    }

    fn knows(&self, field: FieldId) -> bool {
        ReadFields::knows(self, field)
    }

    fn copied(&self) -> (Vmcs, FieldSet) {
        let unknown = if R::PARTIAL {
            FieldId::all().filter(|field| !ReadFields::knows(self, *field)).collect()
        } else {
            FieldSet::EMPTY
        };
        (self.values(), unknown)
    }
}

impl ReadFields for Vmcs {
    #[inline(always)]
    fn read(&self, field: FieldId) -> u64 {
        self.raw(field)
    }

    fn values(&self) -> Vmcs {
        self.clone()
    }

    #[inline]
    fn touch(&self) {
        // A value of each line that holds near fields. The dwords need not begin with a line, so that the last of them may lie
        // in one more.
        let (qwords, dwords) = (&self.qwords[QWORDS.near()], &self.dwords[DWORDS.near()]);
        let qwords = qwords.iter().step_by(LINE / 8).fold(0, |any, qword| any | qword);
        let dwords = dwords.iter().step_by(LINE / 4).chain(dwords.last()).fold(0, |any, dword| any | dword);
        core::hint::black_box(qwords | u64::from(dwords));
    }
}

/// A closure that reads a field, such as one that executes VMREAD.
pub struct FieldReader<F>(pub F);

impl<F: Fn(FieldId) -> u64> ReadFields for FieldReader<F> {
    #[inline]
    fn read(&self, field: FieldId) -> u64 {
        (self.0)(field)
    }
}
