//! The golden lines on the model: every line says exactly what is violated and permitted, and every check has a line and
//! a nearest legal neighbour. The format of the lines is described in `golden/src/corpus.rs`.

use vmcs_golden::corpus::{self, Expected, Scene};
use vmcs_golden::{Sparse, profiles};
use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::controls::PinBased;
use vmcs_model::partial::PartialVmcs;
use vmcs_model::registers::{Cr4, Efer};
use vmcs_model::{Capabilities, CpuState, EntryAttempt, Outcome, baseline, field};

/// Checks that cannot be violated alone, and those that come with them.
const NEVER_ALONE: &[(&str, &str)] = &[
    // The last entry lies beyond the first, the last byte beyond the address.
    ("ctl.ipi-virt.table-width", "ctl.ipi-virt.last-entry-width"),
    ("ctl.exit-msr-store.width", "ctl.exit-msr-store.last-byte-width"),
    ("ctl.exit-msr-load.width", "ctl.exit-msr-load.last-byte-width"),
    ("ctl.entry-msr-load.width", "ctl.entry-msr-load.last-byte-width"),
    // Blocking by SMI has to be there for the entry to SMM, and not be there outside SMM.
    ("ctl.entry.smm.entry-to-smm-outside", "guest.intr.smi-entry-to-smm"),
    // Without support of the type there is no vector for it.
    ("ctl.inject.type-7-supported", "ctl.inject.other-event-vector"),
    // A 64-bit guest needs a 64-bit host, which a legacy processor cannot have.
    ("as.legacy.guest-not-ia32e", "as.host32.guest-not-ia32e"),
    ("as.host32.guest-not-ia32e", "as.longmode.host-64"),
    // A processor without Intel 64 is never in IA-32e mode.
    ("as.no-intel64", "as.legacy.host-not-64"),
];

/// What the model says of a scene, whichever way it is asked.
fn judged(scene: &Scene) -> (CheckSet, Expected) {
    let capabilities = Capabilities::new(&profiles::by_name(scene.profile()));
    let stage = scene.on(&capabilities);
    let attempt = stage.attempt(&capabilities);
    let verdict = attempt.on(&stage.vmcs, &stage.memory).verdict();
    assert_eq!(attempt.on(&stage.vmcs, &stage.memory).violations(), verdict.violated);
    assert_eq!(attempt.on(&stage.vmcs, &stage.memory).first_violation(), verdict.violated.iter().next());
    let partial = attempt.on(&PartialVmcs::from(stage.vmcs.clone()), &stage.memory).verdict();
    assert_eq!((partial.violated, partial.undecidable), (verdict.violated, verdict.undecidable));
    (verdict.violated, Expected::of(&verdict))
}

#[test]
fn every_line_is_what_the_model_says() {
    let mut wrong = String::new();
    for line in corpus::lines() {
        let scenes = [Some(&(line.scene, line.expected)), line.neighbour.as_ref()];
        for ((scene, expected), what) in scenes.into_iter().flatten().zip(["line", "neighbour"]) {
            let (_, said) = judged(scene);
            if said != *expected {
                wrong += &format!("{} {what}: {}\n  expected {expected}\n  got      {said}\n", line.place, line.text);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Each check has a smallest violation, where possible of this check alone, and a neighbour one change away in which it
/// holds for certain.
#[test]
fn every_check_has_a_violation_and_a_legal_neighbour() {
    let mut paired = CheckSet::EMPTY;
    for line in corpus::lines() {
        let Some((_, legal)) = &line.neighbour else { continue };
        for id in &line.expected.violated {
            let alone = line.expected.violated == [id.as_str()];
            let company = NEVER_ALONE.iter().filter(|(never, _)| never == id);
            let smallest = alone
                || company.clone().any(|(_, with)| {
                    line.expected.violated.len() == 2 && line.expected.violated.iter().any(|other| other == with)
                });
            assert!(!alone || company.count() == 0, "{}: {id} is violated alone", line.place);
            if smallest && !legal.violated.contains(id) && !legal.open.contains(id) {
                paired.insert(CheckId::by_id(id).unwrap_or_else(|| panic!("{}: no check {id}", line.place)));
            }
        }
    }
    let without: Vec<_> = CheckId::all().filter(|check| !paired.contains(*check)).collect();
    assert!(without.is_empty(), "{} checks have no violation with a legal neighbour: {without:?}", without.len());
}

#[test]
fn neighbours_are_legal() {
    let lines = corpus::lines();
    let with_neighbour: Vec<_> = lines.iter().filter_map(|line| Some((line, line.neighbour.as_ref()?))).collect();
    let legal = with_neighbour.iter().filter(|(_, (_, expected))| expected.to_string() == "- => Entered").count();
    println!("{} lines, {} neighbours, {legal} of them without any violation", lines.len(), with_neighbour.len());
    for (line, (_, expected)) in &with_neighbour {
        assert_ne!(line.expected, *expected, "{}: the neighbour is no different", line.place);
    }
    assert_eq!(with_neighbour.len() - legal, 1, "what stays violated beside a legal neighbour");
}

#[test]
fn the_baseline_is_valid_everywhere() {
    for name in ["full", "sgx", "lean", "encrypted", "events", "short_addresses", "first", "narrow"] {
        let capabilities = Capabilities::new(&profiles::by_name(name));
        let vmcs = baseline::plain_64bit(&capabilities);
        let mut cpu = CpuState::host_64();
        if name == "narrow" {
            cpu.efer = Efer::empty();
            cpu.cr4 -= Cr4::PAE;
        }
        let attempt = EntryAttempt::vmlaunch(&cpu, &capabilities);
        let verdict = attempt.on(&vmcs, &Sparse::default()).verdict();
        assert_eq!(verdict.permitted.single(), Some(Outcome::Entered), "{name}: {verdict:?}");
        assert!(verdict.violated.is_empty() && verdict.undecidable.is_empty());
        let timer = vmcs.get(field::PIN_BASED_VM_EXECUTION_CONTROLS).contains(PinBased::ACTIVATE_VMX_PREEMPTION_TIMER);
        assert_eq!(timer, !matches!(name, "first" | "narrow"));
    }
}
