//! The checks over every kind of reader and any memory, for a look at the symbols that they link: see `symbols.sh`.
#![no_std]

use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::partial::PartialVmcs;
use vmcs_model::vmcs::FieldReader;
use vmcs_model::{EntryAttempt, FieldId, ReadMemory, Verdict, Vmcs};

/// Memory of which only the first qwords are known.
pub struct Memory<'a>(pub &'a [u64]);

impl ReadMemory for Memory<'_> {
    #[allow(clippy::cast_possible_truncation, reason = "half of the qword is meant")]
    fn read_u32(&self, address: u64) -> Option<u32> {
        self.read_u64(address & !7).map(|qword| (qword >> (8 * (address & 4))) as u32)
    }

    fn read_u64(&self, address: u64) -> Option<u64> {
        self.0.get(usize::try_from(address / 8).ok()?).copied()
    }
}

/// Every violation.
#[must_use]
pub fn violations(attempt: EntryAttempt<'_>, vmcs: &Vmcs, memory: &Memory<'_>) -> CheckSet {
    attempt.on(vmcs, memory).violations()
}

/// The first violation.
#[must_use]
pub fn first_violation(attempt: EntryAttempt<'_>, vmcs: &Vmcs, memory: &Memory<'_>) -> Option<CheckId> {
    attempt.on(vmcs, memory).first_violation()
}

/// How many of the images violate a check.
#[must_use]
pub fn violations_batch(attempt: EntryAttempt<'_>, images: &[&Vmcs], memory: &Memory<'_>) -> usize {
    let mut invalid = 0;
    attempt.violations_batch(images, memory, |_, violated| invalid += usize::from(!violated.is_empty()));
    invalid
}

/// Every violation of what VMREAD returns, or another function.
#[must_use]
pub fn read_violations(attempt: EntryAttempt<'_>, read: fn(FieldId) -> u64, memory: &Memory<'_>) -> CheckSet {
    attempt.on(&FieldReader(read), memory).violations()
}

/// The first violation of it.
#[must_use]
pub fn first_read_violation(
    attempt: EntryAttempt<'_>,
    read: fn(FieldId) -> u64,
    memory: &Memory<'_>,
) -> Option<CheckId> {
    attempt.on(&FieldReader(read), memory).first_violation()
}

/// The verdict on an image.
#[must_use]
pub fn verdict(attempt: EntryAttempt<'_>, vmcs: &Vmcs, memory: &Memory<'_>) -> Verdict {
    attempt.on(vmcs, memory).verdict()
}

/// The verdict on an image of which only a part is known.
#[must_use]
pub fn verdict_on_a_part(attempt: EntryAttempt<'_>, vmcs: &PartialVmcs, memory: &Memory<'_>) -> Verdict {
    attempt.on(vmcs, memory).verdict()
}
