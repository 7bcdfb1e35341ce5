//! An entry that was made for a side of a check, with the sides of checks on which it lies according to the model.

use vmcs_case::Case;
use vmcs_model::checks::{CheckId, CheckSet, Failure, Phase};
use vmcs_model::field::FieldId;
use vmcs_model::{Verdict, Vmcs};

use crate::coverage::{Aim, Side};
use crate::generate::entry_case::EntryCase;
use crate::generate::{after_entry, risk};
use crate::processor::Processor;

/// An entry to be tried, and what the model says of it.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) entry: EntryCase,
    /// The verdict on the entry.
    pub(crate) verdict: Verdict,
    /// The side of a check on which it lies for certain.
    pub(crate) aim: Option<Aim>,
    /// Whether the entry may stop the machine.
    pub(crate) perilous: bool,
}

impl Made {
    /// An entry of the plain image, which was made for no side of a check.
    pub(crate) fn plain(processor: &Processor) -> Self {
        let entry = EntryCase::default();
        Self { verdict: entry.verdict(processor, &entry.image(processor)), entry, aim: None, perilous: false }
    }

    /// The case, with what makes the effects of its entry show; every field if it is `deep`.
    pub(crate) fn case(&self, processor: &Processor, deep: bool) -> Case {
        let Self { entry, verdict, perilous, .. } = self;
        let mut case = Case { perilous: *perilous, ..entry.case(processor) };
        after_entry::add(processor, &mut case, entry.before, verdict, deep);
        case
    }
}

/// Asks the model where an entry lies.
pub(crate) fn judged(processor: &Processor, entry: EntryCase, aim: Aim) -> Made {
    let vmcs = entry.image(processor);
    let verdict = entry.verdict(processor, &vmcs);
    let aim = lies_on(processor, &entry, &vmcs, &verdict.violated, aim).then_some(aim);
    Made { entry, verdict, aim, perilous: false }
}

/// Whether the entry takes the machine down, or may.
pub(crate) fn is_risky(processor: &Processor, entry: &EntryCase, vmcs: &Vmcs, violated: &CheckSet) -> bool {
    let fatal = |(field, value): (FieldId, u64)| {
        risk::is_unsupported_event(processor, field, value) || risk::is_vast_area(field, value)
    };
    let panics =
        entry.changes.iter().copied().any(fatal) || entry.memory.iter().copied().any(risk::names_read_only_msr);
    if panics || risk::outlasts_the_case(vmcs, violated) {
        return true;
    }
    let first = violated.iter().next().map(|first| first.info().phase);
    first.is_none_or(|phase| phase > Phase::ControlsAndHost)
        && risk::takes_the_machine_down(&processor.bases[entry.base], vmcs, &entry.memory(processor), first.is_none())
}

/// Whether the entry lies on that side of that check, and shows it.
pub(super) fn lies_on(processor: &Processor, entry: &EntryCase, vmcs: &Vmcs, violated: &CheckSet, aim: Aim) -> bool {
    let Aim { check, side } = aim;
    if violated.contains(check) {
        return side == Side::Violated;
    }
    side != Side::Violated && is_visible(check, violated) && fits_the_gate(processor, entry, vmcs, aim)
}

/// Whether the check is in force where that side wants it to be, and is not where it does not.
pub(super) fn fits_the_gate(processor: &Processor, entry: &EntryCase, vmcs: &Vmcs, aim: Aim) -> bool {
    aim.side == Side::Violated || entry.puts_in_force(processor, vmcs, aim.check) == (aim.side == Side::Legal)
}

/// Whether an entry that violates `violated` gets far enough to show that `check` holds. Host state and controls are
/// checked in any order, but fail with different errors.
fn is_visible(check: CheckId, violated: &CheckSet) -> bool {
    let mut rest = violated.iter();
    let Some(first) = rest.next() else { return true };
    let (check_info, first_info) = (check.info(), first.info());
    match check_info.phase {
        Phase::Basic => first.index() > check.index(),
        Phase::ControlsAndHost if first_info.phase == Phase::ControlsAndHost => {
            check_info.failure == CONTROLS
                && first_info.failure == HOST
                && rest.all(|other| other.info().failure == HOST || other.info().phase > Phase::ControlsAndHost)
        }
        phase => first_info.phase > phase,
    }
}

/// How an entry with an invalid control field ends.
const CONTROLS: Failure = Failure::valid(7);
/// How an entry with an invalid host-state field ends.
const HOST: Failure = Failure::valid(8);
