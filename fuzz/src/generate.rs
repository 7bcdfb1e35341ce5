//! Generators, which make cases from bytes. Every generator is a pure function of its bytes and the [`TestProcessor`], so
//! that the driver's random numbers, a fuzzer's input and a replayed seed all mean the same cases.

pub(crate) mod after_entry;
pub(crate) mod boundary;
mod controls;
pub(crate) mod entry_case;
mod images;
mod programs;
pub mod reach;
pub(crate) mod risk;
pub mod rounding;
mod state;
pub(crate) mod steering;
pub mod stream;
mod test_processor;
pub(crate) mod values;

use arbitrary::Unstructured;
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use vmcs_case::Case;

pub use test_processor::TestProcessor;

/// What kind of cases a campaign makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generator {
    /// For each check a valid image at its boundary: just outside, just inside, or with its gate off; launched.
    Boundary,
    /// A valid image with one or two control fields changed, launched.
    Controls,
    /// A valid image with one or two guest-state or host-state fields changed, launched.
    State,
    /// A valid image with up to four fields changed, wherever they are, launched.
    Images,
    /// Sequences of up to 20 VMX instructions over several VMCS regions.
    Programs,
}

impl Generator {
    /// Its name in reports and recordings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boundary => "boundary",
            Self::Controls => "controls",
            Self::State => "state",
            Self::Images => "images",
            Self::Programs => "programs",
        }
    }

    /// Bytes that a case is made of.
    const BYTES: usize = 256;

    /// Case number `index` of the campaign with that seed.
    #[must_use]
    pub fn case(self, processor: &TestProcessor, seed: u64, index: u64) -> Case {
        self.from_bytes(processor, &Self::bytes(seed, index))
    }

    /// The bytes of case number `index` of the campaign with that seed.
    pub(crate) fn bytes(seed: u64, index: u64) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        // The golden ratio keeps the streams of neighbouring indexes apart.
        let stream = seed ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Xoshiro256PlusPlus::seed_from_u64(stream).fill_bytes(&mut bytes);
        bytes
    }

    /// The case that `bytes` mean.
    #[must_use]
    pub fn from_bytes(self, processor: &TestProcessor, bytes: &[u8]) -> Case {
        let mut u = Unstructured::new(bytes);
        let case = match self {
            Self::Boundary => boundary::case(processor, &mut u),
            Self::Controls => controls::case(processor, &mut u),
            Self::State => state::case(processor, &mut u),
            Self::Images => images::case(processor, &mut u),
            Self::Programs => programs::case(processor, &mut u),
        };
        // An exhausted `Unstructured` yields zeros, not errors, for everything that generators ask of it.
        case.unwrap_or_default()
    }
}
