//! Judging the checks while some values are not known.
//!
//! A check is *violated* or *holds* only if its guard and predicate were decided by known values alone, so that no
//! completion of the image can contradict the answer; otherwise it is *undecidable*.

use core::cell::Cell;

use crate::checks::{CheckId, PartialChecks};
use crate::context::EntryContext;
use crate::field::{FieldId, FieldSet};
use crate::memory::ReadMemory;
use crate::vmcs::{ReadFields, Vmcs};

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

/// A reader that notes whether anything unknown was met.
pub struct Watch<'a, R> {
    reader: &'a R,
    met_unknown: Cell<bool>,
}

impl<'a, R> Watch<'a, R> {
    /// Watches `reader`.
    pub const fn new(reader: &'a R) -> Self {
        Self { reader, met_unknown: Cell::new(false) }
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

    fn met_unknown(&self) {
        self.met_unknown.set(true);
    }
}

impl<R: ReadFields, M: ReadMemory> EntryContext<'_, Watch<'_, R>, M> {
    /// The truth of `condition`, `None` if it met something unknown.
    pub(crate) fn watch(&self, condition: impl FnOnce() -> bool) -> Option<bool> {
        let watch = self.reader();
        watch.met_unknown.set(false);
        let truth = condition();
        (!watch.met_unknown.get()).then_some(truth)
    }
}

impl PartialChecks {
    /// Files `check` under what its guard and predicate say.
    pub(crate) fn judge(&mut self, check: CheckId, guard: Option<bool>, holds: impl FnOnce() -> Option<bool>) {
        if guard == Some(false) {
            return;
        }
        match (guard, holds()) {
            (_, Some(true)) => {}
            (Some(true), Some(false)) => self.violated.insert(check),
            _ => self.undecidable.insert(check),
        }
    }
}
