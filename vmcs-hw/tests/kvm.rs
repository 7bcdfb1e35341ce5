//! Tests of programs with known results on a KVM inside a Bochs, if both are installed.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod support;

use support::{exit_reason, last, launch, msr, run, session};
use vmcs_case::latency::{LatencyReport, LatencyResult, Scenario, Unit, sample};
use vmcs_case::profile::NamedProfile;
use vmcs_case::{Case, End, StepResult, Target, layout};
use vmcs_hw::metal::MetalOptions;
use vmcs_hw::targets::TargetName;
use vmcs_model::Capabilities;

const MODEL: &str = "corei7_skylake_x";

/// KVM of the newest kernel that is installed. Prints why there is none.
fn target() -> Option<Box<dyn Target>> {
    let name: TargetName = "kvm@bochs".parse().expect("a name");
    match name.machine(Some(MODEL)) {
        Ok(machine) => Some(machine.open(&MetalOptions::default()).expect("the kernel can be started")),
        Err(error) => {
            println!("skipped: {error} (`vmcs targets install kvm-on-bochs`)");
            None
        }
    }
}

#[test]
fn a_batch_is_answered_whatever_its_cases_do() {
    let Some(mut target) = target() else { return };
    let name = target.implementation().to_string();
    assert!(name.starts_with("KVM ") && name.contains(" on Bochs "), "{name}");
    let report = target.capture().expect("the probe answers");
    // KVM's revision identifier for its VMCSs, and its VMCS type.
    assert_eq!(msr(&report, 0x480) & 0xFFFF_FFFF, 0x11E5_7ED0);
    assert_eq!(msr(&report, 0x3A), 5);
    assert!(report.fields.iter().any(|field| field.encoding == 0x681E));

    let session = session(&report);
    let good = || launch(&report, &[]);
    let mut cases: Vec<Case> = (0..40).map(|_| good()).collect();
    let (hangs, crashes, failures) = ([3, 7], [0, 4, 5, 39], [2, 20]);
    // Activity state HLT without anything that would wake it; page tables of zeros; a CR3-target count of 5.
    hangs.iter().for_each(|&index| cases[index] = launch(&report, &[(0x4826, 1)]));
    crashes.iter().for_each(|&index| cases[index] = launch(&report, &[(0x6C02, layout::SCRATCH)]));
    failures.iter().for_each(|&index| cases[index] = launch(&report, &[(0x400A, 5)]));
    let observations = run(target.as_mut(), &session, cases);
    for (index, observation) in observations.iter().enumerate() {
        match &observation.end {
            End::Completed if failures.contains(&index) => {
                assert_eq!(*last(observation), StepResult::FailValid(7), "{index}");
            }
            End::Completed => assert_eq!(exit_reason(observation), Some(18), "{index}"),
            end => {
                let expected = if *end == End::Hung { hangs.contains(&index) } else { crashes.contains(&index) };
                assert!(expected, "{index}: {observation:?}");
                // The steps before VMLAUNCH are known.
                assert_eq!(observation.steps, vec![StepResult::Ok; 5], "{index}");
            }
        }
    }
    assert_eq!(observations.iter().filter(|observation| observation.end != End::Completed).count(), 6);
}

#[test]
fn kvm_takes_longer_the_more_msrs_there_are() {
    let Some(mut target) = target() else { return };
    let report = target.capture().expect("the probe answers");
    let capabilities = Capabilities::new(&NamedProfile::captured("KVM", "test", &report).profile);
    let scenarios: Vec<_> = Scenario::all().iter().collect();
    let samples = sample(target.as_mut(), &capabilities, &scenarios, 50).expect("it measures");
    let report = LatencyReport::new(target.implementation(), 50, &scenarios, &samples);
    assert_eq!(report.unit, Unit::EmulatedInstructions);
    let fastest = |name: &str| {
        let row = report.rows.iter().find(|row| row.name == name).expect("it is in the table");
        match &row.result {
            LatencyResult::Measured(distribution) => distribution.min,
            other => panic!("{name}: {other:?}"),
        }
    };
    for area in ["entry-load", "exit-store", "exit-load"] {
        let [none, one, eight, many] = [0, 1, 8, 64].map(|count| fastest(&format!("vmresume-{area}-{count}")));
        assert!(none + 100 < one && one + 1000 < eight && eight + 10_000 < many, "{area}: {none} {one} {eight} {many}");
    }
    // KVM sees without the processor what it refuses, and no current VMCS first.
    let classes = ["vmlaunch-no-vmcs", "vmlaunch-control", "vmlaunch-guest", "vmlaunch-msr-64"].map(fastest);
    assert!(classes.is_sorted(), "{classes:?}");
    assert!(!report.rows.iter().any(|row| matches!(row.result, LatencyResult::Failed(_))), "{report:?}");
}
