//! The verdict on a VM entry: which checks it violates, and every outcome that the architecture permits.

mod permitted;

pub use permitted::Permitted;

use core::convert::Infallible;
use core::ops::ControlFlow;

use crate::checks::{
    AddressSpaceCheck, AfterEntries, BasicCheck, CheckId, CheckSet, EntryControlCheck, EntryFate,
    ExecutionControlCheck, ExitControlCheck, FirstViolation, GuestDescriptorTableCheck, GuestNonRegisterCheck,
    GuestRegisterCheck, GuestRipCheck, GuestSegmentCheck, HostRegisterCheck, HostSegmentCheck, MsrLoadCheck,
    PdpteCheck, Phase, Sink, SmmCheck, msr_failure,
};
use crate::context::{EntryAttempt, EntryContext, EntryInstruction, Notes};
use crate::explain::Explanation;
use crate::formats::exit_reason;
use crate::memory::ReadMemory;
use crate::outcome::Outcome;
use crate::partial::{Unknowns, Watch, either};
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

/// One attempt at a VM entry with the VMCS and the memory that it finds: what is asked for a verdict.
///
/// It does not matter how much is known. Where a field, a fact about the processor or a piece of memory that a check
/// depends on is not known, the check is neither violated nor held but undecidable, and the verdict says so.
///
/// ```
/// use vmcs_model::memory::UnknownMemory;
/// use vmcs_model::partial::PartialVmcs;
/// use vmcs_model::{Capabilities, CpuProfile, CpuState, EntryAttempt, field};
///
/// // Of the processor nothing is known, of the VMCS one field.
/// let capabilities = Capabilities::new(&CpuProfile::default());
/// let mut vmcs = PartialVmcs::new();
/// vmcs.set_raw(field::GUEST_RFLAGS.id(), 0);
/// let cpu = CpuState::host_64();
/// let entry = EntryAttempt::vmlaunch(&cpu, &capabilities).on(&vmcs, &UnknownMemory);
/// let verdict = entry.verdict();
/// let violated: Vec<_> = verdict.violated.iter().map(|check| check.info().id).collect();
/// assert_eq!(violated, ["guest.rflags.bit1"]);
/// assert!(verdict.undecidable.len() > 100);
/// ```
pub struct VmEntry<'a, R, M> {
    /// The instruction, and the processor that executes it.
    pub attempt: EntryAttempt<'a>,
    /// The current VMCS.
    pub vmcs: &'a R,
    /// Physical memory.
    pub memory: &'a M,
}

impl<R, M> Clone for VmEntry<'_, R, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R, M> Copy for VmEntry<'_, R, M> {}

impl<'a, R: ReadFields, M: ReadMemory> VmEntry<'a, R, M> {
    /// The first check that the entry violates for certain, in the SDM's order.
    #[must_use]
    #[inline]
    pub fn first_violation(&self) -> Option<CheckId> {
        if !self.all_known() {
            return self.violations_of_a_part().iter().next();
        }
        let notes = Notes::default();
        match run(self, &notes, &mut FirstViolation) {
            _ if notes.met.get() => self.violations_of_a_part().iter().next(),
            ControlFlow::Break(check) => Some(check),
            ControlFlow::Continue(()) => None,
        }
    }

    /// Every check that the entry violates for certain.
    #[must_use]
    #[inline]
    pub fn violations(&self) -> CheckSet {
        if !self.all_known() {
            return self.violations_of_a_part();
        }
        let notes = Notes::default();
        // Made in its place.
        let mut violated = CheckSet::EMPTY;
        let ControlFlow::<Infallible>::Continue(()) = run(self, &notes, &mut violated);
        if notes.met.get() {
            violated = self.violations_of_a_part();
        }
        violated
    }

    /// The checks that the entry violates, those that cannot be decided, and every outcome that the architecture permits.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let notes = Notes::default();
        let Decision { violated, undecidable } = self.decide(&notes);
        // Made in its place, as a verdict is large.
        let mut verdict = Verdict { violated, undecidable, permitted: Permitted::default() };
        permit(&self.context(&notes), &violated, &undecidable, &mut verdict.permitted);
        verdict
    }

    /// The verdict on the entry by a processor that does not make the checks `omitted`.
    #[must_use]
    pub fn verdict_omitting(&self, omitted: &CheckSet) -> Verdict {
        let notes = Notes::default();
        let Decision { violated, undecidable } = self.decide(&notes);
        let made = |set: CheckSet| -> CheckSet { set.iter().filter(|check| !omitted.contains(*check)).collect() };
        let mut permitted = Permitted::default();
        permit(&self.context(&notes), &made(violated), &made(undecidable), &mut permitted);
        // Which entry of an MSR-load area fails next is not worked out: the area may as well pass.
        let loads_msrs = |check: CheckId| check.info().phase == Phase::MsrLoading && omitted.contains(check);
        if violated.iter().any(loads_msrs)
            && permitted.iter().any(|o| matches!(o, Outcome::EntryFailed { reason: exit_reason::MSR_LOADING, .. }))
        {
            permitted.insert(Outcome::Entered);
        }
        Verdict { violated: made(violated), undecidable: made(undecidable), permitted }
    }

    /// The unknown things because of which `check` cannot be decided, none if it can.
    #[must_use]
    pub fn unknowns(&self, check: CheckId) -> Unknowns {
        let watch = Watch::new(self.vmcs);
        let notes = Notes::default();
        let entry = self.attempt.on(&watch, self.memory);
        let context = EntryContext::new(&entry, &notes);
        if judge_row(&context, check).is_none() { context.met_so_far() } else { Unknowns::default() }
    }

    /// Whether what puts `check` in force ([`CheckInfo::gate`](crate::checks::CheckInfo::gate)) is the case.
    #[must_use]
    pub fn in_force(&self, check: CheckId) -> bool {
        check.in_force(&self.context(&Notes::default()))
    }

    /// Why the entry violates `check`, for a person. No memory is read for it.
    #[must_use]
    pub fn explain(&self, check: CheckId) -> Explanation<'a> {
        Explanation::new(check, self.attempt, self.vmcs)
    }

    fn context<'n>(&'n self, notes: &'n Notes) -> EntryContext<'n, R, M> {
        EntryContext::new(self, notes)
    }

    /// Every field and every fact about the processor is known. What else may not be known, memory and what the SDM leaves
    /// open, tells when it is met.
    #[inline]
    fn all_known(&self) -> bool {
        !R::PARTIAL && self.attempt.capabilities.complete()
    }

    #[inline]
    fn violations_of_the_whole(&self, notes: &Notes) -> CheckSet {
        let mut violated = CheckSet::EMPTY;
        let ControlFlow::<Infallible>::Continue(()) = run(self, notes, &mut violated);
        violated
    }

    #[cold]
    fn violations_of_a_part(&self) -> CheckSet {
        self.decide_of_a_part().violated
    }

    fn decide(&self, notes: &Notes) -> Decision {
        if !self.all_known() {
            return self.decide_of_a_part();
        }
        let violated = self.violations_of_the_whole(notes);
        if notes.met.get() { self.decide_of_a_part() } else { Decision { violated, undecidable: CheckSet::EMPTY } }
    }

    /// Each section in one go, as if everything were known; row by row only where that met something unknown.
    #[cold]
    pub(crate) fn decide_of_a_part(&self) -> Decision {
        let watch = Watch::new(self.vmcs);
        let notes = Notes::default();
        let entry = self.attempt.on(&watch, self.memory);
        let context = EntryContext::new(&entry, &notes);
        let mut sections = Sections { context: &context, decision: Decision::default(), before: CheckSet::EMPTY };
        let ControlFlow::<Infallible>::Continue(()) = run(&entry, &notes, &mut sections);
        sections.decision
    }
}

/// What is decided of the checks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Decision {
    pub(crate) violated: CheckSet,
    pub(crate) undecidable: CheckSet,
}

/// Decides section by section, because one that meets nothing unknown is judged faster in one go than row by row.
struct Sections<'c, 'a, R, M> {
    context: &'c EntryContext<'a, Watch<'a, R>, M>,
    decision: Decision,
    /// What was violated before the section that is judged.
    before: CheckSet,
}

impl<R: ReadFields, M: ReadMemory> Sections<'_, '_, R, M> {
    /// Judges the rows of the section one by one.
    #[cold]
    #[inline(never)]
    fn judge_again(&mut self, rows: impl Iterator<Item = CheckId>) {
        self.decision.violated = self.before;
        for check in rows {
            match judge_row(self.context, check) {
                Some(true) => {}
                Some(false) => self.decision.violated.insert(check),
                None => self.decision.undecidable.insert(check),
            }
        }
        self.context.notes.met.set(false);
    }
}

impl<R: ReadFields, M: ReadMemory> Sink for Sections<'_, '_, R, M> {
    type Break = Infallible;

    #[inline]
    fn violated(&mut self, check: CheckId) -> ControlFlow<Infallible> {
        self.decision.violated.violated(check)
    }

    /// Where the section met something unknown, its rows are judged one by one instead.
    #[inline]
    fn judged<C: Copy + Into<CheckId>>(&mut self, section: &[C]) {
        if self.context.notes.met.get() {
            self.judge_again(section.iter().map(|row| (*row).into()));
        }
        self.before = self.decision.violated;
    }
}

/// Whether the entry passes one check, `None` where that is not known.
pub(crate) fn judge_row<R: ReadFields, M: ReadMemory>(
    context: &EntryContext<'_, Watch<'_, R>, M>,
    check: CheckId,
) -> Option<bool> {
    let passes = match check {
        CheckId::BasicCheck(_) => return context.row(check),
        _ if !has_vmcs(context.attempt()) => return Some(true),
        // An entry that returns from SMM goes by the controls of the executive VMCS, not by those of this one.
        CheckId::ExecutionControlCheck(_) => context.certain(|| context.returns_from_smm()),
        _ => return context.row(check),
    };
    if passes == Some(true) { passes } else { either(passes, context.row(check)) }
}

impl<'a> EntryAttempt<'a> {
    /// Tells `each` of every check that the attempt violates for certain on each of many images, in their order.
    ///
    /// Images that lie anywhere in memory are brought near several at a time before they are judged: their cache misses
    /// overlap, which those of one image after the other do not.
    pub fn violations_batch<'i, R: ReadFields, M: ReadMemory>(
        self,
        images: &[&'i R],
        memory: &M,
        mut each: impl FnMut(&'i R, CheckSet),
    ) {
        /// As many images as a first-level cache holds, what is read of each, with room to spare.
        const NEAR: usize = 32;
        for near in images.chunks(NEAR) {
            near.iter().for_each(|image| image.touch());
            near.iter().for_each(|image| each(image, VmEntry { attempt: self, vmcs: *image, memory }.violations()));
        }
    }
}

/// Whether there is a VMCS to look at.
fn has_vmcs(attempt: &EntryAttempt<'_>) -> bool {
    attempt.cpu.vmcs_pointer != crate::cpu::NO_POINTER
}

/// Every section in turn. A function of its own, so that its code does not depend on who calls it.
#[inline(never)]
fn run<R: ReadFields, M: ReadMemory, S: Sink>(
    entry: &VmEntry<'_, R, M>,
    notes: &Notes,
    sink: &mut S,
) -> ControlFlow<S::Break> {
    let context = &EntryContext::new(entry, notes);
    BasicCheck::run(context, sink)?;
    sink.judged(BasicCheck::ALL);
    if !has_vmcs(context.attempt()) {
        return ControlFlow::Continue(());
    }
    if !context.returns_from_smm() {
        ExecutionControlCheck::run(context, sink)?;
    }
    sink.judged(ExecutionControlCheck::ALL);
    ExitControlCheck::run(context, sink)?;
    sink.judged(ExitControlCheck::ALL);
    EntryControlCheck::run(context, sink)?;
    sink.judged(EntryControlCheck::ALL);
    SmmCheck::run(context, sink)?;
    sink.judged(SmmCheck::ALL);
    HostRegisterCheck::run(context, sink)?;
    sink.judged(HostRegisterCheck::ALL);
    HostSegmentCheck::run(context, sink)?;
    sink.judged(HostSegmentCheck::ALL);
    AddressSpaceCheck::run(context, sink)?;
    sink.judged(AddressSpaceCheck::ALL);
    GuestRegisterCheck::run(context, sink)?;
    sink.judged(GuestRegisterCheck::ALL);
    GuestSegmentCheck::run(context, sink)?;
    sink.judged(GuestSegmentCheck::ALL);
    GuestDescriptorTableCheck::run(context, sink)?;
    sink.judged(GuestDescriptorTableCheck::ALL);
    GuestRipCheck::run(context, sink)?;
    sink.judged(GuestRipCheck::ALL);
    GuestNonRegisterCheck::run(context, sink)?;
    sink.judged(GuestNonRegisterCheck::ALL);
    PdpteCheck::run(context, sink)?;
    sink.judged(PdpteCheck::ALL);
    MsrLoadCheck::run(context, sink)?;
    sink.judged(MsrLoadCheck::ALL);
    ControlFlow::Continue(())
}

/// Every outcome that the checks permit: the stages follow one another, basic checks come in order, within the other
/// stages any violated check may be the one that is met.
fn permit<R: ReadFields, M: ReadMemory>(
    context: &EntryContext<'_, R, M>,
    violated: &CheckSet,
    undecidable: &CheckSet,
    permitted: &mut Permitted,
) {
    let not_held = violated.union(undecidable);
    if not_held.is_empty() || !permit_not_held(context, violated, &not_held, permitted) {
        permit_msr_loading(context, permitted);
    }
}

/// What checks permit that are not held, but for those of MSR loading, the stage that has its own function. Whether the
/// entry certainly fails by them.
fn permit_not_held<R: ReadFields, M: ReadMemory>(
    context: &EntryContext<'_, R, M>,
    violated: &CheckSet,
    not_held: &CheckSet,
    permitted: &mut Permitted,
) -> bool {
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
    // The order of the checks is that of the stages.
    let mut failed_in = None;
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
    failed_in.is_some()
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
