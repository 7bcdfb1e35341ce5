//! Judging the checks of a VM entry when some values are not known.
//!
//! A check is *violated* or *holds* only if known values alone decide its guard and its predicate. Whatever the unknown
//! values are, they cannot contradict such an answer. Every other check is *undecidable*.

use core::cell::Cell;

use crate::capabilities::Facts;
use crate::checks::CheckId;
use crate::context::{EntryContext, Mode};
use crate::field::{FieldId, FieldSet};
use crate::memory::ReadMemory;
use crate::vmcs::{ReadFields, Unknown, Vmcs};

/// A VMCS of which only some fields are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialVmcs {
    values: Vmcs,
    known: FieldSet,
}

impl PartialVmcs {
    /// A VMCS of which nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes the raw bits of a field; bits above its width are dropped.
    pub fn set_raw(&mut self, field: FieldId, value: u64) {
        self.values.set_raw(field, value);
        self.known.insert(field);
    }

    /// The raw bits of a field, if they are known.
    #[must_use]
    pub fn raw(&self, field: FieldId) -> Option<u64> {
        self.knows(field).then(|| self.values.raw(field))
    }
}

impl From<Vmcs> for PartialVmcs {
    /// A VMCS of which every field is known.
    fn from(values: Vmcs) -> Self {
        Self { values, known: FieldId::all().collect() }
    }
}

impl ReadFields for PartialVmcs {
    const PARTIAL: bool = true;

    fn read(&self, field: FieldId) -> u64 {
        self.values.raw(field)
    }

    fn values(&self) -> Vmcs {
        self.values.clone()
    }

    fn knows(&self, field: FieldId) -> bool {
        self.known.contains(field)
    }
}

/// The things that keep a check from being decided, because they are not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unknowns {
    /// Fields whose values are not known.
    pub fields: FieldSet,
    /// Facts about the processor that are not known.
    pub facts: Facts,
    /// A physical address of memory whose contents are not known: the first one that was read. `None` if there was none.
    pub memory: Option<u64>,
    /// The executive VMCS is not known, by whose controls an entry that returns from SMM is checked.
    pub executive_vmcs: bool,
    /// The SDM leaves open what the processor does.
    pub open: bool,
}

impl Unknowns {
    /// Whether everything is known that the check depends on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn insert(&mut self, what: Unknown) {
        match what {
            Unknown::Field(field) => self.fields.insert(field),
            Unknown::Facts(facts) => self.facts = self.facts.and(facts),
            Unknown::Memory(address) => self.memory = self.memory.or(Some(address)),
            Unknown::ExecutiveVmcs => self.executive_vmcs = true,
            Unknown::Open => self.open = true,
        }
    }
}

/// A reader of a VMCS that passes reads on to another one, and notes which unknown things were asked for.
pub struct Watch<'a, R> {
    reader: &'a R,
    met: Cell<Unknowns>,
}

impl<'a, R> Watch<'a, R> {
    /// A watch over `reader`, which has noted nothing so far.
    pub fn new(reader: &'a R) -> Self {
        Self { reader, met: Cell::default() }
    }
}

impl<R: ReadFields> ReadFields for Watch<'_, R> {
    const PARTIAL: bool = true;

    // The checks read fields that are known at compile time. If this is inlined, such a read is one from a constant place.
    #[inline(always)]
    fn read(&self, field: FieldId) -> u64 {
        self.reader.read(field)
    }

    #[inline(always)]
    fn knows(&self, field: FieldId) -> bool {
        self.reader.knows(field)
    }

    #[inline(always)]
    fn supposed(&self, mode: Mode) -> Option<bool> {
        self.reader.supposed(mode)
    }

    #[cold]
    #[inline(never)]
    fn met_unknown(&self, what: Unknown) {
        let mut met = self.met.get();
        met.insert(what);
        self.met.set(met);
    }
}

/// A reader that supposes the value of one bit whose field is not known to `reader`, so that one value can be tried after
/// the other. The rest of the field stays unknown.
#[derive(Clone, Copy, Debug)]
pub struct Supposing<'a, R> {
    reader: &'a R,
    mode: Mode,
    value: bool,
}

impl<'a, R: ReadFields> Supposing<'a, R> {
    /// What `reader` knows, and that the bit of `mode` has that value. The field of the bit must not be known.
    pub fn new(reader: &'a R, mode: Mode, value: bool) -> Self {
        Self { reader, mode, value }
    }
}

impl<R: ReadFields> ReadFields for Supposing<'_, R> {
    const PARTIAL: bool = true;

    fn read(&self, field: FieldId) -> u64 {
        self.reader.read(field)
    }

    fn values(&self) -> Vmcs {
        self.reader.values()
    }

    fn knows(&self, field: FieldId) -> bool {
        self.reader.knows(field)
    }

    fn supposed(&self, mode: Mode) -> Option<bool> {
        if mode == self.mode { Some(self.value) } else { self.reader.supposed(mode) }
    }
}

/// Whether one of two conditions is true, `None` where that is not known. If one is certainly true, it does not matter what the
/// other one depends on.
pub(crate) fn either(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}

impl<R: ReadFields, M: ReadMemory> EntryContext<'_, Watch<'_, R>, M> {
    /// The unknown things that were asked for since the context was made.
    pub(crate) fn met_so_far(&self) -> Unknowns {
        self.reader().met.get()
    }

    /// Whether `condition` is true, `None` if it depends on something unknown.
    #[inline]
    pub(crate) fn certain(&self, condition: impl FnOnce() -> bool) -> Option<bool> {
        self.notes.met.set(false);
        let value = condition();
        (!self.notes.met.get()).then_some(value)
    }

    /// Whether an entry passes a row, `None` where that is not known: the row is not in force, or it holds.
    pub(crate) fn row(&self, check: CheckId) -> Option<bool> {
        let off = self.certain(|| !check.in_force(self));
        if off == Some(true) { off } else { either(off, self.certain(|| check.predicate(self))) }
    }
}
