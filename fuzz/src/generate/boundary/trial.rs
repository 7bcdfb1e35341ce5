//! An entry that is tried for sides of checks.

use std::cell::OnceCell;

use vmcs_model::Vmcs;
use vmcs_model::checks::{CheckId, CheckSet};

use super::made::{fits_the_gate, is_risky, lies_on};
use crate::coverage::{Aim, Side};
use crate::generate::entry_case::EntryCase;
use crate::processor::Processor;

/// An entry with its image. The checks that it violates are worked out when they are first asked for, because most trials
/// are decided without them, and some entries take long to judge.
pub(super) struct Trial<'a> {
    processor: &'a Processor,
    pub(super) entry: EntryCase,
    vmcs: Vmcs,
    violated: OnceCell<CheckSet>,
}

impl<'a> Trial<'a> {
    pub(super) fn new(processor: &'a Processor, entry: EntryCase) -> Self {
        Self { processor, vmcs: entry.image(processor), entry, violated: OnceCell::new() }
    }

    fn violated(&self) -> &CheckSet {
        self.violated.get_or_init(|| self.entry.violations(self.processor, &self.vmcs))
    }

    /// Whether the check is in force as the side demands it. It costs little to ask.
    fn fits_the_gate(&self, aim: Aim) -> bool {
        fits_the_gate(self.processor, &self.entry, &self.vmcs, aim)
    }

    /// Whether the entry lies on that side of that check, and shows it.
    pub(super) fn lies_on(&self, aim: Aim) -> bool {
        self.fits_the_gate(aim) && lies_on(self.processor, &self.entry, &self.vmcs, self.violated(), aim)
    }

    /// How many checks the entry violates and the first of them, if these are all that keeps it from showing that it lies
    /// on that side of that check.
    pub(super) fn obstacle(&self, aim: Aim) -> Option<(u32, CheckId)> {
        if aim.side == Side::Violated || !self.fits_the_gate(aim) || self.violated().contains(aim.check) {
            return None;
        }
        Some((self.violated().len(), self.violated().iter().next()?))
    }

    /// Whether the entry takes the machine down, or may.
    pub(super) fn is_risky(&self) -> bool {
        is_risky(self.processor, &self.entry, &self.vmcs, self.violated())
    }
}
