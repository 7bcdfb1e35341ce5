//! Dividing a campaign into parts that different computers run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One of so many parts of a campaign, counted from 1. No case is in two of them.
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

    /// The number in the whole campaign of case `number` of this part.
    pub(crate) const fn index(self, number: u64) -> u64 {
        // After 2^64 cases they repeat anyway.
        number.wrapping_mul(self.count as u64).wrapping_add(self.number as u64 - 1)
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
    fn no_case_is_in_two_parts() {
        let indexes: BTreeSet<_> =
            (1..=5).flat_map(|number| (0..100).map(move |case| Shard { number, count: 5 }.index(case))).collect();
        assert_eq!(indexes, (0..500).collect());
        assert_eq!(Shard::WHOLE.index(7), 7);
    }
}
