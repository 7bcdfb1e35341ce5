//! Cases at the boundary between valid and invalid: for a check and a side of it, an image that lies there, and
//! variations of it.

mod recipes;
mod search;
mod vary;

use arbitrary::{Result, Unstructured};
use vmcs_case::Case;
use vmcs_model::checks::{CheckId, CheckSet, Failure, Phase};
use vmcs_model::field::FieldId;
use vmcs_model::{Verdict, Vmcs};

pub(crate) use recipes::Recipes;

use crate::TestProcessor;
use crate::coverage::{Aim, Side};
use crate::generate::after_entry;
use crate::generate::entry_case::EntryCase;
use crate::generate::risk;

/// An entry to be tried, and what the model says of it.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) entry: EntryCase,
    /// On its entry.
    pub(crate) verdict: Verdict,
    /// The side of a check on which it lies for certain.
    pub(crate) aim: Option<Aim>,
    /// It may take the machine down.
    pub(crate) perilous: bool,
}

impl Made {
    /// The plain image, made for nothing.
    pub(crate) fn plain(processor: &TestProcessor) -> Self {
        let entry = EntryCase::default();
        Self { verdict: entry.verdict(processor, &entry.image(processor)), entry, aim: None, perilous: false }
    }

    /// The case, with what makes the effects of its entry show; every field if it is `deep`.
    pub(crate) fn case(&self, processor: &TestProcessor, deep: bool) -> Case {
        let Self { entry, verdict, perilous, .. } = self;
        let mut case = Case { perilous: *perilous, ..entry.case(processor) };
        after_entry::add(processor, &mut case, entry.before, verdict, deep);
        case
    }
}

/// One of how many cases that would take the machine down is made. To find out and to start again takes as long as
/// thousands of cases.
const RISKS: u16 = 10_000;

/// A case for any side of any check.
pub(super) fn case(processor: &TestProcessor, u: &mut Unstructured<'_>) -> Result<Case> {
    let aim = *u.choose(&processor.recipes().aims)?;
    let made = make(processor, u, aim)?;
    let deep = u.ratio(1, after_entry::DEEP)?;
    Ok(made.case(processor, deep))
}

/// A case for a check and a side of it.
pub(crate) fn make(processor: &TestProcessor, u: &mut Unstructured<'_>, aim: Aim) -> Result<Made> {
    let recipes = processor.recipes();
    let found = recipes.of(aim);
    let entry = if found.is_empty() { vary::blind(processor, u, aim)? } else { u.choose(found)?.clone() };
    if u.ratio(2u8, 5u8)? {
        let varied = vary::vary(processor, u, &entry)?;
        let made = judged(processor, varied, aim);
        if made.aim.is_some() || u.ratio(1u8, 4u8)? {
            return bearable(processor, u, made);
        }
    }
    bearable(processor, u, judged(processor, entry, aim))
}

/// Asks the model where an entry lies.
pub(crate) fn judged(processor: &TestProcessor, entry: EntryCase, aim: Aim) -> Made {
    let vmcs = entry.image(processor);
    let verdict = entry.verdict(processor, &vmcs);
    let aim = lies_on(processor, &entry, &vmcs, &verdict.violated, aim).then_some(aim);
    Made { entry, verdict, aim, perilous: false }
}

/// Puts the plain image, or what comes of it elsewhere, in the place of most cases that take the machine down.
fn bearable(processor: &TestProcessor, u: &mut Unstructured<'_>, made: Made) -> Result<Made> {
    let image = made.entry.image(processor);
    // Asked this way round a fuzzer's input that has come to its end does not mean yes.
    let few = !risk::outlasts_the_case(&image, &made.verdict.violated) && !u.ratio(RISKS - 1, RISKS)?;
    let is_risky = is_risky(processor, &made.entry, &image, &made.verdict.violated)
        || only_stop(&made).is_some_and(|check| risk::relies_on(check, &image, &made.entry.memory(processor)));
    if few || !is_risky {
        return Ok(Made { perilous: is_risky, ..made });
    }
    let aims = &processor.recipes().safe;
    let aim = *u.choose(aims)?;
    let entry = u.choose(processor.recipes().of(aim))?.clone();
    let made = judged(processor, entry, aim);
    let is_safe = !self::is_risky(processor, &made.entry, &made.entry.image(processor), &made.verdict.violated);
    Ok(if is_safe { made } else { judged(processor, EntryCase::default(), aim) })
}

/// The one check that ends the entry; `None` where it is there to keep the entry of another check's side from going on.
fn only_stop(made: &Made) -> Option<CheckId> {
    let on_purpose = made.aim.is_some_and(|aim| aim.side != Side::Violated);
    made.verdict.violated.iter().next().filter(|_| !on_purpose && made.verdict.violated.len() == 1)
}

/// Whether the entry takes the machine down, or may.
pub(crate) fn is_risky(processor: &TestProcessor, entry: &EntryCase, vmcs: &Vmcs, violated: &CheckSet) -> bool {
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

/// A check that keeps an entry from showing that `aim`'s check is in force, or is not, and holds; `None` if that is not
/// what the entry is.
pub(crate) fn obstacle(processor: &TestProcessor, entry: &EntryCase, aim: Aim) -> Option<(u32, CheckId)> {
    let vmcs = entry.image(processor);
    let violated = entry.violations(processor, &vmcs);
    let holds =
        !violated.contains(aim.check) && entry.puts_in_force(processor, &vmcs, aim.check) == (aim.side == Side::Legal);
    let first = violated.iter().next().filter(|_| holds && aim.side != Side::Violated)?;
    Some((violated.len(), first))
}

/// Whether the entry lies on that side of that check, and shows it.
fn lies_on(processor: &TestProcessor, entry: &EntryCase, vmcs: &Vmcs, violated: &CheckSet, aim: Aim) -> bool {
    let Aim { check, side } = aim;
    if violated.contains(check) {
        return side == Side::Violated;
    }
    if side == Side::Violated || !is_visible(check, violated) {
        return false;
    }
    entry.puts_in_force(processor, vmcs, check) == (side == Side::Legal)
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
