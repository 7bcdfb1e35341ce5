//! Tests of measured entries on an installed Bochs, if there is one. Bochs counts the instructions that it emulates.

mod support;

use support::{bochs, load, run, session};
use vmcs_case::latency::{Sampled, Samples, Scenario, sample};
use vmcs_case::profile::NamedProfile;
use vmcs_case::{Case, Ending, Op, ProbeReport, Start, StepResult, Target, Timed, layout};
use vmcs_hw::bochs::BochsTarget;
use vmcs_model::field::{GUEST_RIP, VMCS_LINK_POINTER};
use vmcs_model::{Capabilities, Outcome};

const ROUNDS: u16 = 50;

fn measure(model: &str) -> Option<Samples> {
    let mut target = BochsTarget::new(bochs()?, model).expect("the model exists");
    let report = target.capture().expect("the probe answers");
    let capabilities = Capabilities::new(&NamedProfile::captured(model, "test", &report).profile);
    let scenarios: Vec<_> = Scenario::all().iter().collect();
    Some(sample(&mut target, &capabilities, &scenarios, ROUNDS).expect("it has a time-stamp counter"))
}

fn of<'a>(samples: &'a Samples, name: &str) -> &'a Sampled {
    let place = Scenario::all().iter().position(|scenario| scenario.name == name).expect("it is in the table");
    &samples.scenarios[place]
}

#[test]
fn every_entry_is_measured_to_the_instruction() {
    let Some(samples) = measure("corei7_skylake_x") else { return };
    assert!(samples.overhead.iter().all(|sample| *sample == samples.overhead[0]), "{:?}", samples.overhead);
    for (scenario, sampled) in Scenario::all().iter().zip(&samples.scenarios) {
        let expected = match scenario.outcome() {
            // VMLAUNCH or VMRESUME; the guest's instruction, or that of the timer's place; ENDBR64 at HOST_RIP.
            Outcome::Entered => 3,
            Outcome::EntryFailed { .. } => 2,
            _ => 1,
        };
        assert_eq!(*sampled, Sampled::Measured(vec![expected; ROUNDS.into()]), "{}", scenario.name);
    }
}

#[test]
fn what_an_old_processor_lacks_is_skipped() {
    let Some(samples) = measure("core2_penryn_t9600") else { return };
    let skipped = |name: &str| match of(&samples, name) {
        Sampled::Skipped(missing) => missing.to_string(),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(skipped("vmlaunch-ept"), "the processor has no EPT");
    assert_eq!(skipped("vmresume-vpid"), "the processor has no VPID");
    for name in ["vmlaunch", "vmresume-exit-load-64", "vmresume-guest"] {
        assert!(matches!(of(&samples, name), Sampled::Measured(_)), "{name}: {:?}", of(&samples, name));
    }
    assert!(!samples.scenarios.iter().any(|sampled| matches!(sampled, Sampled::Failed(_))), "{samples:?}");
}

fn write(encoding: u32, value: u64) -> Op {
    Op::Vmwrite { encoding: encoding.into(), value }
}

fn last_of(report: &ProbeReport, target: &mut BochsTarget, start: Start, ops: Vec<Op>) -> Vec<StepResult<Vec<u64>>> {
    let [observation] = &run(target, &session(report), vec![Case { start, ops, ..Case::default() }])[..] else {
        panic!("one case")
    };
    observation.steps.clone()
}

#[test]
fn a_round_that_ends_otherwise_ends_the_measurement() {
    let Some(install) = bochs() else { return };
    let mut target = BochsTarget::new(install, "corei7_skylake_x").expect("the model exists");
    let report = target.capture().expect("the probe answers");
    let (code, linked) = (layout::SCRATCH, layout::SCRATCH + 0x1000);
    // The guest spoils the revision identifier behind the VMCS link pointer: MOV DWORD PTR [linked], 0; VMCALL.
    let address = u32::try_from(linked).expect("low memory").to_le_bytes();
    let guest = [&[0xC7, 0x04, 0x25][..], &address, &[0; 4], &[0x0F, 0x01, 0xC1]].concat();
    let revision = support::revision(&report);
    let mut ops = load(&report);
    let bytes = (code..).zip(&guest).map(|(address, byte)| Op::Store { address, size: 1, value: (*byte).into() });
    ops.extend(bytes);
    ops.extend([
        Op::Store { address: linked, size: 4, value: revision },
        Op::WriteImage { image: 0 },
        write(GUEST_RIP.encoding().0, code),
        write(VMCS_LINK_POINTER.encoding().0, linked),
        Op::Time { what: Timed::Vmlaunch, rounds: 9 },
        // It is as it was before.
        Op::Vmread { encoding: 0x6C16 },
    ]);
    let steps = last_of(&report, &mut target, Start::VmxRoot, ops);
    let [.., StepResult::Timed { ending, samples }, host_rip] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!((*ending, samples.len()), (Ending::Exit { reason: 18, qualification: 0 }, 1));
    assert_eq!(*host_rip, StepResult::Value(layout::HOST_RIP));
}

#[test]
fn what_is_no_entry_is_no_measurement() {
    let Some(install) = bochs() else { return };
    let mut target = BochsTarget::new(install, "corei7_skylake_x").expect("the model exists");
    let report = target.capture().expect("the probe answers");
    let time = |what, rounds| Op::Time { what, rounds };
    let steps =
        last_of(&report, &mut target, Start::OutsideVmx, vec![time(Timed::Vmlaunch, 3), time(Timed::Nothing, 0)]);
    let [fault, nothing] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!(*fault, StepResult::Fault { vector: 6, error_code: None });
    assert_eq!(*nothing, StepResult::Timed { ending: Ending::Nothing, samples: vec![] });

    // Control comes back by way of a page fault: nobody has taken the time.
    let mut ops = load(&report);
    ops.extend([Op::WriteImage { image: 0 }, write(0x6C16, 1 << 40), time(Timed::Vmlaunch, 3), Op::Vmptrst]);
    let steps = last_of(&report, &mut target, Start::VmxRoot, ops);
    let [.., timed, after] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!((timed, after), (&StepResult::NotRun, &StepResult::NotRun));
}
