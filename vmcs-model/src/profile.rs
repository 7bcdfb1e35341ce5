//! A processor as data: raw capability MSRs and raw CPUID leaves.

use crate::field::FieldSet;
use crate::msr::CapabilityMsr;

/// What is known of an MSR's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MsrValue {
    /// The value is not known, because it was not read.
    #[default]
    Unknown,
    /// RDMSR raises #GP: the processor does not have it.
    Absent,
    /// RDMSR returns this value.
    Value(u64),
}

impl MsrValue {
    /// The value of the MSR: 0 if the processor does not have the MSR, `None` if the value is unknown.
    #[must_use]
    pub const fn or_zero(self) -> Option<u64> {
        match self {
            Self::Unknown => None,
            Self::Absent => Some(0),
            Self::Value(value) => Some(value),
        }
    }
}

/// The CPUID leaves that checks of a VM entry depend on, and the two that say which leaves there are.
///
/// This is the one list of them. The probe reads these, profile files hold these, and a [`Facts`] set has a bit for each.
///
/// [`Facts`]: crate::capabilities::Facts
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CpuidLeaf {
    /// 0H: EAX is the highest basic leaf. What lies above it, below 80000000H, does not exist.
    Highest,
    /// 01H: feature flags.
    Features,
    /// 07H.0: structured extended features.
    Extended0,
    /// 07H.1: structured extended features, sub-leaf 1.
    Extended1,
    /// 07H.2: structured extended features, sub-leaf 2.
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
    /// 80000000H: EAX is the highest extended leaf. What lies above it does not exist.
    HighestExtended,
    /// 80000001H: extended feature flags.
    ExtendedFeatures,
    /// 80000008H: address widths.
    AddressWidths,
}

impl CpuidLeaf {
    /// All of these leaves, by number.
    pub const ALL: [Self; 16] = [
        Self::Highest,
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
        Self::HighestExtended,
        Self::ExtendedFeatures,
        Self::AddressWidths,
    ];

    /// The values of EAX and ECX with which CPUID returns the leaf.
    #[must_use]
    pub const fn query(self) -> (u32, u32) {
        match self {
            Self::Highest => (0x0, 0),
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
            Self::HighestExtended => (0x8000_0000, 0),
            Self::ExtendedFeatures => (0x8000_0001, 0),
            Self::AddressWidths => (0x8000_0008, 0),
        }
    }

    /// The leaf that CPUID returns for EAX `leaf` and ECX `subleaf`, `None` if it is not one of these.
    #[must_use]
    pub fn by_query(leaf: u32, subleaf: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|l| l.query() == (leaf, subleaf))
    }
}

/// EAX, EBX, ECX, EDX of a CPUID leaf.
pub type CpuidRegisters = [u32; 4];

/// Differences between processors that the SDM allows and that no capability bit reports.
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
    /// The processor has Intel 64, as is known although nobody read leaf 80000001H: it was seen in IA-32e mode. If the leaf
    /// was read, the leaf counts.
    pub seen_in_ia32e_mode: bool,
    /// Differences that no capability bit reports.
    pub quirks: Quirks,
}

impl CpuProfile {
    /// What was read of that MSR.
    #[must_use]
    pub const fn msr(&self, msr: CapabilityMsr) -> MsrValue {
        self.msrs[msr as usize]
    }

    /// Sets what was read of that MSR.
    pub const fn set_msr(&mut self, msr: CapabilityMsr, value: MsrValue) {
        self.msrs[msr as usize] = value;
    }

    /// What was read of that CPUID leaf, `None` if nobody read it.
    #[must_use]
    pub const fn cpuid(&self, leaf: CpuidLeaf) -> Option<CpuidRegisters> {
        self.cpuid[leaf as usize]
    }

    /// Sets what was read of that CPUID leaf.
    pub const fn set_cpuid(&mut self, leaf: CpuidLeaf, registers: CpuidRegisters) {
        self.cpuid[leaf as usize] = Some(registers);
    }

    /// Forgets what was read of that CPUID leaf.
    pub const fn forget_cpuid(&mut self, leaf: CpuidLeaf) {
        self.cpuid[leaf as usize] = None;
    }

    /// What is known of that MSR: what was read, or that it does not exist because CPUID says so.
    #[must_use]
    pub fn known_msr(&self, msr: CapabilityMsr) -> MsrValue {
        let read = self.msr(msr);
        // Register and bit of the leaf that announces the MSR.
        let announced = match msr {
            CapabilityMsr::PerfCapabilities => (CpuidLeaf::Features, 2, 15),
            CapabilityMsr::TmeActivate => (CpuidLeaf::Extended0, 2, 13),
            _ => return read,
        };
        let (leaf, register, bit): (_, usize, u32) = announced;
        match self.known_cpuid(leaf).and_then(|registers| registers.get(register).copied()) {
            Some(register) if read == MsrValue::Unknown && register >> bit & 1 == 0 => MsrValue::Absent,
            _ => read,
        }
    }

    /// The profile with 0 in every MSR and CPUID leaf that is not known: everything is known of such a processor.
    #[must_use]
    pub fn with_zero_for_unknown(mut self) -> Self {
        for msr in CapabilityMsr::ALL {
            if self.known_msr(msr) == MsrValue::Unknown {
                self.set_msr(msr, MsrValue::Value(0));
            }
        }
        for leaf in CpuidLeaf::ALL {
            if self.known_cpuid(leaf).is_none() {
                self.set_cpuid(leaf, [0; 4]);
            }
        }
        self
    }

    /// What is known of that CPUID leaf: what was read, or all zero because another leaf says that it does not exist;
    /// `None` if it is not known.
    ///
    /// Leaves 0H and 80000000H say which leaf is the highest, leaves 07H, 14H and 23H which sub-leaves there are. A
    /// processor answers a query above its highest basic leaf with that leaf; what counts is that it has no such features.
    #[must_use]
    pub fn known_cpuid(&self, leaf: CpuidLeaf) -> Option<CpuidRegisters> {
        let read = |leaf: CpuidLeaf| self.cpuid[leaf as usize];
        if let Some(registers) = read(leaf) {
            return Some(registers);
        }
        let number = leaf.query().0;
        let highest =
            if number < CpuidLeaf::HighestExtended.query().0 { CpuidLeaf::Highest } else { CpuidLeaf::HighestExtended };
        let beyond_highest = read(highest).is_some_and(|[highest, ..]| number > highest);
        let main = |main: CpuidLeaf| self.known_cpuid(main).map(|[eax, ..]| eax);
        let beyond_sub_leaves = match leaf {
            CpuidLeaf::Extended1 => main(CpuidLeaf::Extended0).is_some_and(|last| last < 1),
            CpuidLeaf::Extended2 => main(CpuidLeaf::Extended0).is_some_and(|last| last < 2),
            CpuidLeaf::Trace1 => main(CpuidLeaf::Trace0).is_some_and(|last| last < 1),
            CpuidLeaf::PerformanceCounters => main(CpuidLeaf::PerformanceExtended).is_some_and(|map| map >> 1 & 1 == 0),
            _ => false,
        };
        (beyond_highest || beyond_sub_leaves).then_some([0; 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msrs_and_leaves_are_found_by_what_they_are_asked_by() {
        for msr in CapabilityMsr::ALL {
            assert_eq!(CapabilityMsr::by_number(msr.number()), Some(msr));
            assert_eq!(CapabilityMsr::ALL[msr as usize], msr);
        }
        for leaf in CpuidLeaf::ALL {
            let (number, sub_leaf) = leaf.query();
            assert_eq!(CpuidLeaf::by_query(number, sub_leaf), Some(leaf));
            assert_eq!(CpuidLeaf::ALL[leaf as usize], leaf);
        }
    }

    #[test]
    fn a_leaf_above_the_highest_one_is_known_to_be_zero() {
        let mut profile = CpuProfile::default();
        assert_eq!(profile.known_cpuid(CpuidLeaf::LastBranch), None);
        profile.set_cpuid(CpuidLeaf::Highest, [0x16, 0, 0, 0]);
        assert_eq!(profile.known_cpuid(CpuidLeaf::LastBranch), Some([0; 4]));
        assert_eq!(profile.known_cpuid(CpuidLeaf::PerformanceCounters), Some([0; 4]));
        assert_eq!(profile.known_cpuid(CpuidLeaf::Trace1), None);
        assert_eq!(profile.known_cpuid(CpuidLeaf::AddressWidths), None);
        profile.set_cpuid(CpuidLeaf::HighestExtended, [0x8000_0004, 0, 0, 0]);
        assert_eq!(profile.known_cpuid(CpuidLeaf::AddressWidths), Some([0; 4]));
        assert_eq!(profile.known_cpuid(CpuidLeaf::ExtendedFeatures), None);
    }

    #[test]
    fn a_sub_leaf_that_its_leaf_does_not_announce_is_known_to_be_zero() {
        let mut profile = CpuProfile::default();
        profile.set_cpuid(CpuidLeaf::Extended0, [1, 0, 0, 0]);
        assert_eq!(profile.known_cpuid(CpuidLeaf::Extended1), None);
        assert_eq!(profile.known_cpuid(CpuidLeaf::Extended2), Some([0; 4]));
        profile.set_cpuid(CpuidLeaf::Trace0, [0; 4]);
        assert_eq!(profile.known_cpuid(CpuidLeaf::Trace1), Some([0; 4]));
    }

    #[test]
    fn an_msr_that_cpuid_does_not_announce_is_known_to_be_absent() {
        let mut profile = CpuProfile::default();
        assert_eq!(profile.known_msr(CapabilityMsr::PerfCapabilities), MsrValue::Unknown);
        profile.set_cpuid(CpuidLeaf::Features, [0; 4]);
        assert_eq!(profile.known_msr(CapabilityMsr::PerfCapabilities), MsrValue::Absent);
        profile.set_cpuid(CpuidLeaf::Features, [0, 0, 1 << 15, 0]);
        assert_eq!(profile.known_msr(CapabilityMsr::PerfCapabilities), MsrValue::Unknown);
        profile.set_cpuid(CpuidLeaf::Extended0, [0; 4]);
        assert_eq!(profile.known_msr(CapabilityMsr::TmeActivate), MsrValue::Absent);
        profile.set_msr(CapabilityMsr::TmeActivate, MsrValue::Value(1));
        assert_eq!(profile.known_msr(CapabilityMsr::TmeActivate), MsrValue::Value(1));
    }
}
