//! The MSRs that report what a processor can do, and their single bits on which it depends whether a field of the VMCS
//! exists.

/// The number of the first VMX capability MSR, IA32_VMX_BASIC.
pub const IA32_VMX_BASIC: u32 = 0x480;

/// The MSRs that a check of a VM entry depends on: the VMX capability MSRs, 480H-493H, and three others. SDM Vol. 3D,
/// Appendix A (VMX Capability Reporting Facility), and Vol. 4 (Model-Specific Registers).
///
/// This is the one list of them. The probe reads these, profile files hold these, and a [`Facts`] set has a bit for each.
///
/// [`Facts`]: crate::capabilities::Facts
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum CapabilityMsr {
    /// IA32_VMX_BASIC, 480H.
    Basic,
    /// IA32_VMX_PINBASED_CTLS, 481H.
    Pinbased,
    /// IA32_VMX_PROCBASED_CTLS, 482H.
    Procbased,
    /// IA32_VMX_EXIT_CTLS, 483H.
    Exit,
    /// IA32_VMX_ENTRY_CTLS, 484H.
    Entry,
    /// IA32_VMX_MISC, 485H.
    Misc,
    /// IA32_VMX_CR0_FIXED0, 486H.
    Cr0Fixed0,
    /// IA32_VMX_CR0_FIXED1, 487H.
    Cr0Fixed1,
    /// IA32_VMX_CR4_FIXED0, 488H.
    Cr4Fixed0,
    /// IA32_VMX_CR4_FIXED1, 489H.
    Cr4Fixed1,
    /// IA32_VMX_VMCS_ENUM, 48AH.
    VmcsEnum,
    /// IA32_VMX_PROCBASED_CTLS2, 48BH.
    Procbased2,
    /// IA32_VMX_EPT_VPID_CAP, 48CH.
    EptVpidCap,
    /// IA32_VMX_TRUE_PINBASED_CTLS, 48DH.
    TruePinbased,
    /// IA32_VMX_TRUE_PROCBASED_CTLS, 48EH.
    TrueProcbased,
    /// IA32_VMX_TRUE_EXIT_CTLS, 48FH.
    TrueExit,
    /// IA32_VMX_TRUE_ENTRY_CTLS, 490H.
    TrueEntry,
    /// IA32_VMX_VMFUNC, 491H.
    Vmfunc,
    /// IA32_VMX_PROCBASED_CTLS3, 492H.
    Procbased3,
    /// IA32_VMX_EXIT_CTLS2, 493H.
    Exit2,
    /// IA32_FEATURE_CONTROL, 3AH. Bit 17 says whether IA32_SGXLEPUBKEYHASH0-3 can be written.
    FeatureControl,
    /// IA32_PERF_CAPABILITIES, 345H. Bits 12 and 15 say whether FREEZE_WHILE_SMM and PERF_METRICS exist.
    PerfCapabilities,
    /// IA32_TME_ACTIVATE, 982H. Bits 39:36 say how many bits of the physical address are key
    /// identifiers, which reduce its width.
    TmeActivate,
}

impl CapabilityMsr {
    /// All of these MSRs: the VMX capability MSRs by number, then the others.
    pub const ALL: [Self; 23] = [
        Self::Basic,
        Self::Pinbased,
        Self::Procbased,
        Self::Exit,
        Self::Entry,
        Self::Misc,
        Self::Cr0Fixed0,
        Self::Cr0Fixed1,
        Self::Cr4Fixed0,
        Self::Cr4Fixed1,
        Self::VmcsEnum,
        Self::Procbased2,
        Self::EptVpidCap,
        Self::TruePinbased,
        Self::TrueProcbased,
        Self::TrueExit,
        Self::TrueEntry,
        Self::Vmfunc,
        Self::Procbased3,
        Self::Exit2,
        Self::FeatureControl,
        Self::PerfCapabilities,
        Self::TmeActivate,
    ];

    /// The MSR's number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::FeatureControl => 0x3A,
            Self::PerfCapabilities => 0x345,
            Self::TmeActivate => 0x982,
            vmx => IA32_VMX_BASIC + vmx as u32,
        }
    }

    /// The MSR of that number, `None` if it is not one of these.
    #[must_use]
    pub fn by_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|msr| msr.number() == number)
    }

    /// The SDM's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Basic => "IA32_VMX_BASIC",
            Self::Pinbased => "IA32_VMX_PINBASED_CTLS",
            Self::Procbased => "IA32_VMX_PROCBASED_CTLS",
            Self::Exit => "IA32_VMX_EXIT_CTLS",
            Self::Entry => "IA32_VMX_ENTRY_CTLS",
            Self::Misc => "IA32_VMX_MISC",
            Self::Cr0Fixed0 => "IA32_VMX_CR0_FIXED0",
            Self::Cr0Fixed1 => "IA32_VMX_CR0_FIXED1",
            Self::Cr4Fixed0 => "IA32_VMX_CR4_FIXED0",
            Self::Cr4Fixed1 => "IA32_VMX_CR4_FIXED1",
            Self::VmcsEnum => "IA32_VMX_VMCS_ENUM",
            Self::Procbased2 => "IA32_VMX_PROCBASED_CTLS2",
            Self::EptVpidCap => "IA32_VMX_EPT_VPID_CAP",
            Self::TruePinbased => "IA32_VMX_TRUE_PINBASED_CTLS",
            Self::TrueProcbased => "IA32_VMX_TRUE_PROCBASED_CTLS",
            Self::TrueExit => "IA32_VMX_TRUE_EXIT_CTLS",
            Self::TrueEntry => "IA32_VMX_TRUE_ENTRY_CTLS",
            Self::Vmfunc => "IA32_VMX_VMFUNC",
            Self::Procbased3 => "IA32_VMX_PROCBASED_CTLS3",
            Self::Exit2 => "IA32_VMX_EXIT_CTLS2",
            Self::FeatureControl => "IA32_FEATURE_CONTROL",
            Self::PerfCapabilities => "IA32_PERF_CAPABILITIES",
            Self::TmeActivate => "IA32_TME_ACTIVATE",
        }
    }
}

/// The MSR or CPUID register that reports a capability bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// IA32_VMX_PINBASED_CTLS; bits 63:32 are the allowed-1 settings.
    Pin,
    /// IA32_VMX_PROCBASED_CTLS; bits 63:32 are the allowed-1 settings.
    Primary,
    /// IA32_VMX_PROCBASED_CTLS2; bits 63:32 are the allowed-1 settings.
    Secondary,
    /// IA32_VMX_PROCBASED_CTLS3: 64 allowed-1 settings.
    Tertiary,
    /// IA32_VMX_EXIT_CTLS; bits 63:32 are the allowed-1 settings.
    Exit,
    /// IA32_VMX_EXIT_CTLS2: 64 allowed-1 settings.
    SecondaryExit,
    /// IA32_VMX_ENTRY_CTLS; bits 63:32 are the allowed-1 settings.
    Entry,
    /// IA32_VMX_VMFUNC: 64 allowed-1 settings.
    VmFunctions,
    /// CPUID.(EAX=07H,ECX=1):EAX.
    Cpuid7_1Eax,
}

/// One bit of a capability MSR or CPUID register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CapabilityBit {
    /// The MSR or register.
    pub source: Source,
    /// The position of the bit, 0-63. Allowed-1 settings in bits 63:32 of an MSR have positions from 32 on.
    pub bit: u8,
}

impl CapabilityBit {
    /// Bit `bit` of `source`.
    #[must_use]
    pub const fn new(source: Source, bit: u8) -> Self {
        Self { source, bit }
    }
}

impl core::fmt::Display for CapabilityBit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let source = match self.source {
            Source::Pin => CapabilityMsr::Pinbased.name(),
            Source::Primary => CapabilityMsr::Procbased.name(),
            Source::Secondary => CapabilityMsr::Procbased2.name(),
            Source::Tertiary => CapabilityMsr::Procbased3.name(),
            Source::Exit => CapabilityMsr::Exit.name(),
            Source::SecondaryExit => CapabilityMsr::Exit2.name(),
            Source::Entry => CapabilityMsr::Entry.name(),
            Source::VmFunctions => CapabilityMsr::Vmfunc.name(),
            Source::Cpuid7_1Eax => "CPUID.07H.01H:EAX",
        };
        write!(f, "{source}[{}]", self.bit)
    }
}
