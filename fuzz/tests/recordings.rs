//! The model against the recordings that come with vmcs-hw: real outcomes on a machine without VMX.

use std::ops::ControlFlow;

use vmcs_case::recording::{self, Recording};
use vmcs_fuzz::TestProcessor;
use vmcs_fuzz::campaign::{self, CampaignSetting, Cases};
use vmcs_fuzz::deviations::Deviations;

fn replay(mut recording: Recording, deviations: &Deviations) -> campaign::CampaignReport {
    let processor = TestProcessor::new(&recording.header.profile.profile);
    let session = recording.session();
    let (generator, seed) = (recording.header.generator.clone(), recording.header.seed);
    let mut cases = recording.cases.iter().map(|(case, _)| case.clone()).collect::<Vec<_>>().into_iter();
    let setting = CampaignSetting { processor: &processor, session: &session, deviations };
    campaign::run(&mut recording, setting, Cases::Listed { generator, seed, cases: &mut cases }, None, &mut |_| {
        ControlFlow::Continue(())
    })
    .expect("a recording answers its cases")
}

#[test]
fn every_recorded_outcome_is_permitted_or_a_known_deviation() {
    let deviations = Deviations::embedded().unwrap();
    let mut cases = 0;
    for recording in recording::embedded().unwrap() {
        let report = replay(recording, &deviations);
        assert_eq!(report.disagreed, 0, "{}: {:#?}", report.implementation, report.findings.first());
        assert!(report.agreed > report.cases * 9 / 10, "{}: {report:?}", report.implementation);
        cases += report.cases;
    }
    assert!(cases >= 20_000, "{cases} recorded cases");
}

/// Without the deviation file its cases are disagreements: nothing is hidden.
#[test]
fn deviations_are_disagreements_unless_they_are_reviewed() {
    for recording in recording::embedded().unwrap() {
        let implementation = recording.header.implementation.clone();
        let reviewed = replay(recording.clone(), &Deviations::embedded().unwrap());
        let bare = replay(recording, &Deviations::default());
        let known: u64 = reviewed.deviations.values().sum();
        assert!(known > 0, "{implementation}");
        assert_eq!(
            bare.disagreed + bare.unspecified.values().sum::<u64>(),
            known + reviewed.unspecified.values().sum::<u64>(),
            "{implementation}"
        );
    }
}

/// The recordings hold what the generators make today, or else `--record` has to be run again.
#[test]
fn recorded_profiles_make_the_recorded_images() {
    for recording in recording::embedded().unwrap() {
        let processor = TestProcessor::new(&recording.header.profile.profile);
        // Further images come behind those that the recordings were made with.
        let (now, then) = (processor.session().images, recording.session().images);
        assert_eq!(now.get(..then.len()), Some(&then[..]), "{}", recording.header.implementation);
    }
}
