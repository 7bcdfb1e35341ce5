//! Rounding: whatever an image holds, a valid one is near; the model says so, and so does a machine.

use std::ops::ControlFlow;

use proptest::prelude::*;
use vmcs_case::profile::NamedProfile;
use vmcs_case::{Case, Target};
use vmcs_fuzz::TestProcessor;
use vmcs_fuzz::deviations::Deviations;
use vmcs_fuzz::generate::rounding::round;
use vmcs_fuzz::oracle::{Judgement, Oracle};
use vmcs_golden::Sparse;
use vmcs_hw::bochs::{self, BochsTarget};
use vmcs_model::field::{self, FieldId};
use vmcs_model::memory::ZeroMemory;
use vmcs_model::{CpuState, Vmcs};
use vmcs_wire::{Op, Start, layout};

/// An image with some fields changed at random; which and how many, the bits of `mask` say.
fn disturbed(base: &Vmcs, mask: u64, values: &[u64]) -> Vmcs {
    let mut vmcs = base.clone();
    for (n, field) in FieldId::all().enumerate() {
        if mask.rotate_left(7 * u32::try_from(n).unwrap_or(0)) & 1 != 0 {
            vmcs.set_raw(field, values[n % values.len()].rotate_left(u32::try_from(n).unwrap_or(0)));
        }
    }
    vmcs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn an_image_ends_valid_and_a_valid_one_stays(
        profile in any::<prop::sample::Index>(),
        mask in any::<u64>(),
        sparse in any::<bool>(),
        values in prop::collection::vec(any::<u64>(), 16),
    ) {
        let profiles: Vec<_> = NamedProfile::embedded().iter().collect();
        let processor = TestProcessor::new(&profiles[profile.index(profiles.len())].profile);
        prop_assume!(processor.capabilities.intel_64());
        let cpu = CpuState::host_64();
        let attempt = processor.launch(&cpu);
        let mask = if sparse { mask & mask.rotate_left(11) & mask.rotate_left(23) } else { mask };
        let vmcs = disturbed(&processor.bases[0].vmcs, mask, &values);
        let rounded = round(attempt, &vmcs, &ZeroMemory).expect("the plain guest is valid");
        prop_assert!(attempt.on(&rounded, &ZeroMemory).violations().is_empty());
        prop_assert_eq!(round(attempt, &rounded, &ZeroMemory), Some(rounded));
    }
}

/// A wrong bit is all that is taken back, and not the rest of the image.
#[test]
fn as_little_is_changed_as_can_be() {
    let processor = TestProcessor::new(&NamedProfile::by_name("Sapphire Rapids").expect("it is embedded").profile);
    let cpu = CpuState::host_64();
    let attempt = processor.launch(&cpu);
    // An image of which the profile leaves something open is rounded to another one.
    let decided = |vmcs: &Vmcs| attempt.on(vmcs, &ZeroMemory).verdict().undecidable.is_empty();
    for base in processor.bases.iter().filter(|base| base.memory.is_empty() && decided(&base.vmcs)) {
        let mut wrong = base.vmcs.clone();
        wrong.set(field::GUEST_CR4, wrong.get(field::GUEST_CR4) ^ vmcs_model::registers::Cr4::VMXE);
        wrong.set(field::HOST_IA32_SYSENTER_ESP, 1 << 62);
        wrong.set(field::GUEST_RSP, 0x1234);
        let rounded = round(attempt, &wrong, &ZeroMemory).expect("the plain guest is valid");
        let changed: Vec<_> = FieldId::all().filter(|field| rounded.raw(*field) != wrong.raw(*field)).collect();
        let two = [field::HOST_IA32_SYSENTER_ESP.id(), field::GUEST_CR4.id()];
        assert!(changed.len() == 2 && two.iter().all(|field| changed.contains(field)), "{}: {changed:?}", base.name);
    }
}

/// Fields of which a wrong value, though valid, would leave the probe without its pages, or an exit without end.
fn keeps_the_machine(field: FieldId) -> bool {
    let kept = [
        field::HOST_CR3.id(),
        field::HOST_CR4.id(),
        field::HOST_RIP.id(),
        field::HOST_IA32_PKRS.id(),
        field::HOST_IA32_S_CET.id(),
        field::GUEST_ACTIVITY_STATE.id(),
        field::GUEST_INTERRUPTIBILITY_STATE.id(),
        field::GUEST_CR3.id(),
        field::PIN_BASED_VM_EXECUTION_CONTROLS.id(),
        field::VMX_PREEMPTION_TIMER_VALUE.id(),
        field::VM_EXIT_MSR_LOAD_COUNT.id(),
        field::VM_EXIT_MSR_STORE_COUNT.id(),
        field::VM_ENTRY_MSR_LOAD_COUNT.id(),
        field::VM_ENTRY_INTERRUPTION_INFORMATION.id(),
    ];
    kept.contains(&field)
}

#[test]
fn rounded_images_enter_on_bochs() {
    let deviations = Deviations::embedded().expect("they are valid");
    let installs = bochs::installs().expect("an installed Bochs is usable");
    if installs.is_empty() {
        println!("skipped: there is no Bochs here");
    }
    for install in installs {
        let mut target = BochsTarget::new(install, "corei7_skylake_x").expect("every Bochs has this model");
        let report = target.capture().expect("the probe reports");
        let processor = TestProcessor::new(&NamedProfile::captured("Bochs", "test", &report).profile);
        let cpu = CpuState { vmcs_pointer: layout::VMCS_REGIONS, ..CpuState::host_64() };
        let mut memory = Sparse::default();
        layout::PAGING.step_by(8).for_each(|address| memory.write_u64(address, layout::paging_entry(address)));
        let base = &processor.bases[0].vmcs;
        let mut random = 0x9E37_79B9_7F4A_7C15u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let cases: Vec<_> = (0..200)
            .map(|n| {
                let mask = if n % 2 == 0 { next() } else { next() & next() & next() };
                let values: Vec<_> = (0..16).map(|_| next()).collect();
                let mut vmcs = disturbed(base, mask, &values);
                FieldId::all().filter(|f| keeps_the_machine(*f)).for_each(|f| vmcs.set_raw(f, base.raw(f)));
                let rounded = round(processor.launch(&cpu), &vmcs, &memory).expect("the plain guest is valid");
                launch(&processor, base, &rounded)
            })
            .collect();
        let (session, implementation) = (processor.session(), target.implementation());
        let oracle = Oracle::new(&processor, &session, deviations.of(&implementation));
        let (mut entered, mut refused) = (0, 0);
        let ran = target.run(&session, &mut cases.iter().cloned(), &mut |n, observation| {
            let judged = oracle.judge(&cases[n], &observation);
            assert!(judged.violated.is_empty(), "{implementation}: image {n}: {:?}", judged.violated);
            match judged.judgement {
                Judgement::Agree => entered += 1,
                Judgement::Deviates(_) => refused += 1,
                other => panic!("{implementation}: image {n}: {other:?}\n{:x?}", cases[n]),
            }
            ControlFlow::Continue(())
        });
        ran.expect("the target answers");
        assert!(entered >= 190 && entered + refused == cases.len(), "{implementation}: {entered} entered");
    }
}

/// The case that enters the image.
fn launch(processor: &TestProcessor, base: &Vmcs, vmcs: &Vmcs) -> Case {
    const REGION: u64 = layout::VMCS_REGIONS;
    let mut ops = vec![
        Op::Store { address: REGION, size: 4, value: processor.capabilities.revision().into() },
        Op::Vmclear { address: REGION },
        Op::Vmptrld { address: REGION },
        Op::WriteImage { image: 0 },
    ];
    let is_input = |f: &FieldId| f.info().area() != field::Area::ExitInformation;
    let changed = processor.fields.iter().copied().filter(is_input).filter(|f| vmcs.raw(*f) != base.raw(*f));
    ops.extend(changed.map(|f| Op::Vmwrite { encoding: f.info().encoding.0.into(), value: vmcs.raw(f) }));
    ops.push(Op::Vmlaunch { after_mov_ss: false });
    Case { start: Start::VmxRoot, ops, ..Case::default() }
}
