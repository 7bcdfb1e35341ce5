//! The ids of deviations, and sets of deviations that account for something only together.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands between the ids of deviations that account for an outcome only together.
const TOGETHER: &str = " + ";

/// The stable id of a deviation, such as `bochs-shutdown-clears-if`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviationId(Arc<str>);

impl From<&str> for DeviationId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for DeviationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for DeviationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DeviationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|id| Self(id.into()))
    }
}

/// The deviations that account for what a target did: one, or several that do only together. `Display` writes their ids
/// with ` + ` between them, and `FromStr` reads that.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviationIds(Vec<DeviationId>);

impl DeviationIds {
    /// No deviation yet.
    pub(crate) const NONE: Self = Self(Vec::new());

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an id that is not there yet.
    pub(crate) fn add(&mut self, id: DeviationId) {
        if !self.contains(&id) {
            self.0.push(id);
        }
    }

    /// Adds the ids of others that are not there yet.
    pub(crate) fn extend(&mut self, others: &Self) {
        others.iter().for_each(|id| self.add(id.clone()));
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn contains(&self, id: &DeviationId) -> bool {
        self.0.contains(id)
    }

    /// Whether it is the only one.
    #[must_use]
    pub fn are(&self, id: &DeviationId) -> bool {
        self.0 == [id.clone()]
    }

    /// The ids, each once.
    pub fn iter(&self) -> impl Iterator<Item = &DeviationId> {
        self.0.iter()
    }
}

impl From<DeviationId> for DeviationIds {
    fn from(id: DeviationId) -> Self {
        Self(vec![id])
    }
}

impl FromIterator<DeviationId> for DeviationIds {
    fn from_iter<I: IntoIterator<Item = DeviationId>>(ids: I) -> Self {
        let mut all = Self::NONE;
        ids.into_iter().for_each(|id| all.add(id));
        all
    }
}

impl fmt::Display for DeviationIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, id) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { TOGETHER };
            write!(f, "{between}{id}")?;
        }
        Ok(())
    }
}

impl FromStr for DeviationIds {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.split(TOGETHER).map(DeviationId::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for ids in [&["a"][..], &["b", "a"], &["a", "b-c", "c"]] {
            let ids: DeviationIds = ids.iter().map(|id| DeviationId::from(*id)).collect();
            assert_eq!(ids.to_string().parse(), Ok(ids));
        }
    }

    #[test]
    fn they_are_in_the_order_of_their_texts() {
        let texts = ["a", "a + b", "a + b + c", "a + c", "a-b", "b"];
        assert!(texts.is_sorted() && texts.map(|text| text.parse::<DeviationIds>().unwrap()).is_sorted());
    }
}
