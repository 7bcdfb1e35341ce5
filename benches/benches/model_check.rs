//! Benches of the checks of a VM entry: all violations of an image, its first violation, and all violations of many images
//! that lie anywhere in memory.
//!
//! The processor is a Sapphire Rapids; the compiler does not know its values. `valid` is a 64-bit guest with EPT, VPID, APIC
//! virtualization, three entries in each MSR area and an injected #GP; `one_violation` has a VPID of 0; `flipped` are 256
//! images in turn, each with four random bits flipped. Instructions of one image are counted by `examples/count.rs`:
//!
//! ```sh
//! cargo build --profile bench -p vmcs-benches --example count
//! for n in 1000 2000; do
//!     valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/count all valid $n
//! done
//! ```
//!
//! The difference of the two, divided by 1000, is what one image takes. For `flipped`, take multiples of 256 in place of
//! 1000 and 2000.
//!
//! `many` visits 100,000 images, 134 MB, in random order. There most of the time goes to reading memory, not to the checks.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use vmcs_benches::Images;
use vmcs_model::{EntryAttempt, Vmcs};

const MANY: usize = 100_000;

fn model_check(c: &mut Criterion) {
    let images = Images::of_sapphire_rapids();
    let attempt = unknown_to_the_compiler(images.attempt());
    let cases = [
        ("valid", vec![&images.valid]),
        ("one_violation", vec![&images.one_violation]),
        ("flipped", images.flipped.iter().collect()),
    ];
    for (name, cases) in cases {
        let mut next = cases.iter().cycle();
        let mut next = || black_box(next.next().copied().unwrap_or(&images.valid));
        c.bench_function(&format!("model_check/all/{name}"), |b| {
            b.iter(|| attempt.on(next(), &images.memory).violations());
        });
        c.bench_function(&format!("model_check/first/{name}"), |b| {
            b.iter(|| attempt.on(next(), &images.memory).first_violation());
        });
    }
}

fn many(c: &mut Criterion) {
    let images = Images::of_sapphire_rapids();
    let attempt = unknown_to_the_compiler(images.attempt());
    let many = images.many(MANY);
    let mut order: Vec<&Vmcs> = many.iter().collect();
    shuffle(&mut order);
    let mut group = c.benchmark_group("model_check/many");
    group.throughput(Throughput::Elements(MANY as u64)).sample_size(20);
    group.bench_function("one_by_one", |b| {
        b.iter(|| order.iter().filter(|vmcs| attempt.on(**vmcs, &images.memory).violations().is_empty()).count());
    });
    group.bench_function("batch", |b| {
        b.iter(|| {
            let mut valid = 0;
            attempt.violations_batch(&order, &images.memory, |_, violated| valid += usize::from(violated.is_empty()));
            valid
        });
    });
}

fn unknown_to_the_compiler(attempt: EntryAttempt<'_>) -> EntryAttempt<'_> {
    EntryAttempt { cpu: black_box(attempt.cpu), capabilities: black_box(attempt.capabilities), ..black_box(attempt) }
}

fn shuffle<T>(list: &mut [T]) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    for i in (1..list.len()).rev() {
        let other = random.next_u64() % (i as u64 + 1);
        list.swap(i, usize::try_from(other).unwrap_or(i));
    }
}

criterion_group!(benches, model_check, many);
criterion_main!(benches);
