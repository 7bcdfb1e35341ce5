//! Capability MSRs and CPUID leaves of real Intel processors, as data that needs neither `std` nor an allocator.
//!
//! ```
//! use vmcs_model::Capabilities;
//!
//! let processor = vmcs_profiles::by_name("Tiger Lake").expect("it is one of them");
//! assert!(processor.source.starts_with("https://"));
//! let capabilities = Capabilities::new(&processor.profile());
//! assert_ne!(capabilities.revision(), 0);
//! ```
//!
//! `intel.jsonl` in this crate's directory holds the same processors as JSON, in the format of `vmcs_case::profile`; its
//! README says what they are and where they come from. `src/intel.rs` is made from it: a test of `vmcs-case` compares the two,
//! and writes the file anew when the environment variable `VMCS_WRITE_PROFILES` is set.
#![no_std]
#![forbid(unsafe_code)]

mod intel;
mod shipped;

pub use shipped::{Confidence, ShippedProfile};

/// Every processor of this crate, in the order of `intel.jsonl`.
#[must_use]
pub fn all() -> &'static [ShippedProfile] {
    intel::INTEL
}

/// The processor of that name. Only letters and digits count, in either case.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static ShippedProfile> {
    all().iter().find(|processor| significant(processor.name).eq(significant(name)))
}

fn significant(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase)
}

/// The project's README, whose example of the library is compiled and run as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    use vmcs_model::msr::CapabilityMsr;
    use vmcs_model::profile::CpuidLeaf;

    use super::*;

    #[test]
    fn each_is_found_by_its_name() {
        for processor in all() {
            assert_eq!(by_name(processor.name), Some(processor));
        }
        assert_eq!(by_name("tiger-lake").map(|processor| processor.name), Some("Tiger Lake"));
        assert_eq!(by_name("tiger"), None);
    }

    #[test]
    fn every_value_is_one_that_the_model_takes() {
        for processor in all() {
            for &(number, _) in processor.msrs {
                assert!(CapabilityMsr::by_number(number).is_some(), "{}: {number:#x}", processor.name);
            }
            for &(leaf, subleaf, _) in processor.cpuid {
                assert!(CpuidLeaf::by_query(leaf, subleaf).is_some(), "{}: {leaf:#x}.{subleaf:#x}", processor.name);
            }
        }
    }
}
