//! What a case does around its entry so that the effects of it show, and not only how it ended.
//!
//! Behind an entry that loads state it looks at what entries and exits report, one case in [`DEEP`] at every other field,
//! too. Then it tries another entry, which has to fail for the launch state that this one must have left. Cases that look
//! at every field write something to the information fields before, where the processor lets them: whoever writes what he
//! should not would otherwise often write the 0 that is there. Where the entry has to be refused only they look: what it
//! writes then, the number of the error, the outcome has already.

use vmcs_case::Case;
use vmcs_model::{Outcome, Verdict};
use vmcs_wire::Op;

use crate::generate::entry_case::StateBefore;
use crate::processor::Processor;

/// One of how many cases looks at every field.
pub(crate) const DEEP: u64 = 16;
/// Adds what comes after the entry to a case that ends with it, of which the model says `verdict`.
pub(crate) fn add(processor: &Processor, case: &mut Case, before: StateBefore, verdict: &Verdict, deep: bool) {
    let loads_state = |outcome| matches!(outcome, Outcome::Entered | Outcome::EntryFailed { .. });
    let refused = !verdict.permitted.iter().any(loads_state);
    if !matches!(before, StateBefore::Clear | StateBefore::Launched) || refused && !deep {
        return;
    }
    if deep && let Some(image) = processor.stale_image() {
        let entry = case.ops.len() - 1;
        case.ops.insert(entry, Op::WriteImage { image });
    }
    case.ops.push(Op::Observe { state: deep });
    case.ops.extend(launch_state_probe(before, verdict));
}

/// The entry that fails for the launch state, if all that may come of the first one leaves the same.
fn launch_state_probe(before: StateBefore, verdict: &Verdict) -> Option<Op> {
    let launched = |outcome: Outcome| before == StateBefore::Launched || outcome == Outcome::Entered;
    let mut states = verdict.permitted.iter().map(launched);
    let state = states.next()?;
    states.all(|other| other == state).then_some(if state {
        Op::Vmlaunch { after_mov_ss: false }
    } else {
        Op::Vmresume { after_mov_ss: false }
    })
}

#[cfg(test)]
mod tests {
    use vmcs_case::profile::NamedProfile;
    use vmcs_model::field;

    use super::*;
    use crate::generate::entry_case::EntryCase;

    fn processor() -> Processor {
        Processor::new(&NamedProfile::by_name("Sapphire Rapids").unwrap().profile)
    }

    fn after_entry(processor: &Processor, entry: &EntryCase, deep: bool) -> Vec<Op> {
        let mut case = entry.case(processor);
        let before = case.ops.len();
        add(processor, &mut case, entry.before, &entry.verdict(processor, &entry.image(processor)), deep);
        case.ops[before - 1..].to_vec()
    }

    #[test]
    fn the_next_entry_fails_for_the_launch_state() {
        let processor = processor();
        let (launch, resume) = (Op::Vmlaunch { after_mov_ss: false }, Op::Vmresume { after_mov_ss: false });
        let look = Op::Observe { state: false };
        let entering = EntryCase::default();
        assert_eq!(after_entry(&processor, &entering, false), [launch, look, launch]);
        let mut failing = EntryCase::default();
        failing.set(field::GUEST_RFLAGS.id(), 0);
        assert_eq!(after_entry(&processor, &failing, false), [launch, look, resume]);
        let resuming = EntryCase { before: StateBefore::Launched, resume: true, ..failing };
        assert_eq!(after_entry(&processor, &resuming, false), [resume, look, launch]);
        let mut refused = EntryCase::default();
        refused.set(field::CR3_TARGET_COUNT.id(), 0xFFFF_FFFF);
        assert_eq!(after_entry(&processor, &refused, false), [launch]);
        assert_eq!(after_entry(&processor, &refused, true)[1..], [launch, Op::Observe { state: true }, resume]);
        let outside = EntryCase { before: StateBefore::OutsideVmx, ..EntryCase::default() };
        assert_eq!(after_entry(&processor, &outside, true), [launch]);
    }

    #[test]
    fn deep_cases_find_no_information_field_at_0() {
        let processor = processor();
        let image = processor.stale_image().expect("the processor lets them be written");
        let [stale, entry, look, _] = after_entry(&processor, &EntryCase::default(), true)[..] else {
            panic!("four operations")
        };
        assert_eq!((stale, look), (Op::WriteImage { image }, Op::Observe { state: true }));
        assert!(matches!(entry, Op::Vmlaunch { .. }));
        let session = processor.session();
        let written = &session.images[usize::from(image)];
        assert!(written.len() > 10 && written.iter().all(|(_, value)| *value != 0));
        let all = session.information_fields.len() + session.state_fields.len();
        assert_eq!(all, processor.fields.len());
    }
}
