//! What is not known of a processor is never taken for absent: a check that depends on it is undecidable.

use vmcs_golden::{Sparse, corpus, profiles};
use vmcs_model::capabilities::Facts;
use vmcs_model::checks::CheckId;
use vmcs_model::memory::UnknownMemory;
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::partial::PartialVmcs;
use vmcs_model::profile::{CpuProfile, CpuidLeaf, MsrValue};
use vmcs_model::{Capabilities, CpuState, EntryAttempt, Outcome, baseline, field};

/// The profile without one fact, for each fact that it has.
fn without_each_fact(profile: &CpuProfile) -> Vec<(Facts, CpuProfile)> {
    let msrs = CapabilityMsr::ALL.into_iter().map(|msr| {
        let mut less = profile.clone();
        less.set_msr(msr, MsrValue::Unknown);
        (Facts::msr(msr), less)
    });
    let leaves = CpuidLeaf::ALL.into_iter().map(|leaf| {
        let mut less = profile.clone();
        less.forget_cpuid(leaf);
        (Facts::cpuid(leaf), less)
    });
    msrs.chain(leaves).collect()
}

/// Says what a scene of the golden lines comes to on its processor, and compares that with what it comes to where one fact
/// is not known: what is violated then is violated, what is violated is not held then, and every way to ask agrees.
#[test]
fn forgetting_a_fact_decides_nothing() {
    let mut undecided = 0;
    for line in corpus::lines() {
        let scenes = [Some(&line.scene), line.neighbour.as_ref().map(|(scene, _)| scene)];
        for scene in scenes.into_iter().flatten() {
            let whole = profiles::by_name(scene.profile());
            let capabilities = Capabilities::new(&whole);
            let stage = scene.on(&capabilities);
            let known = stage.attempt(&capabilities).on(&stage.vmcs, &stage.memory).verdict();
            for (fact, less) in without_each_fact(&whole) {
                let less = Capabilities::new(&less);
                let entry = stage.attempt(&less).on(&stage.vmcs, &stage.memory);
                let told = entry.verdict();
                for check in told.violated.iter() {
                    assert!(known.violated.contains(check), "{}: {check} is violated without {fact:?}", line.place);
                }
                for check in known.violated.iter() {
                    let open = told.violated.contains(check) || told.undecidable.contains(check);
                    assert!(open, "{}: {check} holds without {fact:?}", line.place);
                }
                for outcome in known.permitted.iter() {
                    assert!(told.permits(&outcome), "{}: {outcome} is excluded without {fact:?}", line.place);
                }
                assert_eq!(entry.violations(), told.violated, "{}", line.place);
                assert_eq!(entry.first_violation(), told.violated.iter().next(), "{}", line.place);
                undecided += told.undecidable.iter().filter(|check| !known.undecidable.contains(*check)).count();
            }
        }
    }
    assert!(undecided > 5_000, "{undecided} answers are left open");
}

/// A check that is judged among those of its section is undecidable exactly if it is when it is judged by itself.
#[test]
fn a_check_by_itself_is_as_open_as_among_others() {
    let facts = without_each_fact(&profiles::full()).len();
    let mut open = 0;
    for (turn, line) in corpus::lines().iter().enumerate() {
        // One fact for each line: in all they meet each fact several times.
        let (fact, less) = without_each_fact(&profiles::by_name(line.scene.profile())).swap_remove(turn % facts);
        let stage = line.scene.on(&Capabilities::new(&profiles::by_name(line.scene.profile())));
        let less = Capabilities::new(&less);
        let entry = stage.attempt(&less).on(&stage.vmcs, &stage.memory);
        let verdict = entry.verdict();
        for check in CheckId::all() {
            let undecidable = verdict.undecidable.contains(check);
            assert_eq!(!entry.unknowns(check).is_empty(), undecidable, "{}: {check} without {fact:?}", line.place);
            assert!(!undecidable || !verdict.violated.contains(check), "{}: {check} without {fact:?}", line.place);
            open += usize::from(undecidable);
        }
    }
    assert!(open > 100, "{open} answers are left open");
}

/// The plain image for a processor of which one fact is not known, or no CPUID leaf, or nothing at all, is not refused there:
/// it is entered, or that is not decided.
#[test]
fn the_plain_image_is_not_refused_for_what_is_not_known() {
    let mut no_cpuid = profiles::full();
    CpuidLeaf::ALL.into_iter().for_each(|leaf| no_cpuid.forget_cpuid(leaf));
    let open = [("every CPUID leaf".to_owned(), no_cpuid), ("everything".to_owned(), CpuProfile::default())];
    let one_less = without_each_fact(&profiles::full()).into_iter().map(|(fact, less)| (format!("{fact:?}"), less));
    let mut undecidable = 0;
    for (unknown, profile) in open.into_iter().chain(one_less) {
        let capabilities = Capabilities::new(&profile);
        let vmcs = baseline::plain_64bit(&capabilities);
        let cpu = CpuState::host_64();
        let memory = Sparse::default();
        let entry = EntryAttempt::vmlaunch(&cpu, &capabilities).on(&vmcs, &memory);
        let verdict = entry.verdict();
        assert!(verdict.violated.is_empty(), "{unknown}: {:?}", verdict.violated);
        assert!(verdict.permits(&Outcome::Entered), "{unknown}");
        assert_eq!((entry.first_violation(), entry.violations().len()), (None, 0), "{unknown}");
        undecidable += usize::from(!verdict.undecidable.is_empty());
    }
    assert!(undecidable > 10, "{undecidable}");
}

/// Memory that nobody knows is not taken for all ones, not even where every field and every fact is known.
#[test]
fn unknown_memory_decides_nothing() {
    use vmcs_model::memory::UnknownMemory;
    let capabilities = Capabilities::new(&profiles::full());
    let mut vmcs = baseline::plain_64bit(&capabilities);
    vmcs.set(vmcs_model::field::VMCS_LINK_POINTER, 0x5000);
    let cpu = CpuState::host_64();
    let entry = EntryAttempt::vmlaunch(&cpu, &capabilities).on(&vmcs, &UnknownMemory);
    assert_eq!((entry.first_violation(), entry.violations().len()), (None, 0));
    let open: Vec<_> = entry.verdict().undecidable.iter().map(|check| check.info().id).collect();
    assert_eq!(open, ["guest.link.revision", "guest.link.shadow-bit"]);
}

/// An MSR-load area whose first entry lies in a hole: what the second one breaks may not count, whichever way it is asked.
#[test]
fn what_follows_an_entry_that_is_not_known_is_not_decided() {
    struct Hole;
    impl vmcs_model::ReadMemory for Hole {
        fn read_u32(&self, address: u64) -> Option<u32> {
            (address >= 0x6010).then_some(u32::MAX)
        }
    }
    let capabilities = Capabilities::new(&profiles::full());
    let mut vmcs = baseline::plain_64bit(&capabilities);
    vmcs.set(vmcs_model::field::VM_ENTRY_MSR_LOAD_ADDRESS, 0x6000);
    vmcs.set(vmcs_model::field::VM_ENTRY_MSR_LOAD_COUNT, 2);
    let cpu = CpuState::host_64();
    let entry = EntryAttempt::vmlaunch(&cpu, &capabilities).on(&vmcs, &Hole);
    assert_eq!((entry.first_violation(), entry.violations().len()), (None, 0));
    assert!(entry.verdict().undecidable.len() >= 2);
}

/// A check of several addresses is violated if one of them is certainly not canonical, wherever it stands among them and
/// whatever the others are.
#[test]
fn one_known_address_that_is_not_canonical_is_enough() {
    let capabilities = Capabilities::new(&profiles::by_name("full"));
    let cpu = CpuState::host_64();
    for (base, id) in [
        (field::HOST_FS_BASE, "host.base.fs-gs-tr.canonical"),
        (field::HOST_TR_BASE, "host.base.fs-gs-tr.canonical"),
        (field::HOST_IDTR_BASE, "host.base.gdtr-idtr.canonical"),
        (field::GUEST_GS_BASE, "guest.seg.fs-gs.base-canonical"),
    ] {
        let mut vmcs = PartialVmcs::new();
        vmcs.set_raw(base.id(), 1 << 60);
        let verdict = EntryAttempt::vmlaunch(&cpu, &capabilities).on(&vmcs, &UnknownMemory).verdict();
        let violated: Vec<_> = verdict.violated.iter().map(|check| check.info().id).collect();
        assert_eq!(violated, [id]);
        vmcs.set_raw(base.id(), 0);
        let verdict = EntryAttempt::vmlaunch(&cpu, &capabilities).on(&vmcs, &UnknownMemory).verdict();
        assert!(verdict.undecidable.contains(CheckId::by_id(id).expect("a check")), "{id}");
    }
}
