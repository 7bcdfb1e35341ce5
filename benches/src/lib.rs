//! Inputs that the benches share.

use vmcs_fuzz::World;
use vmcs_hw::profile::NamedProfile;

/// A current server processor, and its images.
///
/// # Panics
/// If the profile is gone.
#[must_use]
pub fn sapphire_rapids() -> World {
    let profile = NamedProfile::by_name("Sapphire Rapids").expect("the profile comes with vmcs-hw");
    World::new(&profile.profile)
}
