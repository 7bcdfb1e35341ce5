//! The entries that `vmcs bench` measures end as they should, on every processor that has what they need.

use std::ops::ControlFlow;

use vmcs_case::latency::Scenario;
use vmcs_case::profile::NamedProfile;
use vmcs_case::program::entry_outcome;
use vmcs_case::{Op, Session, StepResult, Target, Timed};
use vmcs_fuzz::emulator::EmulatorTarget;
use vmcs_model::Capabilities;

#[test]
fn every_measured_entry_ends_as_it_should() {
    let mut ran = 0;
    for processor in NamedProfile::embedded() {
        let capabilities = Capabilities::new(&processor.profile);
        // The probe is a 64-bit program.
        if !capabilities.intel_64() {
            continue;
        }
        let offered = |scenario: &&Scenario| scenario.case(&capabilities, 1).is_ok();
        let scenarios: Vec<_> = Scenario::all().iter().filter(offered).collect();
        // The emulator measures nothing: it executes once what is measured.
        let entry = |op: Op| match op {
            Op::Time { what: Timed::Vmlaunch, .. } => Op::Vmlaunch { after_mov_ss: false },
            Op::Time { what: Timed::Vmresume, .. } => Op::Vmresume { after_mov_ss: false },
            other => other,
        };
        let cases: Vec<_> = scenarios
            .iter()
            .map(|scenario| {
                let mut case = scenario.case(&capabilities, 1).expect("it is offered");
                case.ops = case.ops.into_iter().map(entry).collect();
                case
            })
            .collect();
        let mut emulator = EmulatorTarget::new(processor.profile.clone(), processor.name.clone());
        let observe = &mut |index: usize, observation: vmcs_case::Observation| {
            let (scenario, context): (&Scenario, _) = (scenarios[index], &processor.name);
            let [setup @ .., last] = &observation.steps[..] else { panic!("{context}: no steps") };
            let fine = |step: &StepResult<_>| matches!(step, StepResult::Ok | StepResult::Exit { reason: 18 | 52, .. });
            assert!(setup.iter().all(fine), "{context}, {}: {setup:?}", scenario.name);
            assert_eq!(entry_outcome(last), Some(scenario.outcome()), "{context}, {}: {last:?}", scenario.name);
            ran += 1;
            ControlFlow::Continue(())
        };
        emulator.run(&Session::default(), &mut cases.into_iter(), observe).expect("the emulator answers");
    }
    assert!(ran > 3000, "{ran} entries");
}
