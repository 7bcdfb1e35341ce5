//! The contents of a VMCS, and reading them from anywhere.

mod layout;

use crate::capabilities::Facts;
use crate::field::{FIELDS, Field, FieldId, FieldValue};
use layout::{FAR, NEAR, Part, Place};

/// The fields of one VMCS, densely stored; all zero at first.
///
/// A value never has bits above its field's width.
#[derive(Clone, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Vmcs {
    near: Part<{ NEAR.qwords }, { NEAR.dwords }, { NEAR.words }>,
    far: Part<{ FAR.qwords }, { FAR.dwords }, { FAR.words }>,
}

impl Vmcs {
    /// All fields 0.
    #[must_use]
    pub const fn new() -> Self {
        Self { near: Part::new(), far: Part::new() }
    }

    /// The value of `field`.
    #[must_use]
    #[inline]
    pub fn get<T: FieldValue>(&self, field: Field<T>) -> T {
        T::from_raw(self.raw(field.id()))
    }

    /// Sets `field`.
    #[inline]
    pub fn set<T: FieldValue>(&mut self, field: Field<T>, value: T) {
        self.set_raw(field.id(), value.to_raw());
    }

    /// The raw bits of a component.
    #[must_use]
    #[inline]
    pub fn raw(&self, field: FieldId) -> u64 {
        match Place::of(field) {
            Place::Near(slot) => self.near.get(slot),
            Place::Far(slot) => self.far.get(slot),
        }
    }

    /// Sets the raw bits of a component; bits above its width are dropped.
    #[inline]
    pub fn set_raw(&mut self, field: FieldId, value: u64) {
        match Place::of(field) {
            Place::Near(slot) => self.near.set(slot, value),
            Place::Far(slot) => self.far.set(slot, value),
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
    /// The fields that are not 0.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_map().entries(self.iter().filter(|(_, value)| *value != 0)).finish()
    }
}

/// Something that a check looked at and that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The value of a field.
    Field(FieldId),
    /// Some of these facts about the processor.
    Facts(Facts),
    /// What memory holds at that physical address.
    Memory(u64),
    /// The VMCS that an entry which returns from SMM goes by.
    ExecutiveVmcs,
    /// Nothing: the SDM leaves open what the processor does.
    Open,
}

/// Anything that can say what a VMCS field holds: a [`Vmcs`], a partial image, or VMREAD itself.
pub trait ReadFields {
    /// Whether some fields or facts may be unknown. Then [`Self::knows`] and [`Self::met_unknown`] count.
    const PARTIAL: bool = false;

    /// The raw bits of a component. What is not known reads as any value.
    fn read(&self, field: FieldId) -> u64;

    /// Whether the component's value is known.
    #[inline]
    fn knows(&self, _field: FieldId) -> bool {
        true
    }

    /// Brings the contents near, where they are memory that may be far: called some time before they are read.
    #[inline]
    fn touch(&self) {}

    /// Called when a check has used something that is not known.
    #[inline]
    fn met_unknown(&self, _what: Unknown) {}
}

impl ReadFields for Vmcs {
    #[inline]
    fn read(&self, field: FieldId) -> u64 {
        self.raw(field)
    }

    #[inline]
    fn touch(&self) {
        self.near.touch();
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
