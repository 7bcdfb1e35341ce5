//! The set of outcomes that the architecture permits.

use core::fmt;
use core::num::NonZeroU32;

use crate::checks::msr_failure;
use crate::formats::{InstructionError, exit_reason};
use crate::outcome::{Exception, Outcome};

/// A set of outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permitted {
    outcomes: [Option<Short>; Self::MOST],
    msr_failures_from: Option<u64>,
}

impl Permitted {
    /// More than the checks of one entry can lead to.
    const MOST: usize = 32;
    /// Entries of the MSR-load area that are listed one by one.
    pub(super) const MSR_FAILURES: u32 = 8;

    pub(super) fn insert(&mut self, outcome: Outcome) {
        let outcome = Short::new(outcome);
        for slot in &mut self.outcomes {
            match slot {
                Some(known) if *known == outcome => return,
                Some(_) => {}
                None => {
                    *slot = Some(outcome);
                    return;
                }
            }
        }
    }

    /// A failure to load MSRs at that entry of the area, or at any later one.
    pub(super) fn insert_msr_failures_from(&mut self, entry: u64) {
        if self.msr_failures_from.is_none() {
            self.msr_failures_from = Some(entry);
            self.insert(msr_failure(entry));
        }
    }

    /// Whether the outcome is in the set.
    #[must_use]
    pub fn contains(&self, outcome: &Outcome) -> bool {
        let msr_failure = match (outcome, self.msr_failures_from) {
            (Outcome::EntryFailed { reason: exit_reason::MSR_LOADING, qualification }, Some(from)) => {
                *qualification >= from
            }
            _ => false,
        };
        msr_failure || self.iter().any(|permitted| permitted == *outcome)
    }

    /// The outcomes, each once, those of earlier stages first. Of the failures that [`Self::msr_failures_from`] speaks
    /// of, only the first is listed.
    pub fn iter(&self) -> impl Iterator<Item = Outcome> + '_ {
        self.outcomes.iter().flatten().map(|outcome| outcome.outcome())
    }

    /// A failure to load MSRs is permitted at that entry of the area, counted from 1, and at every later one: too many
    /// entries are open to list them, or behaviour is undefined from there on.
    #[must_use]
    pub const fn msr_failures_from(&self) -> Option<u64> {
        self.msr_failures_from
    }

    /// Whether the outcome is certain.
    #[must_use]
    pub fn single(&self) -> Option<Outcome> {
        let mut outcomes = self.iter();
        let first = outcomes.next()?;
        (outcomes.next().is_none() && self.msr_failures_from.is_none()).then_some(first)
    }
}

/// An outcome of a check in 32 bits, so that a set of outcomes is quickly made: every verdict has one.
///
/// Bits 31:28 are its kind, the bits below a number, which for an entry failure is the reason (27:16) and the
/// qualification (15:0). Every outcome that a row names fits; the entries of an MSR-load area are counted up to 4097.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Short(NonZeroU32);

impl Short {
    const FAULT: u32 = 1 << 28;
    const FAULT_WITH_CODE_0: u32 = 2 << 28;
    const EXITED: u32 = 3 << 28;
    const FAIL_INVALID: u32 = 4 << 28;
    const FAIL_VALID: u32 = 5 << 28;
    const ENTRY_FAILED: u32 = 6 << 28;
    const ENTERED: u32 = 7 << 28;
    const KIND: u32 = 0xF << 28;

    #[allow(clippy::cast_possible_truncation, reason = "every outcome of a check fits")]
    const fn new(outcome: Outcome) -> Self {
        let bits = match outcome {
            Outcome::Fault(Exception { vector, error_code: None }) => Self::FAULT | vector as u32,
            Outcome::Fault(Exception { vector, error_code: Some(_) }) => Self::FAULT_WITH_CODE_0 | vector as u32,
            Outcome::Exited { reason } => Self::EXITED | reason as u32,
            Outcome::FailInvalid => Self::FAIL_INVALID,
            Outcome::FailValid(InstructionError(number)) => Self::FAIL_VALID | number & !Self::KIND,
            Outcome::EntryFailed { reason, qualification } => {
                Self::ENTRY_FAILED | (reason as u32 & 0xFFF) << 16 | qualification as u16 as u32
            }
            Outcome::Entered => Self::ENTERED,
        };
        match NonZeroU32::new(bits) {
            Some(bits) => Self(bits),
            None => Self(NonZeroU32::MIN), // No kind is 0.
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "the parts of the number")]
    const fn outcome(self) -> Outcome {
        let (kind, number) = (self.0.get() & Self::KIND, self.0.get() & !Self::KIND);
        match kind {
            Self::FAULT => Outcome::Fault(Exception { vector: number as u8, error_code: None }),
            Self::FAULT_WITH_CODE_0 => Outcome::Fault(Exception { vector: number as u8, error_code: Some(0) }),
            Self::EXITED => Outcome::Exited { reason: number as u16 },
            Self::FAIL_INVALID => Outcome::FailInvalid,
            Self::FAIL_VALID => Outcome::fail_valid(number),
            Self::ENTRY_FAILED => {
                Outcome::EntryFailed { reason: (number >> 16) as u16, qualification: (number & 0xFFFF) as u64 }
            }
            _ => Outcome::Entered,
        }
    }
}

impl fmt::Debug for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.outcome().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::CheckId;

    #[test]
    fn every_outcome_of_a_check_is_kept() {
        let failures = CheckId::all().map(|check| check.info().failure);
        let named = failures.flat_map(|failure| [Some(failure.outcome), failure.or]).flatten();
        // The highest recommended maximum is 4096 entries.
        let entries = (1..=4097).map(msr_failure);
        for outcome in named.chain(entries).chain([Outcome::Entered, Outcome::MACHINE_CHECK]) {
            assert_eq!(Short::new(outcome).outcome(), outcome);
        }
    }
}
