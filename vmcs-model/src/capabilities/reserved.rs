//! The bits that registers reserve on a processor, derived once from its CPUID leaves.

use super::Facts;
use crate::profile::{CpuidLeaf, CpuidRegisters, MsrValue};

/// Reserved bits of control registers and MSRs. Beside each stand the facts that it depends on, and the bits that
/// some processor defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Physical addresses in registers and paging structures: 63:MAXPHYADDR, reduced by memory encryption.
    pub physical: u64,
    /// CR3 of the host, and of a guest without EPT: 63:MAXPHYADDR, reduced by memory encryption, but for the
    /// linear-address masking bits 62:61 where they exist.
    pub cr3: u64,
    /// CR3 of a guest with EPT: memory encryption does not reduce the width of guest-physical addresses.
    pub cr3_with_ept: u64,
    /// IA32_EFER.
    pub efer: u64,
    /// IA32_DEBUGCTL.
    pub debugctl: u64,
    /// IA32_PERF_GLOBAL_CTRL.
    pub perf_global_ctrl: u64,
    /// IA32_S_CET and IA32_U_CET.
    pub cet: u64,
    /// IA32_SPEC_CTRL.
    pub spec_ctrl: u64,
    /// IA32_RTIT_CTL.
    pub rtit_ctl: u64,
    /// IA32_LBR_CTL.
    pub lbr_ctl: u64,
}

/// Every processor has 32 address bits.
const UPPER: u64 = u64::MAX << 32;

/// `bits` if bit `n` of `register` is 1.
const fn if_bit(register: u32, n: u32, bits: u64) -> u64 {
    if register >> n & 1 != 0 { bits } else { 0 }
}

impl Reserved {
    /// What [`Self::cr3`] depends on.
    pub const CR3_FACTS: Facts = Facts::cpuid(CpuidLeaf::AddressWidths)
        .and(Facts::cpuid(CpuidLeaf::Extended1))
        .and(Facts::cpuid(CpuidLeaf::ExtendedFeatures));
    /// What [`Self::efer`] depends on.
    pub const EFER_FACTS: Facts = Facts::cpuid(CpuidLeaf::ExtendedFeatures);
    /// Bits of IA32_EFER that some processor defines.
    pub const EFER_DEFINED: u64 = 0xD01;
    /// What [`Self::debugctl`] depends on.
    pub const DEBUGCTL_FACTS: Facts = Facts::cpuid(CpuidLeaf::Features)
        .and(Facts::cpuid(CpuidLeaf::Extended0))
        .and(Facts::cpuid(CpuidLeaf::PerformanceMonitoring))
        .and(Facts::PERF_CAPABILITIES);
    /// Bits of IA32_DEBUGCTL that some processor defines.
    pub const DEBUGCTL_DEFINED: u64 = 0xFFC7;
    /// Bits of IA32_DEBUGCTL that every processor defines: LBR and BTF.
    pub const DEBUGCTL_ALWAYS_DEFINED: u64 = 1 << 0 | 1 << 1;
    /// What [`Self::perf_global_ctrl`] depends on.
    pub const PERF_GLOBAL_CTRL_FACTS: Facts = Facts::cpuid(CpuidLeaf::PerformanceMonitoring)
        .and(Facts::cpuid(CpuidLeaf::PerformanceExtended))
        .and(Facts::cpuid(CpuidLeaf::PerformanceCounters))
        .and(Facts::PERF_CAPABILITIES);
    /// Bits of IA32_PERF_GLOBAL_CTRL that some processor defines.
    pub const PERF_GLOBAL_CTRL_DEFINED: u64 = 0x0001_FFFF_FFFF_FFFF;
    /// What [`Self::cet`] depends on.
    pub const CET_FACTS: Facts = Facts::cpuid(CpuidLeaf::Extended0);
    /// Bits of IA32_S_CET that some processor defines.
    pub const CET_DEFINED: u64 = !0x3C0;
    /// What [`Self::spec_ctrl`] depends on.
    pub const SPEC_CTRL_FACTS: Facts = Facts::cpuid(CpuidLeaf::Extended0).and(Facts::cpuid(CpuidLeaf::Extended2));
    /// Bits of IA32_SPEC_CTRL that some processor defines.
    pub const SPEC_CTRL_DEFINED: u64 = 0x5FF;
    /// What [`Self::rtit_ctl`] depends on.
    pub const RTIT_CTL_FACTS: Facts = Facts::cpuid(CpuidLeaf::Trace0).and(Facts::cpuid(CpuidLeaf::Trace1));
    /// Bits of IA32_RTIT_CTL that some processor defines.
    pub const RTIT_CTL_DEFINED: u64 = 0x0180_FFFF_8F7B_FFFF;
    /// Bits of IA32_RTIT_CTL that every processor with Processor Trace defines: TraceEn, OS, User, TSCEn, DisRETC and
    /// BranchEn.
    pub const RTIT_CTL_ALWAYS_DEFINED: u64 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 10 | 1 << 11 | 1 << 13;
    /// What [`Self::lbr_ctl`] depends on.
    pub const LBR_CTL_FACTS: Facts = Facts::cpuid(CpuidLeaf::LastBranch);
    /// Bits of IA32_LBR_CTL that some processor defines.
    pub const LBR_CTL_DEFINED: u64 = 0x7F_000F;
    /// The bit of IA32_LBR_CTL that every processor with the MSR defines: LBREn.
    pub const LBR_CTL_ALWAYS_DEFINED: u64 = 1 << 0;

    pub(super) fn new(
        cpuid: &[CpuidRegisters; CpuidLeaf::ALL.len()],
        perf_capabilities: MsrValue,
        physical_reserved: u64,
        key_bits: u32,
    ) -> Self {
        let leaf = |leaf: CpuidLeaf| cpuid[leaf as usize];
        let lam = if_bit(leaf(CpuidLeaf::Extended1)[0], 26, 0x6000_0000_0000_0000);
        // Without Intel 64 the field has 32 bits.
        let wide = if_bit(leaf(CpuidLeaf::ExtendedFeatures)[3], 29, u64::MAX);
        let physical = (physical_reserved.cast_signed() >> key_bits).cast_unsigned();
        Self {
            physical,
            cr3: physical & !lam & wide & UPPER,
            cr3_with_ept: physical_reserved & !lam & wide & UPPER,
            efer: efer(leaf(CpuidLeaf::ExtendedFeatures)),
            debugctl: debugctl(
                leaf(CpuidLeaf::Features),
                leaf(CpuidLeaf::Extended0),
                leaf(CpuidLeaf::PerformanceMonitoring),
                perf_capabilities,
            ),
            perf_global_ctrl: perf_global_ctrl(
                leaf(CpuidLeaf::PerformanceMonitoring),
                leaf(CpuidLeaf::PerformanceExtended),
                leaf(CpuidLeaf::PerformanceCounters),
                perf_capabilities,
            ),
            cet: cet(leaf(CpuidLeaf::Extended0)),
            spec_ctrl: spec_ctrl(leaf(CpuidLeaf::Extended0), leaf(CpuidLeaf::Extended2)),
            rtit_ctl: rtit_ctl(leaf(CpuidLeaf::Trace0), leaf(CpuidLeaf::Trace1)),
            lbr_ctl: lbr_ctl(leaf(CpuidLeaf::LastBranch)),
        }
    }
}

/// SDM Vol. 3A, 2.2.1, Extended Feature Enable Register.
const fn efer([.., edx]: CpuidRegisters) -> u64 {
    // CPUID reports SYSCALL in 64-bit mode only, and every processor with Intel 64 has it.
    let long = if_bit(edx, 29, 1 << 0 | 1 << 8 | 1 << 10);
    !(if_bit(edx, 11, 1 << 0) | long | if_bit(edx, 20, 1 << 11))
}

/// SDM Vol. 3B, 19.4.1, IA32_DEBUGCTL MSR. Bit 13 (uncore PMI) is model-specific and not enumerated: reserved here.
const fn debugctl(
    [_, _, ecx, edx]: CpuidRegisters,
    [_, extended_ebx, extended_ecx, _]: CpuidRegisters,
    [monitoring, ..]: CpuidRegisters,
    perf_capabilities: MsrValue,
) -> u64 {
    let bus_lock = if_bit(extended_ecx, 24, 1 << 2);
    let branch_trace = if_bit(edx, 21, 1 << 6 | 1 << 7 | 1 << 8 | if_bit(ecx, 4, 1 << 9 | 1 << 10));
    let freeze_on_pmi = if monitoring & 0xFF > 1 { if_bit(ecx, 15, 1 << 11 | 1 << 12) } else { 0 };
    let freeze_while_smm = match perf_capabilities {
        MsrValue::Value(value) => value >> 12 & 1,
        MsrValue::Absent => 0,
        MsrValue::Unknown => (ecx >> 15 & 1) as u64,
    } << 14;
    let rtm = if_bit(extended_ebx, 11, 1 << 15);
    !(Reserved::DEBUGCTL_ALWAYS_DEFINED | bus_lock | branch_trace | freeze_on_pmi | freeze_while_smm | rtm)
}

/// SDM Vol. 3B, 21.2, Architectural Performance Monitoring. A counter exists if leaf 0AH or sub-leaf 23H.1 says so.
const fn perf_global_ctrl(
    [monitoring, _, fixed_bitmap, fixed]: CpuidRegisters,
    [sub_leaves, ..]: CpuidRegisters,
    [general_bitmap, more_fixed, ..]: CpuidRegisters,
    perf_capabilities: MsrValue,
) -> u64 {
    let version = monitoring & 0xFF;
    if version < 2 {
        return u64::MAX;
    }
    let (general_bitmap, more_fixed) = if sub_leaves >> 1 & 1 != 0 { (general_bitmap, more_fixed) } else { (0, 0) };
    let general = low_bits(monitoring >> 8 & 0xFF) | general_bitmap;
    let fixed_bitmap = if version >= 5 { fixed_bitmap } else { 0 };
    let fixed = (low_bits(fixed & 0x1F) | fixed_bitmap | more_fixed) & 0xFFFF;
    let metrics = match perf_capabilities {
        MsrValue::Value(value) => value >> 15 & 1,
        MsrValue::Absent | MsrValue::Unknown => 0,
    };
    !(general as u64 | (fixed as u64) << 32 | metrics << 48)
}

/// The lowest `count` bits of a dword.
const fn low_bits(count: u32) -> u32 {
    if count >= 32 { u32::MAX } else { (1 << count) - 1 }
}

/// SDM Vol. 1, 17.2, and Vol. 4: bits 1:0 are of shadow stacks, 5:2, 11:10 and 63:12 of indirect-branch tracking.
const fn cet([_, _, ecx, edx]: CpuidRegisters) -> u64 {
    !(if_bit(ecx, 7, 0b11) | if_bit(edx, 20, 0xFFFF_FFFF_FFFF_FC3C))
}

/// SDM Vol. 4, IA32_SPEC_CTRL. STIBP is ignored where only IBRS is enumerated.
const fn spec_ctrl([.., edx]: CpuidRegisters, [.., edx2]: CpuidRegisters) -> u64 {
    !(if_bit(edx, 26, 0b11)
        | if_bit(edx, 27, 1 << 1)
        | if_bit(edx, 31, 1 << 2)
        | if_bit(edx2, 1, 0b11 << 3)
        | if_bit(edx2, 2, 0b11 << 5)
        | if_bit(edx2, 0, 1 << 7)
        | if_bit(edx2, 3, 1 << 8)
        | if_bit(edx2, 4, 1 << 10))
}

/// SDM Vol. 3C, 34.2.8.2, IA32_RTIT_CTL MSR.
const fn rtit_ctl([_, ebx, ecx, _]: CpuidRegisters, [ranges, ..]: CpuidRegisters) -> u64 {
    let cycles = if_bit(ebx, 1, 1 << 1 | 0xF << 19 | 0xF << 24);
    let mini_time = if_bit(ebx, 3, 1 << 9 | 0xF << 14);
    let ptwrite = if_bit(ebx, 4, 1 << 5 | 1 << 12);
    let addresses = if ranges & 7 >= 4 { 0xFFFF } else { (1u64 << (4 * (ranges & 7))) - 1 } << 32;
    !(Reserved::RTIT_CTL_ALWAYS_DEFINED
        | cycles
        | mini_time
        | ptwrite
        | addresses
        | if_bit(ebx, 5, 1 << 4)
        | if_bit(ecx, 3, 1 << 6)
        | if_bit(ebx, 0, 1 << 7)
        | if_bit(ecx, 0, 1 << 8)
        | if_bit(ebx, 7, 1 << 31)
        | if_bit(ebx, 8, 1 << 55)
        | if_bit(ebx, 6, 1 << 56))
}

/// SDM Vol. 3B, 20.1.2 (LBR configuration).
const fn lbr_ctl([_, ebx, ..]: CpuidRegisters) -> u64 {
    !(Reserved::LBR_CTL_ALWAYS_DEFINED | if_bit(ebx, 0, 0b110) | if_bit(ebx, 2, 1 << 3) | if_bit(ebx, 1, 0x7F << 16))
}
