//! Finds out whether the observation of a case depends on the cases around it: executes the same cases on a Bochs among
//! different other cases, and shows where the observations differ.
//!
//! `neighbours VERSION MODEL GENERATOR SEED CASES [SURROUNDINGS]...`

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use vmcs_case::profile::NamedProfile;
use vmcs_case::program::{OpLine, result_text};
use vmcs_case::{Case, End, Observation, Session, StepResult, Target};
use vmcs_fuzz::{Generator, Stream, TestProcessor};
use vmcs_hw::bochs::{self, BochsOptions, BochsTarget};
use vmcs_model::field::Encoding;

/// Observations of the cases in the order `order`, by case.
fn observe(
    target: &mut BochsTarget,
    session: &Session,
    cases: &[Case],
    order: &[usize],
) -> BTreeMap<usize, Observation> {
    let mut observed = BTreeMap::new();
    target
        .run(session, &mut order.iter().map(|case| cases[*case].clone()), &mut |index, observation| {
            observed.insert(order[index], observation);
            ControlFlow::Continue(())
        })
        .expect("the target answers");
    observed
}

/// The order of the cases and the options of the target.
fn surroundings(name: &str, cases: usize) -> (Vec<usize>, BochsOptions) {
    let options = BochsOptions::default();
    let all = 0..cases;
    match name {
        "usual" => (all.collect(), options),
        "one" => (all.collect(), BochsOptions { batch: 1, ..options }),
        "seven" => (all.collect(), BochsOptions { batch: 7, ..options }),
        "shifted" => ((100.min(cases)..cases).collect(), options),
        "reversed" => (all.rev().collect(), options),
        "boots" => (all.collect(), BochsOptions { cases_per_boot: 1, ..options }),
        "shuffled" => {
            let mut order: Vec<_> = all.collect();
            let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
            for last in (1..cases).rev() {
                order.swap(last, usize::try_from(random.next_u64() % (last as u64 + 1)).expect("less than the cases"));
            }
            (order, options)
        }
        other => panic!("unknown surroundings {other}"),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [version, model, generator, seed, count, names @ ..] = &arguments[..] else { panic!("too few arguments") };
    let generator = match generator.as_str() {
        "boundary" => Generator::Boundary,
        "controls" => Generator::Controls,
        "state" => Generator::State,
        "images" => Generator::Images,
        "programs" => Generator::Programs,
        other => panic!("unknown generator {other}"),
    };
    let (seed, count): (u64, usize) = (seed.parse().expect("a seed"), count.parse().expect("a number of cases"));
    let installs = bochs::installs().expect("there is a Bochs");
    let install = installs.into_iter().find(|i| i.version.to_string() == *version).expect("that version is here");
    let open = |options| BochsTarget::with_options(install.clone(), model, options).expect("the model exists");
    let report = open(BochsOptions::default()).capture().expect("the probe answers");
    let processor = TestProcessor::new(&NamedProfile::captured("Bochs", "test", &report).profile);
    let session = processor.session();
    let mut stream = Stream::new(generator, seed);
    let cases: Vec<Case> = (0..count).map(|_| stream.next(&processor).case).collect();
    let mut runs = Vec::new();
    for name in std::iter::once("usual").chain(names.iter().map(String::as_str)) {
        let (order, options) = surroundings(name, count);
        let mut target = open(options);
        let observed = observe(&mut target, &session, &cases, &order);
        let ended = observed.values().filter(|observation| observation.end != End::Completed).count();
        let cpu = target.cpu_clock().expect("it runs in a process").now();
        println!("{name}: {} cases, {ended} stopped the machine, {cpu:?} of CPU time", observed.len());
        for (case, observation) in observed.iter().filter(|(_, observation)| observation.end != End::Completed) {
            println!("  case {case}: {:?} behind step {}", observation.end, observation.steps.len());
        }
        runs.push((name, observed));
    }
    let (_, usual) = &runs[0];
    let mut fields = BTreeMap::<String, usize>::new();
    let mut shown = 0;
    for (name, run) in &runs[1..] {
        let mut different = 0;
        for (case, observation) in run {
            let other = &usual[case];
            if observation == other {
                continue;
            }
            different += 1;
            let mut text = String::new();
            for (step, op) in cases[*case].ops.iter().enumerate() {
                let (this, that) = (observation.steps.get(step), other.steps.get(step));
                if this == that {
                    continue;
                }
                if let (Some(StepResult::Fields(this)), Some(StepResult::Fields(that))) = (this, that) {
                    let state = matches!(op, vmcs_case::Op::Observe { state: true });
                    for ((encoding, this), that) in session.fields_observed(state).zip(this).zip(that) {
                        if this != that {
                            let field = Encoding(encoding).field().map_or("?", |field| field.info().name);
                            text += &format!(" {field}: {that:x} -> {this:x};");
                            *fields.entry(field.to_owned()).or_default() += 1;
                        }
                    }
                } else {
                    let shown = |step: Option<&StepResult<Vec<u64>>>| match step {
                        None => "nothing".to_owned(),
                        Some(StepResult::Value(value)) => format!("{value:x}"),
                        Some(StepResult::Exit { reason, qualification, .. }) => {
                            format!("exit {reason}, {qualification:x}")
                        }
                        Some(result) => result_text(result),
                    };
                    text += &format!(" step {step} {op:x?}: {} -> {};", shown(that), shown(this));
                    let name = format!("{op:?}");
                    *fields.entry(name.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
                }
            }
            if observation.end != other.end {
                text += &format!(" end: {:?} -> {:?}", other.end, observation.end);
                *fields.entry("end".to_owned()).or_default() += 1;
            }
            shown += 1;
            if shown <= 60 {
                println!("{name}, case {case}:{text}");
                if std::env::var_os("OPS").is_some() {
                    for op in &cases[*case].ops {
                        println!("    {}", serde_json::to_string(&OpLine::of(op)).expect("it is JSON"));
                    }
                }
            }
        }
        println!("{name}: {different} observations differ");
    }
    println!("{fields:?}");
}
