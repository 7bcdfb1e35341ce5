//! VM entries: whether one ended in a permitted outcome, and which deviation accounts for one that did not.

use vmcs_case::End;
use vmcs_case::program::entry_outcome;
use vmcs_model::checks::CheckSet;
use vmcs_model::formats::ExitReason;
use vmcs_model::{Outcome, Verdict};
use vmcs_wire::{Op, StepResult};

use super::reviewed::Reviewed;
use super::{Disagreement, Judgement, LeftOpen};
use crate::deviations::{Deviation, DeviationIds};
use crate::emulator::CaseEmulator;
use crate::step::{Step, StepEnd};

/// Where an entry went, and how the guest left again.
pub(super) struct Taken {
    pub(super) outcome: Outcome,
    pub(super) reason: ExitReason,
    pub(super) qualification: u64,
}

impl Reviewed<'_> {
    /// Compares a VM entry; where the target went.
    pub(super) fn entry(
        &self,
        machine: &CaseEmulator,
        op: &Op,
        verdict: &Verdict,
        observed: Option<&Step>,
        end: &End,
    ) -> Result<Taken, Judgement> {
        let Some(step) = observed else {
            return Err(self.down(machine, op, verdict, end));
        };
        let Some(outcome) = entry_outcome(step) else {
            return Err(Judgement::Disagree(Disagreement::of_entry(verdict, StepEnd::of(step))));
        };
        if !verdict.permits(&outcome) {
            return Err(self.explained(machine, op, verdict, outcome));
        }
        let (reason, qualification) = match *step {
            StepResult::Exit { reason, qualification, .. } => (ExitReason::from_bits(reason), qualification),
            _ => (ExitReason::new(), 0),
        };
        Ok(Taken { outcome, reason, qualification })
    }

    /// The machine went down at a VM entry.
    fn down(&self, machine: &CaseEmulator, op: &Op, verdict: &Verdict, end: &End) -> Judgement {
        let disagree = || Judgement::Disagree(Disagreement::of_entry(verdict, StepEnd::of_case(end)));
        let open = match end {
            End::Completed => return disagree(),
            End::Crashed { .. } => LeftOpen::Crashed,
            End::Hung => LeftOpen::Hung,
        };
        if let Some(deviation) = self.applicable(machine, |deviation| deviation.crashes).next() {
            return Judgement::Deviates(deviation.id.clone().into());
        }
        // A guest, or host state that was loaded, can take a machine down; an instruction that fails cannot.
        let leaves = |verdict: &Verdict| {
            verdict.permitted.iter().any(|o| matches!(o, Outcome::Entered | Outcome::EntryFailed { .. }))
        };
        if leaves(verdict) {
            return Judgement::Unspecified(open);
        }
        let applicable: Vec<_> = self.applicable(machine, |_| true).collect();
        match Self::omitting(machine, op, verdict, &applicable, &leaves) {
            Some(ids) => Judgement::Deviates(ids),
            None => disagree(),
        }
    }

    /// The deviations that omit checks which are violated and without which the verdict is `wanted`: one alone, or else
    /// all of them together.
    fn omitting(
        machine: &CaseEmulator,
        op: &Op,
        verdict: &Verdict,
        applicable: &[&Deviation],
        wanted: &dyn Fn(&Verdict) -> bool,
    ) -> Option<DeviationIds> {
        let omits = |deviation: &&&Deviation| {
            deviation
                .omitted()
                .iter()
                .any(|check| verdict.violated.contains(check) || verdict.undecidable.contains(check))
        };
        let omitting: Vec<_> = applicable.iter().filter(omits).collect();
        let is_wanted = |omitted: &CheckSet| machine.verdict_omitting(op, omitted).is_some_and(|v| wanted(&v));
        if let Some(deviation) = omitting.iter().find(|deviation| is_wanted(&deviation.omitted())) {
            return Some(deviation.id.clone().into());
        }
        let all = omitting.iter().flat_map(|deviation| deviation.omits.iter().copied()).collect();
        let ids = || omitting.iter().map(|deviation| deviation.id.clone()).collect();
        (!omitting.is_empty() && is_wanted(&all)).then(ids)
    }

    /// The judgement on an outcome that is not permitted: a deviation if one accounts for it.
    fn explained(&self, machine: &CaseEmulator, op: &Op, verdict: &Verdict, observed: Outcome) -> Judgement {
        let applicable: Vec<_> = self.applicable(machine, |_| true).collect();
        if let Some(ids) = Self::omitting(machine, op, verdict, &applicable, &|v| v.permits(&observed)) {
            return Judgement::Deviates(ids);
        }
        if let Some(deviation) = applicable.iter().find(|deviation| deviation.entry == Some(observed)) {
            return Judgement::Deviates(deviation.id.clone().into());
        }
        Judgement::Disagree(Disagreement::of_entry(verdict, observed.into()))
    }
}
