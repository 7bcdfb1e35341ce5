//! The emulator and Bochs on the same programs, where there is a Bochs.

use std::ops::ControlFlow;

use vmcs_case::profile::NamedProfile;
use vmcs_case::{Case, End, Observation, Session, Target};
use vmcs_fuzz::campaign::{self, CampaignSetting, Cases};
use vmcs_fuzz::deviations::Deviations;
use vmcs_fuzz::emulator::EmulatorTarget;
use vmcs_fuzz::oracle::{Judgement, Oracle};
use vmcs_fuzz::{Generator, Stream, TestProcessor};
use vmcs_hw::bochs::{self, BochsTarget};
use vmcs_model::Outcome;
use vmcs_model::controls::Entry;
use vmcs_model::field::{self, FieldId};
use vmcs_wire::{Op, Start, layout};

/// A Bochs of each version that is here, and its processor.
fn targets() -> Vec<(BochsTarget, TestProcessor)> {
    let installs = bochs::installs().expect("an installed Bochs is usable");
    if installs.is_empty() {
        println!("skipped: there is no Bochs here");
    }
    installs
        .into_iter()
        .map(|install| {
            let mut target = BochsTarget::new(install, "corei7_skylake_x").expect("every Bochs has this model");
            let report = target.capture().expect("the probe reports");
            let profile = NamedProfile::captured("Bochs", "test", &report).profile;
            (target, TestProcessor::new(&profile))
        })
        .collect()
}

fn observe(target: &mut dyn Target, session: &Session, cases: &[Case]) -> Vec<Observation> {
    let mut observed = Vec::new();
    target
        .run(session, &mut cases.iter().cloned(), &mut |_, observation| {
            observed.push(observation);
            ControlFlow::Continue(())
        })
        .expect("the target answers");
    observed
}

/// Every result of every step, values included. What Bochs is known to do otherwise is entering with a shadow VMCS.
#[test]
fn programs_give_the_same_results_as_on_the_emulator() {
    for (mut bochs, processor) in targets() {
        let session = processor.session();
        let name = bochs.implementation().to_string();
        let cases: Vec<_> = (0..2200).map(|index| Generator::Programs.case(&processor, 7, index)).collect();
        let real = observe(&mut bochs, &session, &cases);
        let emulated = observe(&mut EmulatorTarget::new(processor.profile.clone(), "same"), &session, &cases);
        let mut same = 0;
        for ((case, real), emulated) in cases.iter().zip(&real).zip(&emulated) {
            let survived = real.end == End::Completed;
            // Reasons and qualifications of exits that a real guest makes are its own.
            let text = |o: &Observation| o.steps.iter().map(vmcs_case::program::result_text).collect::<Vec<_>>();
            if text(real) == text(emulated) {
                same += 1;
            } else if survived {
                let oracle = Oracle::new(&processor, &session, vec![]);
                let judged = oracle.judge(case, real);
                let only_shadow = judged.violated.iter().any(|check| check.to_string() == "pre.shadow-vmcs");
                assert!(only_shadow, "{name}: {case:?}\n{real:?}\n{emulated:?}");
            }
        }
        assert!(same >= 2150, "{name}: {same} of 2200 programs gave the same results");
    }
}

/// Whatever an entry writes is what the SDM says, or a reviewed deviation says otherwise; and that deviation shows.
#[test]
fn entries_write_what_they_should() {
    let deviations = Deviations::embedded().unwrap();
    for (mut bochs, processor) in targets() {
        let session = processor.session();
        let mut report = |deviations: &Deviations| {
            let setting = CampaignSetting { processor: &processor, session: &session, deviations };
            let cases = Cases::Generated { stream: &mut Stream::new(Generator::Boundary, 3), count: 1500 };
            campaign::run(&mut bochs, setting, cases, None, &mut |_| ControlFlow::Continue(())).unwrap()
        };
        let reviewed = report(&deviations);
        assert_eq!(reviewed.disagreed, 0, "{:#?}", reviewed.findings.first());
        let writes =
            reviewed.deviations.iter().find(|(ids, _)| ids.contains(&"bochs-failed-entry-writes-information".into()));
        assert!(writes.is_some_and(|(_, count)| *count > 5), "{:?}", reviewed.deviations);
        let without: Vec<_> =
            deviations.iter().filter(|deviation| deviation.fields_written.is_empty()).cloned().collect();
        let found = report(&without.into_iter().collect());
        let written =
            |finding: &campaign::Finding| finding.disagreement.observed().starts_with("after the failed entry");
        assert!(found.findings.iter().any(written), "{:#?}", found.findings.first());
    }
}

#[test]
fn a_campaign_finds_no_disagreement_and_the_same_twice() {
    let deviations = Deviations::embedded().unwrap();
    for (mut bochs, processor) in targets() {
        let session = processor.session();
        let setting = CampaignSetting { processor: &processor, session: &session, deviations: &deviations };
        let mut report = || {
            let cases = Cases::Generated { stream: &mut Stream::new(Generator::Controls, 3), count: 3000 };
            campaign::run(&mut bochs, setting, cases, None, &mut |_| ControlFlow::Continue(())).unwrap()
        };
        let (first, second) = (report(), report());
        assert_eq!(first.disagreed, 0, "{:#?}", first.findings.first());
        assert_eq!(serde_json::to_string(&first).unwrap(), serde_json::to_string(&second).unwrap());
    }
}

/// A guest with PAE paging finds in the probe's paging structures what the oracle says, wherever its CR3 points to.
#[test]
fn pdptes_are_what_memory_holds() {
    for (mut bochs, processor) in targets() {
        let session = processor.session();
        let name = bochs.implementation().to_string();
        let entry = processor.bases[0].vmcs.get(field::VM_ENTRY_CONTROLS) - Entry::IA_32E_MODE_GUEST;
        let write = |field: FieldId, value: u64| Op::Vmwrite { encoding: field.info().encoding.0.into(), value };
        let with_cr3 = |cr3: u64| {
            let region = layout::VMCS_REGIONS;
            let mut ops = vec![
                Op::Store { address: region, size: 4, value: processor.capabilities.revision().into() },
                Op::Vmclear { address: region },
                Op::Vmptrld { address: region },
                Op::WriteImage { image: 0 },
            ];
            ops.push(write(field::VM_ENTRY_CONTROLS.id(), entry.bits().into()));
            ops.push(write(field::GUEST_IA32_EFER.id(), 0));
            ops.push(write(field::GUEST_CR3.id(), cr3));
            ops.push(Op::Vmlaunch { after_mov_ss: false });
            Case { start: Start::VmxRoot, ops, perilous: false }
        };
        let cases: Vec<_> = layout::PAGING.step_by(0x20).map(with_cr3).collect();
        let oracle = Oracle::new(&processor, &session, vec![]);
        let mut entered = 0;
        for (case, observation) in cases.iter().zip(observe(&mut bochs, &session, &cases)) {
            let judged = oracle.judge(case, &observation);
            assert_eq!(judged.judgement, Judgement::Agree, "{name}: {case:x?}");
            entered += usize::from(judged.outcome == Some(Outcome::Entered));
        }
        println!("{name}: {entered} of {} enter", cases.len());
    }
}
