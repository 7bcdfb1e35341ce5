//! Which values each MSR takes from an MSR-load area. SDM Vol. 4, Model-Specific Registers.

use crate::profile::CpuidLeaf::{self, Extended0, Extended1, ExtendedFeatures, Features, LastBranch, Trace0, Xsave1};

/// What WRMSR does with an MSR, or with a range of MSRs that are alike.
#[derive(Debug)]
pub struct MsrRule {
    /// The number of the first MSR of the range.
    pub first: u32,
    /// The number of the last MSR of the range; the same as `first` for a single one.
    pub last: u32,
    /// The SDM's name.
    pub name: &'static str,
    /// The condition under which the MSR exists: WRMSR of an MSR that does not exist raises #GP.
    pub exists: Exists,
    /// The values that WRMSR takes.
    pub takes: Takes,
}

/// A register of a CPUID leaf: index into EAX, EBX, ECX, EDX.
pub type Register = usize;
const EAX: Register = 0;
const EBX: Register = 1;
const ECX: Register = 2;
const EDX: Register = 3;

/// The condition under which a processor has an MSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exists {
    /// Every processor with VMX has it.
    Always,
    /// It exists if any of those bits of the CPUID register is 1.
    Cpuid(CpuidLeaf, Register, u32),
    /// It exists if any of those bits of either CPUID register is 1.
    Either((CpuidLeaf, Register, u32), (CpuidLeaf, Register, u32)),
    /// It exists if architectural performance monitoring has at least that version, CPUID.0AH:EAX\[7:0\].
    PerformanceMonitoring(u32),
    /// It exists if architectural performance monitoring has at least that version. A processor with a lower version may
    /// have another MSR of its own under the number, so that the model cannot tell.
    PerformanceMonitoringOrOwn(u32),
    /// It exists if the processor has the n-th general-purpose performance counter, where n is the MSR's number less the
    /// first of the range.
    GeneralCounter,
    /// It exists if the processor has the n-th fixed-function performance counter, counted in the same way.
    FixedCounter,
    /// It exists if Processor Trace has the n-th address range. Each range has two MSRs.
    TraceRange,
    /// SGX launch control: CPUID.(07H,0):ECX\[30\]. The MSRs can be written if IA32_FEATURE_CONTROL\[17\] is 1; where it is 0,
    /// a processor whose SGX was never activated takes writes all the same. SDM Vol. 3D, 40.1.4 (Intel SGX Launch Control
    /// Configuration).
    SgxLaunchControl,
    /// The dual-monitor treatment of SMIs: IA32_VMX_BASIC\[49\].
    DualMonitor,
    /// Nothing in a profile says whether it exists.
    NotKnown,
}

/// The values that WRMSR takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// WRMSR takes every value.
    Any,
    /// WRMSR takes no value: the MSR is read-only, or locked in VMX operation.
    Nothing,
    /// Values in which none of those bits is 1.
    Without(u64),
    /// Canonical addresses in which none of those bits is 1.
    Canonical(u64),
    /// Values in which none of the first bits is 1. If one of the second bits is 1, it is open whether WRMSR takes the
    /// value.
    WithoutOrOpen(u64, u64),
    /// IA32_MTRR_DEF_TYPE: a memory type in the low byte, and no reserved bit.
    MtrrDefType,
    /// A variable-range MTRR. In a base the low byte is a memory type, and bits 11:8 are 0. In a mask bits 10:0 are 0. In
    /// both the bits beyond the physical-address width are 0.
    MtrrVariable,
    /// A fixed-range MTRR: each byte is a memory type.
    MtrrFixed,
    /// IA32_PAT, by the rule of [`pat_valid`](crate::registers::pat_valid).
    Pat,
    /// IA32_APIC_BASE.
    ApicBase,
    /// IA32_SMM_MONITOR_CTL.
    SmmMonitorControl,
    /// IA32_SPEC_CTRL.
    SpecCtrl,
    /// IA32_DEBUGCTL.
    Debugctl,
    /// IA32_PERF_GLOBAL_CTRL.
    PerfGlobalCtrl,
    /// IA32_PERFEVTSELn.
    PerfEventSelect,
    /// IA32_FIXED_CTRn: no bits above the counter's width.
    FixedCounter,
    /// IA32_FIXED_CTR_CTRL.
    FixedCounterControl,
    /// An MSR of Processor Trace that cannot be written while TraceEn is 1; else as [`Self::WithoutOrOpen`].
    TraceWithoutOrOpen(u64, u64),
    /// IA32_RTIT_STATUS, which cannot be written while TraceEn is 1 either.
    TraceStatus,
    /// IA32_RTIT_OUTPUT_BASE.
    TraceOutputBase,
    /// IA32_RTIT_ADDRn.
    TraceAddress,
    /// IA32_RTIT_CTL.
    TraceControl,
    /// IA32_U_CET and IA32_S_CET.
    Cet,
    /// IA32_XSS.
    Xss,
    /// IA32_LBR_CTL.
    LbrControl,
    /// IA32_LBR_DEPTH.
    LbrDepth,
    /// IA32_EFER.
    Efer,
}

const UPPER: u64 = 0xFFFF_FFFF_0000_0000;
const EVERY_BIT: u64 = u64::MAX;
const NOT_ZERO_IS_OPEN: Takes = Takes::WithoutOrOpen(0, EVERY_BIT);
const FRED: Exists = Exists::Cpuid(Extended1, EAX, 1 << 17);
const SHADOW_STACKS: Exists = Exists::Cpuid(Extended0, ECX, 1 << 7);
const CET: Exists = Exists::Either((Extended0, ECX, 1 << 7), (Extended0, EDX, 1 << 20));
const INTEL_64: Exists = Exists::Cpuid(ExtendedFeatures, EDX, 1 << 29);
const MTRR: Exists = Exists::Cpuid(Features, EDX, 1 << 12);
const USER_INTERRUPTS: Exists = Exists::Cpuid(Extended0, EDX, 1 << 5);
const SYSENTER: Exists = Exists::Cpuid(Features, EDX, 1 << 11);
const TRACE: Exists = Exists::Cpuid(Extended0, EBX, 1 << 25);
const XFD: Exists = Exists::Cpuid(Xsave1, EAX, 1 << 4);

const fn row(number: u32, name: &'static str, exists: Exists, takes: Takes) -> MsrRule {
    range(number, number, name, exists, takes)
}

const fn range(first: u32, last: u32, name: &'static str, exists: Exists, takes: Takes) -> MsrRule {
    MsrRule { first, last, name, exists, takes }
}

/// The rule of the MSR `number`, `None` if the SDM does not say which values it takes.
#[must_use]
#[inline]
pub fn msr_rule(number: u32) -> Option<&'static MsrRule> {
    MSR_RULES.get(usize::from(BY_NUMBER[slot(number)])).filter(|rule| rule.first <= number && number <= rule.last)
}

/// For each [`slot`] the index of the row that may be the rule of its numbers. The index lies beyond the rows if there is
/// none.
static BY_NUMBER: [u8; SLOTS] = {
    let mut slots = [u8::MAX; SLOTS];
    assert!(MSR_RULES.len() < u8::MAX as usize, "an index has eight bits");
    let mut i: u8 = 0;
    while (i as usize) < MSR_RULES.len() {
        let mut number = MSR_RULES[i as usize].first;
        while number <= MSR_RULES[i as usize].last {
            assert!(slots[slot(number)] == u8::MAX, "two MSRs have one slot");
            slots[slot(number)] = i;
            number += 1;
        }
        i += 1;
    }
    slots
};

const SLOTS: usize = 0x2000;

/// A number below [`SLOTS`] for an MSR's number. Most MSRs lie below 2000H; the few at 4000_0000H and C000_0000H get slots
/// between those that are in use.
const fn slot(number: u32) -> usize {
    (number ^ number >> 19) as usize % SLOTS
}

/// Every MSR of which the SDM says which values WRMSR takes, ordered by number. MSRs that cannot be loaded at a VM entry
/// whatever the value (IA32_FS_BASE, IA32_GS_BASE, the x2APIC registers) are not listed here; rows of
/// [`MsrLoadCheck`](super::MsrLoadCheck) refuse them.
pub static MSR_RULES: &[MsrRule] = &[
    row(0x10, "IA32_TIME_STAMP_COUNTER", Exists::Cpuid(Features, EDX, 1 << 4), Takes::Any),
    row(0x17, "IA32_PLATFORM_ID", Exists::Always, Takes::Nothing),
    row(0x1B, "IA32_APIC_BASE", Exists::Cpuid(Features, EDX, 1 << 9), Takes::ApicBase),
    row(0x1C, "IA32_USER_MSR_CTL", Exists::Cpuid(Extended1, EDX, 1 << 15), Takes::Canonical(0xFFE)),
    row(0x2F, "IA32_BARRIER", Exists::Cpuid(Extended1, EAX, 1 << 27), NOT_ZERO_IS_OPEN),
    // VMXON needs bit 0 (lock) to be 1.
    row(0x3A, "IA32_FEATURE_CONTROL", Exists::Always, Takes::Nothing),
    row(0x3B, "IA32_TSC_ADJUST", Exists::Cpuid(Extended0, EBX, 1 << 1), Takes::Any),
    row(0x48, "IA32_SPEC_CTRL", Exists::Cpuid(Extended0, EDX, 1 << 26 | 1 << 27 | 1 << 31), Takes::SpecCtrl),
    row(0x49, "IA32_PRED_CMD", Exists::Cpuid(Extended0, EDX, 1 << 26), Takes::Without(!1)),
    // Which values WRMSR takes does not matter: the row on MSRs that a processor may refuse decides.
    row(0x79, "IA32_BIOS_UPDT_TRIG", Exists::Always, Takes::Any),
    row(0x8B, "IA32_BIOS_SIGN_ID", Exists::Always, NOT_ZERO_IS_OPEN),
    range(0x8C, 0x8F, "IA32_SGXLEPUBKEYHASHn", Exists::SgxLaunchControl, Takes::Any),
    row(0x9B, "IA32_SMM_MONITOR_CTL", Exists::DualMonitor, Takes::SmmMonitorControl),
    row(0x9E, "IA32_SMBASE", Exists::Always, Takes::Nothing),
    range(0xC1, 0xC8, "IA32_PMCn", Exists::GeneralCounter, Takes::Any),
    row(0xCF, "IA32_CORE_CAPABILITIES", Exists::Cpuid(Extended0, EDX, 1 << 30), Takes::Nothing),
    row(0xE1, "IA32_UMWAIT_CONTROL", Exists::Cpuid(Extended0, ECX, 1 << 5), Takes::Without(UPPER | 1 << 1)),
    row(0xFE, "IA32_MTRRCAP", Exists::Always, Takes::Nothing),
    row(0x10A, "IA32_ARCH_CAPABILITIES", Exists::Always, Takes::Nothing),
    row(0x10B, "IA32_FLUSH_CMD", Exists::Cpuid(Extended0, EDX, 1 << 28), Takes::Without(!1)),
    row(0x122, "IA32_TSX_CTRL", Exists::NotKnown, Takes::Without(!3)),
    row(0x174, "IA32_SYSENTER_CS", SYSENTER, Takes::Any),
    range(0x175, 0x176, "IA32_SYSENTER_ESP, IA32_SYSENTER_EIP", SYSENTER, Takes::Canonical(0)),
    row(0x179, "IA32_MCG_CAP", Exists::Always, Takes::Nothing),
    range(0x186, 0x18D, "IA32_PERFEVTSELn", Exists::GeneralCounter, Takes::PerfEventSelect),
    range(0x1C4, 0x1C5, "IA32_XFD, IA32_XFD_ERR", XFD, NOT_ZERO_IS_OPEN),
    range(0x1CC, 0x1CF, "IA32_FRED_RSPn", FRED, Takes::Canonical(0x3F)),
    row(0x1D0, "IA32_FRED_STKLVLS", FRED, Takes::Any),
    range(0x1D1, 0x1D3, "IA32_FRED_SSPn", FRED, Takes::Canonical(7)),
    row(0x1D4, "IA32_FRED_CONFIG", FRED, Takes::Canonical(super::host_registers::FRED_CONFIG_RESERVED)),
    row(0x1D9, "IA32_DEBUGCTL", Exists::Always, Takes::Debugctl),
    range(0x200, 0x20F, "IA32_MTRR_PHYSBASEn, IA32_MTRR_PHYSMASKn", MTRR, Takes::MtrrVariable),
    row(0x250, "IA32_MTRR_FIX64K_00000", MTRR, Takes::MtrrFixed),
    range(0x258, 0x259, "IA32_MTRR_FIX16K_n", MTRR, Takes::MtrrFixed),
    range(0x268, 0x26F, "IA32_MTRR_FIX4K_n", MTRR, Takes::MtrrFixed),
    row(0x277, "IA32_PAT", Exists::Cpuid(Features, EDX, 1 << 16), Takes::Pat),
    row(0x2FF, "IA32_MTRR_DEF_TYPE", MTRR, Takes::MtrrDefType),
    range(0x309, 0x310, "IA32_FIXED_CTRn", Exists::FixedCounter, Takes::FixedCounter),
    row(0x345, "IA32_PERF_CAPABILITIES", Exists::Cpuid(Features, ECX, 1 << 15), Takes::Nothing),
    row(0x38D, "IA32_FIXED_CTR_CTRL", Exists::PerformanceMonitoring(2), Takes::FixedCounterControl),
    row(0x38E, "IA32_PERF_GLOBAL_STATUS", Exists::Always, Takes::Nothing),
    row(0x38F, "IA32_PERF_GLOBAL_CTRL", Exists::PerformanceMonitoring(2), Takes::PerfGlobalCtrl),
    row(0x390, "IA32_PERF_GLOBAL_STATUS_RESET", Exists::PerformanceMonitoring(2), NOT_ZERO_IS_OPEN),
    // An uncore MSR on client processors before version 4. SDM Vol. 4, 2.8 and 2.11.
    row(0x391, "IA32_PERF_GLOBAL_STATUS_SET", Exists::PerformanceMonitoringOrOwn(4), NOT_ZERO_IS_OPEN),
    range(0x480, 0x493, "VMX capability MSRs", Exists::Always, Takes::Nothing),
    row(0x500, "IA32_SGX_SVN_STATUS", Exists::Cpuid(Extended0, EBX, 1 << 2), Takes::Nothing),
    row(0x560, "IA32_RTIT_OUTPUT_BASE", Exists::Cpuid(Trace0, ECX, 0b101), Takes::TraceOutputBase),
    row(0x561, "IA32_RTIT_OUTPUT_MASK_PTRS", Exists::Cpuid(Trace0, ECX, 0b101), Takes::TraceWithoutOrOpen(0, 0)),
    row(0x570, "IA32_RTIT_CTL", TRACE, Takes::TraceControl),
    row(0x571, "IA32_RTIT_STATUS", TRACE, Takes::TraceStatus),
    // The SDM reserves bits 4:0; a Skylake (06_5EH) refuses bits 11:5 as well.
    row(0x572, "IA32_RTIT_CR3_MATCH", Exists::Cpuid(Trace0, EBX, 1 << 0), Takes::TraceWithoutOrOpen(0x1F, 0xFE0)),
    range(0x580, 0x587, "IA32_RTIT_ADDRn_A, IA32_RTIT_ADDRn_B", Exists::TraceRange, Takes::TraceAddress),
    row(0x600, "IA32_DS_AREA", Exists::Cpuid(Features, EDX, 1 << 21), Takes::Canonical(0)),
    row(0x6A0, "IA32_U_CET", CET, Takes::Cet),
    row(0x6A2, "IA32_S_CET", CET, Takes::Cet),
    row(
        0x6A4,
        "IA32_PL0_SSP",
        Exists::Either((Extended0, ECX, 1 << 7), (Extended1, EAX, 1 << 17)),
        Takes::Canonical(3),
    ),
    range(0x6A5, 0x6A7, "IA32_PLn_SSP", SHADOW_STACKS, Takes::Canonical(3)),
    row(0x6A8, "IA32_INTERRUPT_SSP_TABLE_ADDR", SHADOW_STACKS, Takes::Canonical(0)),
    row(0x6E0, "IA32_TSC_DEADLINE", Exists::Cpuid(Features, ECX, 1 << 24), Takes::Any),
    row(0x6E1, "IA32_PKRS", Exists::Cpuid(Extended0, ECX, 1 << 31), Takes::Without(UPPER)),
    row(0x985, "IA32_UINTR_RR", USER_INTERRUPTS, Takes::Any),
    row(0x986, "IA32_UINTR_HANDLER", USER_INTERRUPTS, Takes::Canonical(0)),
    row(0x987, "IA32_UINTR_STACKADJUST", USER_INTERRUPTS, Takes::Canonical(0b110)),
    row(0x988, "IA32_UINTR_MISC", USER_INTERRUPTS, Takes::Without(u64::MAX << 40)),
    row(0x989, "IA32_UINTR_PD", USER_INTERRUPTS, Takes::Canonical(0x3F)),
    row(0x98A, "IA32_UINTR_TT", USER_INTERRUPTS, Takes::Canonical(0b1110)),
    row(0xD90, "IA32_BNDCFGS", Exists::Cpuid(Extended0, EBX, 1 << 14), Takes::Canonical(0xFFC)),
    row(0xD93, "IA32_PASID", Exists::Cpuid(Extended0, ECX, 1 << 29), Takes::Without(UPPER | 0x7FF0_0000)),
    row(0xDA0, "IA32_XSS", Exists::Cpuid(Xsave1, EAX, 1 << 3), Takes::Xss),
    row(0x14CE, "IA32_LBR_CTL", Exists::Cpuid(Extended0, EDX, 1 << 19), Takes::LbrControl),
    row(0x14CF, "IA32_LBR_DEPTH", Exists::Cpuid(LastBranch, EAX, 0xFF), Takes::LbrDepth),
    row(0x1B01, "IA32_UARCH_MISC_CTL", Exists::NotKnown, Takes::Without(!1)),
    // SDM Vol. 4: no processor will ever implement these numbers.
    range(0x4000_0000, 0x4000_00FF, "numbers left to hypervisors", Exists::Always, Takes::Nothing),
    row(0xC000_0080, "IA32_EFER", Exists::Cpuid(ExtendedFeatures, EDX, 1 << 11 | 1 << 20 | 1 << 29), Takes::Efer),
    row(0xC000_0081, "IA32_STAR", INTEL_64, Takes::Any),
    range(0xC000_0082, 0xC000_0083, "IA32_LSTAR, IA32_CSTAR", INTEL_64, Takes::Canonical(0)),
    row(0xC000_0084, "IA32_FMASK", INTEL_64, Takes::WithoutOrOpen(0, UPPER)),
    row(0xC000_0102, "IA32_KERNEL_GS_BASE", INTEL_64, Takes::Canonical(0)),
    row(
        0xC000_0103,
        "IA32_TSC_AUX",
        Exists::Either((ExtendedFeatures, EDX, 1 << 27), (Extended0, ECX, 1 << 22)),
        Takes::Without(UPPER),
    ),
];

#[cfg(test)]
mod tests {
    use super::{MSR_RULES, msr_rule};

    #[test]
    fn rules_are_in_order_and_do_not_overlap() {
        for pair in MSR_RULES.windows(2) {
            assert!(pair[0].last < pair[1].first, "{} and {}", pair[0].name, pair[1].name);
        }
        for rule in MSR_RULES {
            assert!(rule.first <= rule.last);
            assert_eq!(msr_rule(rule.first).map(|found| found.name), Some(rule.name));
            assert_eq!(msr_rule(rule.last).map(|found| found.name), Some(rule.name));
        }
        assert!(msr_rule(0).is_none() && msr_rule(u32::MAX).is_none() && msr_rule(0x6A1).is_none());
    }
}
