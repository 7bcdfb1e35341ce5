//! Adds operations to a case before and after its VM entry, so that the case shows the effects of the entry and not only
//! how it ended.
//!
//! After an entry that loads state, the case reads the fields in which entries and exits report. One case in [`DEEP`] reads
//! every other field, too. Then the case tries another entry, which has to fail because of the launch state that the first
//! entry must have left. A case that reads every field first writes nonzero values to the information fields, if the
//! processor allows it. Without that, a processor that writes a field which it should leave alone might write the same 0
//! that is there already. After an entry that has to be refused, only these cases read fields: all that such an entry
//! writes is the number of the error, which its outcome shows already.

use vmcs_case::Case;
use vmcs_model::{Outcome, Verdict};
use vmcs_wire::Op;

use crate::generate::entry_case::StateBefore;
use crate::processor::Processor;

/// Out of this many cases, one reads every field of the VMCS after its entry.
pub(crate) const DEEP: u64 = 16;

/// Adds the operations that come after the entry to `case`, which ends with its entry. `verdict` is what the model says of
/// the entry, and `deep` says whether the case reads every field.
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

/// The entry that has to fail because of the launch state. `None` if the permitted outcomes of the first entry leave
/// different launch states.
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
