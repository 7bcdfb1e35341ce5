//! The cases of a campaign, one after the other.

use serde::{Deserialize, Serialize};
use vmcs_hw::Case;

use crate::coverage::Aim;
use crate::{Generator, World};

/// A case and what it was made for.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The case.
    pub case: Case,
    /// The check and the side of it that the generator was after, if it was after one.
    pub aim: Option<Aim>,
}

/// The cases of a generator and a seed, in their order.
///
/// It is a pure function of generator, seed and [`World`]: what it makes depends on what it has made, never on what a
/// target answered. A copy continues like the original, also when it was written to disk and read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    generator: Generator,
    seed: u64,
    position: u64,
}

impl Stream {
    /// The cases of `generator` and `seed` from the first on.
    #[must_use]
    pub const fn new(generator: Generator, seed: u64) -> Self {
        Self { generator, seed, position: 0 }
    }

    /// What makes the cases.
    #[must_use]
    pub const fn generator(&self) -> Generator {
        self.generator
    }

    /// The seed.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The number of the case that comes next, counted from 0.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The next case. There is always one. `world` has to be the same at every call.
    pub fn next(&mut self, world: &World) -> Generated {
        let case = self.generator.case(world, self.seed, self.position);
        self.position += 1;
        Generated { case, aim: None }
    }
}
