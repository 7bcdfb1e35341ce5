//! A mode whose field is not known can be supposed: nothing is violated then that is not violated where the field is known.

use vmcs_golden::{corpus, profiles};
use vmcs_model::checks::CheckId;
use vmcs_model::context::Mode;
use vmcs_model::controls::{Entry, Secondary};
use vmcs_model::field::{self, FieldId};
use vmcs_model::partial::{PartialVmcs, Supposing};
use vmcs_model::registers::Rflags;
use vmcs_model::{Capabilities, CpuProfile, CpuState, EntryAttempt, Vmcs, memory::UnknownMemory};

/// The field that holds the bit of the mode, and the value of the bit.
fn chosen(mode: Mode, vmcs: &Vmcs) -> (FieldId, bool) {
    match mode {
        Mode::Ia32eGuest => {
            (field::VM_ENTRY_CONTROLS.id(), vmcs.get(field::VM_ENTRY_CONTROLS).contains(Entry::IA_32E_MODE_GUEST))
        }
        Mode::UnrestrictedGuest => {
            let secondary = field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS;
            let active = vmcs.get(field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS).bits() >> 31 & 1 != 0;
            (secondary.id(), active && vmcs.get(secondary).contains(Secondary::UNRESTRICTED_GUEST))
        }
        Mode::Virtual8086 => (field::GUEST_RFLAGS.id(), vmcs.get(field::GUEST_RFLAGS).contains(Rflags::VM)),
    }
}

#[test]
fn what_is_supposed_rightly_violates_nothing_else() {
    let mut found = [0; Mode::ALL.len()];
    for line in corpus::lines() {
        let capabilities = Capabilities::new(&profiles::by_name(line.scene.profile()));
        let stage = line.scene.on(&capabilities);
        let attempt = stage.attempt(&capabilities);
        if attempt.cpu.smm {
            continue;
        }
        let known = attempt.on(&stage.vmcs, &stage.memory).violations();
        for (mode, found) in Mode::ALL.into_iter().zip(&mut found) {
            let (unknown, value) = chosen(mode, &stage.vmcs);
            let mut part = PartialVmcs::new();
            stage
                .vmcs
                .iter()
                .filter(|(field, _)| *field != unknown)
                .for_each(|(field, value)| part.set_raw(field, value));
            let without = attempt.on(&part, &stage.memory).violations();
            let supposed = attempt.on(&Supposing::new(&part, mode, value), &stage.memory).violations();
            assert!(supposed.iter().all(|check| known.contains(check)), "{}: {mode:?}", line.place);
            assert!(without.iter().all(|check| supposed.contains(check)), "{}: {mode:?}", line.place);
            *found += supposed.iter().filter(|check| !without.contains(*check)).count();
        }
    }
    assert!(found.iter().all(|found| *found > 0), "{found:?}");
}

#[test]
fn a_processor_that_was_in_ia32e_mode_has_intel_64() {
    let cpu = CpuState::host_64();
    let mut profile = CpuProfile::default();
    for (field, value, check) in [
        (field::GUEST_CS_BASE.id(), 1 << 32, "guest.seg.cs.base-high"),
        (field::GUEST_TR_BASE.id(), 0x0800_0000_0000_0000, "guest.seg.tr.base-canonical"),
        (field::GUEST_IA32_SYSENTER_ESP.id(), 0x0800_0000_0000_0000, "guest.sysenter-esp.canonical"),
        (field::GUEST_CR3.id(), 1 << 63, "guest.cr3.reserved"),
        (field::HOST_CR3.id(), 1 << 63, "host.cr3.reserved"),
    ] {
        let check: CheckId = check.parse().expect("a check");
        let mut vmcs = PartialVmcs::new();
        vmcs.set_raw(field, value);
        for seen in [false, true] {
            profile.seen_in_ia32e_mode = seen;
            let capabilities = Capabilities::new(&profile);
            let verdict = EntryAttempt::vmlaunch(&cpu, &capabilities).on(&vmcs, &UnknownMemory).verdict();
            assert_eq!(verdict.violated.contains(check), seen, "{check}");
            assert_ne!(verdict.undecidable.contains(check), seen, "{check}");
        }
    }
}
