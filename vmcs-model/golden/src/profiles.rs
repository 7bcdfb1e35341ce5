//! The processors that the golden lines are about. They are made up, so that together they can meet each rule.

use vmcs_model::CpuProfile;
use vmcs_model::controls::{Entry, Exit, PinBased, Primary, Secondary, SecondaryExit, Tertiary};
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::profile::{CpuidLeaf, MsrValue};

/// The revision identifier of the processors below.
pub const REVISION: u32 = 4;

/// Allowed settings: the default1 class must be 1, every named bit may be 1.
fn word(default1: u32, names: &[(u32, &str)]) -> u64 {
    let named = names.iter().fold(0, |bits, (bit, _)| bits | 1u32 << bit);
    u64::from(named | default1) << 32 | u64::from(default1 & !named)
}

fn named(names: &[(u32, &str)]) -> u64 {
    names.iter().fold(0, |bits, (bit, _)| bits | 1 << bit)
}

fn profile(msrs: &[(CapabilityMsr, u64)], cpuid: &[(CpuidLeaf, [u32; 4])]) -> CpuProfile {
    let mut profile = CpuProfile::default();
    for msr in CapabilityMsr::ALL {
        profile.set_msr(msr, MsrValue::Absent);
    }
    for leaf in CpuidLeaf::ALL {
        profile.set_cpuid(leaf, [0; 4]);
    }
    profile.set_cpuid(CpuidLeaf::Highest, [0x23, 0, 0, 0]);
    profile.set_cpuid(CpuidLeaf::HighestExtended, [0x8000_0008, 0, 0, 0]);
    for (msr, value) in msrs {
        profile.set_msr(*msr, MsrValue::Value(*value));
    }
    for (leaf, registers) in cpuid {
        profile.set_cpuid(*leaf, *registers);
    }
    profile
}

fn bits(bits: &[u32]) -> u32 {
    bits.iter().fold(0, |all, bit| all | 1 << bit)
}

/// A processor with everything that the model knows but for SGX: 46-bit physical and 57-bit linear addresses.
#[must_use]
pub fn full() -> CpuProfile {
    let pin = word(PinBased::DEFAULT1.bits(), PinBased::NAMES);
    let primary = word(Primary::DEFAULT1.bits(), Primary::NAMES);
    let exit = word(Exit::DEFAULT1.bits(), Exit::NAMES);
    let entry = word(Entry::DEFAULT1.bits(), Entry::NAMES);
    let mut profile = profile(
        &[
            (CapabilityMsr::Basic, u64::from(REVISION) | 1 << 44 | 1 << 49 | 6 << 50 | 1 << 55),
            (CapabilityMsr::Pinbased, pin),
            (CapabilityMsr::TruePinbased, pin),
            (CapabilityMsr::Procbased, primary),
            (CapabilityMsr::TrueProcbased, primary),
            (CapabilityMsr::Exit, exit),
            (CapabilityMsr::TrueExit, exit),
            (CapabilityMsr::Entry, entry),
            (CapabilityMsr::TrueEntry, entry),
            (CapabilityMsr::Misc, 5 | 1 << 5 | 7 << 6 | 1 << 14 | 1 << 15 | 4 << 16 | 1 << 28 | 1 << 29 | 1 << 30),
            (CapabilityMsr::Cr0Fixed0, 0x8000_0021),
            (CapabilityMsr::Cr0Fixed1, 0xFFFF_FFFF),
            (CapabilityMsr::Cr4Fixed0, 0x2000),
            (CapabilityMsr::Cr4Fixed1, 0x1_1BFF_7FFF),
            (CapabilityMsr::Procbased2, named(Secondary::NAMES) << 32),
            (CapabilityMsr::EptVpidCap, 0x0F01_06F3_41C1 | 1 << 23),
            (CapabilityMsr::Vmfunc, 1),
            (CapabilityMsr::Procbased3, named(Tertiary::NAMES)),
            (CapabilityMsr::Exit2, named(SecondaryExit::NAMES)),
        ],
        &[
            (CpuidLeaf::Features, [0, 0, bits(&[4, 5, 15, 21, 24]), bits(&[4, 9, 11, 12, 16, 21])]),
            (
                CpuidLeaf::Extended0,
                [2, bits(&[1, 11, 14, 25]), bits(&[5, 7, 22, 24, 29, 30, 31]), bits(&[5, 19, 20, 26, 27, 28, 31])],
            ),
            (CpuidLeaf::Extended1, [bits(&[17, 26, 27]), 0, 0, bits(&[15])]),
            (CpuidLeaf::Extended2, [0, 0, 0, 0x1F]),
            (CpuidLeaf::PerformanceMonitoring, [0x0830_0805, 0, 0xF, 4 | 48 << 5 | 1 << 15]),
            (CpuidLeaf::Xsave1, [0x1F, 0, 0x1900, 0]),
            (CpuidLeaf::Trace0, [1, 0x1FF, 0x8000_000F, 0]),
            (CpuidLeaf::Trace1, [2, 0, 0, 0]),
            (CpuidLeaf::LastBranch, [0x0F, 7, 0, 0]),
            (CpuidLeaf::ExtendedFeatures, [0, 0, 0, bits(&[11, 20, 27, 29])]),
            (CpuidLeaf::AddressWidths, [0x392E, 0, 0, 0]),
        ],
    );
    profile.set_msr(CapabilityMsr::PerfCapabilities, MsrValue::Value(1 << 12 | 1 << 15));
    profile
}

/// [`full`] with SGX.
#[must_use]
pub fn sgx() -> CpuProfile {
    let mut profile = full();
    let [eax, ebx, ecx, edx] = profile.cpuid(CpuidLeaf::Extended0).unwrap_or_default();
    profile.set_cpuid(CpuidLeaf::Extended0, [eax, ebx | 1 << 2, ecx, edx]);
    profile
}

/// [`full`] without RTM, LAM, bus-lock detection, activity states, zero instruction lengths, half of CET, 5-level EPT,
/// its accessed and dirty flags and shadow stacks, and saving IA32_PERF_GLOBAL_CTRL.
#[must_use]
pub fn lean() -> CpuProfile {
    let mut profile = full();
    let [eax, ebx, ecx, edx] = profile.cpuid(CpuidLeaf::Extended0).unwrap_or_default();
    profile.set_cpuid(CpuidLeaf::Extended0, [eax, ebx & !(1 << 11), ecx & !(1 << 24), edx & !(1 << 20)]);
    profile.set_cpuid(CpuidLeaf::Extended1, [1 << 17, 0, 0, 0]);
    profile.set_msr(CapabilityMsr::Misc, MsrValue::Value(5));
    profile.set_msr(CapabilityMsr::EptVpidCap, MsrValue::Value(0x0F01_0601_4141));
    let exit = word(Exit::DEFAULT1.bits(), Exit::NAMES) & !(1 << (32 + 30));
    profile.set_msr(CapabilityMsr::Exit, MsrValue::Value(exit));
    profile.set_msr(CapabilityMsr::TrueExit, MsrValue::Value(exit));
    profile
}

/// [`full`] without FRED, though its CR4.FRED may be 1.
#[must_use]
pub fn without_fred() -> CpuProfile {
    let mut profile = full();
    let [eax, ebx, ecx, edx] = profile.cpuid(CpuidLeaf::Extended1).unwrap_or_default();
    profile.set_cpuid(CpuidLeaf::Extended1, [eax & !(1 << 17), ebx, ecx, edx]);
    profile
}

/// [`full`] with injection of any error code and of nested exceptions: IA32_VMX_BASIC\[56\] and \[58\].
#[must_use]
pub fn events() -> CpuProfile {
    basic(1 << 56 | 1 << 58)
}

/// [`full`] with 32-bit addresses in the VMCS: IA32_VMX_BASIC\[48\].
#[must_use]
pub fn short_addresses() -> CpuProfile {
    basic(1 << 48)
}

/// [`full`] with these bits of IA32_VMX_BASIC.
fn basic(bits: u64) -> CpuProfile {
    let mut profile = full();
    let old = profile.msr(CapabilityMsr::Basic).or_zero().unwrap_or_default();
    profile.set_msr(CapabilityMsr::Basic, MsrValue::Value(old | bits));
    profile
}

/// [`full`] with memory encryption that takes 6 bits of the physical address.
#[must_use]
pub fn encrypted() -> CpuProfile {
    let mut profile = full();
    let [eax, ebx, ecx, edx] = profile.cpuid(CpuidLeaf::Extended0).unwrap_or_default();
    profile.set_cpuid(CpuidLeaf::Extended0, [eax, ebx, ecx | 1 << 13, edx]);
    profile.set_msr(CapabilityMsr::TmeActivate, MsrValue::Value(1 | 6 << 36));
    profile
}

/// One of the first processors with VMX and Intel 64, as a Core 2 reports itself: it has no TRUE capability MSRs and no
/// secondary controls.
#[must_use]
pub fn first() -> CpuProfile {
    profile(
        &[
            (CapabilityMsr::Basic, 0x001A_0400_0000_0007),
            (CapabilityMsr::Pinbased, 0x0000_001F_0000_0016),
            (CapabilityMsr::Procbased, 0x77B9_FFFE_0401_E172),
            (CapabilityMsr::Exit, 0x0003_EFFF_0003_6DFF),
            (CapabilityMsr::Entry, 0x0000_1FFF_0000_11FF),
            (CapabilityMsr::Misc, 0x0004_03C0),
            (CapabilityMsr::Cr0Fixed0, 0x8000_0021),
            (CapabilityMsr::Cr0Fixed1, 0xFFFF_FFFF),
            (CapabilityMsr::Cr4Fixed0, 0x2000),
            (CapabilityMsr::Cr4Fixed1, 0x27FF),
        ],
        &[
            (CpuidLeaf::Features, [0x6F6, 0x2_0800, 0xE3BD, 0xBFEB_FBFF]),
            (CpuidLeaf::PerformanceMonitoring, [0x0728_0202, 0, 0, 0]),
            (CpuidLeaf::ExtendedFeatures, [0, 0, 1, 0x2010_0000]),
            (CpuidLeaf::AddressWidths, [0x3024, 0, 0, 0]),
        ],
    )
}

/// [`first`] without Intel 64, which yet allows the controls of IA-32e mode.
#[must_use]
pub fn without_intel_64() -> CpuProfile {
    let mut profile = first();
    profile.set_cpuid(CpuidLeaf::ExtendedFeatures, [0, 0, 0, 0x10_0000]);
    profile
}

/// A processor that has neither Intel 64 nor its controls.
#[must_use]
pub fn narrow() -> CpuProfile {
    let mut profile = without_intel_64();
    profile.set_msr(CapabilityMsr::Exit, MsrValue::Value(0x0003_EDFF_0003_6DFF));
    profile.set_msr(CapabilityMsr::Entry, MsrValue::Value(0x0000_1DFF_0000_11FF));
    profile
}

/// The processor of that name, a function of this module.
///
/// # Panics
/// No processor of this module has that name.
#[must_use]
pub fn by_name(name: &str) -> CpuProfile {
    match name {
        "full" => full(),
        "sgx" => sgx(),
        "lean" => lean(),
        "without_fred" => without_fred(),
        "encrypted" => encrypted(),
        "events" => events(),
        "short_addresses" => short_addresses(),
        "first" => first(),
        "without_intel_64" => without_intel_64(),
        "narrow" => narrow(),
        other => panic!("no profile {other}"),
    }
}
