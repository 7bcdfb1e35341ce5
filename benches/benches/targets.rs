//! Cases per second: generated, executed on the emulator, judged; and on a Bochs where there is one.

use std::ops::ControlFlow;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vmcs_benches::sapphire_rapids;
use vmcs_fuzz::oracle::Oracle;
use vmcs_fuzz::{Generator, World, machine::EmulatorTarget};
use vmcs_hw::bochs::{self, BochsTarget};
use vmcs_hw::profile::NamedProfile;
use vmcs_hw::{Case, Target};

const CASES: u64 = 1000;

fn cases(world: &World) -> Vec<Case> {
    (0..CASES).map(|index| Generator::Controls.case(world, 1, index)).collect()
}

fn targets(c: &mut Criterion) {
    let world = sapphire_rapids();
    let session = world.session();
    let mut group = c.benchmark_group("targets");
    group.throughput(Throughput::Elements(CASES)).sample_size(10);

    group.bench_function("generate", |b| b.iter(|| cases(&world)));
    let mut emulator = EmulatorTarget::new(world.profile.clone(), "Sapphire Rapids");
    let list = cases(&world);
    group.bench_function("emulator", |b| {
        b.iter(|| emulator.run(&session, &mut list.iter().cloned(), &mut |_, _| ControlFlow::Continue(())));
    });
    let mut observed = Vec::new();
    let collect = &mut |_, observation| {
        observed.push(observation);
        ControlFlow::Continue(())
    };
    emulator.run(&session, &mut list.iter().cloned(), collect).expect("the emulator answers");
    let oracle = Oracle::new(&world, &session, Vec::new());
    group.bench_function("judge", |b| {
        b.iter(|| list.iter().zip(&observed).filter(|(case, seen)| oracle.judge(case, seen).outcome.is_some()).count());
    });

    let Some(install) = bochs::installs().ok().and_then(|mut all| all.pop()) else {
        return;
    };
    let mut bochs = BochsTarget::new(install, "corei7_skylake_x").expect("every Bochs has this model");
    let report = bochs.capture().expect("the probe answers");
    let world = World::new(&NamedProfile::captured("Bochs", "bench", &report).profile);
    let (session, list) = (world.session(), cases(&world));
    group.bench_function("bochs", |b| {
        b.iter(|| bochs.run(&session, &mut list.iter().cloned(), &mut |_, _| ControlFlow::Continue(())));
    });
}

criterion_group!(benches, targets);
criterion_main!(benches);
