//! Judging the checks of a VM entry when some values are not known.
//!
//! A check is *violated* or *holds* only if known values alone decide its guard and its predicate. Whatever the unknown
//! values are, they cannot contradict such an answer. Every other check is *undecidable*.

use core::cell::Cell;

use crate::capabilities::Facts;
use crate::checks::CheckId;
use crate::context::EntryContext;
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

    /// The unknown things of both sets.
    pub(crate) fn union(self, other: Self) -> Self {
        Self {
            fields: self.fields.iter().chain(other.fields.iter()).collect(),
            facts: self.facts.and(other.facts),
            memory: self.memory.or(other.memory),
            executive_vmcs: self.executive_vmcs || other.executive_vmcs,
            open: self.open || other.open,
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

    #[cold]
    #[inline(never)]
    fn met_unknown(&self, what: Unknown) {
        let mut met = self.met.get();
        met.insert(what);
        self.met.set(met);
    }
}

/// The value of a condition, and the unknown things that it asked for.
#[derive(Clone, Copy)]
pub(crate) struct Watched {
    value: bool,
    met: Option<Unknowns>,
}

impl Watched {
    /// A condition that is true whatever the unknown values are.
    pub(crate) const HOLDS: Self = Self { value: true, met: None };

    /// Whether the condition is true, `None` if it depends on something unknown.
    pub(crate) fn truth(self) -> Option<bool> {
        self.met.is_none().then_some(self.value)
    }

    /// The unknown things that the condition asked for.
    pub(crate) fn met(self) -> Unknowns {
        self.met.unwrap_or_default()
    }

    /// Whether this condition or the other one is true. If one is certainly true, it does not matter what the other one
    /// asked for.
    pub(crate) fn or(self, other: Self) -> Self {
        match (self.truth(), other.truth()) {
            (Some(true), _) | (_, Some(true)) => Self::HOLDS,
            (Some(false), _) => other,
            (_, Some(false)) => self,
            (None, None) => Self { value: false, met: Some(self.met().union(other.met())) },
        }
    }

    fn not(self) -> Self {
        Self { value: !self.value, ..self }
    }
}

impl<R: ReadFields, M: ReadMemory> EntryContext<'_, Watch<'_, R>, M> {
    /// Evaluates `condition` and notes which unknown things it asks for.
    pub(crate) fn watch(&self, condition: impl FnOnce() -> bool) -> Watched {
        let watch = self.reader();
        if self.met.replace(false) {
            watch.met.set(Unknowns::default());
        }
        let value = condition();
        Watched { value, met: self.met.get().then(|| watch.met.get()) }
    }

    /// Whether an entry passes a row: the row is not in force, or it holds.
    pub(crate) fn watch_row(&self, check: CheckId) -> Watched {
        let off = self.watch(|| check.in_force(self)).not();
        if off.truth() == Some(true) { off } else { off.or(self.watch(|| check.predicate(self))) }
    }
}
