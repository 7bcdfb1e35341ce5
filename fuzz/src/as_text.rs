//! Modules for `#[serde(with = "…")]` with which files hold a value as the text that people read.
//!
//! `Display` writes the text of a value, and `FromStr` reads it. No other code in this crate looks into such a text.

use std::fmt::Display;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The value that a text is, or why it is none.
fn read<T: FromStr<Err: Display>, E: serde::de::Error>(text: &str) -> Result<T, E> {
    text.parse().map_err(|error| E::custom(format_args!("{text:?}: {error}")))
}

/// Writes a value as its text.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Reads a value from its text.
///
/// # Errors
/// A text that is no such value.
pub fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    read(&String::deserialize(deserializer)?)
}

/// A value that may be missing.
pub mod option {
    use super::*;

    /// Writes the text of a value, if there is one.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(ToString::to_string).serialize(serializer)
    }

    /// Reads a value, if there is one.
    ///
    /// # Errors
    /// A text that is no such value.
    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        Option::<String>::deserialize(deserializer)?.map(|text| read(&text)).transpose()
    }
}

/// A list of values.
pub mod list {
    use super::*;

    /// Writes the texts of the values.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<T: Display, S: Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(ToString::to_string))
    }

    /// Reads the values.
    ///
    /// # Errors
    /// A text that is no such value.
    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        Vec::<String>::deserialize(deserializer)?.iter().map(|text| read(text)).collect()
    }
}

/// A map whose keys are values. Files have it in the order of the texts.
pub mod keys {
    use std::collections::BTreeMap;

    use super::*;

    /// Writes the map.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<K: Display, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let by_text: BTreeMap<String, &V> = map.iter().map(|(key, value)| (key.to_string(), value)).collect();
        by_text.serialize(serializer)
    }

    /// Reads the map.
    ///
    /// # Errors
    /// A key that is no such value.
    pub fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: FromStr<Err: Display> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let by_text = BTreeMap::<String, V>::deserialize(deserializer)?;
        by_text.into_iter().map(|(text, value)| Ok((read(&text)?, value))).collect::<Result<_, D::Error>>()
    }
}
