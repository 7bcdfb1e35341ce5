//! Findings get as small as they can, on emulators with a fault each.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use vmcs_case::profile::NamedProfile;
use vmcs_case::{Case, End, Implementation, Observation, ProbeReport, Session, Target, TargetError};
use vmcs_fuzz::campaign::{self, CampaignReport, CampaignSetting, Cases};
use vmcs_fuzz::deviations::Deviations;
use vmcs_fuzz::emulator::{CaseEmulator, EmulatorTarget};
use vmcs_fuzz::findings::case_file::CaseFile;
use vmcs_fuzz::findings::minimise;
use vmcs_fuzz::oracle::{Judgement, Oracle};
use vmcs_fuzz::step::{OpKind, Step};
use vmcs_fuzz::{Generator, Stream, TestProcessor};
use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::field::{self, FieldId};
use vmcs_model::formats::ExitReason;
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::profile::{CpuidLeaf, MsrValue};
use vmcs_wire::{Op, StepResult};

/// What an emulator does wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It does not make a check.
    Omits(&'static str),
    /// It refuses a bit of a field as invalid guest state.
    Refuses(FieldId, u64),
    /// It dies at that bit of a field.
    Dies(FieldId, u64),
    /// It takes host state for a control.
    HostIsControl,
    /// It reads a bit of a field as 0.
    Forgets(FieldId, u64),
}

/// An emulator with a fault.
struct Faulty {
    processor: TestProcessor,
    fault: Fault,
    /// Runs and cases that it was asked for.
    asked: (usize, usize),
}

impl Faulty {
    fn new(processor: &TestProcessor, fault: Fault) -> Self {
        Self { processor: processor.clone(), fault, asked: (0, 0) }
    }

    fn is_set(machine: &CaseEmulator, field: FieldId, bit: u64) -> bool {
        machine.processor().current().is_some_and(|region| region.fields.raw(field) & bit != 0)
    }

    fn step(&self, machine: &mut CaseEmulator, session: &Session, op: &Op) -> Option<Step> {
        if let Fault::Dies(field, bit) = self.fault
            && CaseEmulator::entry_instruction(op).is_some()
            && Self::is_set(machine, field, bit)
        {
            return None;
        }
        if let (Fault::Omits(id), Some(_)) = (self.fault, machine.verdict(op)) {
            let omitted: CheckSet = CheckId::by_id(id).into_iter().collect();
            let outcome = machine.verdict_omitting(op, &omitted).and_then(|v| v.permitted.iter().next());
            return Some(machine.follow(op, outcome.expect("there is one"), ExitReason::from_bits(18), 0));
        }
        let step = machine.step(session, op);
        Some(match (self.fault, op, &step) {
            (Fault::Refuses(field, bit), Op::Vmlaunch { .. }, StepResult::Exit { .. })
                if Self::is_set(machine, field, bit) =>
            {
                StepResult::Exit { reason: 0x8000_0021, qualification: 0, fields: Vec::new() }
            }
            (Fault::HostIsControl, Op::Vmlaunch { .. }, StepResult::FailValid(8)) => StepResult::FailValid(7),
            (Fault::Forgets(field, bit), Op::Vmread { encoding }, StepResult::Value(value))
                if *encoding == u64::from(field.info().encoding.0) =>
            {
                StepResult::Value(value & !bit)
            }
            _ => step,
        })
    }
}

impl Target for Faulty {
    fn implementation(&self) -> Implementation {
        Implementation {
            name: "faulty".to_owned(),
            version: "1".to_owned(),
            model: format!("{:?}", self.fault),
            on: None,
        }
    }

    fn capture(&mut self) -> Result<ProbeReport, TargetError> {
        EmulatorTarget::new(self.processor.profile.clone(), "faulty").capture()
    }

    fn run(
        &mut self,
        session: &Session,
        cases: &mut dyn Iterator<Item = Case>,
        observe: &mut dyn FnMut(usize, Observation) -> ControlFlow<()>,
    ) -> Result<(), TargetError> {
        self.asked.0 += 1;
        for (index, case) in cases.enumerate() {
            self.asked.1 += 1;
            let mut machine = CaseEmulator::new(&self.processor.profile, case.start);
            let mut steps = Vec::new();
            let mut end = End::Completed;
            for op in &case.ops {
                match self.step(&mut machine, session, op) {
                    Some(step) => steps.push(step),
                    None => {
                        end = End::Hung;
                        break;
                    }
                }
            }
            if observe(index, Observation { steps, end }).is_break() {
                break;
            }
        }
        Ok(())
    }
}

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

/// A campaign on the emulator with that fault, and its findings.
fn found(
    processor: &TestProcessor,
    fault: Fault,
    generator: Generator,
    count: u64,
) -> (CampaignReport, Vec<CaseFile>, Faulty) {
    let session = processor.session();
    let deviations = Deviations::default();
    let setting = CampaignSetting { processor, session: &session, deviations: &deviations };
    let mut target = Faulty::new(processor, fault);
    let mut stream = Stream::new(generator, 1);
    let cases = Cases::Generated { stream: &mut stream, count };
    let report = campaign::run(&mut target, setting, cases, None, &mut |_| ControlFlow::Continue(())).unwrap();
    target.asked = (0, 0);
    let files = minimise::findings(&mut target, setting, &report).unwrap();
    assert_eq!(files.iter().map(|file| file.count).sum::<u64>(), report.findings.len() as u64);
    for file in &files {
        assert!(file.minimal, "{file:#?}");
        let case = case_of(processor, file);
        let judgement = judge(&mut target, processor, &case);
        assert_eq!(judgement, Judgement::Disagree(file.disagreement.clone()), "a minimal case still disagrees");
    }
    (report, files, target)
}

fn case_of(processor: &TestProcessor, file: &CaseFile) -> Case {
    file.program.to_case(processor.capabilities.revision(), &processor.image_names()).unwrap()
}

fn judge(target: &mut Faulty, processor: &TestProcessor, case: &Case) -> Judgement {
    let session = processor.session();
    let mut judgement = None;
    target
        .run(&session, &mut std::iter::once(case.clone()), &mut |_, observation| {
            judgement = Some(Oracle::new(processor, &session, vec![]).judge(case, &observation).judgement);
            ControlFlow::Continue(())
        })
        .unwrap();
    judgement.unwrap()
}

fn writes(case: &Case) -> usize {
    case.ops.iter().filter(|op| matches!(op, Op::Vmwrite { .. })).count()
}

/// The ids of the checks that a finding violates.
fn violated(file: &CaseFile) -> Vec<&'static str> {
    file.disagreement.violated().iter().map(|check| check.info().id).collect()
}

fn causes(files: &[CaseFile]) -> Vec<(String, u64, String)> {
    files
        .iter()
        .map(|file| (file.cause().to_string(), file.count, serde_json::to_string(&file.program).unwrap()))
        .collect()
}

#[test]
fn an_omitted_check_is_one_finding_of_few_fields_and_bits() {
    let processor = processor();
    for (id, generator) in [
        ("ctl.inject.nmi-vector", Generator::Controls),
        ("host.sel.rpl-ti", Generator::State),
        ("guest.rflags.if-extint", Generator::Images),
        ("guest.efer.reserved", Generator::Images),
    ] {
        let (report, files, target) = found(&processor, Fault::Omits(id), generator, 1500);
        assert!(report.disagreed > 0, "{id} is not met");
        let [file] = &files[..] else { panic!("{id}: {:#?}", causes(&files)) };
        assert_eq!(violated(file), [id]);
        assert_eq!(file.disagreement.observed(), "Entered");
        assert!(file.changes.len() <= 3, "{file:#?}");
        let bits: u32 = file.changes.iter().map(|change| (change.from.0 ^ change.to.0).count_ones()).sum();
        assert!(bits <= 4, "{file:#?}");
        assert!(file.model.iter().any(|reason| reason.text().contains(id)), "{file:#?}");
        assert!(file.machine.contains("entered"), "{file:#?}");
        let originals = report.findings.iter().map(|f| f.program.ops.len()).max().unwrap();
        assert!(case_of(&processor, file).ops.len() <= originals.max(8), "{file:#?}");
        // All candidates of a round go in one run.
        assert!(target.asked.0 < 60, "{id}: {:?}", target.asked);
    }
}

#[test]
fn a_check_that_there_is_not_is_found_by_the_fields_that_matter() {
    let processor = processor();
    let field = field::GUEST_IA32_SYSENTER_CS.id();
    let (_, files, _) = found(&processor, Fault::Refuses(field, 1 << 7), Generator::State, 6000);
    let [file] = &files[..] else { panic!("{:#?}", causes(&files)) };
    assert_eq!(file.cause().to_string(), "vmlaunch EntryFailed(33, 0) instead of Entered: guest_ia32_sysenter_cs");
    assert_eq!(file.changes.len(), 1);
    assert_eq!(file.changes[0].from.0 ^ file.changes[0].to.0, 1 << 7);
    assert_eq!(file.base.as_deref(), Some("plain"));
    assert!(file.machine.contains("guest state"), "{file:#?}");
}

#[test]
fn a_wrong_error_number_stays_one() {
    let processor = processor();
    let (_, files, _) = found(&processor, Fault::HostIsControl, Generator::State, 500);
    assert!(!files.is_empty());
    let causes: BTreeSet<_> = files.iter().map(|file| file.cause().to_string()).collect();
    assert_eq!(causes.len(), files.len(), "one of each cause");
    for file in &files {
        assert_eq!(file.disagreement.observed(), "VMfailValid(7)");
        assert_eq!(file.disagreement.permitted(), ["VMfailValid(8)"]);
        assert!(matches!(&violated(file)[..], [id] if id.starts_with("host.")), "{file:#?}");
        assert!(writes(&case_of(&processor, file)) <= 2, "{file:#?}");
    }
}

#[test]
fn instructions_are_left_out_of_programs() {
    let processor = processor();
    let field = field::VM_INSTRUCTION_ERROR.id();
    let (report, files, _) = found(&processor, Fault::Forgets(field, 1 << 2), Generator::Programs, 300);
    assert!(report.disagreed > 5);
    let shortest = files.iter().map(|file| file.program.ops.len()).min().unwrap();
    // A region, VMCLEAR, VMPTRLD, an instruction that fails, VMREAD.
    assert!(shortest <= 5, "{files:#?}");
    assert!(
        files.iter().all(|file| file.instruction == Some(OpKind::Vmread) && file.program.ops.len() <= 7),
        "{files:#?}"
    );
}

#[test]
fn what_takes_the_machine_down_costs_few_machines() {
    let processor = processor();
    let session = processor.session();
    let deviations = Deviations::default();
    let setting = CampaignSetting { processor: &processor, session: &session, deviations: &deviations };
    // It dies where the entry has to fail, so that it is a disagreement.
    let field = field::VM_ENTRY_INSTRUCTION_LENGTH.id();
    let vpid = field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id();
    let write = |field: FieldId, value| Op::Vmwrite { encoding: u64::from(field.info().encoding.0), value };
    let base = Generator::Controls.case(&processor, 1, 0);
    let mut ops: Vec<_> = base.ops.into_iter().filter(|op| !matches!(op, Op::Vmwrite { .. })).collect();
    let launch = ops.pop().unwrap();
    ops.extend([write(vpid, u64::MAX), write(field, 0xFF), write(field::GUEST_RIP.id(), u64::MAX), launch]);
    let case = Case { ops, ..base };
    let mut target = Faulty::new(&processor, Fault::Dies(field, 1 << 5));
    let Judgement::Disagree(disagreement) = judge(&mut target, &processor, &case) else { panic!("it dies") };
    assert_eq!(disagreement.observed(), "hung");
    let mut lost = 0;
    let mut counting = Counting { target: &mut target, lost: &mut lost };
    let goal = minimise::Goal::disagreement(&case, &disagreement);
    let minimal = minimise::minimise(&mut counting, setting, &[(case, goal)]).unwrap().remove(0).unwrap();
    assert!(lost <= 2 * 64, "{lost}");
    // From the plain image: what activates the secondary controls, a bit of these, and the length.
    assert!(writes(&minimal.case) <= 3, "{minimal:#?}");
    assert!(minimal.case.ops.contains(&write(field, 1 << 5)), "{minimal:#?}");
}

/// Counts the machines that are lost.
struct Counting<'a> {
    target: &'a mut Faulty,
    lost: &'a mut usize,
}

impl Target for Counting<'_> {
    fn implementation(&self) -> Implementation {
        self.target.implementation()
    }

    fn capture(&mut self) -> Result<ProbeReport, TargetError> {
        self.target.capture()
    }

    fn run(
        &mut self,
        session: &Session,
        cases: &mut dyn Iterator<Item = Case>,
        observe: &mut dyn FnMut(usize, Observation) -> ControlFlow<()>,
    ) -> Result<(), TargetError> {
        self.target.run(session, cases, &mut |index, observation| {
            *self.lost += usize::from(observation.end != End::Completed);
            observe(index, observation)
        })
    }
}

/// What does not show again is said to be so, and stays as it was.
#[test]
fn a_finding_that_does_not_show_again_is_kept() {
    let processor = processor();
    let (report, ..) = found(&processor, Fault::Omits("ctl.inject.nmi-vector"), Generator::Controls, 1000);
    let session = processor.session();
    let deviations = Deviations::default();
    let setting = CampaignSetting { processor: &processor, session: &session, deviations: &deviations };
    let mut sound = EmulatorTarget::new(processor.profile.clone(), "sound");
    let files = minimise::findings(&mut sound, setting, &report).unwrap();
    assert!(!files.is_empty() && files.iter().all(|file| !file.minimal));
    let again = minimise::findings(&mut sound, setting, &report).unwrap();
    assert_eq!(files, again);
}
