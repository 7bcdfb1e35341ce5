//! The form in which this crate holds a processor's capability MSRs and CPUID leaves.

use vmcs_model::msr::CapabilityMsr;
use vmcs_model::profile::{CpuProfile, CpuidLeaf, CpuidRegisters, MsrValue};

/// How far the values of a profile can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Confidence {
    /// A program read every value that is listed from the processor.
    Exact,
    /// The values were copied by hand, or are less than what the processor reports.
    Partial,
}

impl Confidence {
    /// The word for it in profile files: `exact` or `partial`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Partial => "partial",
        }
    }
}

/// A processor whose values are part of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShippedProfile {
    /// The processor's name, such as "Tiger Lake".
    pub name: &'static str,
    /// Where the values come from.
    pub source: &'static str,
    /// How far the values can be trusted.
    pub confidence: Confidence,
    /// MSRs by number, `None` where RDMSR raises #GP. An MSR that is not listed is unknown.
    pub msrs: &'static [(u32, Option<u64>)],
    /// EAX and ECX of CPUID, and the EAX, EBX, ECX and EDX that it returns. A leaf that is not listed is unknown.
    pub cpuid: &'static [(u32, u32, CpuidRegisters)],
}

impl ShippedProfile {
    /// The processor's values in the form that [`vmcs_model::Capabilities::new`] takes.
    #[must_use]
    pub fn profile(&self) -> CpuProfile {
        let mut profile = CpuProfile::default();
        for &(number, value) in self.msrs {
            if let Some(msr) = CapabilityMsr::by_number(number) {
                profile.set_msr(msr, value.map_or(MsrValue::Absent, MsrValue::Value));
            }
        }
        for &(leaf, subleaf, registers) in self.cpuid {
            if let Some(leaf) = CpuidLeaf::by_query(leaf, subleaf) {
                profile.set_cpuid(leaf, registers);
            }
        }
        profile
    }
}
