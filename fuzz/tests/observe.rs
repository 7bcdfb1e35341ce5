//! What entries write: observations are falsified one field at a time.

use std::ops::ControlFlow;

use vmcs_case::profile::NamedProfile;
use vmcs_case::{Case, End, Observation, Session, Target};
use vmcs_fuzz::deviations::DeviationId;
use vmcs_fuzz::emulator::EmulatorTarget;
use vmcs_fuzz::oracle::{Judgement, LeftOpen, Oracle};
use vmcs_fuzz::{Stream, TestProcessor};
use vmcs_model::field::{self, FieldId};
use vmcs_wire::{Op, StepResult, layout};

struct Scene {
    processor: TestProcessor,
    session: Session,
}

const LAUNCH: Op = Op::Vmlaunch { after_mov_ss: false };
const RESUME: Op = Op::Vmresume { after_mov_ss: false };
const LOOK: Op = Op::Observe { state: true };
const VMCS: u64 = layout::VMCS_REGIONS;

impl Scene {
    fn new() -> Self {
        let processor = TestProcessor::new(&NamedProfile::by_name("Sapphire Rapids").unwrap().profile);
        let session = processor.session();
        Self { processor, session }
    }

    /// The plain image with these fields changed, known information fields, and `then`.
    fn case(&self, changes: &[(FieldId, u64)], then: &[Op]) -> Case {
        let revision = u64::from(self.processor.capabilities.revision());
        let mut ops = vec![
            Op::Store { address: VMCS, size: 4, value: revision },
            Op::Vmclear { address: VMCS },
            Op::Vmptrld { address: VMCS },
            Op::WriteImage { image: 0 },
        ];
        let write = |(field, value): &(FieldId, u64)| Op::Vmwrite {
            encoding: u64::from(field.info().encoding.0),
            value: *value,
        };
        ops.extend(changes.iter().map(write));
        ops.push(Op::WriteImage { image: self.processor.stale_image().expect("it can be written") });
        ops.extend(then);
        Case { ops, ..Case::default() }
    }

    /// What a target does that does everything right.
    fn truth(&self, case: &Case) -> Observation {
        let mut observed = None;
        let mut emulator = EmulatorTarget::new(self.processor.profile.clone(), "same");
        emulator
            .run(&self.session, &mut std::iter::once(case.clone()), &mut |_, observation| {
                observed = Some(observation);
                ControlFlow::Continue(())
            })
            .unwrap();
        observed.unwrap()
    }

    fn judge(&self, case: &Case, observation: &Observation) -> Judgement {
        Oracle::new(&self.processor, &self.session, vec![]).judge(case, observation).judgement
    }

    /// The judgement on a case in which a field has another value than it should.
    fn falsified(&self, case: &Case, field: FieldId, xor: u64) -> Judgement {
        let mut lie = self.truth(case);
        assert_eq!(self.judge(case, &lie), Judgement::Agree);
        let at = self.session.fields_observed(true).position(|encoding| encoding == field.info().encoding.0).unwrap();
        let step = case.ops.iter().position(|op| *op == LOOK).unwrap();
        let StepResult::Fields(values) = &mut lie.steps[step] else { panic!("the case looks") };
        values[at] ^= xor;
        self.judge(case, &lie)
    }
}

fn texts(judgement: Judgement) -> (String, Vec<String>) {
    match judgement {
        Judgement::Disagree(found) => (found.observed(), found.permitted()),
        other => panic!("{other:?}"),
    }
}

/// An entry that fails for guest state.
const NO_RFLAGS: [(FieldId, u64); 1] = [(field::GUEST_RFLAGS.id(), 0)];

#[test]
fn a_wrong_launch_state_is_found() {
    let scene = Scene::new();
    // VMLAUNCH that enters leaves the VMCS launched, VMLAUNCH that fails leaves it clear.
    for (changes, probe, error, lie) in [(&[][..], LAUNCH, 4, 5), (&NO_RFLAGS[..], RESUME, 5, 4)] {
        let case = scene.case(changes, &[LAUNCH, LOOK, probe]);
        let mut observation = scene.truth(&case);
        assert_eq!(observation.steps.last(), Some(&StepResult::FailValid(error)));
        assert_eq!(scene.judge(&case, &observation), Judgement::Agree);
        *observation.steps.last_mut().unwrap() = StepResult::FailValid(lie);
        let (observed, permitted) = texts(scene.judge(&case, &observation));
        assert_eq!((observed, permitted), (format!("VMfailValid({lie})"), vec![format!("VMfailValid({error})")]));
        *observation.steps.last_mut().unwrap() = StepResult::Exit { reason: 18, qualification: 0, fields: vec![] };
        assert_eq!(texts(scene.judge(&case, &observation)).0, "Entered");
    }
}

#[test]
fn a_failed_entry_that_writes_any_field_is_found() {
    let scene = Scene::new();
    let case = scene.case(&NO_RFLAGS, &[LAUNCH, LOOK]);
    for encoding in scene.session.fields_observed(true) {
        let field = field::Encoding(encoding).field().unwrap();
        let (observed, permitted) = texts(scene.falsified(&case, field, 1));
        let start = format!("after the failed entry {field:?} is 0x");
        assert!(observed.starts_with(&start) && permitted.len() == 1, "{observed}, {permitted:?}");
        assert!(permitted[0].starts_with(&format!("{field:?} is 0x")), "{permitted:?}");
    }
}

#[test]
fn a_refused_entry_that_writes_any_field_is_found() {
    let scene = Scene::new();
    let case = scene.case(&[(field::CR3_TARGET_COUNT.id(), 0xFFFF)], &[LAUNCH, LOOK]);
    for encoding in scene.session.fields_observed(true) {
        let field = field::Encoding(encoding).field().unwrap();
        let (observed, _) = texts(scene.falsified(&case, field, 1));
        assert!(observed.starts_with(&format!("after the refused entry {field:?} is 0x")), "{observed}");
    }
}

/// Whether that bit of a field is judged after the exit of a guest with these changes.
fn is_judged(scene: &Scene, changes: &[(FieldId, u64)], field: FieldId, bit: u32) -> bool {
    match scene.falsified(&scene.case(changes, &[LAUNCH, LOOK]), field, 1 << bit) {
        Judgement::Agree => false,
        Judgement::Disagree(found) => {
            let observed = found.observed();
            assert!(observed.starts_with(&format!("after the exit {field:?} is ")), "{observed}");
            true
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn after_an_exit_what_the_sdm_defines_is_judged_and_nothing_else() {
    let scene = Scene::new();
    let judged = |field, bit| is_judged(&scene, &[], field, bit);
    // No event caused the exit, and none was being delivered.
    for event in [field::VM_EXIT_INTERRUPTION_INFORMATION.id(), field::IDT_VECTORING_INFORMATION.id()] {
        assert!(judged(event, 31) && !judged(event, 0));
    }
    assert!(judged(field::VM_ENTRY_INTERRUPTION_INFORMATION.id(), 31));
    assert!(judged(field::EXIT_QUALIFICATION.id(), 5), "the exit has none");
    assert!(judged(field::VM_INSTRUCTION_ERROR.id(), 0), "no instruction failed");
    for undefined in [
        field::GUEST_LINEAR_ADDRESS.id(),
        field::GUEST_PHYSICAL_ADDRESS.id(),
        field::VM_EXIT_INTERRUPTION_ERROR_CODE.id(),
        field::IDT_VECTORING_ERROR_CODE.id(),
        field::VM_EXIT_INSTRUCTION_INFORMATION.id(),
        field::IO_RCX.id(),
        field::GUEST_SMBASE.id(),
        field::GUEST_PDPTE0.id(),
    ] {
        assert!(!judged(undefined, 3), "{undefined:?}");
    }
    for saved in [
        field::GUEST_CR0.id(),
        field::GUEST_RIP.id(),
        field::GUEST_RSP.id(),
        field::GUEST_RFLAGS.id(),
        field::GUEST_TR_BASE.id(),
        field::GUEST_SS_ACCESS_RIGHTS.id(),
        field::GUEST_GDTR_LIMIT.id(),
        field::GUEST_ACTIVITY_STATE.id(),
        field::GUEST_PENDING_DEBUG_EXCEPTIONS.id(),
        // Not saved.
        field::VMCS_LINK_POINTER.id(),
        field::HOST_RIP.id(),
        field::PRIMARY_VM_EXIT_CONTROLS.id(),
        field::EPT_POINTER.id(),
    ] {
        assert!(judged(saved, 0), "{saved:?}");
    }
}

#[test]
fn what_an_unusable_segment_holds_is_open() {
    let scene = Scene::new();
    let unusable = [(field::GUEST_DS_ACCESS_RIGHTS.id(), 1 << 16)];
    let judged = |field: FieldId, bit| is_judged(&scene, &unusable, field, bit);
    assert!(!judged(field::GUEST_DS_LIMIT.id(), 0) && !judged(field::GUEST_DS_BASE.id(), 0));
    assert!(judged(field::GUEST_DS_BASE.id(), 40) && judged(field::GUEST_DS_SELECTOR.id(), 3));
    assert!(judged(field::GUEST_DS_ACCESS_RIGHTS.id(), 16) && !judged(field::GUEST_DS_ACCESS_RIGHTS.id(), 0));
    assert!(judged(field::GUEST_ES_LIMIT.id(), 0));
}

/// A guest to which an event is delivered has other registers than those that were loaded; controls are the same.
#[test]
fn what_an_event_does_in_the_guest_is_open() {
    let scene = Scene::new();
    let injecting = [(field::VM_ENTRY_INTERRUPTION_INFORMATION.id(), 0x8000_0306)];
    assert!(!is_judged(&scene, &injecting, field::GUEST_RSP.id(), 3));
    assert!(is_judged(&scene, &injecting, field::HOST_RSP.id(), 3));
    assert!(is_judged(&scene, &injecting, field::VM_ENTRY_INTERRUPTION_INFORMATION.id(), 0));
}

/// Without an image of the information fields nobody knows what they hold before they are looked at.
#[test]
fn a_field_that_nobody_wrote_is_open_until_it_is_looked_at() {
    let scene = Scene::new();
    let mut case = scene.case(&NO_RFLAGS, &[LAUNCH, LOOK]);
    case.ops.retain(|op| *op != Op::WriteImage { image: scene.processor.stale_image().unwrap() });
    assert_eq!(scene.falsified(&case, field::GUEST_LINEAR_ADDRESS.id(), 1), Judgement::Agree);
    let entry = case.ops.len() - 2;
    case.ops.insert(entry, LOOK);
    let mut lie = scene.truth(&case);
    let at = scene.session.fields_observed(true).position(|encoding| encoding == 0x640A).unwrap();
    let StepResult::Fields(values) = lie.steps.last_mut().unwrap() else { panic!("the case looks") };
    values[at] ^= 1;
    assert!(texts(scene.judge(&case, &lie)).0.starts_with("after the failed entry guest_linear_address is 0x1"));
}

/// What a deviation says that the implementation writes is counted as that, and does not end the case.
#[test]
fn a_reviewed_field_is_a_deviation_and_the_case_goes_on() {
    let text = "[[deviation]]\nid = 'writes'\nimplementation = 'Bochs'\nfields_written = ['guest_rip']\n\
                when = [{field = 'exit_reason', mask = 0x80000000, equals = 0x80000000}]\nbehaviour = ''\nsdm = ''\n\
                evidence = ''\n";
    let deviations = vmcs_fuzz::deviations::Deviations::parse("f", text).unwrap();
    let scene = Scene::new();
    let case = scene.case(&NO_RFLAGS, &[LAUNCH, LOOK, RESUME]);
    let mut lie = scene.truth(&case);
    let rip = scene.session.fields_observed(true).position(|encoding| encoding == 0x681E).unwrap();
    let look = case.ops.len() - 2;
    let StepResult::Fields(values) = &mut lie.steps[look] else { panic!("the case looks") };
    values[rip] ^= 1;
    let oracle = Oracle::new(&scene.processor, &scene.session, deviations.iter().collect());
    let judged = oracle.judge(&case, &lie);
    assert_eq!(judged.judgement, Judgement::Deviates(DeviationId::from("writes").into()));
    assert!(judged.only_fields && judged.violated.len() == 1);
    assert_eq!(judged.outcome.map(|outcome| outcome.to_string()), Some("EntryFailed(33, 0)".to_owned()));
    *lie.steps.last_mut().unwrap() = StepResult::FailValid(4);
    assert_eq!(texts(oracle.judge(&case, &lie).judgement).0, "VMfailValid(4)");
}

/// The cases of a campaign look, and a target that does everything right agrees.
#[test]
fn cases_of_a_campaign_look_at_what_their_entries_did() {
    let scene = Scene::new();
    let mut stream = Stream::new(vmcs_fuzz::Generator::Boundary, 3);
    let (mut looks, mut deep, mut probes) = (0, 0, 0);
    for _ in 0..800 {
        let case = stream.next(&scene.processor).case;
        let look = case.ops.iter().position(|op| matches!(op, Op::Observe { .. }));
        let judgement = scene.judge(&case, &scene.truth(&case));
        assert_eq!(judgement, Judgement::Agree, "{case:?}");
        if let Some(look) = look {
            looks += 1;
            deep += usize::from(case.ops[look] == LOOK);
            probes += usize::from(look + 1 < case.ops.len());
        }
    }
    assert!(looks > 300 && deep > 30 && probes > 250, "{looks} looks, {deep} deep, {probes} launch states");
}

/// The end of a case that never came to its look is judged by what came before.
#[test]
fn a_machine_that_went_down_at_the_entry_has_nothing_to_show() {
    let scene = Scene::new();
    let case = scene.case(&[], &[LAUNCH, LOOK, LAUNCH]);
    let mut observation = scene.truth(&case);
    observation.steps.truncate(case.ops.len() - 3);
    observation.end = End::Hung;
    assert_eq!(scene.judge(&case, &observation), Judgement::Unspecified(LeftOpen::Hung));
}
