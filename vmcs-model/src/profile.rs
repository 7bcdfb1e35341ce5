//! A processor as data: raw capability MSRs and raw CPUID leaves.

use crate::field::FieldSet;
use crate::msr::CapabilityMsr;

/// Number of IA32_PERF_CAPABILITIES.
pub const IA32_PERF_CAPABILITIES: u32 = 0x345;
/// Number of IA32_TME_ACTIVATE.
pub const IA32_TME_ACTIVATE: u32 = 0x982;

/// What is known of an MSR's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MsrValue {
    /// Nobody read it.
    #[default]
    Unknown,
    /// RDMSR raises #GP: the processor does not have it.
    Absent,
    /// Its value.
    Value(u64),
}

impl MsrValue {
    /// The value, 0 for an MSR that the processor does not have, `None` if it is unknown.
    #[must_use]
    pub const fn or_zero(self) -> Option<u64> {
        match self {
            Self::Unknown => None,
            Self::Absent => Some(0),
            Self::Value(value) => Some(value),
        }
    }
}

/// The CPUID leaves that checks of a VM entry depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CpuidLeaf {
    /// 01H: feature flags.
    Features,
    /// 07H.0: structured extended features.
    Extended0,
    /// 07H.1.
    Extended1,
    /// 07H.2.
    Extended2,
    /// 0AH: architectural performance monitoring.
    PerformanceMonitoring,
    /// 0DH.1: XSAVE extensions and IA32_XSS.
    Xsave1,
    /// 12H.0: SGX capabilities.
    Sgx,
    /// 14H.0: Intel Processor Trace.
    Trace0,
    /// 14H.1: Intel Processor Trace, address filtering and timing.
    Trace1,
    /// 1CH: last-branch records.
    LastBranch,
    /// 23H.0: architectural performance monitoring, extended.
    PerformanceExtended,
    /// 23H.1: bitmaps of the performance counters.
    PerformanceCounters,
    /// 80000001H: extended feature flags.
    ExtendedFeatures,
    /// 80000008H: address widths.
    AddressWidths,
}

impl CpuidLeaf {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Features,
        Self::Extended0,
        Self::Extended1,
        Self::Extended2,
        Self::PerformanceMonitoring,
        Self::Xsave1,
        Self::Sgx,
        Self::Trace0,
        Self::Trace1,
        Self::LastBranch,
        Self::PerformanceExtended,
        Self::PerformanceCounters,
        Self::ExtendedFeatures,
        Self::AddressWidths,
    ];

    /// EAX and ECX of the query.
    #[must_use]
    pub const fn query(self) -> (u32, u32) {
        match self {
            Self::Features => (0x1, 0),
            Self::Extended0 => (0x7, 0),
            Self::Extended1 => (0x7, 1),
            Self::Extended2 => (0x7, 2),
            Self::PerformanceMonitoring => (0xA, 0),
            Self::Xsave1 => (0xD, 1),
            Self::Sgx => (0x12, 0),
            Self::Trace0 => (0x14, 0),
            Self::Trace1 => (0x14, 1),
            Self::LastBranch => (0x1C, 0),
            Self::PerformanceExtended => (0x23, 0),
            Self::PerformanceCounters => (0x23, 1),
            Self::ExtendedFeatures => (0x8000_0001, 0),
            Self::AddressWidths => (0x8000_0008, 0),
        }
    }

    /// The leaf of that query.
    #[must_use]
    pub fn by_query(leaf: u32, subleaf: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|l| l.query() == (leaf, subleaf))
    }
}

/// EAX, EBX, ECX, EDX of a CPUID leaf.
pub type CpuidRegisters = [u32; 4];

/// Where processors legitimately differ and no capability bit says how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Quirks {
    /// VMWRITE drops bits 11:8 and 31:17 of the guest access-rights fields. SDM 25.4.1, Guest Register State.
    pub access_rights_drop_reserved: bool,
    /// Components that the VMCS has although no capability bit promises them.
    pub fields_extra: FieldSet,
    /// Components that the VMCS lacks although a capability bit promises them.
    pub fields_missing: FieldSet,
}

/// A processor: what its capability MSRs and CPUID say, as read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuProfile {
    msrs: [MsrValue; CapabilityMsr::ALL.len()],
    cpuid: [Option<CpuidRegisters>; CpuidLeaf::ALL.len()],
    /// IA32_TME_ACTIVATE (982H), which can reduce the physical-address width. Absent unless set.
    pub tme_activate: u64,
    /// IA32_PERF_CAPABILITIES (345H): whether FREEZE_WHILE_SMM and PERF_METRICS exist.
    pub perf_capabilities: MsrValue,
    /// Differences without a capability bit.
    pub quirks: Quirks,
}

impl CpuProfile {
    /// What is known of that MSR.
    #[must_use]
    pub const fn msr(&self, msr: CapabilityMsr) -> MsrValue {
        self.msrs[msr as usize]
    }

    /// Sets that MSR.
    pub const fn set_msr(&mut self, msr: CapabilityMsr, value: MsrValue) {
        self.msrs[msr as usize] = value;
    }

    /// Sets the MSR of that number. `false` for one that no check depends on, which is skipped.
    pub fn set_msr_number(&mut self, number: u32, value: MsrValue) -> bool {
        match (CapabilityMsr::by_number(number), number) {
            (Some(msr), _) => self.set_msr(msr, value),
            (None, IA32_PERF_CAPABILITIES) => self.perf_capabilities = value,
            (None, IA32_TME_ACTIVATE) => self.tme_activate = value.or_zero().unwrap_or(0),
            (None, _) => return false,
        }
        true
    }

    /// That CPUID leaf, `None` if it is unknown.
    #[must_use]
    pub const fn cpuid(&self, leaf: CpuidLeaf) -> Option<CpuidRegisters> {
        self.cpuid[leaf as usize]
    }

    /// Sets that CPUID leaf. A leaf above the processor's highest is all zero.
    pub const fn set_cpuid(&mut self, leaf: CpuidLeaf, registers: CpuidRegisters) {
        self.cpuid[leaf as usize] = Some(registers);
    }
}
