//! Tests of programs with known results on an installed Bochs, if there is one.

mod support;

use std::ops::ControlFlow;

use support::{REGION, base_image, bochs, exit_reason, last, launch, load, msr, revision, run, session, steps};
use vmcs_case::{Case, End, Observation, Op, ProbeReport, Session, Start, StepResult, Target, TargetError, layout};
use vmcs_hw::bochs::{BochsError, BochsInstall, BochsTarget};

const MODEL: &str = "corei7_skylake_x";
const LAUNCH: Op = Op::Vmlaunch { after_mov_ss: false };
const RESUME: Op = Op::Vmresume { after_mov_ss: false };
/// #UD.
const INVALID_OPCODE: StepResult<Vec<u64>> = StepResult::Fault { vector: 6, error_code: None };

fn target(install: BochsInstall) -> (BochsTarget, ProbeReport) {
    let mut target = BochsTarget::new(install, MODEL).expect("the model exists");
    let report = target.capture().expect("the probe answers");
    (target, report)
}

#[test]
fn the_profile_is_that_of_a_vmx_processor() {
    let Some(install) = bochs() else { return };
    let version = install.version;
    let (target, report) = target(install);
    assert_eq!(target.implementation().to_string(), format!("Bochs {version} {MODEL}"));
    assert_eq!(msr(&report, 0x3A) & 5, 5);
    assert_ne!(revision(&report), 0);
    let field = |encoding| report.fields.iter().find(|field| field.encoding == encoding);
    let guest_rip = field(0x681E).expect("guest RIP exists");
    assert_eq!((guest_rip.write, guest_rip.sticky), (StepResult::Ok, u64::MAX));
    assert_eq!(field(0x0800).expect("guest ES selector exists").sticky, 0xFFFF);
    let reason = field(0x4402).expect("the exit reason exists");
    // Read-only unless IA32_VMX_MISC[29] allows VMWRITE to any field.
    let writable = msr(&report, 0x485) >> 29 & 1 == 1;
    assert_eq!(reason.write, if writable { StepResult::Ok } else { StepResult::FailValid(13) });
    let features = report.cpuid.iter().find(|reading| reading.leaf == 1);
    let [_, _, ecx, _] = features.and_then(|reading| reading.registers).expect("leaf 1 exists");
    assert_eq!(ecx >> 5 & 1, 1);
}

#[test]
fn launch_state_programs_end_as_the_manual_says() {
    let Some(install) = bochs() else { return };
    let (mut target, report) = target(install);
    let session = session(&report);
    let then = |mut ops: Vec<Op>, more: &[Op]| {
        ops.extend_from_slice(more);
        Case { start: Start::VmxRoot, ops, ..Case::default() }
    };
    let image = Op::WriteImage { image: 0 };
    let other = REGION + 0x1000;
    let exit = |reason| move |result: &StepResult<Vec<u64>>| matches!(result, StepResult::Exit { reason: r, .. } if *r == reason);
    let is = |expected: StepResult<Vec<u64>>| move |result: &StepResult<Vec<u64>>| *result == expected;
    type Expected = Box<dyn Fn(&StepResult<Vec<u64>>) -> bool>;
    let outside = |ops: &[Op]| Case { start: Start::OutsideVmx, ops: ops.to_vec(), ..Case::default() };
    let table: Vec<(&str, Case, Expected)> = vec![
        ("VMRESUME of a clear VMCS", then(load(&report), &[image, RESUME]), Box::new(is(StepResult::FailValid(5)))),
        ("VMLAUNCH twice", then(load(&report), &[image, LAUNCH, LAUNCH]), Box::new(is(StepResult::FailValid(4)))),
        ("VMRESUME after VMLAUNCH", then(load(&report), &[image, LAUNCH, RESUME]), Box::new(exit(18))),
        (
            "VMPTRLD with a wrong revision identifier",
            then(
                load(&report),
                &[
                    Op::Store { address: other, size: 4, value: revision(&report) + 1 },
                    Op::Vmclear { address: other },
                    Op::Vmptrld { address: other },
                ],
            ),
            Box::new(is(StepResult::FailValid(11))),
        ),
        (
            "VMXON in VMX root operation",
            then(load(&report), &[Op::Vmxon { address: layout::VMXON_REGION }]),
            Box::new(is(StepResult::FailValid(15))),
        ),
        (
            "VMCLEAR of the VMXON pointer",
            then(load(&report), &[Op::Vmclear { address: layout::VMXON_REGION }]),
            Box::new(is(StepResult::FailValid(3))),
        ),
        (
            "VMPTRLD of the VMXON pointer",
            then(load(&report), &[Op::Vmptrld { address: layout::VMXON_REGION }]),
            Box::new(is(StepResult::FailValid(10))),
        ),
        ("VMPTRST", then(load(&report), &[Op::Vmptrst]), Box::new(is(StepResult::Value(REGION)))),
        ("no VMCS after the start", then(vec![], &[Op::Vmptrst]), Box::new(is(StepResult::Value(u64::MAX)))),
        (
            "VMREAD without a VMCS",
            then(vec![], &[Op::Vmread { encoding: 0x6800 }]),
            Box::new(is(StepResult::FailInvalid)),
        ),
        ("VMLAUNCH without a VMCS", then(vec![], &[LAUNCH]), Box::new(is(StepResult::FailInvalid))),
        (
            "VMREAD of an unsupported component",
            then(load(&report), &[Op::Vmread { encoding: 0x1_0000 }]),
            Box::new(is(StepResult::FailValid(12))),
        ),
        (
            "VMREAD of what was written",
            then(load(&report), &[Op::Vmwrite { encoding: 0x681E, value: 77 }, Op::Vmread { encoding: 0x681E }]),
            Box::new(is(StepResult::Value(77))),
        ),
        (
            "VMLAUNCH after MOV SS",
            then(load(&report), &[image, Op::Vmlaunch { after_mov_ss: true }]),
            Box::new(is(StepResult::FailValid(26))),
        ),
        (
            "VMRESUME after MOV SS",
            then(load(&report), &[image, LAUNCH, Op::Vmresume { after_mov_ss: true }]),
            Box::new(is(StepResult::FailValid(26))),
        ),
        // With a current VMCS, Bochs 2.7 and 3.1 give up ("VMCALL: not implemented yet").
        (
            "VMCALL in VMX root operation without a VMCS",
            then(vec![], &[Op::Vmcall]),
            Box::new(is(StepResult::FailInvalid)),
        ),
        (
            "VMFUNC in VMX root operation",
            then(load(&report), &[Op::Vmfunc { eax: 0, ecx: 0 }]),
            Box::new(is(INVALID_OPCODE)),
        ),
        (
            "INVEPT of a type that does not exist",
            then(load(&report), &[Op::Invept { kind: 9, descriptor: [0, 0] }]),
            Box::new(is(StepResult::FailValid(28))),
        ),
        (
            "INVVPID of everything",
            then(load(&report), &[Op::Invvpid { kind: 2, descriptor: [0, 0] }]),
            Box::new(is(StepResult::Ok)),
        ),
        ("VMREAD outside VMX operation", outside(&[Op::Vmread { encoding: 0x6800 }]), Box::new(is(INVALID_OPCODE))),
        ("VMLAUNCH outside VMX operation", outside(&[LAUNCH]), Box::new(is(INVALID_OPCODE))),
        ("VMXOFF outside VMX operation", outside(&[Op::Vmxoff]), Box::new(is(INVALID_OPCODE))),
        (
            "VMXON without a revision identifier",
            outside(&[Op::Vmxon { address: layout::VMXON_REGION }]),
            Box::new(is(StepResult::FailInvalid)),
        ),
        (
            "VMXON",
            outside(&[
                Op::Store { address: layout::VMXON_REGION, size: 4, value: revision(&report) },
                Op::Vmxon { address: layout::VMXON_REGION },
            ]),
            Box::new(is(StepResult::Ok)),
        ),
        (
            "a store beyond the arena",
            outside(&[Op::Store { address: layout::PML4, size: 8, value: 0 }]),
            Box::new(is(StepResult::NotRun)),
        ),
        (
            "VMCLEAR of the probe",
            then(vec![], &[Op::Vmclear { address: layout::PROBE }]),
            Box::new(is(StepResult::NotRun)),
        ),
    ];
    let cases = table.iter().map(|(_, case, _)| case.clone()).collect();
    for ((name, _, expected), observation) in table.iter().zip(run(&mut target, &session, cases)) {
        assert!(expected(last(&observation)), "{name}: {observation:?}");
    }
}

#[test]
fn entries_end_as_the_manual_says() {
    let Some(install) = bochs() else { return };
    let (mut target, report) = target(install);
    let session = session(&report);
    let pin_based = base_image(&report)[0].1;
    let cases = vec![
        launch(&report, &[]),
        // "Activate VMX-preemption timer"; its value is 0.
        launch(&report, &[(0x4000, pin_based | 1 << 6)]),
        // A VM-execution control that no processor may have as 0.
        launch(&report, &[(0x4000, 0)]),
        launch(&report, &[(0x6C00, 0)]),
        launch(&report, &[(0x6820, 0)]),
        launch(&report, &[(0x2800, 1)]),
        launch(&report, &[]),
    ];
    let observations = run(&mut target, &session, cases);
    let StepResult::Exit { reason: 18, qualification: 0, fields } = last(&observations[0]) else {
        panic!("{:?}", observations[0])
    };
    // VMCALL has three bytes; the guest's RIP still points to it.
    assert_eq!(fields[1..], [3, layout::GUEST_RIP]);
    assert_eq!(exit_reason(&observations[1]), Some(52));
    assert_eq!(*last(&observations[2]), StepResult::FailValid(7));
    assert_eq!(*last(&observations[3]), StepResult::FailValid(8));
    assert_eq!(exit_reason(&observations[4]), Some(0x8000_0021));
    // Invalid VMCS link pointer.
    assert!(matches!(last(&observations[5]), StepResult::Exit { reason: 0x8000_0021, qualification: 4, .. }));
    assert_eq!(observations[6], observations[0]);
}

#[test]
fn cases_that_stop_the_machine_cost_only_themselves() {
    let Some(install) = bochs() else { return };
    let (mut target, report) = target(install);
    let session = session(&report);
    // Activity state wait-for-SIPI; page tables of zeros.
    let hanging = || launch(&report, &[(0x4826, 3)]);
    let crashing = || launch(&report, &[(0x6C02, layout::SCRATCH)]);
    let good = || launch(&report, &[]);
    let mut cases: Vec<Case> = (0..300).map(|_| good()).collect();
    let (hangs, crashes) = ([3, 150], [0, 4, 299]);
    hangs.iter().for_each(|&index| cases[index] = hanging());
    crashes.iter().for_each(|&index| cases[index] = crashing());
    let observations = run(&mut target, &session, cases);
    for (index, observation) in observations.iter().enumerate() {
        match &observation.end {
            End::Hung => assert!(hangs.contains(&index), "{index}: {observation:?}"),
            End::Crashed { detail } => {
                println!("{index}: {detail}");
                assert!(crashes.contains(&index) && !detail.is_empty(), "{index}: {observation:?}");
            }
            End::Completed => {
                assert_eq!(exit_reason(observation), Some(18), "{index}");
                continue;
            }
        }
        // The steps before VMLAUNCH are known.
        assert_eq!(observation.steps, vec![StepResult::Ok; 5], "{index}");
    }
    assert_eq!(observations.iter().filter(|observation| observation.end != End::Completed).count(), 5);
}

#[test]
fn a_host_state_that_faults_at_once_is_survived() {
    let Some(install) = bochs() else { return };
    let (mut target, report) = target(install);
    let session = session(&report);
    let cases = vec![
        // Canonical, not mapped; and an instruction pointer where nothing is executable.
        launch(&report, &[(0x6C16, 0x7FFF_0000_0000)]),
        launch(&report, &[(0x6C14, 0)]),
        launch(&report, &[(0x6C06, 0x1234_5000), (0x6C08, 0x1234_5000)]),
        launch(&report, &[(0x6C0C, 0)]),
        launch(&report, &[(0x6C0E, 0)]),
        launch(&report, &[(0x6C0A, 0)]),
        launch(&report, &[(0x6C00, layout::CR0 | 1 << 3 | 1 << 2)]),
        launch(&report, &[(0x0C00, 0x28), (0x0C08, 0)]),
        launch(&report, &[]),
    ];
    for (index, observation) in run(&mut target, &session, cases).iter().enumerate() {
        assert_eq!(exit_reason(observation), Some(18), "{index}: {observation:?}");
    }
}

#[test]
fn every_case_starts_clean() {
    let Some(install) = bochs() else { return };
    let (mut target, report) = target(install);
    let session = session(&report);
    let second = REGION + 0x1000;
    let read = |encoding| Op::Vmread { encoding };
    let mut dirty = load(&report);
    dirty.extend([Op::WriteImage { image: 0 }, LAUNCH]);
    let mut fresh = load(&report);
    fresh.extend([read(0x681E), read(0x2800), RESUME]);
    let reused_as_vmxon_region = vec![
        Op::Vmxoff,
        Op::Store { address: second, size: 4, value: revision(&report) },
        Op::Vmxon { address: second },
        Op::Store { address: layout::VMXON_REGION, size: 4, value: revision(&report) },
        Op::Vmclear { address: layout::VMXON_REGION },
        Op::Vmptrld { address: layout::VMXON_REGION },
        Op::Vmwrite { encoding: 0x681E, value: 9 },
    ];
    let left_active = vec![
        Op::Store { address: second, size: 4, value: revision(&report) },
        Op::Vmclear { address: second },
        Op::Vmptrld { address: second },
        Op::Vmxoff,
    ];
    let program = |ops: &[Op]| Case { start: Start::VmxRoot, ops: ops.to_vec(), ..Case::default() };
    let check = || program(&fresh);
    let cases = vec![
        program(&dirty),
        check(),
        program(&reused_as_vmxon_region),
        check(),
        program(&left_active),
        check(),
        Case { start: Start::OutsideVmx, ops: vec![Op::Vmxon { address: layout::VMXON_REGION }], ..Case::default() },
        check(),
    ];
    let observations = run(&mut target, &session, cases);
    let expected = &observations[1];
    assert_eq!(steps(expected)[3..], [StepResult::Value(0), StepResult::Value(0), StepResult::FailValid(5)]);
    for index in [3, 5, 7] {
        assert_eq!(&observations[index], expected, "after case {}", index - 1);
    }
    assert!(steps(&observations[2]).iter().all(|result| *result == StepResult::Ok), "{:?}", observations[2]);
    assert_eq!(*last(&observations[6]), StepResult::FailInvalid);
}

#[test]
fn breaking_off_ends_the_run() {
    let Some(install) = bochs() else { return };
    let (mut target, report) = target(install);
    let mut endless = std::iter::repeat_with(|| launch(&report, &[]));
    let mut seen = 0;
    let mut observe = |_, _: Observation| {
        seen += 1;
        if seen == 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    target.run(&session(&report), &mut endless, &mut observe).expect("breaking off is no error");
    assert_eq!(seen, 10);
}

#[test]
fn no_cases_are_no_run() {
    let Some(install) = bochs() else { return };
    let mut target = BochsTarget::new(install, MODEL).expect("the model exists");
    assert_eq!(run(&mut target, &Session::default(), Vec::new()), []);
}

#[test]
fn what_cannot_run_is_an_error() {
    let Some(install) = bochs() else { return };
    let error = BochsTarget::new(install.clone(), "8086").expect_err("there is no such model");
    assert!(matches!(error.machine(), Some(BochsError::UnknownModel { .. })), "{error}");

    let mut without_vmx = BochsTarget::new(install.clone(), "athlon64_clawhammer").expect("the model exists");
    let error = without_vmx.capture().expect_err("the model has no VMX");
    assert!(
        matches!(&error, TargetError::Probe(reason) if reason.starts_with("the processor has no VMX: AuthenticAMD")),
        "{error}"
    );

    let broken = BochsInstall { vga_bios: Some("/nonexistent".into()), ..install };
    let error = BochsTarget::new(broken, MODEL).expect("the model exists").capture().expect_err("it cannot start");
    assert!(matches!(&error, TargetError::DiedAtStart { output } if output.contains("nonexistent")), "{error}");
}

#[test]
#[ignore = "takes a quarter of a minute"]
fn every_model_either_enters_a_guest_or_says_why_not() {
    let Some(install) = bochs() else { return };
    for model in install.models().expect("Bochs lists its models") {
        let mut target = BochsTarget::new(install.clone(), &model).expect("the model exists");
        let report = match target.capture() {
            Ok(report) => report,
            Err(error @ (TargetError::Probe(_) | TargetError::DiedAtStart { .. })) => {
                println!("{model}: {}", error.to_string().lines().next().unwrap_or_default());
                continue;
            }
            Err(error) => panic!("{model}: {error}"),
        };
        let observation = run(&mut target, &session(&report), vec![launch(&report, &[])]);
        println!("{model}: {} fields, {:?}", report.fields.len(), last(&observation[0]));
        assert_eq!(exit_reason(&observation[0]), Some(18), "{model}: {observation:?}");
    }
}
