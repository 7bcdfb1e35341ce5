//! The bits that registers reserve on a processor, derived once from its CPUID leaves.

use super::Facts;
use crate::msr::CapabilityMsr;
use crate::profile::{CpuidLeaf, CpuidRegisters};

/// The bits that a register reserves, as far as what is known of the processor tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReservedBits {
    /// Bits that the processor reserves.
    pub certain: u64,
    /// Bits that may be reserved or not: that depends on facts about the processor that are not known. 0 if all facts are
    /// known.
    pub open: u64,
}

impl ReservedBits {
    /// The bits that are reserved at the least and at the most.
    const fn between(certain: u64, possible: u64) -> Self {
        Self { certain, open: possible & !certain }
    }

    /// The bits above an address of at most `most` bits and at least `fewest`.
    pub(super) const fn above(most: u32, fewest: u32) -> Self {
        Self::between(u64::MAX << most, u64::MAX << fewest)
    }

    /// The same bits, as far as they are in `mask`.
    const fn within(self, mask: u64) -> Self {
        Self { certain: self.certain & mask, open: self.open & mask }
    }
}

/// Reserved bits of control registers and MSRs. Beside each stand the facts that it depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Physical addresses in registers and paging structures: 63:MAXPHYADDR, reduced by memory encryption.
    pub physical: ReservedBits,
    /// Physical addresses of a guest with EPT: 63:MAXPHYADDR, which memory encryption does not reduce.
    pub guest_physical: ReservedBits,
    /// CR3 of the host, and of a guest without EPT: 63:MAXPHYADDR, reduced by memory encryption, but for the
    /// linear-address masking bits 62:61 where they exist.
    pub cr3: ReservedBits,
    /// CR3 of a guest with EPT: memory encryption does not reduce the width of guest-physical addresses.
    pub cr3_with_ept: ReservedBits,
    /// IA32_EFER.
    pub efer: ReservedBits,
    /// IA32_DEBUGCTL.
    pub debugctl: ReservedBits,
    /// IA32_PERF_GLOBAL_CTRL.
    pub perf_global_ctrl: ReservedBits,
    /// IA32_S_CET and IA32_U_CET.
    pub cet: ReservedBits,
    /// IA32_SPEC_CTRL.
    pub spec_ctrl: ReservedBits,
    /// IA32_RTIT_CTL.
    pub rtit_ctl: ReservedBits,
    /// IA32_LBR_CTL.
    pub lbr_ctl: ReservedBits,
}

/// Every processor has 32 address bits.
const UPPER: u64 = u64::MAX << 32;

/// `bits` if bit `n` of `register` is 1.
const fn if_bit(register: u32, n: u32, bits: u64) -> u64 {
    if register >> n & 1 != 0 { bits } else { 0 }
}

/// What is known of a processor.
pub(super) struct KnownProcessor<'a> {
    /// The CPUID leaves. What stands here for a leaf in [`Self::unknown`] means nothing.
    pub(super) cpuid: &'a [CpuidRegisters; CpuidLeaf::ALL.len()],
    /// IA32_PERF_CAPABILITIES. What stands here means nothing if the MSR is in [`Self::unknown`].
    pub(super) perf_capabilities: u64,
    /// What is not known.
    pub(super) unknown: Facts,
    /// Whether the processor has Intel 64, if that is known.
    pub(super) intel_64: Option<bool>,
    /// Bits 63:MAXPHYADDR.
    pub(super) physical: ReservedBits,
    /// Bits 63:MAXPHYADDR, and those that memory encryption takes for key identifiers.
    pub(super) physical_with_keys: ReservedBits,
}

impl Reserved {
    /// What [`Self::physical`] and [`Self::guest_physical`] depend on.
    pub const PHYSICAL_FACTS: Facts =
        Facts::cpuid(CpuidLeaf::AddressWidths).and(Facts::msr(CapabilityMsr::TmeActivate));
    /// What [`Self::cr3`] and [`Self::cr3_with_ept`] depend on.
    pub const CR3_FACTS: Facts =
        Self::PHYSICAL_FACTS.and(Facts::cpuid(CpuidLeaf::Extended1)).and(Facts::cpuid(CpuidLeaf::ExtendedFeatures));
    /// What [`Self::efer`] depends on.
    pub const EFER_FACTS: Facts = Facts::cpuid(CpuidLeaf::ExtendedFeatures);
    /// What [`Self::debugctl`] depends on.
    pub const DEBUGCTL_FACTS: Facts = Facts::cpuid(CpuidLeaf::Features)
        .and(Facts::cpuid(CpuidLeaf::Extended0))
        .and(Facts::cpuid(CpuidLeaf::PerformanceMonitoring))
        .and(Facts::msr(CapabilityMsr::PerfCapabilities));
    /// What [`Self::perf_global_ctrl`] depends on.
    pub const PERF_GLOBAL_CTRL_FACTS: Facts = Facts::cpuid(CpuidLeaf::PerformanceMonitoring)
        .and(Facts::cpuid(CpuidLeaf::PerformanceExtended))
        .and(Facts::cpuid(CpuidLeaf::PerformanceCounters))
        .and(Facts::msr(CapabilityMsr::PerfCapabilities));
    /// What [`Self::cet`] depends on.
    pub const CET_FACTS: Facts = Facts::cpuid(CpuidLeaf::Extended0);
    /// What [`Self::spec_ctrl`] depends on.
    pub const SPEC_CTRL_FACTS: Facts = Facts::cpuid(CpuidLeaf::Extended0).and(Facts::cpuid(CpuidLeaf::Extended2));
    /// What [`Self::rtit_ctl`] depends on.
    pub const RTIT_CTL_FACTS: Facts = Facts::cpuid(CpuidLeaf::Trace0).and(Facts::cpuid(CpuidLeaf::Trace1));
    /// What [`Self::lbr_ctl`] depends on.
    pub const LBR_CTL_FACTS: Facts = Facts::cpuid(CpuidLeaf::LastBranch);

    pub(super) fn new(known: &KnownProcessor<'_>) -> Self {
        // A feature only takes bits away from the reserved ones. With all features that may be there, the fewest bits
        // are reserved, and with only those that are certainly there, the most bits.
        let (fewest, most) = (Masks::new(known, u32::MAX), Masks::new(known, 0));
        let both = |of: fn(&Masks) -> u64| ReservedBits::between(of(&fewest), of(&most));
        // Without Intel 64 the field has 32 bits, of which every processor has all.
        let wide = |bits: ReservedBits| match known.intel_64 {
            Some(true) => bits,
            Some(false) => ReservedBits::default(),
            None => ReservedBits { certain: 0, open: bits.certain | bits.open },
        };
        let cr3 = |physical: ReservedBits| {
            let masking = both(|masks| masks.linear_address_masking);
            let bits = ReservedBits::between(
                physical.certain & masking.certain,
                (physical.certain | physical.open) & (masking.certain | masking.open),
            );
            wide(bits.within(UPPER))
        };
        Self {
            physical: known.physical_with_keys,
            guest_physical: known.physical,
            cr3: cr3(known.physical_with_keys),
            cr3_with_ept: cr3(known.physical),
            efer: both(|masks| masks.efer),
            debugctl: both(|masks| masks.debugctl),
            perf_global_ctrl: both(|masks| masks.perf_global_ctrl),
            cet: both(|masks| masks.cet),
            spec_ctrl: both(|masks| masks.spec_ctrl),
            rtit_ctl: both(|masks| masks.rtit_ctl),
            lbr_ctl: both(|masks| masks.lbr_ctl),
        }
    }
}

/// Reserved bits by the features of a processor that is known in full.
struct Masks {
    /// Bits of CR3 that linear-address masking does not define.
    linear_address_masking: u64,
    efer: u64,
    debugctl: u64,
    perf_global_ctrl: u64,
    cet: u64,
    spec_ctrl: u64,
    rtit_ctl: u64,
    lbr_ctl: u64,
}

impl Masks {
    /// For a processor that has `assumed` in each register that is not known.
    fn new(known: &KnownProcessor<'_>, assumed: u32) -> Self {
        let leaf = |leaf: CpuidLeaf| {
            if known.unknown.intersects(Facts::cpuid(leaf)) { [assumed; 4] } else { known.cpuid[leaf as usize] }
        };
        let perf_capabilities = if known.unknown.intersects(Facts::msr(CapabilityMsr::PerfCapabilities)) {
            u64::from(assumed)
        } else {
            known.perf_capabilities
        };
        Self {
            linear_address_masking: !if_bit(leaf(CpuidLeaf::Extended1)[0], 26, 0x6000_0000_0000_0000),
            efer: {
                let [eax, ebx, ecx, edx] = leaf(CpuidLeaf::ExtendedFeatures);
                efer([eax, ebx, ecx, if known.intel_64 == Some(true) { edx | 1 << 29 } else { edx }])
            },
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
    perf_capabilities: u64,
) -> u64 {
    let lbr_btf = 1 << 0 | 1 << 1;
    let bus_lock = if_bit(extended_ecx, 24, 1 << 2);
    let branch_trace = if_bit(edx, 21, 1 << 6 | 1 << 7 | 1 << 8 | if_bit(ecx, 4, 1 << 9 | 1 << 10));
    let freeze_on_pmi = if monitoring & 0xFF > 1 { if_bit(ecx, 15, 1 << 11 | 1 << 12) } else { 0 };
    let freeze_while_smm = (perf_capabilities >> 12 & 1) << 14;
    let rtm = if_bit(extended_ebx, 11, 1 << 15);
    !(lbr_btf | bus_lock | branch_trace | freeze_on_pmi | freeze_while_smm | rtm)
}

/// SDM Vol. 3B, 21.2, Architectural Performance Monitoring. A counter exists if leaf 0AH or sub-leaf 23H.1 says so.
const fn perf_global_ctrl(
    [monitoring, _, fixed_bitmap, fixed]: CpuidRegisters,
    [sub_leaves, ..]: CpuidRegisters,
    [general_bitmap, more_fixed, ..]: CpuidRegisters,
    perf_capabilities: u64,
) -> u64 {
    let version = monitoring & 0xFF;
    if version < 2 {
        return u64::MAX;
    }
    let (general_bitmap, more_fixed) = if sub_leaves >> 1 & 1 != 0 { (general_bitmap, more_fixed) } else { (0, 0) };
    let general = low_bits(monitoring >> 8 & 0xFF) | general_bitmap;
    let fixed_bitmap = if version >= 5 { fixed_bitmap } else { 0 };
    let fixed = (low_bits(fixed & 0x1F) | fixed_bitmap | more_fixed) & 0xFFFF;
    let metrics = perf_capabilities >> 15 & 1;
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
    // TraceEn, OS, User, TSCEn, DisRETC, BranchEn.
    let always = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 10 | 1 << 11 | 1 << 13;
    !(always
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
    !(1 | if_bit(ebx, 0, 0b110) | if_bit(ebx, 2, 1 << 3) | if_bit(ebx, 1, 0x7F << 16))
}
