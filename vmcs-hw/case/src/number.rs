//! Numbers in files: hexadecimal strings or integers.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// A 64-bit number that files hold as a string such as `"0x6800"` or as an integer; written as the string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Number(pub u64);

impl Number {
    /// Reads `0x…` or a decimal number; underscores may separate digits.
    ///
    /// # Errors
    /// The text is neither, or exceeds 64 bits.
    pub fn parse(text: &str) -> Result<Self, NotANumber> {
        let joined;
        let digits = if text.contains('_') {
            joined = text.replace('_', "");
            &joined
        } else {
            text
        };
        match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16),
            _ if digits.starts_with('+') => return Err(NotANumber(text.to_owned())),
            _ => digits.parse(),
        }
        .map(Self)
        .map_err(|_| NotANumber(text.to_owned()))
    }

    /// The number, if it fits 32 bits.
    ///
    /// # Errors
    /// It does not.
    pub fn to_u32(self) -> Result<u32, NotANumber> {
        u32::try_from(self.0).map_err(|_| NotANumber(format!("{self} (at most 32 bits fit here)")))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A text that is not a number of at most 64 bits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a number such as \"0x6800\" or 26624, found {0}")]
pub struct NotANumber(pub String);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyForm;
        impl Visitor<'_> for AnyForm {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number such as \"0x6800\" or 26624")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Number, E> {
                Ok(Number(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Number, E> {
                u64::try_from(value).map(Number).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                Number::parse(text).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(AnyForm)
    }
}

#[cfg(test)]
mod tests {
    use super::Number;

    #[test]
    fn reads_both_forms() {
        for (text, value) in [("\"0x6800\"", 0x6800), ("26624", 0x6800), ("\"0xffff_ffff_ffff_ffff\"", u64::MAX)] {
            assert_eq!(serde_json::from_str::<Number>(text).unwrap(), Number(value), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_number() {
        for text in ["\"\"", "\"0x\"", "\"+5\"", "\"0x+5\"", "-1", "1.5", "\"0x1_0000_0000_0000_0000\"", "true", "null"]
        {
            assert!(serde_json::from_str::<Number>(text).is_err(), "{text}");
        }
    }
}
