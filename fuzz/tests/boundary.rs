//! Tests of the generator `boundary`: its cases lie where it says, it reaches every side that can be reached, and it goes on
//! where it stopped.

use vmcs_case::profile::{Confidence, NamedProfile};
use vmcs_fuzz::coverage::{Aim, Side};
use vmcs_fuzz::emulator::CaseEmulator;
use vmcs_fuzz::generate::reach::Reach;
use vmcs_fuzz::{Generator, Stream, TestProcessor};
use vmcs_model::checks::CheckId;
use vmcs_model::profile::CpuidLeaf;
use vmcs_model::{CpuState, EntryAttempt, EntryInstruction};

/// The processor, with 0 in what its profile leaves out: then everything is known of it.
fn processor(name: &str) -> TestProcessor {
    let profile = &NamedProfile::by_name(name).expect("it is embedded").profile;
    TestProcessor::new(&profile.clone().with_zero_for_unknown())
}

/// Processors of different ages.
const PROFILES: [&str; 4] =
    ["Sapphire Rapids", "skylake-x-sp-server-core-i9-7900x", "westmere-ep", "alder-lake-s-i9-12900k"];

#[test]
fn a_stream_depends_on_its_seed_and_goes_on_where_it_was_written_down() {
    let processor = processor("Sapphire Rapids");
    let mut stream = Stream::new(Generator::Boundary, 11);
    let first: Vec<_> = (0..300).map(|_| stream.next(&processor).case).collect();
    let text = serde_json::to_string(&stream).expect("a stream can be written");
    let mut resumed: Stream = serde_json::from_str(&text).expect("and read");
    assert_eq!(resumed, stream);
    let rest: Vec<_> = (0..300).map(|_| stream.next(&processor).case).collect();
    assert!((0..300).all(|n| resumed.next(&processor).case == rest[n]));
    assert_eq!(resumed, stream);

    let mut again = Stream::new(Generator::Boundary, 11);
    assert!(first.iter().chain(&rest).all(|case| again.next(&processor).case == *case));
    let mut other = Stream::new(Generator::Boundary, 12);
    let same = first.iter().filter(|case| other.next(&processor).case == **case).count();
    assert!(same < 30, "{same} of 300 cases are the same with another seed");
    assert!(serde_json::from_str::<Stream>(&text.replacen("ctl.", "no.", 1)).is_err(), "a check that does not exist");
}

/// What the emulator, step by step, comes to at the entry that a case is about: the last operation, or the last one before
/// it looks at what that entry has done.
fn lies_on(processor: &TestProcessor, case: &vmcs_case::Case, aim: Aim) -> bool {
    let session = processor.session();
    let mut machine = CaseEmulator::new(&processor.profile, case.start);
    let look = case.ops.iter().position(|op| matches!(op, vmcs_wire::Op::Observe { .. }));
    let (last, before) = case.ops[..look.unwrap_or(case.ops.len())].split_last().expect("a case enters");
    for op in before {
        machine.step(&session, op);
    }
    let verdict = machine.verdict(last).expect("the last operation is the entry");
    let emulated = machine.processor();
    let none = vmcs_model::Vmcs::new();
    let current = emulated.current();
    let cpu = CpuState { ..emulated.cpu().clone() };
    let attempt = EntryAttempt {
        instruction: CaseEmulator::entry_instruction(last).unwrap_or(EntryInstruction::Vmlaunch),
        launch_state: current.map_or_else(Default::default, |region| region.launch_state),
        shadow: current.is_some_and(|region| region.shadow),
        cpu: &cpu,
        capabilities: &processor.capabilities,
    };
    let fields = current.map_or(&none, |region| &region.fields);
    let in_force = attempt.on(fields, emulated.memory()).in_force(aim.check);
    match aim.side {
        Side::Violated => verdict.violated.contains(aim.check),
        Side::Legal => !verdict.violated.contains(aim.check) && in_force,
        Side::GateOff => !verdict.violated.contains(aim.check) && !in_force,
    }
}

#[test]
fn every_case_lies_on_the_side_that_it_claims() {
    for name in PROFILES {
        let processor = processor(name);
        let mut stream = Stream::new(Generator::Boundary, 5);
        let mut claimed = 0;
        for n in 0..2500 {
            let generated = stream.next(&processor);
            if let Some(aim) = generated.aim {
                claimed += 1;
                assert!(lies_on(&processor, &generated.case, aim), "{name}: case {n}, {aim:?}: {:?}", generated.case);
            }
        }
        assert!(claimed > 2000, "{name}: {claimed} of 2500 cases have an aim");
    }
}

/// The coverage of both sides after so many cases, in percent, and what is missing.
fn covered(processor: &TestProcessor, cases: u32) -> (usize, Vec<CheckId>) {
    let mut stream = Stream::new(Generator::Boundary, 1);
    (0..cases).for_each(|_| drop(stream.next(processor)));
    let coverage = stream.predicted();
    let can =
        |check, side| processor.reach().any(|(aim, reach)| aim == Aim { check, side } && *reach == Reach::Reachable);
    let reachable: Vec<_> =
        CheckId::all().filter(|check| can(*check, Side::Violated) && can(*check, Side::Legal)).collect();
    let missing: Vec<_> = reachable
        .iter()
        .copied()
        .filter(|check| coverage.of(*check).violated() == 0 || coverage.of(*check).legal == 0)
        .collect();
    ((reachable.len() - missing.len()) * 100 / reachable.len(), missing)
}

#[test]
fn both_sides_of_the_checks_are_covered_on_every_kind_of_processor() {
    let exact = NamedProfile::embedded().iter().filter(|named| named.confidence == Some(Confidence::Exact));
    let knows_cpuid = |processor: &TestProcessor| processor.capabilities.cpuid(CpuidLeaf::Features) != [0; 4];
    let worlds = exact.step_by(16).map(|named| (named.name.as_str(), TestProcessor::new(&named.profile)));
    let mut tried = 0;
    for (name, processor) in worlds.filter(|(_, processor)| knows_cpuid(processor)) {
        let (percent, missing) = covered(&processor, 10_000);
        assert!(percent >= 95, "{name}: {percent} %, missing: {missing:?}");
        tried += 1;
    }
    assert!(tried >= 5, "{tried} profiles");
}

/// A side that is called unreachable is reached by no case.
#[test]
fn nothing_that_is_called_unreachable_is_reached() {
    for name in PROFILES {
        let processor = processor(name);
        let mut stream = Stream::new(Generator::Boundary, 2);
        (0..8000).for_each(|_| drop(stream.next(&processor)));
        let coverage = stream.predicted();
        for (Aim { check, side }, reach) in processor.reach() {
            let sides = coverage.of(check);
            let cases = match side {
                Side::Violated => sides.alone,
                Side::Legal => sides.legal,
                Side::GateOff => sides.gate_off,
            };
            assert!(cases == 0 || *reach == Reach::Reachable, "{name}: {check} {side:?} {reach:?}: {cases} cases");
        }
    }
}
