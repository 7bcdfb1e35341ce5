//! The cases of a campaign in their order.

use arbitrary::Unstructured;
use serde::{Deserialize, Serialize};
use vmcs_case::Case;

use crate::campaign::Shard;
use crate::coverage::{Aim, Coverage};
use crate::generate::Generator;
use crate::generate::after_entry::DEEP;
use crate::generate::boundary::{Made, make};
use crate::generate::steering::Steering;
use crate::generate::test_processor::TestProcessor;

/// A case and what it was made for.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The case.
    pub case: Case,
    /// The check and the side of it that the generator was after, if it was after one.
    pub aim: Option<Aim>,
}

/// The cases of a generator and a seed, in their order, or one part of them.
///
/// Case number n of part i (counted from 0) of m is made of what the seed gives for n * m + i: no two parts share that, and
/// a generator that does not go by what it has made makes in m parts exactly what it makes in one.
///
/// It is a pure function of generator, seed and [`TestProcessor`]: what it makes depends on what it has made, never on what a
/// target answered. A copy continues like the original, also when it was written to disk and read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    generator: Generator,
    seed: u64,
    #[serde(default)]
    part: Shard,
    position: u64,
    /// What was made so far, for a generator whose next case depends on it.
    #[serde(default, skip_serializing_if = "Steering::is_empty")]
    steering: Steering,
}

impl Stream {
    /// The cases of `generator` and `seed` from the first on.
    #[must_use]
    pub fn new(generator: Generator, seed: u64) -> Self {
        Self::part(generator, seed, Shard::WHOLE)
    }

    /// The cases of one part of a campaign.
    #[must_use]
    pub fn part(generator: Generator, seed: u64, part: Shard) -> Self {
        Self { generator, seed, part, position: 0, steering: Steering::default() }
    }

    /// The generator that makes the cases.
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

    /// What the model says of the cases so far. Empty for a generator that does not go by it.
    #[must_use]
    pub fn predicted(&self) -> Coverage {
        self.steering.coverage()
    }

    /// The next case. There is always one. `processor` has to be the same at every call.
    pub fn next(&mut self, processor: &TestProcessor) -> Generated {
        let (seed, number) = (self.seed, self.position);
        let index = self.part.index(number);
        self.position += 1;
        if self.generator != Generator::Boundary {
            return Generated { case: self.generator.case(processor, seed, index), aim: None };
        }
        let bytes = Generator::bytes(seed, index);
        let mut u = Unstructured::new(&bytes);
        let made = self.steering.choose(&processor.recipes().aims, &mut u).and_then(|aim| make(processor, &mut u, aim));
        let made = made.unwrap_or_else(|_| Made::plain(processor));
        self.steering.count(&made.verdict.violated, made.aim);
        Generated { case: made.case(processor, number.is_multiple_of(DEEP)), aim: made.aim }
    }
}

#[cfg(test)]
mod tests {
    use vmcs_case::profile::NamedProfile;

    use super::*;

    #[test]
    fn parts_together_are_the_whole() {
        let processor = TestProcessor::new(&NamedProfile::by_name("sapphire-rapids").expect("it is there").profile);
        let cases = |mut stream: Stream, count| (0..count).map(|_| stream.next(&processor).case).collect::<Vec<_>>();
        let whole = cases(Stream::new(Generator::Programs, 7), 30);
        let parts: Vec<_> = (1..=3)
            .map(|number| Stream::part(Generator::Programs, 7, format!("{number}/3").parse().expect("a part")))
            .map(|stream| cases(stream, 10))
            .collect();
        for (index, case) in whole.iter().enumerate() {
            assert_eq!(parts[index % 3][index / 3], *case, "case {index}");
        }
    }
}
