//! Valid images that cases start from.

mod first;
mod image;
mod modes;

use vmcs_model::capabilities::Capabilities;

pub(crate) use first::plain;
pub use image::BaseImage;

use first::{injecting_gp, loading_registers, pae_guest, unrestricted_real_mode, virtual_8086_guest, with_features};

/// The name of the plain 64-bit guest, the first of all images.
pub(crate) const PLAIN: &str = "plain";

/// The images that every generator but `boundary` chooses among, at most: the recordings were made with them.
const FIRST: usize = 7;

/// The images for a processor: always the plain 64-bit guest, then those that it can run. How many of them the older
/// generators use.
pub(crate) fn all(capabilities: &Capabilities) -> (Vec<BaseImage>, usize) {
    let plain = plain(capabilities);
    let candidates: [_; FIRST] = [
        (PLAIN, plain.clone()),
        ("rich", with_features(capabilities, plain.clone())),
        ("real-mode", unrestricted_real_mode(capabilities, plain.clone())),
        ("injecting", injecting_gp(plain.clone())),
        ("loading", loading_registers(capabilities, plain.clone())),
        ("pae", pae_guest(plain.clone())),
        ("virtual-8086", virtual_8086_guest(plain.clone())),
    ];
    let candidates = candidates.map(|(name, vmcs)| BaseImage { name, vmcs, memory: Vec::new() });
    let mut bases: Vec<_> = candidates
        .into_iter()
        .enumerate()
        .filter(|(i, base)| *i == 0 || base.is_valid(capabilities))
        .map(|(_, base)| base)
        .collect();
    let first = bases.len();
    bases.extend(modes::all(capabilities, &plain).into_iter().filter(|base| base.is_valid(capabilities)));
    (bases, first)
}

#[cfg(test)]
mod tests {
    use vmcs_case::profile::NamedProfile;
    use vmcs_model::Capabilities;

    #[test]
    fn every_base_is_valid_on_a_current_processor() {
        let profile = NamedProfile::by_name("Sapphire Rapids").unwrap();
        let (bases, first) = super::all(&Capabilities::new(&profile.profile));
        let names: Vec<_> = bases.iter().map(|base| base.name).collect();
        let (first, further) = names.split_at(first);
        assert_eq!(first, ["plain", "rich", "real-mode", "injecting", "loading", "pae", "virtual-8086"]);
        let all = super::modes::all(&Capabilities::new(&profile.profile), &bases[0].vmcs);
        let lacking: Vec<_> = all.iter().map(|base| base.name).filter(|name| !further.contains(name)).collect();
        assert_eq!(lacking, ["fred-syscall", "enclave", "fred", "fred-user", "shadowing"]);
    }
}
