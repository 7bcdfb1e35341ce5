//! Which sides of which checks the generator `boundary` covers on a processor, as the model predicts, and what a case
//! costs: `boundary PROFILE [CASES]`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use vmcs_case::Target;
use vmcs_case::profile::NamedProfile;
use vmcs_fuzz::coverage::{Aim, Side};
use vmcs_fuzz::emulator::EmulatorTarget;
use vmcs_fuzz::generate::reach::{Reach, Reason};
use vmcs_fuzz::oracle::{Judgement, Oracle};
use vmcs_fuzz::{Generator, Stream, TestProcessor};
use vmcs_model::checks::CheckId;

/// How long the oracle takes for so many observations.
fn judging(processor: &TestProcessor, cases: u32) -> (Duration, u32) {
    let session = processor.session();
    let mut stream = Stream::new(Generator::Boundary, 2);
    let cases: Vec<_> = (0..cases).map(|_| stream.next(processor).case).collect();
    let mut observed = Vec::new();
    let mut emulator = EmulatorTarget::new(processor.profile.clone(), "same");
    let made = emulator.run(&session, &mut cases.iter().cloned(), &mut |_, observation| {
        observed.push(observation);
        ControlFlow::Continue(())
    });
    made.expect("the emulator answers");
    let oracle = Oracle::new(processor, &session, Vec::new());
    let start = Instant::now();
    let mut disagreed = 0;
    for (case, observation) in cases.iter().zip(&observed) {
        disagreed += u32::from(matches!(oracle.judge(case, observation).judgement, Judgement::Disagree(_)));
    }
    let took = start.elapsed();
    println!("{disagreed} of {} cases disagree on the emulator", cases.len());
    (took, u32::try_from(cases.len()).expect("it was one"))
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "Sapphire Rapids".to_owned());
    let cases: u32 = arguments.next().map_or(200_000, |n| n.parse().expect("a number of cases"));
    let profile = if Path::new(&name).exists() {
        NamedProfile::load(Path::new(&name)).expect("a profile")
    } else {
        NamedProfile::by_name(&name).expect("a profile that comes with vmcs-hw").clone()
    };
    let start = Instant::now();
    let processor = TestProcessor::new(&profile.profile);
    let mut stream = Stream::new(Generator::Boundary, 1);
    stream.next(&processor);
    println!("{name}: {} images, ready in {:?}", processor.bases.len(), start.elapsed());
    let (start, mut ops, mut aimed) = (Instant::now(), 0, 0);
    for _ in 0..cases {
        let generated = stream.next(&processor);
        ops += generated.case.ops.len();
        aimed += usize::from(generated.aim.is_some());
    }
    let (took, n) = (start.elapsed(), f64::from(cases));
    println!(
        "{:.2} µs a case, {:.1} operations, {aimed} of {cases} on the side they aim at",
        took.as_secs_f64() * 1e6 / n,
        ops as f64 / n
    );
    let (took, n) = judging(&processor, cases / 10);
    println!("{:.2} µs to judge what the emulator made of it", took.as_secs_f64() * 1e6 / f64::from(n));
    let coverage = stream.predicted();
    let mut count = BTreeMap::<CheckId, [bool; 2]>::new();
    for (Aim { check, side }, reach) in processor.reach() {
        let sides = coverage.of(check);
        let cases = match side {
            Side::Violated => sides.violated(),
            Side::Legal => sides.legal,
            Side::GateOff => sides.gate_off,
        };
        match reach {
            Reach::Unreachable(Reason::NoGate) => {}
            Reach::Unreachable(why) => println!("  {check} {side:?}: {cases}; {why}"),
            Reach::Reachable if cases == 0 => println!("  {check} {side:?}: NOT COVERED"),
            Reach::Reachable => {}
        }
        if side != Side::GateOff {
            let reachable = *reach == Reach::Reachable;
            let [both, covered] = count.entry(check).or_insert([true; 2]);
            (*both, *covered) = (*both && reachable, *covered && cases > 0);
        }
    }
    let both = count.values().filter(|[both, _]| *both).count();
    let covered = count.values().filter(|[both, covered]| *both && *covered).count();
    println!("{covered} of the {both} checks that can be reached on both sides are covered there");
}
