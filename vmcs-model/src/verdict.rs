//! The verdict on a VM entry: which checks it violates, and every outcome that the architecture permits.

use core::convert::Infallible;
use core::ops::ControlFlow;

use crate::checks::{
    AddressSpaceCheck, AfterEntries, BasicCheck, CheckId, CheckSet, EntryControlCheck, EntryFate,
    ExecutionControlCheck, ExitControlCheck, FirstViolation, GuestDescriptorTableCheck, GuestNonRegisterCheck,
    GuestRegisterCheck, GuestRipCheck, GuestSegmentCheck, HostRegisterCheck, HostSegmentCheck, MsrLoadCheck,
    PartialChecks, PdpteCheck, Phase, Sink, SmmCheck, msr_failure,
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
    /// Checks that depend on values that are not known. For a complete image these are the checks of which the SDM leaves
    /// open whether what the image holds fails.
    pub undecidable: CheckSet,
    /// Outcomes that the architecture permits.
    pub permitted: Permitted,
}

impl Verdict {
    /// Whether the architecture permits that outcome.
    #[must_use]
    pub fn permits(&self, outcome: &Outcome) -> bool {
        self.permitted.contains(outcome)
    }
}

/// A set of outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permitted {
    outcomes: [Option<Outcome>; Self::MOST],
    msr_failures_from: Option<u64>,
}

impl Permitted {
    /// More than the checks of one entry can lead to.
    const MOST: usize = 32;
    /// Entries of the MSR-load area that are listed one by one.
    const MSR_FAILURES: u32 = 8;

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

    /// A failure to load MSRs at that entry of the area, or at any later one.
    fn insert_msr_failures_from(&mut self, entry: u64) {
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
        self.outcomes.iter().flatten().copied()
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

/// Tells `each` of every check that each of many images violates, in their order.
///
/// Images that lie anywhere in memory are brought near several at a time before they are judged: their cache misses
/// overlap, which those of one image after the other do not.
pub fn violations_batch<'a, R: ReadFields, M: ReadMemory>(
    attempt: EntryAttempt<'_>,
    images: &[&'a R],
    memory: &M,
    mut each: impl FnMut(&'a R, CheckSet),
) {
    /// As many images as a first-level cache holds, what is read of each, with room to spare.
    const NEAR: usize = 32;
    for near in images.chunks(NEAR) {
        near.iter().for_each(|image| image.touch());
        near.iter().for_each(|image| each(image, violations(attempt, *image, memory)));
    }
}

/// The verdict on an entry of which everything is known.
pub fn judge<R: ReadFields, M: ReadMemory>(attempt: EntryAttempt<'_>, vmcs: &R, memory: &M) -> Verdict {
    let context = EntryContext::new(attempt, vmcs, memory);
    let mut violated = CheckSet::EMPTY;
    let ControlFlow::Continue(()) = run(&context, &mut violated);
    let undecidable = if context.may_leave_open() {
        let verdict = judge_partial(attempt, vmcs, memory);
        verdict.undecidable.iter().filter(|check| !violated.contains(*check)).collect()
    } else {
        CheckSet::EMPTY
    };
    Verdict { violated, undecidable, permitted: permitted(&context, &violated, &undecidable) }
}

/// The verdict on an entry by a processor that does not make the checks `omitted`.
pub fn judge_omitting<R: ReadFields, M: ReadMemory>(
    attempt: EntryAttempt<'_>,
    vmcs: &R,
    memory: &M,
    omitted: &CheckSet,
) -> Verdict {
    let context = EntryContext::new(attempt, vmcs, memory);
    let Verdict { violated, undecidable, .. } = judge(attempt, vmcs, memory);
    let made = |set: CheckSet| -> CheckSet { set.iter().filter(|check| !omitted.contains(*check)).collect() };
    let mut permitted = permitted(&context, &made(violated), &made(undecidable));
    // Which entry of an MSR-load area fails next is not worked out: the area may as well pass.
    let loads_msrs = |check: CheckId| check.info().phase == Phase::MsrLoading && omitted.contains(check);
    if violated.iter().any(loads_msrs)
        && permitted.iter().any(|o| matches!(o, Outcome::EntryFailed { reason: exit_reason::MSR_LOADING, .. }))
    {
        permitted.insert(Outcome::Entered);
    }
    Verdict { violated: made(violated), undecidable: made(undecidable), permitted }
}

/// The verdict on an entry of which some fields, capabilities or memory are not known.
pub fn judge_partial<R: ReadFields, M: ReadMemory>(attempt: EntryAttempt<'_>, vmcs: &R, memory: &M) -> Verdict {
    let watch = Watch::new(vmcs);
    let context = EntryContext::new(attempt, &watch, memory);
    let mut checks = PartialChecks::default();
    judge_into(&context, &mut checks);
    let PartialChecks { violated, undecidable, .. } = checks;
    Verdict { violated, undecidable, permitted: permitted(&context, &violated, &undecidable) }
}

/// Judges every check of the entry over a reader that knows only a part.
pub(crate) fn judge_into<R: ReadFields, M: ReadMemory>(
    context: &EntryContext<'_, Watch<'_, R>, M>,
    checks: &mut PartialChecks,
) {
    BasicCheck::run_partial(context, checks);
    if has_vmcs(context.attempt()) {
        let returns = context.watch(|| context.returns_from_smm());
        match returns.truth() {
            Some(true) => {}
            Some(false) => ExecutionControlCheck::run_partial(context, checks),
            None => {
                // The controls are this VMCS's or the executive VMCS's: violations here may not count.
                let mut own = PartialChecks { asked: checks.asked, ..PartialChecks::default() };
                ExecutionControlCheck::run_partial(context, &mut own);
                if checks.asked.is_some_and(|asked| own.violated.contains(asked) || own.undecidable.contains(asked)) {
                    checks.because = own.because.union(returns.met());
                }
                checks.undecidable =
                    checks.undecidable.iter().chain(own.violated.iter()).chain(own.undecidable.iter()).collect();
            }
        }
        ExitControlCheck::run_partial(context, checks);
        EntryControlCheck::run_partial(context, checks);
        SmmCheck::run_partial(context, checks);
        HostRegisterCheck::run_partial(context, checks);
        HostSegmentCheck::run_partial(context, checks);
        AddressSpaceCheck::run_partial(context, checks);
        GuestRegisterCheck::run_partial(context, checks);
        GuestSegmentCheck::run_partial(context, checks);
        GuestDescriptorTableCheck::run_partial(context, checks);
        GuestRipCheck::run_partial(context, checks);
        GuestNonRegisterCheck::run_partial(context, checks);
        PdpteCheck::run_partial(context, checks);
        MsrLoadCheck::run_partial(context, checks);
    }
}

/// Whether there is a VMCS to look at.
fn has_vmcs(attempt: &EntryAttempt<'_>) -> bool {
    attempt.cpu.vmcs_pointer != crate::cpu::NO_POINTER
}

/// Every section in turn. A function of its own, so that its code does not depend on who calls it.
#[inline(never)]
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
    SmmCheck::run(context, sink)?;
    HostRegisterCheck::run(context, sink)?;
    HostSegmentCheck::run(context, sink)?;
    AddressSpaceCheck::run(context, sink)?;
    GuestRegisterCheck::run(context, sink)?;
    GuestSegmentCheck::run(context, sink)?;
    GuestDescriptorTableCheck::run(context, sink)?;
    GuestRipCheck::run(context, sink)?;
    GuestNonRegisterCheck::run(context, sink)?;
    PdpteCheck::run(context, sink)?;
    MsrLoadCheck::run(context, sink)
}

/// Every outcome that the checks permit: the stages follow one another, basic checks come in order, within the other
/// stages any violated check may be the one that is met.
fn permitted<R: ReadFields, M: ReadMemory>(
    context: &EntryContext<'_, R, M>,
    violated: &CheckSet,
    undecidable: &CheckSet,
) -> Permitted {
    let mut permitted = Permitted::default();
    let mut insert = |outcome: Outcome| match outcome {
        // The one row whose outcome depends on the instruction.
        Outcome::Exited { .. } => permitted.insert(Outcome::Exited {
            reason: match context.attempt().instruction {
                EntryInstruction::Vmlaunch => exit_reason::VMLAUNCH,
                EntryInstruction::Vmresume => exit_reason::VMRESUME,
            },
        }),
        other => permitted.insert(other),
    };
    // The order of the checks is that of the stages. The stage of MSR loading has its own function.
    let mut failed_in = None;
    let not_held: CheckSet = violated.union(undecidable);
    for check in not_held.iter() {
        let (phase, failure) = (check.info().phase, check.info().failure);
        if phase == Phase::MsrLoading || failed_in.is_some_and(|failed| failed != phase || phase == Phase::Basic) {
            break;
        }
        insert(failure.outcome);
        if let Some(other) = failure.or {
            insert(other);
        }
        if violated.contains(check) && !failure.optional {
            failed_in = Some(phase);
        }
    }
    if failed_in.is_some() {
        return permitted;
    }
    permit_msr_loading(context, &mut permitted);
    permitted
}

/// The last stage: the outcome depends on which entry of the area fails.
fn permit_msr_loading<R: ReadFields, M: ReadMemory>(context: &EntryContext<'_, R, M>, permitted: &mut Permitted) {
    let mut listed = 0;
    let after = context.visit_msr_failures(|entry, fate| {
        listed += 1;
        if fate == EntryFate::Fails || listed <= Permitted::MSR_FAILURES {
            permitted.insert(msr_failure(entry));
        } else {
            permitted.insert_msr_failures_from(entry);
        }
    });
    if let AfterEntries::Undefined { from, machine_check } = after {
        permitted.insert_msr_failures_from(from);
        if machine_check {
            permitted.insert(Outcome::MACHINE_CHECK);
        }
    }
    if after != AfterEntries::Failed {
        permitted.insert(Outcome::Entered);
    }
}
