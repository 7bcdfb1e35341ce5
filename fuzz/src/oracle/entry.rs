//! Judging a VM entry: whether it ended in a permitted outcome, and if not, which deviation accounts for that.

use vmcs_case::End;
use vmcs_case::program::entry_outcome;
use vmcs_model::formats::ExitReason;
use vmcs_model::{Outcome, Verdict};
use vmcs_wire::{Op, StepResult};

use super::reviewed::{Reviewed, leaves};
use super::{Disagreement, Judgement, LeftOpen};
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
        // A guest that may be entered can take a machine down.
        if verdict.permits(&Outcome::Entered) {
            return Judgement::Unspecified(open);
        }
        let attempt = self.attempt(machine, op);
        if let Some(ids) = attempt.account_for_going_down(verdict, end) {
            return Judgement::Deviates(ids);
        }
        // So can host state that was loaded; an instruction that fails cannot.
        if leaves(verdict) {
            return Judgement::Unspecified(open);
        }
        match attempt.account_for_leaving(verdict) {
            Some(ids) => Judgement::Deviates(ids),
            None => disagree(),
        }
    }

    /// The judgement on an outcome that is not permitted: a deviation if one accounts for it.
    fn explained(&self, machine: &CaseEmulator, op: &Op, verdict: &Verdict, observed: Outcome) -> Judgement {
        match self.attempt(machine, op).account_for(verdict, observed) {
            Some(ids) => Judgement::Deviates(ids),
            None => Judgement::Disagree(Disagreement::of_entry(verdict, observed.into())),
        }
    }
}
