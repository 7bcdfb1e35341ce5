//! The verdict on a VM entry: which checks it violates, and every outcome that the architecture permits.

use core::convert::Infallible;
use core::ops::ControlFlow;

use crate::checks::{
    BasicCheck, CheckId, CheckSet, EntryControlCheck, ExecutionControlCheck, ExitControlCheck, FirstViolation,
    PartialChecks, Phase, Sink, SmmCheck,
};
use crate::context::{EntryAttempt, EntryContext, EntryInstruction};
use crate::formats::exit_reason;
use crate::memory::ReadMemory;
use crate::outcome::Outcome;
use crate::partial::Watch;
use crate::vmcs::ReadFields;

/// The checks of an entry and what may come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Checks that do not hold.
    pub violated: CheckSet,
    /// Checks that depend on values that are not known; empty for a complete image.
    pub undecidable: CheckSet,
    /// Outcomes that the architecture permits.
    pub permitted: Permitted,
}

impl Verdict {
    /// Whether the architecture permits that outcome.
    #[must_use]
    pub fn permits(&self, outcome: &Outcome) -> bool {
        self.permitted.iter().any(|permitted| permitted == *outcome)
    }
}

/// A set of outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permitted {
    outcomes: [Option<Outcome>; Self::MOST],
}

impl Permitted {
    /// More than the checks of one entry can lead to.
    const MOST: usize = 24;

    fn insert(&mut self, outcome: Outcome) {
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

    /// The outcomes, each once, those of earlier stages first.
    pub fn iter(&self) -> impl Iterator<Item = Outcome> + '_ {
        self.outcomes.iter().flatten().copied()
    }

    /// Whether the outcome is certain.
    #[must_use]
    pub fn single(&self) -> Option<Outcome> {
        let mut outcomes = self.iter();
        let first = outcomes.next()?;
        outcomes.next().is_none().then_some(first)
    }
}

/// The first check that the entry violates, in the SDM's order.
#[inline]
pub fn first_violation<R: ReadFields, M: ReadMemory>(
    attempt: EntryAttempt<'_>,
    vmcs: &R,
    memory: &M,
) -> Option<CheckId> {
    let context = EntryContext::new(attempt, vmcs, memory);
    match run(&context, &mut FirstViolation) {
        ControlFlow::Break(check) => Some(check),
        ControlFlow::Continue(()) => None,
    }
}

/// Every check that the entry violates.
#[inline]
pub fn violations<R: ReadFields, M: ReadMemory>(attempt: EntryAttempt<'_>, vmcs: &R, memory: &M) -> CheckSet {
    let mut violated = CheckSet::EMPTY;
    let context = EntryContext::new(attempt, vmcs, memory);
    let done: ControlFlow<Infallible> = run(&context, &mut violated);
    match done {
        ControlFlow::Continue(()) => violated,
    }
}

/// The verdict on an entry of which everything is known.
pub fn judge<R: ReadFields, M: ReadMemory>(attempt: EntryAttempt<'_>, vmcs: &R, memory: &M) -> Verdict {
    let violated = violations(attempt, vmcs, memory);
    let undecidable = CheckSet::EMPTY;
    Verdict { violated, undecidable, permitted: permitted(attempt.instruction, &violated, &undecidable) }
}

/// The verdict on an entry of which some fields, capabilities or memory are not known.
pub fn judge_partial<R: ReadFields, M: ReadMemory>(attempt: EntryAttempt<'_>, vmcs: &R, memory: &M) -> Verdict {
    let watch = Watch::new(vmcs);
    let context = EntryContext::new(attempt, &watch, memory);
    let mut checks = PartialChecks::default();
    BasicCheck::run_partial(&context, &mut checks);
    if has_vmcs(&attempt) {
        match context.watch(|| context.returns_from_smm()) {
            Some(true) => {}
            Some(false) => ExecutionControlCheck::run_partial(&context, &mut checks),
            None => {
                // The controls are this VMCS's or the executive VMCS's: violations here may not count.
                let mut own = PartialChecks::default();
                ExecutionControlCheck::run_partial(&context, &mut own);
                checks.undecidable = checks.undecidable.iter().chain(own.violated.iter()).chain(own.undecidable.iter()).collect();
            }
        }
        ExitControlCheck::run_partial(&context, &mut checks);
        EntryControlCheck::run_partial(&context, &mut checks);
        SmmCheck::run_partial(&context, &mut checks);
    }
    let PartialChecks { violated, undecidable } = checks;
    Verdict { violated, undecidable, permitted: permitted(attempt.instruction, &violated, &undecidable) }
}

/// Whether there is a VMCS to look at.
fn has_vmcs(attempt: &EntryAttempt<'_>) -> bool {
    attempt.cpu.vmcs_pointer != crate::cpu::NO_POINTER
}

#[inline]
fn run<R: ReadFields, M: ReadMemory, S: Sink>(context: &EntryContext<'_, R, M>, sink: &mut S) -> ControlFlow<S::Break> {
    BasicCheck::run(context, sink)?;
    if !has_vmcs(context.attempt()) {
        return ControlFlow::Continue(());
    }
    if !context.returns_from_smm() {
        ExecutionControlCheck::run(context, sink)?;
    }
    ExitControlCheck::run(context, sink)?;
    EntryControlCheck::run(context, sink)?;
    SmmCheck::run(context, sink)
}

/// Every outcome that the checks permit: the stages follow one another, basic checks come in order, within the other
/// stages any violated check may be the one that is met.
fn permitted(instruction: EntryInstruction, violated: &CheckSet, undecidable: &CheckSet) -> Permitted {
    let mut permitted = Permitted::default();
    let mut insert = |outcome: Outcome| match outcome {
        // The one row whose outcome depends on the instruction.
        Outcome::Exited { .. } => permitted.insert(Outcome::Exited {
            reason: match instruction {
                EntryInstruction::Vmlaunch => exit_reason::VMLAUNCH,
                EntryInstruction::Vmresume => exit_reason::VMRESUME,
            },
        }),
        other => permitted.insert(other),
    };
    for phase in [Phase::Basic, Phase::ControlsAndHost, Phase::GuestState, Phase::MsrLoading] {
        let mut certain = false;
        for check in CheckId::all().filter(|check| check.info().phase == phase) {
            let failure = check.info().failure;
            let fails = violated.contains(check);
            if fails || undecidable.contains(check) {
                insert(failure.outcome);
                if let Some(other) = failure.or {
                    insert(other);
                }
                certain |= fails && !failure.optional;
            }
            if certain && phase == Phase::Basic {
                return permitted;
            }
        }
        if certain {
            return permitted;
        }
    }
    insert(Outcome::Entered);
    permitted
}
