//! The reviewed deviations of a target, and which of them account for how a VM entry ended.

use vmcs_case::End;
use vmcs_model::checks::{CheckId, CheckSet, Phase};
use vmcs_model::formats::exit_reason;
use vmcs_model::{Outcome, Verdict};
use vmcs_wire::Op;

use crate::deviations::condition::Fields;
use crate::deviations::{Deviation, DeviationIds};
use crate::emulator::CaseEmulator;
use crate::step::StepEnd;

/// The reviewed deviations of a target.
#[derive(Debug)]
pub(super) struct Reviewed<'a>(pub(super) Vec<&'a Deviation>);

/// A VM entry that is about to be made, and the deviations whose conditions its VMCS meets.
pub(super) struct Attempt<'a, 'm> {
    machine: &'m CaseEmulator,
    op: &'m Op,
    applicable: Vec<&'a Deviation>,
}

impl<'a> Reviewed<'a> {
    /// A VM entry that `machine` is about to make.
    pub(super) fn attempt<'m>(&self, machine: &'m CaseEmulator, op: &'m Op) -> Attempt<'a, 'm> {
        let (current, memory) = (machine.processor().current(), machine.processor().memory());
        let applies = |deviation: &&Deviation| {
            current.is_some_and(|region| deviation.applies(Fields::before(&region.fields), memory))
        };
        Attempt { machine, op, applicable: self.0.iter().copied().filter(applies).collect() }
    }
}

impl<'a> Attempt<'a, '_> {
    /// The deviations that account for an outcome which `verdict`, the SDM's, does not permit: one alone, or else as few
    /// as it takes.
    pub(super) fn account_for(&self, verdict: &Verdict, observed: Outcome) -> Option<DeviationIds> {
        let changes = self.changing(verdict);
        let brings_about = |ending: &'a Deviation| {
            self.with_fewest(ending, &changes, |deviations| reaches(&self.verdict(deviations), observed))
        };
        self.fewest(&changes, |deviations| self.verdict(deviations).permits(&observed))
            .or_else(|| self.account_for_order(&changes, observed))
            .or_else(|| self.ending().filter(|(_, end)| *end == observed).find_map(|(ending, _)| brings_about(ending)))
    }

    /// The deviations with which the entry would have ended otherwise than it did, which is as `verdict`, the SDM's,
    /// permits: their conditions are too wide.
    pub(super) fn refuted(&self, verdict: &Verdict, observed: Outcome) -> DeviationIds {
        let changes = self.changing(verdict);
        let otherwise = |deviations: &[&Deviation]| !self.verdict(deviations).permits(&observed);
        let brought_about = self.ending().any(|(_, end)| end == observed);
        let mut refuted = Vec::new();
        if !changes.is_empty() && !brought_about && otherwise(&changes) {
            refuted.extend(changes.iter().copied().filter(|deviation| otherwise(&[deviation])));
        }
        // An entry that fails the checks before does not get to what the deviation is about.
        if verdict.permitted.single() == Some(Outcome::Entered) {
            refuted.extend(self.ending().map(|(ending, _)| ending));
        }
        refuted.into_iter().map(|deviation| deviation.id.clone()).collect()
    }

    /// The deviations because of which the machine went down at an entry that is not permitted to enter.
    pub(super) fn account_for_going_down(&self, verdict: &Verdict, end: &End) -> Option<DeviationIds> {
        let changes = self.changing(verdict);
        let takes_part = |deviation: &&Deviation| {
            deviation.takes_down(end)
                && (!deviation.changes_checks() || changes.iter().any(|other| other.id == deviation.id))
        };
        let mut ending = self.applicable.iter().copied().filter(takes_part);
        ending.find_map(|ending| self.with_fewest(ending, &changes, |deviations| leaves(&self.verdict(deviations))))
    }

    /// The deviations because of which an entry that has to be refused leaves: what comes then can take a machine down.
    pub(super) fn account_for_leaving(&self, verdict: &Verdict) -> Option<DeviationIds> {
        let changes = self.changing(verdict);
        self.fewest(&changes, |deviations| leaves(&self.verdict(deviations)))
    }

    /// Those because of which checks come later than they should: the entry fails before.
    fn account_for_order(&self, changes: &[&'a Deviation], observed: Outcome) -> Option<DeviationIds> {
        let Outcome::EntryFailed { reason, .. } = observed else { return None };
        let guest_state = || CheckId::all().filter(|check| check.info().phase == Phase::GuestState);
        let later = |deviation: &Deviation| -> CheckSet {
            let msrs_first = deviation.msrs_before_guest_state && reason == exit_reason::MSR_LOADING;
            deviation.checked_last.iter().copied().chain(guest_state().filter(|_| msrs_first)).collect()
        };
        self.applicable.iter().copied().find_map(|deviation| {
            let later = later(deviation);
            let fails_before = |all: &[&Deviation]| self.verdict_omitting(all, &later).permits(&observed);
            if later.is_empty() { None } else { self.with_fewest(deviation, changes, fails_before) }
        })
    }

    /// The deviations that bring an outcome about themselves, each with the outcome.
    fn ending(&self) -> impl Iterator<Item = (&'a Deviation, Outcome)> {
        let (current, memory) = (self.machine.processor().current(), self.machine.processor().memory());
        let end = move |deviation: &Deviation| deviation.ends_in(&current?.fields, memory);
        self.applicable.iter().copied().filter_map(move |deviation| Some((deviation, end(deviation)?)))
    }

    /// The deviations that change what the checks come to, and bring no outcome about: they omit a check that does not
    /// hold, or find something else than there is.
    fn changing(&self, verdict: &Verdict) -> Vec<&'a Deviation> {
        let open = verdict.violated.union(&verdict.undecidable);
        let changes = |deviation: &&Deviation| {
            deviation.entry.is_none()
                && (deviation.omits.iter().any(|check| open.contains(*check)) || self.reads_otherwise(deviation))
        };
        self.applicable.iter().copied().filter(changes).collect()
    }

    fn reads_otherwise(&self, deviation: &Deviation) -> bool {
        let Some(region) = self.machine.processor().current() else { return false };
        let memory = self.machine.processor().memory();
        deviation.fields_read.iter().any(|read| read.found(&region.fields).is_some())
            || deviation.msrs_read.iter().any(|read| read.changes(&region.fields, memory).next().is_some())
    }

    /// The verdict on the entry by a processor that has these deviations.
    fn verdict(&self, deviations: &[&Deviation]) -> Verdict {
        self.verdict_omitting(deviations, &CheckSet::EMPTY)
    }

    /// As [`Self::verdict`], for a processor that does not make the checks `omitted` either.
    fn verdict_omitting(&self, deviations: &[&Deviation], omitted: &CheckSet) -> Verdict {
        let mut machine = self.machine.clone();
        let mut omitted = *omitted;
        for deviation in deviations {
            omitted = omitted.union(&deviation.omitted());
            read_otherwise(&mut machine, deviation);
        }
        machine.verdict_omitting(self.op, &omitted).expect("it is a VM entry")
    }

    /// A deviation that satisfies `wanted` alone. If there is none, a set of `deviations` that satisfies it and of which
    /// none can be left out; `None` if not even all of them together do.
    fn fewest(&self, deviations: &[&'a Deviation], wanted: impl Fn(&[&Deviation]) -> bool) -> Option<DeviationIds> {
        let alone = deviations.iter().copied().find(|deviation| wanted(&[deviation]));
        let needed = match alone {
            Some(deviation) => vec![deviation],
            None => needed(deviations, &wanted).filter(|needed| !needed.is_empty())?,
        };
        Some(needed.into_iter().map(|deviation| deviation.id.clone()).collect())
    }

    /// `first` together with a set of `others` of which none can be left out, so that all of them satisfy `wanted`.
    fn with_fewest(
        &self,
        first: &'a Deviation,
        others: &[&'a Deviation],
        wanted: impl Fn(&[&Deviation]) -> bool,
    ) -> Option<DeviationIds> {
        let needed = needed(others, |others| {
            let all: Vec<_> = others.iter().copied().chain([first]).collect();
            wanted(&all)
        })?;
        Some([first].into_iter().chain(needed).map(|deviation| deviation.id.clone()).collect())
    }
}

/// Makes the current VMCS and the VM-entry MSR-load area hold what a processor with that deviation finds in them.
fn read_otherwise(machine: &mut CaseEmulator, deviation: &Deviation) {
    for read in &deviation.fields_read {
        if let Some(found) = machine.processor().current().and_then(|region| read.found(&region.fields)) {
            machine.adopt(read.field, found);
        }
    }
    for read in &deviation.msrs_read {
        let processor = machine.processor();
        let changes = processor.current().map(|region| read.changes(&region.fields, processor.memory()).collect());
        let changes: Vec<_> = changes.unwrap_or_default();
        changes.into_iter().for_each(|(address, value)| machine.store(address, value));
    }
}

/// A set of `deviations` that satisfies `wanted` and of which none can be left out: each deviation in turn is left out if
/// the rest still satisfies it. `None` if all of them together do not.
fn needed<'a>(deviations: &[&'a Deviation], wanted: impl Fn(&[&Deviation]) -> bool) -> Option<Vec<&'a Deviation>> {
    let mut needed = deviations.to_vec();
    if !wanted(&needed) {
        return None;
    }
    let mut index = 0;
    while index < needed.len() {
        let mut fewer = needed.clone();
        fewer.remove(index);
        if wanted(&fewer) {
            needed = fewer;
        } else {
            index += 1;
        }
    }
    Some(needed)
}

/// Whether the entry may get as far as it does with `outcome`: it ends so, or later.
fn reaches(verdict: &Verdict, outcome: Outcome) -> bool {
    let progress = |outcome: Outcome| StepEnd::from(outcome).progress();
    let gets_as_far = |permitted: Outcome| match (permitted, outcome) {
        // Of failures to load MSRs the first is the one that there is.
        (
            Outcome::EntryFailed { reason: exit_reason::MSR_LOADING, qualification: permitted },
            Outcome::EntryFailed { reason: exit_reason::MSR_LOADING, qualification },
        ) => permitted >= qualification,
        _ => progress(permitted) >= progress(outcome),
    };
    verdict.permitted.iter().any(gets_as_far)
}

/// Whether the entry may end by anything else than an instruction that fails.
pub(super) fn leaves(verdict: &Verdict) -> bool {
    verdict.permitted.iter().any(|outcome| matches!(outcome, Outcome::Entered | Outcome::EntryFailed { .. }))
}
