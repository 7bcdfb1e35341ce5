//! Values for fields, as image files and cases write them.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Unexpected, Visitor};
use vmcs_case::number::Number;
use vmcs_model::Vmcs;
use vmcs_model::field::{Encoding, FIELDS, FieldId, FieldInfo, Width};

use crate::similar_names::did_you_mean;

/// Values for fields, by name or encoding.
#[derive(Clone, Debug, Default)]
pub struct FieldWrites(Vec<FieldWrite>);

#[derive(Clone, Copy, Debug)]
struct FieldWrite {
    target: FieldTarget,
    value: u64,
}

/// A field, or bits 63:32 of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FieldTarget {
    field: FieldId,
    high: bool,
}

impl FieldWrites {
    /// The fields that have a value, in the order of Appendix B.
    pub(super) fn listed(&self) -> Vec<FieldId> {
        let mut fields: Vec<_> = self.0.iter().map(|write| write.target.field).collect();
        fields.sort_unstable();
        fields.dedup();
        fields
    }

    /// Sets the fields.
    pub fn apply(&self, vmcs: &mut Vmcs) {
        for &FieldWrite { target: FieldTarget { field, high }, value } in &self.0 {
            let value = if high { value << 32 | vmcs.raw(field) & 0xFFFF_FFFF } else { value };
            vmcs.set_raw(field, value);
        }
    }

    /// Gives the fields the values that `base` has.
    pub fn undo(&self, vmcs: &mut Vmcs, base: &Vmcs) {
        for &FieldWrite { target: FieldTarget { field, .. }, .. } in &self.0 {
            vmcs.set_raw(field, base.raw(field));
        }
    }
}

impl FieldTarget {
    /// The field of that name, alias or encoding.
    fn parse(key: &str) -> Result<Self, String> {
        if let Some(field) = FieldId::by_name(key) {
            return Ok(Self { field, high: false });
        }
        if key.starts_with(|c: char| c.is_ascii_digit()) {
            let encoding = Number::parse(key).and_then(Number::to_u32).map_err(|error| format!("{key:?}: {error}"))?;
            let field = Encoding(encoding).field().ok_or_else(|| {
                format!("no VMCS field has the encoding {encoding:#06x}: expected one that `vmcs fields` lists")
            })?;
            return Ok(Self { field, high: Encoding(encoding).is_high() });
        }
        let names = FIELDS.iter().flat_map(|info| info.aliases.iter().copied().chain([info.name]));
        let near = did_you_mean(key, names);
        let expected = if near.is_empty() {
            ": expected a name that `vmcs fields` lists, or an encoding such as \"0x6800\""
        } else {
            &near
        };
        Err(format!("unknown VMCS field {key:?}{expected}"))
    }

    fn info(self) -> &'static FieldInfo {
        self.field.info()
    }

    /// Bits that can be written.
    fn bits(self) -> u32 {
        if self.high { Width::Bits32.bits() } else { self.info().width().bits() }
    }
}

impl fmt::Display for FieldTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.info().name;
        if self.high { write!(f, "bits 63:32 of {name}") } else { f.write_str(name) }
    }
}

impl<'de> Deserialize<'de> for FieldWrites {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldWritesVisitor;
        impl<'de> Visitor<'de> for FieldWritesVisitor {
            type Value = FieldWrites;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("field values such as {\"guest_rip\": \"0x1000\"}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FieldWrites, A::Error> {
                let mut writes: Vec<FieldWrite> = Vec::new();
                while let Some(target) = map.next_key_seed(FieldTargetSeed { taken: &writes })? {
                    writes.push(FieldWrite { target, value: map.next_value_seed(FieldValueSeed(target))? });
                }
                // Whatever their order: the high half changes the full value.
                writes.sort_by_key(|write| write.target.high);
                Ok(FieldWrites(writes))
            }
        }
        deserializer.deserialize_map(FieldWritesVisitor)
    }
}

/// Reads a field's key. What is wrong is found out while the reader stands there, so that the error has the place.
struct FieldTargetSeed<'a> {
    taken: &'a [FieldWrite],
}

impl<'de> DeserializeSeed<'de> for FieldTargetSeed<'_> {
    type Value = FieldTarget;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<FieldTarget, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldTargetSeed<'_> {
    type Value = FieldTarget;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name or encoding")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<FieldTarget, E> {
        let target = FieldTarget::parse(key).map_err(E::custom)?;
        if self.taken.iter().any(|write| write.target == target) {
            return Err(E::custom(format_args!("{key:?} gives {target} a second value: expected each field once")));
        }
        Ok(target)
    }
}

/// Reads the value of a field.
struct FieldValueSeed(FieldTarget);

impl<'de> DeserializeSeed<'de> for FieldValueSeed {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for FieldValueSeed {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number of at most {} bits for {}, such as \"0x6800\" or 26624", self.0.bits(), self.0)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
        if value >> (self.0.bits() - 1) > 1 {
            let bits = self.0.bits();
            return Err(E::custom(format_args!(
                "{value:#x} is too wide for {}, which has {bits} bits: expected at most {:#x}",
                self.0,
                u64::MAX >> (64 - bits),
            )));
        }
        Ok(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<u64, E> {
        match u64::try_from(value) {
            Ok(value) => self.visit_u64(value),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(value), &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        match Number::parse(text) {
            Ok(number) => self.visit_u64(number.0),
            Err(_) => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}
