//! Reading JSON texts that are one object.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::de::Read;

use crate::LineError;

/// Reads an object. What serde derives would take a list of the values, too.
pub(crate) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Object<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_map(Object(PhantomData))
}

/// Reads a JSON text that is one object.
pub(crate) fn json_object<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Result<T, LineError> {
    // A text that is UTF-8 as a whole needs no look at each of its strings. One that is not is wrong somewhere.
    match str::from_utf8(text) {
        Ok(text) => read(serde_json::Deserializer::from_str(text)),
        Err(_) => read(serde_json::Deserializer::from_slice(text)),
    }
    .map_err(|error| LineError { line: error.line(), message: message(&error) })
}

fn read<'de, T: Deserialize<'de>>(mut text: serde_json::Deserializer<impl Read<'de>>) -> serde_json::Result<T> {
    let value = object(&mut text)?;
    text.end().map(|()| value)
}

/// What is wrong, with the column but without the line.
fn message(error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = error.to_string();
    format!("{} (column {})", message.strip_suffix(&place).unwrap_or(&message), error.column())
}
