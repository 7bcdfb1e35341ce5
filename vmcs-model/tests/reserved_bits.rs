//! Bits of registers that no processor reserves are judged without the CPUID leaves that tell of the others.

use vmcs_golden::{Sparse, profiles};
use vmcs_model::checks::CheckId;
use vmcs_model::controls::Entry;
use vmcs_model::field::{self, Field};
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::profile::{CpuProfile, CpuidLeaf, MsrValue};
use vmcs_model::{Capabilities, CpuState, EntryAttempt, baseline};

/// The profile without what it says of Processor Trace, last branch records and debug features.
fn without_leaves(profile: &CpuProfile) -> CpuProfile {
    let mut less = CpuProfile::default();
    for msr in CapabilityMsr::ALL {
        less.set_msr(msr, profile.msr(msr));
    }
    less.set_msr(CapabilityMsr::PerfCapabilities, MsrValue::Unknown);
    for leaf in [CpuidLeaf::AddressWidths, CpuidLeaf::ExtendedFeatures] {
        less.set_cpuid(leaf, profile.cpuid(leaf).expect("the profile has every leaf"));
    }
    less
}

#[test]
fn bits_that_every_processor_defines_need_no_cpuid() {
    let full = profiles::full();
    let (known, unknown) = (Capabilities::new(&full), Capabilities::new(&without_leaves(&full)));
    let cases: [(&str, Field<u64>, Entry, u64, u64); 3] = [
        (
            "guest.rtit-ctl.reserved",
            field::GUEST_IA32_RTIT_CTL,
            Entry::LOAD_IA32_RTIT_CTL,
            1 << 0 | 1 << 2 | 1 << 3 | 1 << 10 | 1 << 11 | 1 << 13,
            0x0180_FFFF_8F7B_FFFF,
        ),
        ("guest.lbr-ctl.reserved", field::GUEST_IA32_LBR_CTL, Entry::LOAD_GUEST_IA32_LBR_CTL, 1 << 0, 0x7F_000F),
        ("guest.debugctl.reserved", field::GUEST_IA32_DEBUGCTL, Entry::LOAD_DEBUG_CONTROLS, 1 << 0 | 1 << 1, 0xFFC7),
    ];
    for (id, register, control, always, defined) in cases {
        let check = CheckId::by_id(id).expect("the check exists");
        for bit in 0..64 {
            let mut vmcs = baseline::plain_64bit(&known);
            vmcs.set(field::VM_ENTRY_CONTROLS, vmcs.get(field::VM_ENTRY_CONTROLS) | control);
            vmcs.set(register, 1 << bit);
            let cpu = CpuState::host_64();
            let verdict = EntryAttempt::vmlaunch(&cpu, &unknown).on(&vmcs, &Sparse::default()).verdict();
            let said = (verdict.violated.contains(check), verdict.undecidable.contains(check));
            let expected = match (always >> bit & 1, defined >> bit & 1) {
                (1, _) => (false, false),
                (_, 1) => (false, true),
                _ => (true, false),
            };
            assert_eq!(said, expected, "{id}, bit {bit}");
        }
    }
}
