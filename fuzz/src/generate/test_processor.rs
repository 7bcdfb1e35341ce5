//! A processor together with what the generators work out about it once.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use vmcs_model::CpuProfile;

use super::boundary::recipes::Recipes;
use super::boundary::search;
use super::reach::Reach;
use crate::coverage::{Aim, Side};
use crate::processor::Processor;
use vmcs_model::checks::CheckId;

/// A [`Processor`], and how to come to each side of each check on it. The latter takes a while, and is worked out when it is
/// first asked for.
#[derive(Clone, Debug)]
pub struct TestProcessor {
    processor: Processor,
    recipes: OnceLock<Arc<Recipes>>,
}

impl TestProcessor {
    /// The processor with that profile.
    #[must_use]
    pub fn new(profile: &CpuProfile) -> Self {
        Self { processor: Processor::new(profile), recipes: OnceLock::new() }
    }

    /// For each side of each check whether a campaign can reach it on this processor, and why not.
    pub fn reach(&self) -> impl Iterator<Item = (Aim, &Reach)> {
        CheckId::all().zip(&self.recipes().reach).flat_map(|(check, sides)| {
            Side::ALL.into_iter().zip(sides).map(move |(side, reach)| (Aim { check, side }, reach))
        })
    }

    /// How to come to each side of each check.
    pub(crate) fn recipes(&self) -> &Recipes {
        self.recipes.get_or_init(|| Arc::new(search::recipes(&self.processor)))
    }
}

impl Deref for TestProcessor {
    type Target = Processor;

    fn deref(&self) -> &Processor {
        &self.processor
    }
}
