//! Conditions of deviations: on the VMCS that a VM entry finds, on how the entry ended, on the operands of an instruction.

use serde::{Deserialize, Serialize};
use vmcs_case::Op;
use vmcs_case::number::Number;
use vmcs_model::Vmcs;
use vmcs_model::field::{self, FieldId};

use crate::as_text;

/// A condition: a field of the current VMCS, or an operand of the instruction, passes a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ConditionText", into = "ConditionText")]
pub struct Condition {
    /// What is tested.
    pub subject: Subject,
    /// The bits of it that are tested; the others count as 0.
    pub bits: Number,
    /// The test.
    pub test: Test,
}

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A field as the VM entry finds it; of the exit reason and the exit qualification what the entry left in them.
    Field(FieldId),
    /// An operand of an instruction other than a VM entry.
    Operand(Operand),
}

/// An operand of INVEPT or INVVPID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operand {
    /// The type, which the register operand holds.
    Type,
    /// Bits 127:64 of the INVVPID descriptor: the linear address.
    Address,
}

/// A test of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// It is this.
    Equals(Comparand),
    /// It is not this.
    Differs(Comparand),
    /// It is this or a larger number.
    AtLeast(Comparand),
    /// It is a smaller number than this.
    LessThan(Comparand),
    /// It is a linear address that is not canonical with so many bits.
    NotCanonical(u32),
}

/// What a value is compared with: a number, in which the bits are where they are in the field, or bits of another field.
/// Bits of two fields are compared as numbers that count from the lowest of the bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number, or bits of a field such as { field = \"guest_cr0\", bits = 0x1 }")]
pub enum Comparand {
    /// A number.
    Number(Number),
    /// Bits of a field.
    Field(FieldBits),
}

/// Bits of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldBits {
    /// The field.
    #[serde(with = "as_text")]
    pub field: FieldId,
    /// The bits.
    pub bits: Number,
}

/// The fields that conditions are about: as the VM entry found them, and as it left them.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    /// Before the entry.
    pub entered: &'a Vmcs,
    /// After it. Before an entry the same.
    pub ended: &'a Vmcs,
}

impl<'a> Fields<'a> {
    /// Those of an entry that is still to come.
    #[must_use]
    pub const fn before(vmcs: &'a Vmcs) -> Self {
        Self { entered: vmcs, ended: vmcs }
    }

    fn raw(&self, field: FieldId) -> u64 {
        if tells_the_end(field) { self.ended.raw(field) } else { self.entered.raw(field) }
    }
}

/// Whether a condition on the field is one on how the entry ended.
fn tells_the_end(field: FieldId) -> bool {
    field == field::EXIT_REASON.id() || field == field::EXIT_QUALIFICATION.id()
}

impl Condition {
    /// Whether fields meet it. A condition on an operand is met by none.
    #[must_use]
    pub fn holds(&self, fields: Fields<'_>) -> bool {
        match self.subject {
            Subject::Field(field) => self.passes(fields.raw(field), |other| fields.raw(other)),
            Subject::Operand(_) => false,
        }
    }

    /// Whether the operands of an instruction meet it. A condition on a field is met by none.
    #[must_use]
    pub fn holds_for(&self, op: &Op) -> bool {
        let Subject::Operand(operand) = self.subject else { return false };
        let value = match (operand, op) {
            (Operand::Type, Op::Invept { kind, .. } | Op::Invvpid { kind, .. }) => *kind,
            (Operand::Address, Op::Invvpid { descriptor: [_, address], .. }) => *address,
            _ => return false,
        };
        self.passes(value, |_| 0)
    }

    /// Whether it is about how the entry ended.
    pub(super) fn is_about_the_end(&self) -> bool {
        matches!(self.subject, Subject::Field(field) if tells_the_end(field))
    }

    fn passes(&self, value: u64, field: impl Fn(FieldId) -> u64) -> bool {
        let bits = value & self.bits.0;
        let number = |bits: u64, mask: Number| bits.unbounded_shr(mask.0.trailing_zeros());
        let pair = |other: &Comparand| match other {
            Comparand::Number(other) => (bits, other.0),
            Comparand::Field(other) => (number(bits, self.bits), number(field(other.field) & other.bits.0, other.bits)),
        };
        match &self.test {
            Test::Equals(other) => {
                let (value, other) = pair(other);
                value == other
            }
            Test::Differs(other) => {
                let (value, other) = pair(other);
                value != other
            }
            Test::AtLeast(other) => {
                let (value, other) = pair(other);
                value >= other
            }
            Test::LessThan(other) => {
                let (value, other) = pair(other);
                value < other
            }
            Test::NotCanonical(width) => !is_canonical(bits, *width),
        }
    }
}

/// Whether a linear address of that width is sign-extended.
pub(super) const fn is_canonical(address: u64, width: u32) -> bool {
    sign_extended(address, width) == address
}

/// The low bits of an address, sign-extended.
pub(super) const fn sign_extended(address: u64, width: u32) -> u64 {
    let shift = 64 - width;
    ((address << shift).cast_signed() >> shift).cast_unsigned()
}

/// Whether linear addresses can be that wide.
pub(super) const fn is_address_width(width: u32) -> bool {
    matches!(width, 48 | 57)
}

/// A condition as files have it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConditionText {
    #[serde(default, with = "as_text::option", skip_serializing_if = "Option::is_none")]
    field: Option<FieldId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operand: Option<Operand>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bits: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    equals: Option<Comparand>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    differs: Option<Comparand>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_least: Option<Comparand>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    less_than: Option<Comparand>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_canonical: Option<u32>,
}

/// What is wrong with a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum ConditionError {
    #[error("a condition is on one field or one operand")]
    Subject,
    #[error("a condition has one of equals, differs, at_least, less_than and not_canonical")]
    Test,
    #[error("the number has bits that are not compared")]
    OtherBits,
    #[error("linear addresses have 48 or 57 bits")]
    Width,
}

impl TryFrom<ConditionText> for Condition {
    type Error = ConditionError;

    fn try_from(text: ConditionText) -> Result<Self, ConditionError> {
        let subject = match (text.field, text.operand) {
            (Some(field), None) => Subject::Field(field),
            (None, Some(operand)) => Subject::Operand(operand),
            _ => return Err(ConditionError::Subject),
        };
        let tests = [
            text.equals.map(Test::Equals),
            text.differs.map(Test::Differs),
            text.at_least.map(Test::AtLeast),
            text.less_than.map(Test::LessThan),
            text.not_canonical.map(Test::NotCanonical),
        ];
        let mut tests = tests.into_iter().flatten();
        let (Some(test), None) = (tests.next(), tests.next()) else {
            return Err(ConditionError::Test);
        };
        let bits = text.bits.unwrap_or(Number(u64::MAX));
        match &test {
            Test::Equals(Comparand::Number(number)) | Test::Differs(Comparand::Number(number))
                if number.0 & !bits.0 != 0 =>
            {
                Err(ConditionError::OtherBits)
            }
            Test::NotCanonical(width) if !is_address_width(*width) => Err(ConditionError::Width),
            _ => Ok(Self { subject, bits, test }),
        }
    }
}

impl From<Condition> for ConditionText {
    fn from(condition: Condition) -> Self {
        let Condition { subject, bits, test } = condition;
        let mut text = Self { bits: (bits.0 != u64::MAX).then_some(bits), ..Self::default() };
        match subject {
            Subject::Field(field) => text.field = Some(field),
            Subject::Operand(operand) => text.operand = Some(operand),
        }
        match test {
            Test::Equals(other) => text.equals = Some(other),
            Test::Differs(other) => text.differs = Some(other),
            Test::AtLeast(other) => text.at_least = Some(other),
            Test::LessThan(other) => text.less_than = Some(other),
            Test::NotCanonical(width) => text.not_canonical = Some(width),
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(text: &str) -> Condition {
        toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn met_by(text: &str, fields: &[(FieldId, u64)]) -> bool {
        let mut vmcs = Vmcs::default();
        fields.iter().for_each(|(field, value)| vmcs.set_raw(*field, *value));
        condition(text).holds(Fields::before(&vmcs))
    }

    #[test]
    fn bits_are_compared_where_they_are() {
        let rflags = field::GUEST_RFLAGS.id();
        for (test, met) in [("equals = 0x200", [true, false]), ("differs = 0x200", [false, true])] {
            let text = format!("field = 'guest_rflags'\nbits = 0x200\n{test}");
            assert_eq!([0x302, 0x102].map(|value| met_by(&text, &[(rflags, value)])), met, "{test}");
        }
        for (test, met) in [("at_least = 0x10", [false, true, true]), ("less_than = 0x10", [true, false, false])] {
            let text = format!("field = 'guest_rflags'\n{test}");
            assert_eq!([0xF, 0x10, 0x11].map(|value| met_by(&text, &[(rflags, value)])), met, "{test}");
        }
    }

    #[test]
    fn bits_of_two_fields_are_compared_as_numbers() {
        let (cs, ss) = (field::GUEST_CS_SELECTOR.id(), field::GUEST_SS_ACCESS_RIGHTS.id());
        let tests = [
            ("equals", [false, true, false]),
            ("differs", [true, false, true]),
            ("at_least", [false, true, true]),
            ("less_than", [true, false, false]),
        ];
        for (test, met) in tests {
            let text = format!(
                "field = 'guest_cs_selector'\nbits = 3\n{test} = {{field = 'guest_ss_access_rights', bits = 0x60}}"
            );
            assert_eq!([0x9, 0xA, 0xB].map(|value| met_by(&text, &[(cs, value), (ss, 0xD3)])), met, "{test}");
        }
    }

    #[test]
    fn how_the_entry_ended_is_told_by_the_fields_that_it_left() {
        let (mut entered, mut ended) = (Vmcs::default(), Vmcs::default());
        for (vmcs, value) in [(&mut entered, 18), (&mut ended, 52)] {
            vmcs.set_raw(field::EXIT_REASON.id(), value);
            vmcs.set_raw(field::GUEST_RIP.id(), value);
        }
        let fields = Fields { entered: &entered, ended: &ended };
        assert!(condition("field = 'exit_reason'\nequals = 52").holds(fields));
        assert!(condition("field = 'guest_rip'\nequals = 18").holds(fields));
    }

    #[test]
    fn operands_are_those_of_the_instruction() {
        let invvpid = Op::Invvpid { kind: 0, descriptor: [1, 0x8000_0000_0000] };
        let invept = Op::Invept { kind: 2, descriptor: [0; 2] };
        let of_type = |kind: u64| condition(&format!("operand = 'type'\nequals = {kind}"));
        assert!(of_type(0).holds_for(&invvpid) && !of_type(0).holds_for(&invept) && of_type(2).holds_for(&invept));
        let not_canonical = |width: u32| condition(&format!("operand = 'address'\nnot_canonical = {width}"));
        assert!(not_canonical(48).holds_for(&invvpid) && !not_canonical(57).holds_for(&invvpid));
        assert!(!not_canonical(48).holds_for(&invept) && !not_canonical(48).holds_for(&Op::Vmxoff));
        assert!(!of_type(0).holds(Fields::before(&Vmcs::default())));
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for text in [
            "equals = 1",
            "field = 'guest_rip'",
            "field = 'guest_rax'\nequals = 1",
            "field = 'guest_rip'\noperand = 'type'\nequals = 1",
            "field = 'guest_rip'\nequals = 1\ndiffers = 2",
            "field = 'guest_rip'\nbits = 1\nequals = 2",
            "field = 'guest_rip'\nequals = {field = 'guest_rax', bits = 1}",
            "field = 'guest_rip'\nnot_canonical = 50",
            "field = 'guest_rip'\nmask = 1\nequals = 1",
        ] {
            assert!(toml::from_str::<Condition>(text).is_err(), "{text}");
        }
    }
}
