//! Properties of every case of a generator: the emulator does what the oracle permits, and the case is the same after it was
//! written as text and read back.

use std::ops::ControlFlow;
use std::sync::OnceLock;

use vmcs_case::profile::NamedProfile;
use vmcs_case::program::Program;
use vmcs_case::{End, Session, Target};

use crate::campaign::program_of;
use crate::emulator::EmulatorTarget;
use crate::oracle::{Judgement, Oracle};
use crate::{Generator, TestProcessor};

/// Any bytes as a case of `generator`, on any processor. The last byte says which: the case itself is what
/// [`Generator::from_bytes`] makes of all bytes, so that a corpus can be fed to a machine.
pub fn generated(generator: Generator, bytes: &[u8]) {
    let (processor, session) = processor(bytes.last().copied().unwrap_or_default());
    let case = generator.from_bytes(processor, bytes);
    let mut emulator = EmulatorTarget::new(processor.profile.clone(), "any");
    let mut observed = None;
    let run = emulator.run(session, &mut std::iter::once(case.clone()), &mut |_, observation| {
        observed = Some(observation);
        ControlFlow::Continue(())
    });
    run.expect("the emulator always answers");
    let observed = observed.expect("the emulator observes every case");
    assert_eq!(observed.end, End::Completed, "{case:?}");
    let judged = Oracle::new(processor, session, Vec::new()).judge(&case, &observed);
    let fine = matches!(judged.judgement, Judgement::Agree | Judgement::Unspecified(_));
    assert!(fine, "{:?} on {case:?}", judged.judgement);

    let names = processor.image_names();
    let revision = processor.capabilities.revision();
    let program = program_of("a".to_owned(), &case).portable(revision, &names);
    let text = serde_json::to_string(&program).expect("every key is a string");
    let read: Program = serde_json::from_str(&text).expect("it was written");
    assert_eq!(read.to_case(revision, &names).as_ref(), Ok(&case), "{text}");
}

/// One of the processors that come with the crates, with what its cases share. Worked out once.
fn processor(choice: u8) -> &'static (TestProcessor, Session) {
    static WORLDS: OnceLock<Vec<OnceLock<(TestProcessor, Session)>>> = OnceLock::new();
    let profiles = NamedProfile::embedded();
    let worlds = WORLDS.get_or_init(|| profiles.iter().map(|_| OnceLock::new()).collect());
    let index = usize::from(choice) % profiles.len();
    worlds[index].get_or_init(|| {
        let processor = TestProcessor::new(&profiles[index].profile);
        let session = processor.session();
        (processor, session)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn cases(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            for generator in
                [Generator::Boundary, Generator::Controls, Generator::State, Generator::Images, Generator::Programs]
            {
                generated(generator, &bytes);
            }
        }
    }
}
