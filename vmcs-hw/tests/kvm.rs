//! Programs with known results under a KVM inside a real Bochs, when there are both.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod support;

use support::{bochs, exit_reason, last, launch, msr, run, session};
use vmcs_hw::bochs::debian::installed_kernels;
use vmcs_hw::kvm::KvmOnBochs;
use vmcs_hw::{Case, End, StepResult, Target, layout};

const MODEL: &str = "corei7_skylake_x";

/// KVM of the first kernel that is installed. Prints why there is none.
fn target() -> Option<KvmOnBochs> {
    let install = bochs()?;
    let Some(kernel) = installed_kernels().expect("the cache directory is readable").into_iter().next() else {
        println!("skipped: there is no kernel for KVM inside Bochs (`vmcs targets install kvm-on-bochs`)");
        return None;
    };
    Some(KvmOnBochs::new(&kernel, install, MODEL).expect("the kernel can be started"))
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
    let observations = run(&mut target, &session, cases);
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
