//! Inputs and machines that the benches share.
//!
//! | bench | what it times | inputs |
//! |---|---|---|
//! | `model_check` | all checks of a VM entry, or the first that is violated | [`Images`] |
//! | `check_lines` | `vmcs check` without its files | [`CaseLines`] |
//! | `emulator` | instructions of the emulator | [`sapphire_rapids`] |
//! | `targets` | cases on each machine | [`machines`](machines()) |
//! | `entry_latency` | VM entries, by the time-stamp counter of a machine | [`machine`] |
//!
//! `cargo bench -p vmcs-benches --bench model_check` runs one of them. What `model_check` times is this:
//!
//! ```
//! use vmcs_benches::Images;
//!
//! let images = Images::of_sapphire_rapids();
//! let entry = |vmcs| images.attempt().on(vmcs, &images.memory);
//! assert!(entry(&images.valid).violations().is_empty());
//! let violated = entry(&images.one_violation).first_violation().expect("its VPID is 0");
//! assert_eq!(violated.info().id, "ctl.vpid.nonzero");
//! ```

mod case_lines;
mod images;
mod machines;

pub use case_lines::CaseLines;
pub use images::{FLIPPED, Images, MsrLoadArea};
pub use machines::{CPU_VARIABLE, VARIABLE, machine, machines};
use vmcs_case::profile::NamedProfile;
use vmcs_fuzz::TestProcessor;
use vmcs_model::Vmcs;

/// A current server processor, and its images.
///
/// # Panics
/// If the profile is gone.
#[must_use]
pub fn sapphire_rapids() -> TestProcessor {
    let profile = NamedProfile::by_name("Sapphire Rapids").expect("the profile comes with vmcs-hw");
    TestProcessor::new(&profile.profile)
}

impl Images {
    /// Images for the same processor.
    ///
    /// # Panics
    /// If the profile is gone.
    #[must_use]
    pub fn of_sapphire_rapids() -> Self {
        Self::new(&sapphire_rapids().profile.clone().with_zero_for_unknown())
    }

    /// `count` images, each at a place of its own in memory: every fourth one of [`Self::flipped`], else valid.
    #[must_use]
    pub fn many(&self, count: usize) -> Vec<Vmcs> {
        let image = |i: usize| if i.is_multiple_of(4) { &self.flipped[i / 4 % FLIPPED] } else { &self.valid };
        (0..count).map(|i| image(i).clone()).collect()
    }
}
