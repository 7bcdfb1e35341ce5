//! How many cases a Bochs executes per second of CPU time. Run with
//! `cargo test --release -p vmcs-hw --test throughput -- --ignored --nocapture`.

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::time::Instant;

use support::{base_image, bochs, exit_reason, launch, session};
use vmcs_case::{End, Observation, StepResult, Target};
use vmcs_hw::bochs::BochsTarget;

/// Seconds of CPU time of all children that have been waited for.
fn children_cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut words = stat.rsplit_once(')')?.1.split_whitespace().skip(13);
    let ticks = words.next()?.parse::<f64>().ok()? + words.next()?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

#[test]
#[ignore = "a measurement"]
fn cases_per_cpu_second() {
    let Some(install) = bochs() else { return };
    let version = install.version;
    let model = std::env::var("VMCS_BOCHS_MODEL").unwrap_or_else(|_| "corei7_skylake_x".to_owned());
    let mut target = BochsTarget::new(install, &model).expect("the model exists");
    let begin = (children_cpu_seconds().unwrap_or(0.0), Instant::now());
    let report = target.capture().expect("the probe answers");
    println!("profile: {:.2} s CPU, {:?} wall", children_cpu_seconds().unwrap_or(0.0) - begin.0, begin.1.elapsed());

    // Every field that can be written, by its full encoding.
    let base = base_image(&report);
    let image: Vec<(u32, u64)> = report
        .fields
        .iter()
        .filter(|field| field.write == StepResult::Ok && field.encoding & 1 == 0)
        .map(|field| field.encoding)
        .filter(|encoding| (encoding >> 10 & 3) != 1)
        .map(|encoding| (encoding, base.iter().find(|entry| entry.0 == encoding).map_or(0, |entry| entry.1)))
        .collect();
    let mut session = session(&report);
    session.observed_fields = image
        .iter()
        .map(|entry| entry.0)
        .filter(|encoding| encoding >> 10 & 3 == 2)
        .take(56)
        .chain([0x4404, 0x440C, 0x6400])
        .collect();
    println!("{} fields written, {} read", image.len(), session.observed_fields.len());
    session.images = vec![image];

    for count in [1_000, 50_000, 100_000] {
        let mut cases = (0..count).map(|index| launch(&report, &[(0x6816, index)]));
        let begin = (children_cpu_seconds().unwrap_or(0.0), Instant::now());
        let mut seen = 0;
        let mut observe = |_, observation: Observation| {
            if observation.steps.is_empty() {
                println!("EMPTY at {seen}");
                seen += 1;
                return ControlFlow::Continue(());
            }
            assert_eq!((exit_reason(&observation), &observation.end), (Some(18), &End::Completed));
            seen += 1;
            ControlFlow::Continue(())
        };
        target.run(&session, &mut cases, &mut observe).expect("the target works");
        let cpu = children_cpu_seconds().unwrap_or(0.0) - begin.0;
        println!(
            "Bochs {version} {model}: {seen} cases in {cpu:.2} s CPU, {:.2?} wall: {:.0} per CPU-second",
            begin.1.elapsed(),
            f64::from(seen) / cpu
        );
    }
}
