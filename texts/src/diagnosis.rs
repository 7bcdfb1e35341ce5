//! Finds out what is wrong with a VMCS of which only a part is known: a dump, or an image that lists a part of the fields.

mod branches;
mod doubtful;
mod fix;
mod missing;
mod msr_load;
mod ranking;
mod report;
mod sections;
mod words;
mod wrong;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use vmcs_case::profile::NamedProfile;
use vmcs_model::checks::{CheckId, CheckInfo, CheckSet, Failure, Phase};
use vmcs_model::explain::Explanation;
use vmcs_model::formats::exit_reason;
use vmcs_model::partial::Unknowns;
use vmcs_model::{Capabilities, CpuProfile, EntryAttempt, Outcome, Verdict};

pub use branches::{Alternative, common};
pub use fix::Fix;
pub use missing::names;
pub use msr_load::JudgedMsr;
pub use ranking::{Finding, Group, Standing};
pub use report::{Answer, Processor};
pub use sections::{Manner, Point, Section};
pub use wrong::what_is_wrong;

pub use crate::partial_entry::PartialEntry;

use branches::Decided;

use crate::dump::Reported;

impl PartialEntry {
    /// What is known of the processor: what `profile` says, and what the entry implies.
    #[must_use]
    pub fn processor(&self, profile: &CpuProfile) -> CpuProfile {
        branches::with_implied(profile, &self.dump)
    }

    /// Judges the entry on a processor of which so much is known.
    #[must_use]
    pub fn diagnose<'a>(&'a self, capabilities: &'a Capabilities) -> Diagnosis<'a> {
        let attempt = self.attempt(capabilities);
        let Decided { verdict, alternatives, permitted } = branches::decide(attempt, &self.dump.vmcs, &self.memory);
        let msrs = self.judge_msr_load(capabilities);
        Diagnosis { entry: self, attempt, verdict, alternatives, permitted, msrs, guess: None }
    }
}

/// The diagnosis of an entry: its verdict and explanations.
#[derive(Clone, Debug)]
pub struct Diagnosis<'a> {
    entry: &'a PartialEntry,
    attempt: EntryAttempt<'a>,
    verdict: Verdict,
    alternatives: Vec<Alternative>,
    permitted: Vec<Outcome>,
    msrs: Vec<JudgedMsr>,
    /// What the processor may be able to do, and the checks that are violated then and undecidable otherwise.
    guess: Option<(&'a Capabilities, CheckSet)>,
}

/// How the reported outcome of an entry fits the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// No check that is known to be violated leads to the outcome, but checks that are undecidable do: so many.
    CauseUndecidable(usize),
    /// No check leads to the outcome, whatever the unknown values are.
    Unexplained,
    /// The check is violated by the known values, but the processor got past it: some value is not what the VMCS held.
    GotPast(CheckId),
}

/// What an outcome says of a check without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The processor got past it.
    Passed,
    /// The processor did not get to it.
    NotReached,
}

/// A check that explains an outcome on known processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guess {
    /// The check.
    pub check: CheckId,
    /// On how many processors this check is the only one that leads to the reported outcome.
    pub processors: usize,
    /// On how many processors this check is violated.
    pub violating: usize,
    /// How many processors were tried.
    pub of: usize,
}

impl<'a> Diagnosis<'a> {
    /// The entry.
    #[must_use]
    pub const fn entry(&self) -> &'a PartialEntry {
        self.entry
    }

    /// Violated checks, undecidable ones, and outcomes that are possible.
    #[must_use]
    pub const fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Adds what would be violated if the processor were one that can do this: findings that hang on that are marked. If such a
    /// processor cannot have got as far as is reported, it is another one, and nothing is added.
    #[must_use]
    pub fn guessing(self, capabilities: &'a Capabilities) -> Self {
        let attempt = EntryAttempt { capabilities, ..self.attempt };
        let Decided { verdict, .. } = branches::decide(attempt, &self.entry.dump.vmcs, &self.entry.memory);
        if self.contradicts(&verdict.violated) {
            return self;
        }
        let only_then = verdict.violated.iter().filter(|check| self.verdict.undecidable.contains(*check)).collect();
        Self { guess: Some((capabilities, only_then)), ..self }
    }

    /// Rules that are broken although it is not known which of two checks says so.
    #[must_use]
    pub fn alternatives(&self) -> &[Alternative] {
        &self.alternatives
    }

    /// The outcomes that are permitted, of the failures that [`Permitted::msr_failures_from`] speaks of only the first.
    ///
    /// [`Permitted::msr_failures_from`]: vmcs_model::Permitted::msr_failures_from
    #[must_use]
    pub fn permitted(&self) -> &[Outcome] {
        &self.permitted
    }

    /// The entries of the VM-entry MSR-load area that the dump lists.
    #[must_use]
    pub fn msr_load(&self) -> &[JudgedMsr] {
        &self.msrs
    }

    /// Why a check is violated.
    #[must_use]
    pub fn explain(&self, check: CheckId) -> Explanation<'_> {
        self.attempt_for(check).on(&self.entry.dump.vmcs, &self.entry.memory).explain(check)
    }

    /// The attempt that violates the check: on the processor that is known, or on the one that is guessed.
    fn attempt_for(&self, check: CheckId) -> EntryAttempt<'_> {
        let guessed = self.guess.as_ref().filter(|(_, violated)| violated.contains(check));
        let capabilities = guessed.map_or(self.attempt.capabilities, |(capabilities, _)| capabilities);
        EntryAttempt { capabilities, ..self.attempt }
    }

    /// What is missing to decide a check.
    #[must_use]
    pub fn unknowns(&self, check: CheckId) -> Unknowns {
        self.attempt.on(&self.entry.dump.vmcs, &self.entry.memory).unknowns(check)
    }

    /// What the reported outcome says of a check; `None` if it says nothing, or none is reported.
    #[must_use]
    pub fn settled(&self, check: CheckId) -> Option<Settled> {
        let reached = match self.entry.dump.reported?.outcome()? {
            Outcome::FailValid(_) => Phase::ControlsAndHost,
            Outcome::EntryFailed { reason: exit_reason::INVALID_GUEST_STATE, .. } => Phase::GuestState,
            Outcome::EntryFailed { reason: exit_reason::MSR_LOADING, .. } => Phase::MsrLoading,
            _ => return None,
        };
        match check.info().phase.cmp(&reached) {
            Ordering::Less => Some(Settled::Passed),
            Ordering::Equal => None,
            Ordering::Greater => Some(Settled::NotReached),
        }
    }

    /// The outcome that is reported, if it is a failure.
    fn failure(&self) -> Option<Reported> {
        self.entry.dump.reported.filter(|reported| reported.outcome() != Some(Outcome::Entered))
    }

    /// How the reported outcome, if there is one, fits the checks.
    #[must_use]
    pub fn notes(&self) -> Vec<Note> {
        if self.entry.dump.reported.is_none() {
            return Vec::new();
        }
        let mut notes = Vec::new();
        if !self.verdict.violated.iter().any(|check| self.leads_to_the_report(check)) {
            let candidates = self.verdict.undecidable.iter().filter(|check| self.leads_to_the_report(*check)).count();
            notes.push(if candidates > 0 { Note::CauseUndecidable(candidates) } else { Note::Unexplained });
        }
        let past = self.verdict.violated.iter().filter(|check| self.settled(*check) == Some(Settled::Passed));
        notes.extend(past.map(Note::GotPast));
        notes
    }

    /// Which check would explain the reported outcome if the processor were one of those that are known by name, and got as far
    /// as is reported. Checks that compare a value with what the processor supports are not guessed: that it does not support
    /// what somebody uses is no more likely than that it is another one.
    #[must_use]
    pub fn guess(&self) -> Option<Guess> {
        // By check: on how many processors it alone leads to the outcome, and on how many it is violated.
        let mut explaining: BTreeMap<CheckId, (usize, usize)> = BTreeMap::new();
        let mut of = 0;
        for profile in NamedProfile::embedded() {
            let capabilities = Capabilities::new(&profile.profile);
            let attempt = EntryAttempt { capabilities: &capabilities, ..self.attempt };
            let entry = attempt.on(&self.entry.dump.vmcs, &self.entry.memory);
            let violated = entry.violations();
            if self.contradicts(&violated) {
                continue;
            }
            of += 1;
            let leading: Vec<_> = violated.iter().filter(|check| self.leads_to_the_report(*check)).collect();
            let open = |check: &&CheckId| self.verdict.undecidable.contains(**check);
            for check in leading.iter().filter(open).filter(|check| entry.explain(**check).limit().is_none()) {
                let (alone, violating) = explaining.entry(*check).or_default();
                *alone += usize::from(leading.len() == 1);
                *violating += 1;
            }
        }
        let (check, (processors, violating)) = explaining.into_iter().max_by_key(|(_, count)| *count)?;
        if processors == 0 {
            return None;
        }
        Some(Guess { check, processors, violating, of })
    }

    /// Whether a processor on which these checks are violated cannot have got as far as is reported.
    fn contradicts(&self, violated: &CheckSet) -> bool {
        violated
            .iter()
            .any(|check| self.settled(check) == Some(Settled::Passed) && !self.verdict.violated.contains(check))
    }

    /// Whether an entry that violates the check ends as it is reported.
    fn leads_to_the_report(&self, check: CheckId) -> bool {
        let CheckInfo { failure: Failure { outcome, or, .. }, phase, .. } = *check.info();
        let reported = self.entry.dump.reported;
        // The qualification is the number of the entry that is not loaded, not the one that stands in the row.
        let number = reported.and_then(|reported| msr_load::reported_entry(reported.outcome()?));
        let outcomes = std::iter::once(outcome).chain(or).map(|outcome| match (outcome, number) {
            (Outcome::EntryFailed { reason, .. }, Some(qualification)) if phase == Phase::MsrLoading => {
                Outcome::EntryFailed { reason, qualification }
            }
            _ => outcome,
        });
        outcomes.into_iter().any(|outcome| reported.is_some_and(|reported| reported.is(outcome)))
    }
}

#[cfg(test)]
mod tests {
    use vmcs_model::field::{self, FieldId};

    use super::*;
    use crate::dump::Dump;
    use crate::image::{Image, Syntax};

    /// A dump of one field after an entry that ended so.
    fn entry(value: (FieldId, u64), outcome: Outcome) -> PartialEntry {
        let mut dump =
            Dump { format: "log", reported: Some(Reported::Outcome { outcome, qualified: false }), ..Dump::default() };
        dump.vmcs.set_raw(value.0, value.1);
        PartialEntry::of_dump(dump)
    }

    #[test]
    fn the_exit_reason_of_an_image_reports_how_the_entry_ended() {
        let reported = |fields: &str| {
            let image = Image::parse(&format!("{{\"fields\": {{{fields}}}}}"), Syntax::Json).expect("it is an image");
            PartialEntry::of_image(&image, 0).dump.reported
        };
        let outcome = |qualification, qualified| {
            Some(Reported::Outcome { outcome: Outcome::invalid_guest_state(qualification), qualified })
        };
        assert_eq!(reported("\"0x4402\": \"0x80000021\", \"exit_qualification\": 4"), outcome(4, true));
        assert_eq!(reported("\"exit_reason\": \"0x80000021\""), outcome(0, false));
        assert_eq!(reported("\"exit_reason\": 33"), None);
    }

    #[test]
    fn what_the_log_says_is_held_against_the_checks() {
        let capabilities = Capabilities::new(&Default::default());
        let check = |id| CheckId::by_id(id).expect("a check");
        let rflags = check("guest.rflags.bit1");
        let no_rflags = (field::GUEST_RFLAGS.id(), 0);
        let guest_state = entry(no_rflags, Outcome::invalid_guest_state(0));
        let diagnosis = guest_state.diagnose(&capabilities);
        assert!(diagnosis.verdict().violated.contains(rflags), "{:?}", diagnosis.verdict());
        assert_eq!(diagnosis.notes(), [], "the check explains the report");
        let settled = ["ctl.pin.reserved-bits.allowed0", "guest.rflags.bit1", "msrload.fs-gs-base"].map(check);
        let settled = settled.map(|check| diagnosis.settled(check));
        assert_eq!(settled, [Some(Settled::Passed), None, Some(Settled::NotReached)]);

        let controls = entry(no_rflags, Outcome::fail_valid(7));
        let notes = controls.diagnose(&capabilities).notes();
        assert!(matches!(notes[..], [Note::CauseUndecidable(candidates)] if candidates > 50), "{notes:?}");

        let reason = exit_reason::MSR_LOADING;
        let loading = entry(no_rflags, Outcome::EntryFailed { reason, qualification: 1 });
        let notes = loading.diagnose(&capabilities).notes();
        assert!(matches!(notes[..], [Note::CauseUndecidable(_), Note::GotPast(check)] if check == rflags), "{notes:?}");

        let unknown = entry(no_rflags, Outcome::fail_valid(28));
        assert_eq!(unknown.diagnose(&capabilities).notes(), [Note::Unexplained]);
    }
}
