//! The checks of a VM entry: every violation of an image, or its first.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use vmcs_benches::sapphire_rapids;
use vmcs_model::memory::ZeroMemory;
use vmcs_model::{CpuState, Vmcs, field, first_violation, violations};

fn model_check(c: &mut Criterion) {
    let world = sapphire_rapids();
    let cpu = CpuState::host_64();
    let attempt = world.launch(&cpu);
    let valid = world.bases.iter().find(|base| base.name == "rich").unwrap_or(&world.bases[0]).vmcs.clone();
    let mut violated = valid.clone();
    violated.set(field::VIRTUAL_PROCESSOR_IDENTIFIER, 0);
    let images: [(&str, &Vmcs); 2] = [("valid", &valid), ("one_violation", &violated)];
    for (name, vmcs) in images {
        c.bench_function(&format!("model_check/all/{name}"), |b| {
            b.iter(|| violations(black_box(attempt), black_box(vmcs), &ZeroMemory));
        });
        c.bench_function(&format!("model_check/first/{name}"), |b| {
            b.iter(|| first_violation(black_box(attempt), black_box(vmcs), &ZeroMemory));
        });
    }
}

criterion_group!(benches, model_check);
criterion_main!(benches);
