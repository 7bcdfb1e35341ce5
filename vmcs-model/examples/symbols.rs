//! The checks over the simplest reader and memory, for a look at the symbols that they link: see `symbols.sh`.
#![no_std]

use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::memory::ZeroMemory;
use vmcs_model::{EntryAttempt, Vmcs};

/// Every violation.
#[must_use]
pub fn violations(attempt: EntryAttempt<'_>, vmcs: &Vmcs) -> CheckSet {
    vmcs_model::violations(attempt, vmcs, &ZeroMemory)
}

/// The first violation.
#[must_use]
pub fn first_violation(attempt: EntryAttempt<'_>, vmcs: &Vmcs) -> Option<CheckId> {
    vmcs_model::first_violation(attempt, vmcs, &ZeroMemory)
}

/// How many of the images violate a check.
#[must_use]
pub fn violations_batch(attempt: EntryAttempt<'_>, images: &[&Vmcs]) -> usize {
    let mut invalid = 0;
    vmcs_model::violations_batch(attempt, images, &ZeroMemory, |_, violated| {
        invalid += usize::from(!violated.is_empty());
    });
    invalid
}
