//! Profiles from and to JSON. Keys are checked where they are read, so that errors name their line and column.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vmcs_model::field::FieldId;
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::profile::{CpuProfile, CpuidLeaf, MsrValue, Quirks};

use super::{Confidence, NamedProfile};
use crate::number::Number;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    name: String,
    source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confidence: Option<Trust>,
    msrs: Entries<Msr, Option<Number>>,
    cpuid: Entries<Leaf, [RegisterValue; 4]>,
    #[serde(default, skip_serializing_if = "FileQuirks::is_none")]
    quirks: FileQuirks,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileQuirks {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    access_rights_drop_reserved: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields_extra: Vec<FieldName>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields_missing: Vec<FieldName>,
}

/// [`Confidence`] as files spell it: [`Confidence::name`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Confidence", rename_all = "lowercase")]
enum ConfidenceWord {
    Exact,
    Partial,
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Trust(#[serde(with = "ConfidenceWord")] Confidence);

/// A component of the VMCS by its name.
#[derive(PartialEq)]
struct FieldName(FieldId);

impl Serialize for FieldName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.info().name)
    }
}

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let unknown = || Error::invalid_value(Unexpected::Str(&name), &"the name of a VMCS field");
        FieldId::by_name(&name).map(Self).ok_or_else(unknown)
    }
}

impl FileQuirks {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl<'de> Deserialize<'de> for NamedProfile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file = ProfileFile::deserialize(deserializer)?;
        let mut profile = CpuProfile::default();
        profile.quirks = Quirks {
            access_rights_drop_reserved: file.quirks.access_rights_drop_reserved,
            fields_extra: file.quirks.fields_extra.into_iter().map(|name| name.0).collect(),
            fields_missing: file.quirks.fields_missing.into_iter().map(|name| name.0).collect(),
        };
        for (Msr(number), value) in file.msrs.0 {
            if let Some(msr) = CapabilityMsr::by_number(number) {
                profile.set_msr(msr, value.map_or(MsrValue::Absent, |Number(value)| MsrValue::Value(value)));
            }
        }
        for (Leaf(leaf, sub_leaf), registers) in file.cpuid.0 {
            if let Some(leaf) = CpuidLeaf::by_query(leaf, sub_leaf) {
                profile.set_cpuid(leaf, registers.map(|RegisterValue(value)| value));
            }
        }
        Ok(Self { name: file.name, source: file.source, confidence: file.confidence.map(|trust| trust.0), profile })
    }
}

impl Serialize for NamedProfile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let profile = &self.profile;
        let msrs = CapabilityMsr::ALL.into_iter().map(|msr| (msr.number(), profile.msr(msr)));
        let msrs = msrs.filter_map(|(number, value)| match value {
            MsrValue::Unknown => None,
            MsrValue::Absent => Some((Msr(number), None)),
            MsrValue::Value(value) => Some((Msr(number), Some(Number(value)))),
        });
        let cpuid = CpuidLeaf::ALL.into_iter();
        let cpuid = cpuid.filter_map(|leaf| {
            let (number, sub_leaf) = leaf.query();
            Some((Leaf(number, sub_leaf), profile.cpuid(leaf)?.map(RegisterValue)))
        });
        let Quirks { access_rights_drop_reserved, fields_extra, fields_missing } = profile.quirks;
        ProfileFile {
            name: self.name.clone(),
            source: self.source.clone(),
            confidence: self.confidence.map(Trust),
            msrs: Entries(msrs.collect()),
            cpuid: Entries(cpuid.collect()),
            quirks: FileQuirks {
                fields_extra: fields_extra.iter().map(FieldName).collect(),
                fields_missing: fields_missing.iter().map(FieldName).collect(),
                access_rights_drop_reserved,
            },
        }
        .serialize(serializer)
    }
}

/// Number of an MSR that a check depends on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Msr(u32);

impl fmt::Display for Msr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl JsonKey for Msr {
    fn expected() -> String {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for number in CapabilityMsr::ALL.map(CapabilityMsr::number) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => runs.push((number, number)),
            }
        }
        let run = |(first, last): (u32, u32)| {
            if first == last { format!("{first:#x}") } else { format!("{first:#x}-{last:#x}") }
        };
        format!("the number of an MSR: {}", runs.into_iter().map(run).collect::<Vec<_>>().join(", "))
    }

    fn parse(text: &str) -> Option<Self> {
        let number = Number::parse(text).ok()?.to_u32().ok()?;
        CapabilityMsr::by_number(number).map(|_| Self(number))
    }
}

/// A CPUID leaf with its subleaf.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Leaf(u32, u32);

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}.{:#x}", self.0, self.1)
    }
}

impl JsonKey for Leaf {
    fn expected() -> String {
        "a CPUID leaf and subleaf in hexadecimal, such as 0x7.0x1".to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        let (leaf, subleaf) = text.split_once('.').unwrap_or((text, "0"));
        Some(Self(hexadecimal(leaf)?, hexadecimal(subleaf)?))
    }
}

fn hexadecimal(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    all_digits.then(|| u32::from_str_radix(digits, 16).ok())?
}

/// A number of at most 32 bits.
#[derive(Clone, Copy)]
struct RegisterValue(u32);

impl Serialize for RegisterValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Number(self.0.into()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RegisterValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Number::deserialize(deserializer)?.to_u32().map(Self).map_err(Error::custom)
    }
}

/// A key of [`Entries`].
trait JsonKey: fmt::Display + Ord {
    /// What is expected of it.
    fn expected() -> String;

    /// Reads it.
    fn parse(text: &str) -> Option<Self>
    where
        Self: Sized;
}

/// A JSON object in which no key stands twice.
struct Entries<K, V>(BTreeMap<K, V>);

impl<K: JsonKey, V: Serialize> Serialize for Entries<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key.to_string(), value)))
    }
}

impl<'de, K: JsonKey, V: Deserialize<'de>> Deserialize<'de> for Entries<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<K, V>(PhantomData<(K, V)>);
        impl<'de, K: JsonKey, V: Deserialize<'de>> Visitor<'de> for Object<K, V> {
            type Value = BTreeMap<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an object whose keys are each {}", K::expected())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(text) = map.next_key::<String>()? {
                    let wrong = || A::Error::invalid_value(Unexpected::Str(&text), &K::expected().as_str());
                    let key = K::parse(&text).ok_or_else(wrong)?;
                    // serde_json finds the position again in the text of the error.
                    let value = map.next_value();
                    let value = value.map_err(|error| A::Error::custom(format_args!("{text:?}: {error}")))?;
                    if entries.insert(key, value).is_some() {
                        return Err(A::Error::custom(format_args!("{text:?} stands twice")));
                    }
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Object(PhantomData)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::ProfileError;
    use super::*;

    fn read(msrs: &str, cpuid: &str, more: &str) -> Result<NamedProfile, String> {
        let text = format!("{{\"name\": \"n\", \"source\": \"s\",\n\"msrs\": {msrs},\n\"cpuid\": {cpuid}{more}}}");
        NamedProfile::from_json(&text, Path::new("a.json")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_known_absent_and_unknown() {
        let read = read(r#"{"0x480": "0x10", "0x491": null, "0x485": 7, "0x982": 3, "0x345": null}"#, "{}", "")
            .expect("a profile");
        assert_eq!(read.profile.msr(CapabilityMsr::Basic), MsrValue::Value(0x10));
        assert_eq!(read.profile.msr(CapabilityMsr::Vmfunc), MsrValue::Absent);
        assert_eq!(read.profile.msr(CapabilityMsr::Misc), MsrValue::Value(7));
        assert_eq!(read.profile.msr(CapabilityMsr::Exit2), MsrValue::Unknown);
        assert_eq!(read.profile.msr(CapabilityMsr::TmeActivate), MsrValue::Value(3));
        assert_eq!(read.profile.msr(CapabilityMsr::PerfCapabilities), MsrValue::Absent);
        assert_eq!(read.profile.msr(CapabilityMsr::FeatureControl), MsrValue::Unknown);
        assert_eq!(read.confidence, None);
    }

    #[test]
    fn leaves_in_every_form() {
        for key in ["0x14.0x1", "14.1", "0x14.1", "14.0x1"] {
            let read = read("{}", &format!(r#"{{"{key}": [1, "0x2", 3, 4]}}"#), "").expect(key);
            assert_eq!(read.profile.cpuid(CpuidLeaf::Trace1), Some([1, 2, 3, 4]), "{key}");
        }
        let read = read("{}", r#"{"80000008": [1, 2, 3, 4]}"#, "").expect("no subleaf");
        assert_eq!(read.profile.cpuid(CpuidLeaf::AddressWidths), Some([1, 2, 3, 4]));
    }

    #[test]
    fn leaves_that_no_check_depends_on_are_passed_over() {
        let all = read(
            "{}",
            r#"{"0": [22, 1, 2, 3], "2": [1, 2, 3, 4], "7.3": [0, 0, 0, 0], "4000000a.1": [0, 0, 0, 1]}"#,
            "",
        )
        .expect("a profile");
        assert_eq!(all.profile.cpuid(CpuidLeaf::Highest), Some([22, 1, 2, 3]));
        assert_eq!(all.profile.known_cpuid(CpuidLeaf::LastBranch), Some([0; 4]));
        assert_eq!(all, read("{}", r#"{"0": [22, 1, 2, 3]}"#, "").expect("a profile"));
    }

    #[test]
    fn quirks_are_optional() {
        let more = r#", "quirks": {"access_rights_drop_reserved": true}, "confidence": "partial""#;
        let read = read("{}", "{}", more).expect("a profile");
        assert!(read.profile.quirks.access_rights_drop_reserved);
        assert_eq!(read.confidence, Some(Confidence::Partial));
        let again = NamedProfile::from_json(&read.to_json(), Path::new("b.json")).expect("what was written");
        assert_eq!(again, read);
    }

    #[test]
    fn errors_name_place_key_and_expectation() {
        for (msrs, cpuid, more, place, words) in [
            (r#"{"0x4a0": 1}"#, "{}", "", "2:", &["\"0x4a0\"", "0x480-0x493, 0x3a, 0x345, 0x982"][..]),
            (r#"{"0x480": "ten"}"#, "{}", "", "2:", &["\"0x480\"", "\"ten\"", "a number"]),
            (r#"{"0x480": 1, "0x480": 2}"#, "{}", "", "2:", &["\"0x480\" stands twice"]),
            ("{}", r#"{"7.3": [0, 0, 0]}"#, "", "3:", &["\"7.3\"", "an array of length 4"]),
            ("{}", r#"{"7.+1": [0, 0, 0, 0]}"#, "", "3:", &["\"7.+1\"", "such as 0x7.0x1"]),
            ("{}", r#"{".": [0, 0, 0, 0]}"#, "", "3:", &["\".\""]),
            ("{}", r#"{"7.1": [0, 0, 0]}"#, "", "3:", &["\"7.1\"", "an array of length 4"]),
            ("{}", r#"{"7.1": [0, 0, 0, "0x100000000"]}"#, "", "3:", &["\"7.1\"", "at most 32 bits"]),
            ("[]", "{}", "", "2:", &["an object whose keys are each the number of an MSR"]),
            ("{}", "{}", r#", "colour": "red""#, "3:", &["unknown field `colour`"]),
            ("{}", "{}", r#", "confidence": "high""#, "3:", &["`high`", "`exact`"]),
            ("{}", "{}", r#", "quirks": {"x": true}"#, "3:", &["unknown field `x`", "access_rights_drop_reserved"]),
        ] {
            let error = read(msrs, cpuid, more).expect_err("not a profile");
            assert!(error.starts_with(&format!("a.json:{place}")), "{error}");
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
            assert!(!error.contains(" at line "), "{error}");
        }
    }

    #[test]
    fn files_are_read() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("p.json");
        let error = NamedProfile::load(&file).expect_err("there is no file");
        assert!(matches!(&error, ProfileError::Read { file: named, .. } if *named == file));
        let read = read("{}", "{}", "").expect("a profile");
        std::fs::write(&file, read.to_json()).expect("the file is written");
        assert_eq!(NamedProfile::load(&file).expect("the file is read"), read);
    }
}
