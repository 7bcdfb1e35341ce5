//! What the processor can do: the MSRs and CPUID leaves that the model asks for.

use core::arch::x86_64::__cpuid_count;

use vmcs_model::CpuProfile;
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::profile::{CpuidLeaf, MsrValue};

use crate::vmx;

/// Reads what the model asks of a processor. Leaves above the highest one are left out.
#[cold]
#[inline(never)]
pub(crate) fn read() -> CpuProfile {
    let mut profile = CpuProfile::default();
    for msr in CapabilityMsr::ALL {
        profile.set_msr(msr, vmx::rdmsr(msr.number()).map_or(MsrValue::Absent, MsrValue::Value));
    }
    for leaf in CpuidLeaf::ALL {
        let (number, subleaf) = leaf.query();
        if number <= __cpuid_count(number & 0x8000_0000, 0).eax {
            let r = __cpuid_count(number, subleaf);
            profile.set_cpuid(leaf, [r.eax, r.ebx, r.ecx, r.edx]);
        }
    }
    profile
}
