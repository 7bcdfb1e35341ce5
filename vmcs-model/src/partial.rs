//! Judging the checks while some values are not known.
//!
//! A check is *violated* or *holds* only if its guard and predicate were decided by known values alone, so that no
//! completion of the image can contradict the answer; otherwise it is *undecidable*.

use core::cell::Cell;

use crate::capabilities::Facts;
use crate::checks::{CheckId, CheckSet, PartialChecks};
use crate::context::{EntryAttempt, EntryContext};
use crate::field::{FieldId, FieldSet};
use crate::memory::ReadMemory;
use crate::verdict::judge_into;
use crate::vmcs::{ReadFields, Unknown, Vmcs};

/// A VMCS of which only some fields are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialVmcs {
    values: Vmcs,
    known: FieldSet,
}

impl PartialVmcs {
    /// Nothing is known.
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

impl ReadFields for PartialVmcs {
    const PARTIAL: bool = true;

    fn read(&self, field: FieldId) -> u64 {
        self.values.raw(field)
    }

    fn knows(&self, field: FieldId) -> bool {
        self.known.contains(field)
    }
}

/// What was met that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unknowns {
    /// Fields whose values are not known.
    pub fields: FieldSet,
    /// Facts about the processor that are not known.
    pub facts: Facts,
    /// The first physical address of memory whose contents are not known.
    pub memory: Option<u64>,
    /// The VMCS that an entry which returns from SMM goes by is not known.
    pub executive_vmcs: bool,
    /// The SDM leaves open what the processor does.
    pub open: bool,
}

impl Unknowns {
    /// Nothing unknown was met.
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

    /// Both.
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

/// A reader that notes what unknown things were met.
pub struct Watch<'a, R> {
    reader: &'a R,
    met: Cell<Unknowns>,
    any: Cell<bool>,
}

impl<'a, R> Watch<'a, R> {
    /// Watches `reader`.
    pub fn new(reader: &'a R) -> Self {
        Self { reader, met: Cell::default(), any: Cell::new(false) }
    }
}

impl<R: ReadFields> ReadFields for Watch<'_, R> {
    const PARTIAL: bool = true;

    fn read(&self, field: FieldId) -> u64 {
        self.reader.read(field)
    }

    fn knows(&self, field: FieldId) -> bool {
        self.reader.knows(field)
    }

    fn met_unknown(&self, what: Unknown) {
        let mut met = self.met.get();
        met.insert(what);
        self.met.set(met);
        self.any.set(true);
    }
}

/// What a condition came to, and what unknown things it met.
#[derive(Clone, Copy)]
pub(crate) struct Watched {
    value: bool,
    met: Option<Unknowns>,
}

impl Watched {
    /// The truth of the condition, `None` if it met something unknown.
    pub(crate) fn truth(self) -> Option<bool> {
        self.met.is_none().then_some(self.value)
    }

    /// The unknown things that it met.
    pub(crate) fn met(self) -> Unknowns {
        self.met.unwrap_or_default()
    }
}

impl<R: ReadFields, M: ReadMemory> EntryContext<'_, Watch<'_, R>, M> {
    /// Evaluates `condition` and watches what it meets.
    pub(crate) fn watch(&self, condition: impl FnOnce() -> bool) -> Watched {
        let watch = self.reader();
        if watch.any.replace(false) {
            watch.met.set(Unknowns::default());
        }
        let value = condition();
        Watched { value, met: watch.any.get().then(|| watch.met.get()) }
    }
}

/// The unknown things because of which `check` cannot be decided, none if it can.
pub fn unknowns<R: ReadFields, M: ReadMemory>(
    check: CheckId,
    attempt: EntryAttempt<'_>,
    vmcs: &R,
    memory: &M,
) -> Unknowns {
    let mut checks = PartialChecks { asked: Some(check), ..PartialChecks::default() };
    let watch = Watch::new(vmcs);
    judge_into(&EntryContext::new(attempt, &watch, memory), &mut checks);
    if !checks.undecidable.contains(check) {
        return Unknowns::default();
    }
    checks.because
}

/// The checks that are violated, and those that cannot be decided.
pub(crate) fn judge_known<R: ReadFields, M: ReadMemory>(
    attempt: EntryAttempt<'_>,
    vmcs: &R,
    memory: &M,
) -> (CheckSet, CheckSet) {
    let mut checks = PartialChecks::default();
    let watch = Watch::new(vmcs);
    judge_into(&EntryContext::new(attempt, &watch, memory), &mut checks);
    (checks.violated, checks.undecidable)
}

impl PartialChecks {
    /// Files `check` under what its guard and predicate say.
    pub(crate) fn judge(&mut self, check: CheckId, guard: Watched, holds: impl FnOnce() -> Watched) {
        if guard.truth() == Some(false) {
            return;
        }
        let holds = holds();
        match (guard.truth(), holds.truth()) {
            (_, Some(true)) => {}
            (Some(true), Some(false)) => self.violated.insert(check),
            _ => {
                self.undecidable.insert(check);
                if self.asked == Some(check) {
                    self.because = guard.met().union(holds.met());
                }
            }
        }
    }
}
