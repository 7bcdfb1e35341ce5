//! The generator `boundary`, which makes cases at the boundary between valid and invalid. For a check and one of its sides,
//! violated or legal, it makes an image on that side, and variations of the image.

mod made;
mod reasons;
pub(crate) mod recipes;
pub(crate) mod search;
mod trial;
mod vary;

use arbitrary::{Result, Unstructured};
use vmcs_case::Case;
use vmcs_model::checks::CheckId;

pub(crate) use made::Made;

use crate::coverage::{Aim, Side};
use crate::generate::after_entry;
use crate::generate::entry_case::EntryCase;
use crate::generate::risk;
use crate::generate::test_processor::TestProcessor;
use made::judged;

/// Of so many cases that would stop the machine, one is made. To notice that the machine has stopped, and to start it again,
/// takes as long as thousands of cases.
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

/// Puts the plain image, or what comes of it elsewhere, in the place of most cases that take the machine down.
fn bearable(processor: &TestProcessor, u: &mut Unstructured<'_>, made: Made) -> Result<Made> {
    let image = made.entry.image(processor);
    // The question is put so that a fuzzer's input which has come to its end, and yields zeros, does not mean yes.
    let base = &processor.bases[made.entry.base];
    let never = risk::outlasts_the_case(&image, &made.verdict.violated)
        || risk::ends_late(base, &image)
        || risk::runs_on_while_blocked(base, &image);
    let few = !never && !u.ratio(RISKS - 1, RISKS)?;
    let is_risky = made::is_risky(processor, &made.entry, &image, &made.verdict.violated)
        || only_stop(&made).is_some_and(|check| risk::relies_on(check, &image, &made.entry.memory(processor)));
    if few || !is_risky {
        return Ok(Made { perilous: is_risky, ..made });
    }
    let aims = &processor.recipes().safe;
    let aim = *u.choose(aims)?;
    let entry = u.choose(processor.recipes().of(aim))?.clone();
    let made = judged(processor, entry, aim);
    let is_safe = !made::is_risky(processor, &made.entry, &made.entry.image(processor), &made.verdict.violated);
    Ok(if is_safe { made } else { judged(processor, EntryCase::default(), aim) })
}

/// The one check that ends the entry; `None` where it is there to keep the entry of another check's side from going on.
fn only_stop(made: &Made) -> Option<CheckId> {
    let on_purpose = made.aim.is_some_and(|aim| aim.side != Side::Violated);
    made.verdict.violated.iter().next().filter(|_| !on_purpose && made.verdict.violated.len() == 1)
}

#[cfg(test)]
mod tests {
    use vmcs_case::profile::NamedProfile;
    use vmcs_model::field;

    use super::*;

    /// The bytes for which a case that stops the machine is made all the same: one of [`RISKS`] values, in either byte
    /// order.
    const LUCK: [[u8; 2]; 2] = [(RISKS - 1).to_le_bytes(), (RISKS - 1).to_be_bytes()];

    fn kept(timer: u32) -> bool {
        let processor = TestProcessor::new(&NamedProfile::by_name("Sapphire Rapids").expect("it is there").profile);
        let base = processor.bases.iter().position(|base| base.name == "hlt").expect("there is a waiting guest");
        let mut entry = EntryCase { base, ..EntryCase::default() };
        entry.set(field::VMX_PREEMPTION_TIMER_VALUE.id(), timer.into());
        let aim = processor.recipes().aims[0];
        LUCK.iter().any(|luck| {
            let bytes = [&luck[..], &[0; 64]].concat();
            let made = bearable(&processor, &mut Unstructured::new(&bytes), judged(&processor, entry.clone(), aim));
            made.expect("there are bytes enough").entry == entry
        })
    }

    #[test]
    fn no_case_depends_on_how_fast_the_host_is() {
        assert!(kept(0) && kept(100), "guests that wait for a moment are for every campaign");
        // Half a second or more on an emulator, which counts as hung on one host and not on another.
        assert!(!kept(1 << 30));
    }
}
