//! Benches of cases per second: how fast cases are generated, executed on the emulator and judged, and how fast every
//! machine of this computer executes them. The machines are each Bochs, the KVM of the host, and one that the variable
//! `VMCS_BENCH_TARGET` names, such as `kvm@bochs` or `metal:LINE`.

use std::ops::ControlFlow;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vmcs_benches::{machines, sapphire_rapids};
use vmcs_case::profile::NamedProfile;
use vmcs_case::{Case, Target};
use vmcs_fuzz::oracle::Oracle;
use vmcs_fuzz::{Generator, TestProcessor, emulator::EmulatorTarget};

const CASES: u64 = 1000;

fn cases(processor: &TestProcessor) -> Vec<Case> {
    (0..CASES).map(|index| Generator::Controls.case(processor, 1, index)).collect()
}

fn targets(c: &mut Criterion) {
    let processor = sapphire_rapids();
    let session = processor.session();
    let mut group = c.benchmark_group("targets");
    group.throughput(Throughput::Elements(CASES)).sample_size(10);

    group.bench_function("generate", |b| b.iter(|| cases(&processor)));
    let mut emulator = EmulatorTarget::new(processor.profile.clone(), "Sapphire Rapids");
    let list = cases(&processor);
    group.bench_function("emulator", |b| {
        b.iter(|| emulator.run(&session, &mut list.iter().cloned(), &mut |_, _| ControlFlow::Continue(())));
    });
    let mut observed = Vec::new();
    let collect = &mut |_, observation| {
        observed.push(observation);
        ControlFlow::Continue(())
    };
    emulator.run(&session, &mut list.iter().cloned(), collect).expect("the emulator answers");
    let oracle = Oracle::new(&processor, &session, Vec::new());
    group.bench_function("judge", |b| {
        b.iter(|| list.iter().zip(&observed).filter(|(case, seen)| oracle.judge(case, seen).outcome.is_some()).count());
    });

    for (name, mut target) in machines() {
        let report = target.capture().expect("the probe answers");
        let processor = TestProcessor::new(&NamedProfile::captured(&name, "bench", &report).profile);
        let (session, list) = (processor.session(), cases(&processor));
        group.bench_function(&name, |b| {
            b.iter(|| target.run(&session, &mut list.iter().cloned(), &mut |_, _| ControlFlow::Continue(())));
        });
    }
}

criterion_group!(benches, targets);
criterion_main!(benches);
