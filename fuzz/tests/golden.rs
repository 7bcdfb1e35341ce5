//! The golden lines of vmcs-model on real processors' capabilities, on the emulator and on Bochs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use vmcs_case::profile::{Confidence, NamedProfile};
use vmcs_case::{Case, Observation, Session, Target};
use vmcs_emu::{EntryResult, InstructionFailure, LogicalProcessor};
use vmcs_fuzz::deviations::Deviations;
use vmcs_fuzz::emulator::EmulatorTarget;
use vmcs_fuzz::oracle::{Judgement, Oracle};
use vmcs_fuzz::{TestProcessor, volatile_areas};
use vmcs_golden::corpus::{self, Expected, Scene, Stage};
use vmcs_golden::profiles;
use vmcs_hw::bochs::{self, BochsTarget};
use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::cpu::NO_POINTER;
use vmcs_model::field::{self, Area, FieldId};
use vmcs_model::profile::CpuidLeaf;
use vmcs_model::{
    Capabilities, CpuProfile, CpuState, EntryInstruction, LaunchState, Outcome, Vmcs, VmxOperation, baseline,
};
use vmcs_wire::{Op, Start, layout};

fn expected_on(scene: &Scene, capabilities: &Capabilities) -> Expected {
    let stage = scene.on(capabilities);
    Expected::of(&stage.attempt(capabilities).on(&stage.vmcs, &stage.memory).verdict())
}

/// The VMCS of the processor has every field that the stage changes.
fn has_fields(stage: &Stage, capabilities: &Capabilities) -> bool {
    stage.changed.iter().all(|field| capabilities.has_field(field.info()))
}

/// Real processors: all capability MSRs as read. Of a few the CPUID leaves are not known.
fn exact_profiles() -> impl Iterator<Item = (&'static str, Capabilities)> {
    NamedProfile::embedded()
        .iter()
        .filter(|named| named.confidence == Some(Confidence::Exact))
        .map(|named| (named.name.as_str(), Capabilities::new(&named.profile)))
}

fn knows_cpuid(capabilities: &Capabilities) -> bool {
    capabilities.cpuid(CpuidLeaf::Features) != [0; 4]
}

#[test]
fn the_baseline_is_valid_on_every_exact_profile() {
    let (mut known, mut partial) = (0, 0);
    for (name, capabilities) in exact_profiles() {
        let stage = Scene::default().on(&capabilities);
        let attempt = stage.attempt(&capabilities);
        if knows_cpuid(&capabilities) {
            known += 1;
            let expected = Expected::of(&attempt.on(&stage.vmcs, &stage.memory).verdict());
            assert_eq!(expected.to_string(), "- => Entered", "{name}");
        } else {
            partial += 1;
            let verdict = attempt.on(&stage.vmcs, &stage.memory).verdict();
            assert!(verdict.violated.is_empty() && verdict.permits(&Outcome::Entered), "{name}: {verdict:?}");
        }
    }
    println!("valid on {known} profiles, and on {partial} without CPUID");
    assert!(known >= 87 && known + partial >= 90);
}

/// What no exact profile violates for certain: they leave out the MSRs of tertiary controls, secondary VM-exit controls and
/// VM functions, and they have Intel 64 and every activity state.
const ON_NO_REAL_PROFILE: &[&str] = &[
    "ctl.proc3.reserved-bits",
    "ctl.eptp-list.align",
    "ctl.eptp-list.width",
    "ctl.pasid-dir.width",
    "ctl.ipi-virt.needs-tpr-shadow",
    "ctl.ipi-virt.table-align",
    "ctl.ipi-virt.table-width",
    "ctl.ipi-virt.last-entry-width",
    "ctl.ept-required.pebs-gpa",
    "ctl.ept-required.hlat",
    "ctl.ept-required.ept-paging-write",
    "ctl.ept-required.guest-paging-verification",
    "ctl.vmfunc.reserved-bits",
    "ctl.vmfunc.eptp-switching-needs-ept",
    "ctl.seam.shared-eptp",
    "ctl.hlatp.reserved",
    "ctl.hlatp.width",
    "ctl.apic-timer.needs-vid",
    "ctl.apic-timer.excludes-rdtsc-exiting",
    "ctl.apic-timer.vector",
    "ctl.exit2.reserved-bits",
    "host.fred-config.reserved",
    "host.fred-config.canonical",
    "host.fred-rsp.canonical",
    "host.fred-rsp.align",
    "host.fred-ssp.canonical",
    "host.fred-ssp.align",
    "host.spec-ctrl.reserved",
    "as.no-intel64",
    "guest.activity.supported",
];

/// Whether the processor has what makes the lines of this check legal.
fn lifts(has: &Capabilities, id: &str) -> bool {
    match id {
        "ctl.inject.errcode-required" | "ctl.inject.errcode-forbidden-vector" => has.basic >> 56 & 1 != 0,
        "ctl.inject.nested-exception-supported" => has.basic >> 58 & 1 != 0,
        "ctl.proc2.reserved-bits" => has.secondary.may() >> 29 & 1 != 0,
        "guest.intr.enclave-sgx" => has.sgx(),
        _ => false,
    }
}

/// A violation is possible on a processor if its fields exist and its legal neighbour is legal there. Then it is found.
#[test]
fn every_possible_violation_is_found_on_every_exact_profile() {
    let lines = corpus::lines();
    let mut found = BTreeSet::new();
    let (mut possible, mut exactly) = (0, 0);
    for (name, capabilities) in exact_profiles().filter(|(_, capabilities)| knows_cpuid(capabilities)) {
        for line in &lines {
            let Some((legal, as_expected)) = &line.neighbour else { continue };
            let stage = line.scene.on(&capabilities);
            if !has_fields(&stage, &capabilities) || expected_on(legal, &capabilities) != *as_expected {
                continue;
            }
            let got = expected_on(&line.scene, &capabilities);
            if got == line.expected {
                exactly += 1;
                found.extend(line.expected.violated.iter().cloned());
            }
            // A line for another processor than the full one is about what that processor lacks.
            if line.scene.profile() != "full" {
                continue;
            }
            possible += 1;
            for id in &line.expected.violated {
                let is_found = got.violated.contains(id) || got.open.contains(id) || lifts(&capabilities, id);
                assert!(is_found, "{name}: {}: {}\n  got {got}", line.place, line.text);
            }
        }
    }
    println!("{possible} violations are possible, {exactly} violate what they violate on the full processor");
    let unseen: Vec<_> = CheckId::all().map(|check| check.info().id).filter(|id| !found.contains(*id)).collect();
    assert_eq!(unseen, ON_NO_REAL_PROFILE);
}

/// An emulated processor that is about to enter the stage's guest.
fn processor(profile: &CpuProfile, stage: &Stage) -> LogicalProcessor {
    let mut processor = LogicalProcessor::new(profile);
    for (address, dword) in &stage.memory.0 {
        processor.memory_mut().write_u32(*address, *dword);
    }
    if let (true, Some(known)) = (stage.cpu.smm, stage.cpu.executive) {
        let executive = processor.region_mut(stage.vmcs.get(field::EXECUTIVE_VMCS_POINTER));
        executive.launch_state = if known.launched { LaunchState::Launched } else { LaunchState::Clear };
        executive.fields = if known.controls_valid { stage_baseline(profile) } else { Vmcs::new() };
    }
    *processor.cpu_mut() = stage.cpu.clone();
    if stage.cpu.vmcs_pointer != NO_POINTER {
        let region = processor.region_mut(stage.cpu.vmcs_pointer);
        region.fields = stage.vmcs.clone();
        region.launch_state = stage.launch_state;
        region.shadow = stage.shadow;
        region.active = true;
    }
    processor
}

fn stage_baseline(profile: &CpuProfile) -> Vmcs {
    baseline::plain_64bit(&Capabilities::new(profile))
}

#[test]
fn every_line_is_what_the_emulator_does() {
    let mut scenes = 0;
    for line in corpus::lines() {
        for (scene, expected) in [Some((line.scene, line.expected)), line.neighbour].into_iter().flatten() {
            let profile = profiles::by_name(scene.profile());
            let stage = scene.on(&Capabilities::new(&profile));
            let mut processor = processor(&profile, &stage);
            let verdict = processor.verdict(stage.instruction);
            assert_eq!(Expected::of(&verdict), expected, "{}: {}", line.place, line.text);
            let result = match stage.instruction {
                EntryInstruction::Vmlaunch => processor.vmlaunch(),
                EntryInstruction::Vmresume => processor.vmresume(),
            };
            let outcome = match result {
                Ok(EntryResult::Entered) => Outcome::Entered,
                Ok(EntryResult::Failed { reason, qualification }) => Outcome::EntryFailed { reason, qualification },
                Err(InstructionFailure::Fault(exception)) => Outcome::Fault(exception),
                Err(InstructionFailure::Exit { reason }) => Outcome::Exited { reason },
                Err(InstructionFailure::Invalid) => Outcome::FailInvalid,
                Err(InstructionFailure::Valid(error)) => Outcome::FailValid(error),
                other => panic!("{}: {} ended in {other:?}", line.place, line.text),
            };
            assert!(verdict.permits(&outcome), "{}: {} ended in {outcome}", line.place, line.text);
            scenes += 1;
        }
    }
    println!("{scenes} scenes on the emulator");
    assert!(scenes > 900);
}

/// What the cases of a target share: the plain guest, with an IDT of no size so that no injected event reaches the
/// probe's handlers.
fn session(capabilities: &Capabilities) -> Session {
    let mut vmcs = baseline::plain_64bit(capabilities);
    vmcs.set(field::GUEST_IDTR_LIMIT, 0);
    let writable =
        |field: &FieldId| field.info().area() != Area::ExitInformation && capabilities.has_field(field.info());
    Session {
        images: vec![FieldId::all().filter(writable).map(|field| (field.info().encoding.0, vmcs.raw(field))).collect()],
        volatile: volatile_areas(),
        ..Session::default()
    }
}

/// The program that brings a machine into the stage's state and enters; `None` where programs cannot.
fn case(stage: &Stage, capabilities: &Capabilities) -> Option<Case> {
    const VMCS: u64 = layout::VMCS_REGIONS;
    let usual = CpuState {
        executive: stage.cpu.executive,
        mov_ss_blocking: stage.cpu.mov_ss_blocking,
        vmx: stage.cpu.vmx,
        vmcs_pointer: stage.cpu.vmcs_pointer,
        ..CpuState::host_64()
    };
    let in_arena = stage.memory.0.keys().all(|address| layout::ARENA.contains(address));
    if stage.cpu != usual || !in_arena || !has_fields(stage, capabilities) {
        return None;
    }
    let after_mov_ss = stage.cpu.mov_ss_blocking;
    let enter = match stage.instruction {
        EntryInstruction::Vmlaunch => Op::Vmlaunch { after_mov_ss },
        EntryInstruction::Vmresume => Op::Vmresume { after_mov_ss },
    };
    let start = match (stage.cpu.vmx, stage.cpu.vmcs_pointer) {
        (VmxOperation::Outside, _) => {
            return Some(Case { start: Start::OutsideVmx, ops: vec![enter], ..Case::default() });
        }
        (VmxOperation::Root, NO_POINTER) => {
            return Some(Case { start: Start::VmxRoot, ops: vec![enter], ..Case::default() });
        }
        (VmxOperation::Root, VMCS) => Start::VmxRoot,
        _ => return None,
    };
    let dword = |address: u64, value: u32| Op::Store { address, size: 4, value: value.into() };
    let mut ops: Vec<_> = stage.memory.0.iter().map(|(address, value)| dword(*address, *value)).collect();
    ops.extend([dword(VMCS, capabilities.revision()), Op::Vmclear { address: VMCS }]);
    if stage.shadow {
        ops.push(dword(VMCS, capabilities.revision() | 1 << 31));
    }
    ops.extend([Op::Vmptrld { address: VMCS }, Op::WriteImage { image: 0 }]);
    if stage.launch_state != LaunchState::Clear {
        ops.push(Op::Vmlaunch { after_mov_ss: false });
    }
    if stage.launch_state == LaunchState::LaunchedBeforeVmxoff {
        ops.extend([Op::Vmxoff, Op::Vmxon { address: layout::VMXON_REGION }, Op::Vmptrld { address: VMCS }]);
    }
    let written: BTreeSet<_> = stage.changed.iter().copied().collect();
    ops.extend(
        written
            .into_iter()
            .map(|field| Op::Vmwrite { encoding: field.info().encoding.0.into(), value: stage.vmcs.raw(field) }),
    );
    ops.push(enter);
    Some(Case { start, ops, ..Case::default() })
}

/// The lines and neighbours that mean on a processor what they mean on their own, as cases; and how many of them are
/// lines.
fn cases_on(profile: &CpuProfile) -> (Vec<(String, Case)>, usize) {
    let capabilities = Capabilities::new(profile);
    let mut cases = BTreeMap::new();
    let mut lines = 0;
    for line in corpus::lines() {
        let scenes = [Some((line.scene, line.expected)), line.neighbour];
        for (n, (scene, expected)) in scenes.into_iter().flatten().enumerate() {
            if expected_on(&scene, &capabilities) != expected {
                continue;
            }
            if let Some(case) = case(&scene.on(&capabilities), &capabilities) {
                let text = format!("{} [{expected}]: {}", line.place, line.text);
                lines += usize::from(n == 0);
                cases.entry(format!("{:?}", case.ops)).or_insert((text, case));
            }
        }
    }
    (cases.into_values().collect(), lines)
}

fn observe(target: &mut dyn Target, session: &Session, cases: &[(String, Case)]) -> Vec<Observation> {
    let mut observed = Vec::new();
    target
        .run(session, &mut cases.iter().map(|(_, case)| case.clone()), &mut |_, observation| {
            observed.push(observation);
            ControlFlow::Continue(())
        })
        .expect("the target answers");
    observed
}

#[test]
fn every_line_is_what_bochs_does() {
    let deviations = Deviations::embedded().expect("they are valid");
    let installs = bochs::installs().expect("an installed Bochs is usable");
    if installs.is_empty() {
        println!("skipped: there is no Bochs here");
    }
    let models: [(&str, &[&str]); 2] = [("2.7", &["corei7_skylake_x"]), ("3.1", &["arrow_lake", "wildcat_lake"])];
    let mut wrong = String::new();
    for install in installs {
        let version = install.version.to_string();
        let models = models.iter().filter(|(of, _)| *of == version).flat_map(|(_, models)| *models);
        for model in models {
            let mut target = BochsTarget::new(install.clone(), model).expect("this Bochs has the model");
            let report = target.capture().expect("the probe reports");
            let profile = NamedProfile::captured("Bochs", "test", &report).profile;
            wrong += &compare(&mut target, &profile, &deviations);
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Runs the lines on the target and on the emulator. What disagrees, as text.
fn compare(target: &mut dyn Target, profile: &CpuProfile, deviations: &Deviations) -> String {
    let name = target.implementation().to_string();
    let processor = TestProcessor::new(profile);
    let session = session(&processor.capabilities);
    let (cases, lines) = cases_on(profile);
    let emulated = observe(&mut EmulatorTarget::new(profile.clone(), "same"), &session, &cases);
    let strict = Oracle::new(&processor, &session, Vec::new());
    for ((text, case), observation) in cases.iter().zip(&emulated) {
        match strict.judge(case, observation).judgement {
            Judgement::Agree => {}
            // The guest entered, and its exit ended in a VMX abort.
            Judgement::Disagree(end) if end.observed() == "not run" && end.permitted() == ["Entered"] => {}
            other => panic!("the emulator as {name}: {text}: {other:?}"),
        }
    }
    let reviewed = Oracle::new(&processor, &session, deviations.of(&target.implementation()));
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    let (mut wrong, mut violated) = (String::new(), CheckSet::EMPTY);
    for ((text, case), observation) in cases.iter().zip(observe(target, &session, &cases)) {
        let judged = reviewed.judge(case, &observation);
        violated = violated.union(&judged.violated);
        let kind = match judged.judgement {
            Judgement::Agree => "agree".to_owned(),
            Judgement::Unspecified(why) => {
                println!("{name}: {why}: {text}");
                format!("open: {why}")
            }
            Judgement::Deviates(ids) => ids.to_string(),
            Judgement::Disagree(disagreement) => {
                wrong += &format!(
                    "{name}: {text}\n  permitted {:?}, observed {}\n",
                    disagreement.permitted(),
                    disagreement.observed()
                );
                "disagree".to_owned()
            }
        };
        *count.entry(kind).or_default() += 1;
    }
    println!("{name}: {lines} lines of {} checks, {} cases: {count:?}", violated.len(), cases.len());
    assert!(lines > 300, "{name}: {lines} lines");
    wrong
}
