//! Values that are written as a number or as a name: dwords, fields, images.
//!
//! They are read directly as the kind of value that the JSON has. (serde's untagged enums would copy the value and try each
//! variant on the copy.)

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

use super::{Dword, DwordName, FieldKey, ImageKey};
use crate::number::Number;

/// What is written as a number or as a text.
trait Key: Sized {
    /// What is expected, in words.
    const EXPECTED: &str;

    fn of_number(number: u64) -> Option<Self>;

    fn of_text(text: &str) -> Option<Self>;
}

impl Key for Dword {
    const EXPECTED: &str = "a number such as \"0x6800\" or 26624, \"revision\" or \"shadow_revision\"";

    fn of_number(number: u64) -> Option<Self> {
        Some(Self::Number(Number(number)))
    }

    fn of_text(text: &str) -> Option<Self> {
        match text {
            "revision" => Some(Self::Named(DwordName::Revision)),
            "shadow_revision" => Some(Self::Named(DwordName::ShadowRevision)),
            _ => Number::parse(text).ok().map(Self::Number),
        }
    }
}

impl Key for FieldKey {
    const EXPECTED: &str = "the name of a VMCS field, or an encoding such as \"0x6800\" or 26624";

    fn of_number(number: u64) -> Option<Self> {
        Some(Self::Encoding(Number(number)))
    }

    fn of_text(text: &str) -> Option<Self> {
        // No name of a field begins with a digit.
        let number = text.starts_with(|c: char| c.is_ascii_digit() || c == '_').then(|| Number::parse(text).ok());
        Some(number.flatten().map_or_else(|| Self::Name(text.to_owned()), Self::Encoding))
    }
}

impl Key for ImageKey {
    const EXPECTED: &str = "the index of an image, at most 65535, or its name";

    fn of_number(number: u64) -> Option<Self> {
        u16::try_from(number).ok().map(Self::Index)
    }

    fn of_text(text: &str) -> Option<Self> {
        Some(Self::Name(text.to_owned()))
    }
}

struct KeyVisitor<K>(PhantomData<K>);

impl<K: Key> Visitor<'_> for KeyVisitor<K> {
    type Value = K;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(K::EXPECTED)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<K, E> {
        K::of_number(value).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<K, E> {
        let key = u64::try_from(value).ok().and_then(K::of_number);
        key.ok_or_else(|| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<K, E> {
        K::of_text(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

macro_rules! read_as_key {
    ($($key:ty)*) => {$(
        impl<'de> Deserialize<'de> for $key {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(KeyVisitor(PhantomData))
            }
        }
    )*};
}
read_as_key!(Dword FieldKey ImageKey);

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a, K: Deserialize<'a>>(text: &'a str) -> Result<K, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_and_names_are_told_apart() {
        assert_eq!(read("\"shadow_revision\""), Ok(Dword::Named(DwordName::ShadowRevision)));
        assert_eq!(read("\"0x1_0\""), Ok(Dword::Number(Number(16))));
        assert_eq!(read("7"), Ok(Dword::Number(Number(7))));
        assert_eq!(read("\"0x6800\""), Ok(FieldKey::Encoding(Number(0x6800))));
        assert_eq!(read("\"26624\""), Ok(FieldKey::Encoding(Number(0x6800))));
        assert_eq!(read("26624"), Ok(FieldKey::Encoding(Number(0x6800))));
        assert_eq!(read("\"guest_cr0\""), Ok(FieldKey::Name("guest_cr0".to_owned())));
        assert_eq!(read("\"3x\""), Ok(FieldKey::Name("3x".to_owned())));
        assert_eq!(read("1"), Ok(ImageKey::Index(1)));
        assert_eq!(read("\"1\""), Ok(ImageKey::Name("1".to_owned())));
    }

    #[test]
    fn errors_say_what_is_expected() {
        for (error, words) in [
            (read::<Dword>("\"revisions\"").unwrap_err(), "\"revision\" or \"shadow_revision\""),
            (read::<Dword>("-1").unwrap_err(), "integer `-1`, expected a number"),
            (read::<Dword>("true").unwrap_err(), "boolean `true`, expected a number"),
            (read::<FieldKey>("1.5").unwrap_err(), "the name of a VMCS field"),
            (read::<ImageKey>("65536").unwrap_err(), "at most 65535"),
        ] {
            assert!(error.contains(words), "{error}");
        }
    }
}
