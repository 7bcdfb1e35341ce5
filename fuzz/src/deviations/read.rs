//! Values in the VMCS and in the VM-entry MSR-load area that an implementation takes for others when it makes its checks.

use serde::{Deserialize, Serialize};
use vmcs_case::number::Number;
use vmcs_model::field::{self, FieldId};
use vmcs_model::{ReadMemory, Vmcs};

use super::condition::{Condition, Fields, is_address_width, is_canonical, sign_extended};
use crate::as_text;

/// Entries of an MSR-load area that are looked at.
const MOST_LOADS: u64 = 64;

/// Bits of a field that the checks find to be something else than they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FieldReadText", into = "FieldReadText")]
pub struct FieldRead {
    /// The field.
    pub field: FieldId,
    /// What its checks find.
    pub found: Found,
    /// What has to be the case besides what the whole deviation demands.
    pub when: Vec<Condition>,
}

/// What checks find in a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// In these bits this value: `bits` and `value`.
    Value {
        /// The bits.
        bits: Number,
        /// What they are taken for.
        value: Number,
    },
    /// A linear address that is canonical only if it is so with so many bits: `address_bits`.
    Address(u32),
}

impl FieldRead {
    /// What the checks find in the field, if that is not what it holds.
    #[must_use]
    pub fn found(&self, vmcs: &Vmcs) -> Option<u64> {
        let held = vmcs.raw(self.field);
        let found = match self.found {
            Found::Value { bits, value } => held & !bits.0 | value.0,
            Found::Address(width) if is_canonical(held, width) => held,
            // An address that no width makes canonical: its two highest bits differ.
            Found::Address(_) => held & !(1 << 63) | !(held << 1) & 1 << 63,
        };
        let holds = |condition: &Condition| condition.holds(Fields::before(vmcs));
        (found != held && self.when.iter().all(holds)).then_some(found)
    }
}

/// The value of an MSR in the VM-entry MSR-load area that is taken for another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "MsrReadText", into = "MsrReadText")]
pub struct MsrRead {
    /// The MSR.
    pub msr: Number,
    /// What is loaded instead.
    pub loaded: Loaded,
}

/// What is loaded into an MSR instead of the value in the area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// In these bits this value: `bits` and `value`.
    Value {
        /// The bits.
        bits: Number,
        /// What they are taken for.
        value: Number,
    },
    /// The address that is canonical with so many bits and has the same low bits: `made_canonical`.
    Canonical(u32),
}

impl MsrRead {
    /// What is loaded instead of `value`.
    const fn loaded(&self, value: u64) -> u64 {
        match self.loaded {
            Loaded::Value { bits, value: other } => value & !bits.0 | other.0,
            Loaded::Canonical(width) => sign_extended(value, width),
        }
    }

    /// Where values in the area lie that are taken for others, and for which.
    pub fn changes(&self, vmcs: &Vmcs, memory: &impl ReadMemory) -> impl Iterator<Item = (u64, u64)> {
        loads(vmcs, memory).filter(|load| Number(load.msr.into()) == self.msr).filter_map(|load| {
            let loaded = self.loaded(load.value);
            (loaded != load.value).then_some((load.address + 8, loaded))
        })
    }
}

/// An entry of the VM-entry MSR-load area.
pub(super) struct Load {
    /// Its number, from 1.
    pub(super) number: u64,
    address: u64,
    /// The MSR.
    pub(super) msr: u32,
    /// Its value.
    pub(super) value: u64,
}

/// The first entries of the area.
pub(super) fn loads(vmcs: &Vmcs, memory: &(impl ReadMemory + ?Sized)) -> impl Iterator<Item = Load> {
    let area = vmcs.get(field::VM_ENTRY_MSR_LOAD_ADDRESS);
    let count = u64::from(vmcs.get(field::VM_ENTRY_MSR_LOAD_COUNT)).min(MOST_LOADS);
    (0..count).filter_map(move |index| {
        let address = area.wrapping_add(16 * index);
        let msr = memory.read_u32(address)?;
        let value = memory.read_u64(address.wrapping_add(8))?;
        Some(Load { number: index + 1, address, msr, value })
    })
}

/// An entry of `fields_read` as files have it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldReadText {
    #[serde(with = "as_text")]
    field: FieldId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bits: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address_bits: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    when: Vec<Condition>,
}

/// An entry of `msrs_read` as files have it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MsrReadText {
    msr: Number,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bits: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made_canonical: Option<u32>,
}

/// What is wrong with an entry of `fields_read` or `msrs_read`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum ReadError {
    #[error("an entry of fields_read says what the checks find: bits and value, or address_bits")]
    Field,
    #[error("an entry of msrs_read says what is loaded instead: bits and value, or made_canonical")]
    Msr,
    #[error("the value has bits that the entry is not about, or that the field does not have")]
    OtherBits,
    #[error("linear addresses have 48 or 57 bits")]
    Width,
}

/// The bits and their value, if that is what the entry has.
fn value(bits: Option<Number>, value: Option<Number>, all: u64) -> Result<Option<(Number, Number)>, ReadError> {
    match (bits, value) {
        (None, None) => Ok(None),
        (Some(bits), Some(value)) if bits.0 & !all == 0 && value.0 & !bits.0 == 0 => Ok(Some((bits, value))),
        _ => Err(ReadError::OtherBits),
    }
}

impl TryFrom<FieldReadText> for FieldRead {
    type Error = ReadError;

    fn try_from(text: FieldReadText) -> Result<Self, ReadError> {
        let FieldReadText { field, bits, value: given, address_bits, when } = text;
        let found = match (value(bits, given, field.info().width().mask())?, address_bits) {
            (Some((bits, value)), None) => Found::Value { bits, value },
            (None, Some(width)) if is_address_width(width) => Found::Address(width),
            (None, Some(_)) => return Err(ReadError::Width),
            _ => return Err(ReadError::Field),
        };
        Ok(Self { field, found, when })
    }
}

impl From<FieldRead> for FieldReadText {
    fn from(read: FieldRead) -> Self {
        let FieldRead { field, found, when } = read;
        match found {
            Found::Value { bits, value } => {
                Self { field, bits: Some(bits), value: Some(value), address_bits: None, when }
            }
            Found::Address(width) => Self { field, bits: None, value: None, address_bits: Some(width), when },
        }
    }
}

impl TryFrom<MsrReadText> for MsrRead {
    type Error = ReadError;

    fn try_from(text: MsrReadText) -> Result<Self, ReadError> {
        let MsrReadText { msr, bits, value: given, made_canonical } = text;
        let loaded = match (value(bits, given, u64::MAX)?, made_canonical) {
            (Some((bits, value)), None) => Loaded::Value { bits, value },
            (None, Some(width)) if is_address_width(width) => Loaded::Canonical(width),
            (None, Some(_)) => return Err(ReadError::Width),
            _ => return Err(ReadError::Msr),
        };
        Ok(Self { msr, loaded })
    }
}

impl From<MsrRead> for MsrReadText {
    fn from(read: MsrRead) -> Self {
        let MsrRead { msr, loaded } = read;
        match loaded {
            Loaded::Value { bits, value } => Self { msr, bits: Some(bits), value: Some(value), made_canonical: None },
            Loaded::Canonical(width) => Self { msr, bits: None, value: None, made_canonical: Some(width) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, value: u64) -> Option<u64> {
        let read: FieldRead = toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let mut vmcs = Vmcs::default();
        vmcs.set_raw(read.field, value);
        read.found(&vmcs)
    }

    #[test]
    fn bits_are_taken_for_a_value() {
        let text = "field = 'guest_rip'\nbits = 0xF0\nvalue = 0x30";
        assert_eq!([0x12, 0x32].map(|value| found(text, value)), [Some(0x32), None]);
        let when = format!("{text}\nwhen = [{{field = 'guest_rip', bits = 1, equals = 1}}]");
        assert_eq!([0x12, 0x13].map(|value| found(&when, value)), [None, Some(0x33)]);
    }

    #[test]
    fn addresses_are_canonical_with_fewer_bits_only() {
        let text = "field = 'host_fs_base'\naddress_bits = 48";
        for wide in [0x80_0000_0000_0000, 0x100_0000_0000_0000, 0xFF7F_FFFF_FFFF_FFFF] {
            let high_bits = found(text, wide).map(|found| found >> 62);
            assert!(matches!(high_bits, Some(0b01 | 0b10)), "{wide:#x}");
        }
        for same in [0, 0x7FFF_FFFF_FFFF, 0xFFFF_8000_0000_0000, 1 << 63] {
            assert_eq!(found(text, same), None, "{same:#x}");
        }
    }

    #[test]
    fn msrs_are_loaded_with_another_value() {
        let text = |loaded: &str| toml::from_str::<MsrRead>(&format!("msr = 0x175\n{loaded}")).unwrap();
        assert_eq!(text("bits = 0xF0\nvalue = 0x10").loaded(0xFF), 0x1F);
        assert_eq!(text("made_canonical = 48").loaded(0x8000_0000_0000), 0xFFFF_8000_0000_0000);
    }

    #[test]
    fn what_says_nothing_is_refused() {
        for text in [
            "field = 'guest_rip'",
            "field = 'guest_rip'\nbits = 1",
            "field = 'guest_rip'\nvalue = 1",
            "field = 'guest_rip'\nbits = 1\nvalue = 2",
            "field = 'guest_cs_selector'\nbits = 0x10000\nvalue = 0",
            "field = 'guest_rip'\naddress_bits = 64",
            "field = 'guest_rip'\nbits = 1\nvalue = 1\naddress_bits = 48",
        ] {
            assert!(toml::from_str::<FieldRead>(text).is_err(), "{text}");
        }
        for text in ["msr = 1", "msr = 1\nbits = 1", "msr = 1\nmade_canonical = 1", "bits = 1\nvalue = 1"] {
            assert!(toml::from_str::<MsrRead>(text).is_err(), "{text}");
        }
    }
}
