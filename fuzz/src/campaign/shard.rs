//! Campaigns in parts that several machines run.

use std::fmt;
use std::str::FromStr;

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

/// One of so many parts of a campaign, counted from 1. Each part has a stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    number: u32,
    count: u32,
}

impl Shard {
    /// The campaign as one part.
    pub const WHOLE: Self = Self { number: 1, count: 1 };

    /// Its number, from 1 to [`Shard::count`].
    #[must_use]
    pub const fn number(self) -> u32 {
        self.number
    }

    /// How many parts there are.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.count
    }

    /// The seed of its stream in the campaign with the seed `campaign`: that one itself for a campaign of one part,
    /// different ones for different parts.
    #[must_use]
    pub fn seed(self, campaign: u64) -> u64 {
        if self.count == 1 {
            return campaign;
        }
        // The parts' numbers are mixed into the upper bits, so that no two parts make one seed of a campaign's.
        let mixed = Xoshiro256PlusPlus::seed_from_u64(campaign).next_u64();
        mixed.wrapping_add(u64::from(self.number).wrapping_mul(0xD1B5_4A32_D192_ED03))
    }

    /// The name of a case of it.
    pub(super) fn case(self, index: u64) -> String {
        if self.count == 1 { format!("case-{index}") } else { format!("shard-{}-case-{index}", self.number) }
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(number, count)| Some((number.parse().ok()?, count.parse().ok()?)));
        match parts {
            Some((number, count)) if (1..=count).contains(&number) => Ok(Self { number, count }),
            _ => Err("expected PART/PARTS, such as 1/4, 2/4, 3/4 or 4/4".to_owned()),
        }
    }
}

impl TryFrom<String> for Shard {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn parts_are_counted_from_one() {
        assert_eq!("2/3".parse(), Ok(Shard { number: 2, count: 3 }));
        assert_eq!("1/1".parse(), Ok(Shard::WHOLE));
        for wrong in ["", "1", "0/3", "4/3", "1/0", "-1/2", "1/2/3", "a/b"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_part_has_a_seed_of_its_own() {
        let seeds: BTreeSet<_> = (1..=1000).map(|number| Shard { number, count: 1000 }.seed(7)).collect();
        assert_eq!(seeds.len(), 1000);
        assert_eq!(Shard::WHOLE.seed(7), 7);
    }
}
