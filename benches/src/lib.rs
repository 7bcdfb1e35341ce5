//! Inputs and machines that the benches share.

mod case_lines;
mod images;
mod machines;

pub use case_lines::CaseLines;
pub use images::{FLIPPED, Images, MsrLoadArea};
pub use machines::{CPU_VARIABLE, VARIABLE, machine, machines};
use vmcs_case::profile::NamedProfile;
use vmcs_fuzz::TestProcessor;
use vmcs_model::Vmcs;
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::profile::{CpuProfile, CpuidLeaf, MsrValue};

/// A current server processor, and its images.
///
/// # Panics
/// If the profile is gone.
#[must_use]
pub fn sapphire_rapids() -> TestProcessor {
    let profile = NamedProfile::by_name("Sapphire Rapids").expect("the profile comes with vmcs-hw");
    TestProcessor::new(&profile.profile)
}

/// The processor with 0 in what its profile leaves out, so that everything is known of it.
fn completed(mut profile: CpuProfile) -> CpuProfile {
    for msr in CapabilityMsr::ALL {
        if profile.known_msr(msr) == MsrValue::Unknown {
            profile.set_msr(msr, MsrValue::Value(0));
        }
    }
    for leaf in CpuidLeaf::ALL {
        if profile.known_cpuid(leaf).is_none() {
            profile.set_cpuid(leaf, [0; 4]);
        }
    }
    profile
}

impl Images {
    /// Images for the same processor.
    ///
    /// # Panics
    /// If the profile is gone.
    #[must_use]
    pub fn of_sapphire_rapids() -> Self {
        Self::new(&completed(sapphire_rapids().profile.clone()))
    }

    /// `count` images, each at a place of its own in memory: every fourth one of [`Self::flipped`], else valid.
    #[must_use]
    pub fn many(&self, count: usize) -> Vec<Vmcs> {
        let image = |i: usize| if i.is_multiple_of(4) { &self.flipped[i / 4 % FLIPPED] } else { &self.valid };
        (0..count).map(|i| image(i).clone()).collect()
    }
}
