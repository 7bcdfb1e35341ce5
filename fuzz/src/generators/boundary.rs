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

use crate::World;
use crate::aftermath;
use crate::coverage::{Aim, Side};
use crate::draft::Draft;
use crate::risk;

/// A draft and what the model says of it.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) draft: Draft,
    /// On its entry.
    pub(crate) verdict: Verdict,
    /// The side of a check on which it lies for certain.
    pub(crate) aim: Option<Aim>,
    /// It may take the machine down.
    pub(crate) perilous: bool,
}

impl Made {
    /// The plain image, made for nothing.
    pub(crate) fn plain(world: &World) -> Self {
        let draft = Draft::default();
        Self { verdict: draft.verdict(world, &draft.image(world)), draft, aim: None, perilous: false }
    }

    /// The case, with what makes the effects of its entry show; every field if it is `deep`.
    pub(crate) fn case(&self, world: &World, deep: bool) -> Case {
        let Self { draft, verdict, perilous, .. } = self;
        let mut case = Case { perilous: *perilous, ..draft.case(world) };
        aftermath::add(world, &mut case, draft.way, verdict, deep);
        case
    }
}

/// One of how many cases that would take the machine down is made. To find out and to start again takes as long as
/// thousands of cases.
const RISKS: u16 = 10_000;

/// A case for any side of any check.
pub(super) fn case(world: &World, u: &mut Unstructured<'_>) -> Result<Case> {
    let aim = *u.choose(&world.recipes().aims)?;
    let made = make(world, u, aim)?;
    let deep = u.ratio(1, aftermath::DEEP)?;
    Ok(made.case(world, deep))
}

/// A case for a check and a side of it.
pub(crate) fn make(world: &World, u: &mut Unstructured<'_>, aim: Aim) -> Result<Made> {
    let recipes = world.recipes();
    let found = recipes.of(aim);
    let draft = if found.is_empty() { vary::blind(world, u, aim)? } else { u.choose(found)?.clone() };
    if u.ratio(2u8, 5u8)? {
        let varied = vary::vary(world, u, &draft)?;
        let made = judged(world, varied, aim);
        if made.aim.is_some() || u.ratio(1u8, 4u8)? {
            return bearable(world, u, made);
        }
    }
    bearable(world, u, judged(world, draft, aim))
}

/// Asks the model where a draft lies.
pub(crate) fn judged(world: &World, draft: Draft, aim: Aim) -> Made {
    let vmcs = draft.image(world);
    let verdict = draft.verdict(world, &vmcs);
    let aim = lies_on(world, &draft, &vmcs, &verdict.violated, aim).then_some(aim);
    Made { draft, verdict, aim, perilous: false }
}

/// Puts the plain image, or what comes of it elsewhere, in the place of most cases that take the machine down.
fn bearable(world: &World, u: &mut Unstructured<'_>, made: Made) -> Result<Made> {
    let image = made.draft.image(world);
    // Asked this way round a fuzzer's input that has come to its end does not mean yes.
    let few = !risk::outlasts_the_case(&image, &made.verdict.violated) && !u.ratio(RISKS - 1, RISKS)?;
    let is_risky = is_risky(world, &made.draft, &image, &made.verdict.violated)
        || only_stop(&made).is_some_and(|check| risk::relies_on(check, &image, &made.draft.memory(world)));
    if few || !is_risky {
        return Ok(Made { perilous: is_risky, ..made });
    }
    let aims = &world.recipes().safe;
    let aim = *u.choose(aims)?;
    let draft = u.choose(world.recipes().of(aim))?.clone();
    let made = judged(world, draft, aim);
    let is_safe = !self::is_risky(world, &made.draft, &made.draft.image(world), &made.verdict.violated);
    Ok(if is_safe { made } else { judged(world, Draft::default(), aim) })
}

/// The one check that ends the entry; `None` where it is there to keep the entry of another check's side from going on.
fn only_stop(made: &Made) -> Option<CheckId> {
    let on_purpose = made.aim.is_some_and(|aim| aim.side != Side::Violated);
    made.verdict.violated.iter().next().filter(|_| !on_purpose && made.verdict.violated.len() == 1)
}

/// Whether the entry takes the machine down, or may.
pub(crate) fn is_risky(world: &World, draft: &Draft, vmcs: &Vmcs, violated: &CheckSet) -> bool {
    let fatal = |(field, value): (FieldId, u64)| {
        risk::is_unsupported_event(world, field, value) || risk::is_vast_area(field, value)
    };
    let panics =
        draft.changes.iter().copied().any(fatal) || draft.memory.iter().copied().any(risk::names_read_only_msr);
    if panics || risk::outlasts_the_case(vmcs, violated) {
        return true;
    }
    let first = violated.iter().next().map(|first| first.info().phase);
    first.is_none_or(|phase| phase > Phase::ControlsAndHost)
        && risk::takes_the_machine_down(&world.bases[draft.base], vmcs, &draft.memory(world), first.is_none())
}

/// A check that keeps an entry from showing that `aim`'s check is in force, or is not, and holds; `None` if that is not
/// what the draft is.
pub(crate) fn obstacle(world: &World, draft: &Draft, aim: Aim) -> Option<(u32, CheckId)> {
    let vmcs = draft.image(world);
    let violated = draft.violations(world, &vmcs);
    let holds =
        !violated.contains(aim.check) && draft.puts_in_force(world, &vmcs, aim.check) == (aim.side == Side::Legal);
    let first = violated.iter().next().filter(|_| holds && aim.side != Side::Violated)?;
    Some((violated.len(), first))
}

/// Whether the draft lies on that side of that check, and an entry shows it.
fn lies_on(world: &World, draft: &Draft, vmcs: &Vmcs, violated: &CheckSet, aim: Aim) -> bool {
    let Aim { check, side } = aim;
    if violated.contains(check) {
        return side == Side::Violated;
    }
    if side == Side::Violated || !is_visible(check, violated) {
        return false;
    }
    draft.puts_in_force(world, vmcs, check) == (side == Side::Legal)
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
