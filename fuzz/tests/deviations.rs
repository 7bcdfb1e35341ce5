//! The minimal case of each reviewed deviation still shows it, on the Bochs or the KVM in a Bochs that it names.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use vmcs_case::profile::NamedProfile;
use vmcs_case::{Implementation, Target};
use vmcs_fuzz::TestProcessor;
use vmcs_fuzz::deviations::{Deviation, Deviations};
use vmcs_fuzz::oracle::Oracle;
use vmcs_hw::metal::MetalOptions;
use vmcs_hw::targets::Machine;

/// That machine, if it is here.
fn open(place: &Implementation) -> Option<Box<dyn Target>> {
    let machine = Machine::of(place).ok()?;
    Some(machine.open(&MetalOptions::default()).expect("it has the CPU model"))
}

#[test]
fn every_minimal_case_still_shows_its_deviation_and_no_other() {
    let deviations = Deviations::embedded().expect("they are valid");
    let mut machines: BTreeMap<String, (Implementation, Vec<&Deviation>)> = BTreeMap::new();
    for deviation in deviations.iter() {
        let place = deviation.shown_by().expect("every deviation has a case");
        machines.entry(place.to_string()).or_insert((place, Vec::new())).1.push(deviation);
    }
    let mut stale = String::new();
    for (name, (place, of_machine)) in machines {
        let Some(mut target) = open(&place) else {
            println!("skipped: the cases of {} deviations need {name}", of_machine.len());
            continue;
        };
        let report = target.capture().expect("the probe reports");
        let processor = TestProcessor::new(&NamedProfile::captured("Bochs", "test", &report).profile);
        let session = processor.session();
        let here = target.implementation();
        let oracle = Oracle::new(&processor, &session, deviations.of(&here));
        let (about_fields, with_program): (Vec<_>, Vec<_>) = of_machine.into_iter().partition(|d| d.is_about_fields());
        for deviation in about_fields {
            if !deviation.shows_in(&processor.profile) {
                stale += &format!("{here}: {}\n", deviation.id);
            }
        }
        let case = |deviation: &&Deviation| {
            let program = deviation.program().expect("it has a program");
            program
                .to_case(processor.capabilities.revision(), &processor.image_names())
                .expect("the program is valid here")
        };
        let cases: Vec<_> = with_program.iter().map(case).collect();
        target
            .run(&session, &mut cases.iter().cloned(), &mut |index, observation| {
                let judgement = oracle.judge(&cases[index], &observation).judgement;
                if !with_program[index].accounts_for(&judgement) {
                    stale += &format!("{here}: {}: {judgement:?}\n", with_program[index].id);
                }
                ControlFlow::Continue(())
            })
            .expect("the target answers");
        println!("{here}: {} cases", cases.len());
    }
    assert!(stale.is_empty(), "stale:\n{stale}");
}
