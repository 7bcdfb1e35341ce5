//! A bench of the emulator's instructions.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use vmcs_benches::sapphire_rapids;
use vmcs_emu::VmExit;
use vmcs_fuzz::emulator::CaseEmulator;
use vmcs_model::field;
use vmcs_model::formats::exit_reason;
use vmcs_wire::{Op, Start, layout};

fn emulator(c: &mut Criterion) {
    let processor = sapphire_rapids();
    let session = processor.session();
    let region = layout::VMCS_REGIONS;
    let mut machine = CaseEmulator::new(&processor.profile, Start::VmxRoot);
    let revision = u64::from(processor.capabilities.revision());
    for op in [
        Op::Store { address: region, size: 4, value: revision },
        Op::Vmclear { address: region },
        Op::Vmptrld { address: region },
        Op::WriteImage { image: 0 },
    ] {
        machine.step(&session, &op);
    }
    let ready = machine.processor().clone();

    let mut launched = ready.clone();
    let exit = || VmExit::new(exit_reason::PREEMPTION_TIMER, 0);
    launched.vmlaunch().expect("the plain image is valid");
    launched.vm_exit(exit()).expect("the exit of a plain guest");
    c.bench_function("emulator/vmresume_and_exit", |b| {
        b.iter(|| {
            let entry = launched.vmresume();
            launched.vm_exit(exit()).map(|()| entry)
        });
    });
    let encoding = u64::from(field::GUEST_RIP.encoding().0);
    let mut cpu = ready.clone();
    c.bench_function("emulator/vmread", |b| b.iter(|| cpu.vmread(black_box(encoding))));
    c.bench_function("emulator/vmwrite", |b| b.iter(|| cpu.vmwrite(black_box(encoding), black_box(0x1000))));
    c.bench_function("emulator/vmlaunch", |b| {
        b.iter_batched(|| ready.clone(), |mut cpu| cpu.vmlaunch(), BatchSize::SmallInput);
    });
}

criterion_group!(benches, emulator);
criterion_main!(benches);
