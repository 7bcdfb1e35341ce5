//! The oracle finds what is wrong: observations are falsified one step at a time.

use std::ops::ControlFlow;

use vmcs_case::profile::NamedProfile;
use vmcs_case::{Case, End, Observation, Target};
use vmcs_fuzz::emulator::EmulatorTarget;
use vmcs_fuzz::oracle::{Judgement, Oracle};
use vmcs_fuzz::step::Step;
use vmcs_fuzz::{Generator, TestProcessor};
use vmcs_model::field::{self, FieldId};
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::profile::{CpuidLeaf, MsrValue};
use vmcs_wire::{Ending, Op, Start, StepResult, Timed};

/// A processor of which everything is known.
fn processor() -> TestProcessor {
    let mut profile = NamedProfile::by_name("Sapphire Rapids").unwrap().profile.clone();
    for msr in CapabilityMsr::ALL.into_iter().filter(|msr| profile.msr(*msr) == MsrValue::Unknown).collect::<Vec<_>>() {
        profile.set_msr(msr, MsrValue::Value(0));
    }
    for leaf in CpuidLeaf::ALL.into_iter().filter(|leaf| profile.known_cpuid(*leaf).is_none()).collect::<Vec<_>>() {
        profile.set_cpuid(leaf, [0; 4]);
    }
    TestProcessor::new(&profile)
}

/// Another result than `step`, of the kind that a faulty implementation would give.
fn falsified(step: &Step) -> Step {
    match step {
        StepResult::Ok => StepResult::FailInvalid,
        StepResult::Value(value) => StepResult::Value(value ^ 1),
        StepResult::FailInvalid => StepResult::FailValid(7),
        StepResult::FailValid(error) => StepResult::FailValid(error + 1),
        StepResult::Fault { vector: 6, .. } => StepResult::Fault { vector: 13, error_code: Some(0) },
        StepResult::Exit { reason, .. } if reason >> 31 == 0 => StepResult::FailValid(7),
        StepResult::Exit { qualification, .. } => {
            StepResult::Exit { reason: 0x8000_0021, qualification: qualification ^ 2, fields: vec![] }
        }
        StepResult::Fault { .. } | StepResult::NotRun | StepResult::Fields(_) | StepResult::Timed { .. } => {
            StepResult::Ok
        }
    }
}

#[test]
fn a_false_result_of_any_instruction_is_found() {
    let processor = processor();
    let session = processor.session();
    let oracle = Oracle::new(&processor, &session, vec![]);
    let mut emulator = EmulatorTarget::new(processor.profile.clone(), "same");
    let (mut found, mut missed) = (0, Vec::new());
    for generator in [Generator::Programs, Generator::Controls] {
        for index in 0..300 {
            let case = generator.case(&processor, 5, index);
            let mut observed = None;
            emulator
                .run(&session, &mut std::iter::once(case.clone()), &mut |_, observation| {
                    observed = Some(observation);
                    ControlFlow::Continue(())
                })
                .unwrap();
            let truth: Observation = observed.unwrap();
            assert_eq!(oracle.judge(&case, &truth).judgement, Judgement::Agree, "{case:?}");
            for step in 0..case.ops.len() {
                if matches!(case.ops[step], Op::Store { .. }) {
                    continue;
                }
                let mut steps = truth.steps.clone();
                steps[step] = falsified(&steps[step]);
                let lie = Observation { steps, end: End::Completed };
                match oracle.judge(&case, &lie).judgement {
                    Judgement::Disagree(disagreement) => {
                        // A permitted outcome that the emulator did not take shows in what follows.
                        assert!(disagreement.step >= step);
                        found += 1;
                    }
                    _ => missed.push((case.ops[step], truth.steps[step].clone())),
                }
            }
        }
    }
    // What may be missed: fields that an exit leaves undefined, and control checks against host checks, in any order.
    let open = |(op, _): &&(Op, Step)| !matches!(op, Op::Vmread { .. } | Op::Vmlaunch { .. } | Op::Vmresume { .. });
    assert_eq!(missed.iter().find(open), None);
    assert!(found > 4000 && missed.len() * 50 < found, "{found} found, {} missed", missed.len());
}

#[test]
fn a_measurement_is_left_open_and_what_comes_before_it_is_not() {
    let processor = processor();
    let session = processor.session();
    let oracle = Oracle::new(&processor, &session, vec![]);
    let ops = vec![Op::Vmptrst, Op::Time { what: Timed::Vmlaunch, rounds: 2 }, Op::Vmxoff, Op::Vmxoff];
    let case = Case { start: Start::VmxRoot, ops, ..Case::default() };
    let judge = |first, measured| {
        let observation =
            Observation { steps: vec![first, measured, StepResult::Ok, StepResult::Ok], end: End::Completed };
        oracle.judge(&case, &observation).judgement
    };
    let measured = || StepResult::Timed { ending: Ending::FailInvalid, samples: vec![20, 21] };
    let right = || StepResult::Value(u64::MAX);
    assert!(matches!(judge(right(), measured()), Judgement::Unspecified(_)));
    assert!(matches!(judge(right(), StepResult::NotRun), Judgement::Unspecified(_)));
    assert!(matches!(judge(StepResult::Value(0), measured()), Judgement::Disagree(_)));
}

/// A target that dies where the instruction must fail has done wrong; where a guest may have run it is left open.
#[test]
fn a_death_is_judged_by_what_was_permitted() {
    let processor = processor();
    let session = processor.session();
    let oracle = Oracle::new(&processor, &session, vec![]);
    for index in 0..200 {
        let case = Generator::Controls.case(&processor, 9, index);
        let launch = case.ops.iter().position(|op| matches!(op, Op::Vmlaunch { .. })).unwrap();
        let dead = Observation { steps: vec![StepResult::Ok; launch], end: End::Hung };
        let mut machine = vmcs_fuzz::emulator::CaseEmulator::new(&processor.profile, case.start);
        for op in &case.ops[..launch] {
            machine.step(&session, op);
        }
        let fails = machine
            .verdict(&case.ops[launch])
            .unwrap()
            .permitted
            .iter()
            .all(|outcome| matches!(outcome, vmcs_model::Outcome::FailValid(_) | vmcs_model::Outcome::FailInvalid));
        let judgement = oracle.judge(&case, &dead).judgement;
        assert_eq!(matches!(judgement, Judgement::Disagree(_)), fails, "{case:?}: {judgement:?}");
    }
}

/// PDPTEs that lie where a ROM answers are good or bad, whatever the model takes them for.
#[test]
fn what_a_device_answers_is_left_open() {
    let processor = processor();
    let session = processor.session();
    let write = |field: FieldId, value| Op::Vmwrite { encoding: field.info().encoding.0.into(), value };
    let plain = processor.image_names().iter().position(|name| *name == "plain").unwrap();
    let at = |cr3: u64| {
        let ops = vec![
            Op::Store { address: 0x1_1000, size: 4, value: processor.capabilities.revision().into() },
            Op::Vmclear { address: 0x1_1000 },
            Op::Vmptrld { address: 0x1_1000 },
            Op::WriteImage { image: u16::try_from(plain).unwrap() },
            // A guest with PAE paging, whose EFER and code segment are not those of a 64-bit one.
            write(field::VM_ENTRY_CONTROLS.id(), 0x51FB),
            write(field::GUEST_CS_ACCESS_RIGHTS.id(), 0xC09B),
            write(field::GUEST_IA32_EFER.id(), 0),
            write(field::GUEST_CR3.id(), cr3),
            Op::Vmlaunch { after_mov_ss: false },
        ];
        Case { ops, ..Case::default() }
    };
    let entered = |case: &Case| {
        let mut steps = vec![StepResult::Ok; case.ops.len() - 1];
        steps.push(StepResult::Exit { reason: 18, qualification: 0, fields: vec![] });
        Observation { steps, end: End::Completed }
    };
    let oracle = Oracle::new(&processor, &session, vec![]);
    let judge = |cr3| {
        let case = at(cr3);
        oracle.judge(&case, &entered(&case)).judgement
    };
    assert_eq!(judge(0xFFFC_0000), Judgement::Agree);
    // Beyond the machine's memory all ones are read, which are no PDPTEs.
    assert!(matches!(judge(0x8000_0000), Judgement::Disagree(_)), "{:?}", judge(0x8000_0000));
}
