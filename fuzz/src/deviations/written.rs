//! What an implementation writes to fields although the SDM says something else: which bits, and what they then hold.

use serde::{Deserialize, Serialize};
use vmcs_case::number::Number;
use vmcs_model::controls::PinBased;
use vmcs_model::field::{self, FieldId};
use vmcs_model::{ReadMemory, Vmcs};

use super::condition::{Condition, Fields};
use super::read;
use crate::as_text;

/// Bits of a field that hold something else than the SDM says, and what they hold. All other bits are as the SDM says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FieldWrittenText", into = "FieldWrittenText")]
pub struct FieldWritten {
    /// The field.
    pub field: FieldId,
    /// The bits.
    pub bits: Number,
    /// What they hold.
    pub held: Held,
    /// What has to be the case besides what the whole deviation demands.
    pub when: Vec<Condition>,
}

/// What bits of a field hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// This: `value`.
    Value(Number),
    /// One of these: `one_of`.
    OneOf(Vec<Number>),
    /// What they held before the entry: `kept`.
    Kept,
    /// What the field held before the entry and so much more: `plus`.
    Plus(Number),
    /// What the VM-entry MSR-load area has for this MSR: `loaded_msr`.
    LoadedMsr(Number),
    /// What is left of the VMX-preemption timer value that an earlier entry of the same program loaded, less at most so
    /// much: `left_of_earlier`.
    LeftOfEarlier(Number),
    /// Their value cannot be predicted: `unpredictable`, with the reason.
    Unpredictable(String),
}

/// What was before the fields were looked at.
#[derive(Clone, Copy)]
pub struct Earlier<'a> {
    /// The fields before and after the last entry.
    pub fields: Fields<'a>,
    /// What the entries before that one found, of those that entered a guest, the first one first.
    pub entries: &'a [Vmcs],
    /// Memory.
    pub memory: &'a dyn ReadMemory,
}

impl Earlier<'_> {
    /// The VMX-preemption timer value that the last of the earlier entries with another value than 0 loaded.
    fn timer(&self) -> Option<u64> {
        let loaded = |vmcs: &Vmcs| {
            let pin = vmcs.get(field::PIN_BASED_VM_EXECUTION_CONTROLS);
            let timer = vmcs.get(field::VMX_PREEMPTION_TIMER_VALUE);
            (pin.contains(PinBased::ACTIVATE_VMX_PREEMPTION_TIMER) && timer != 0).then_some(timer.into())
        };
        self.entries.iter().rev().find_map(loaded)
    }
}

impl FieldWritten {
    /// Whether its own conditions are met, and `observed` has in its bits what it says.
    #[must_use]
    pub fn accounts_for(&self, observed: u64, earlier: Earlier<'_>) -> bool {
        let found = observed & self.bits.0;
        self.when.iter().all(|condition| condition.holds(earlier.fields))
            && match &self.held {
                Held::OneOf(values) => values.contains(&Number(found)),
                Held::LeftOfEarlier(most) => {
                    earlier.timer().and_then(|timer| timer.checked_sub(observed)).is_some_and(|spent| spent <= most.0)
                }
                Held::Unpredictable(_) => true,
                Held::Value(_) | Held::Kept | Held::Plus(_) | Held::LoadedMsr(_) => {
                    self.certain(earlier) == Some(found)
                }
            }
    }

    /// What its bits hold for certain, if its own conditions are met and it says that.
    #[must_use]
    pub fn foretold(&self, earlier: Earlier<'_>) -> Option<u64> {
        self.when.iter().all(|condition| condition.holds(earlier.fields)).then(|| self.certain(earlier)).flatten()
    }

    fn certain(&self, earlier: Earlier<'_>) -> Option<u64> {
        let before = earlier.fields.entered.raw(self.field);
        let value = match &self.held {
            Held::Value(value) => value.0,
            Held::Kept => before,
            Held::Plus(more) => before.wrapping_add(more.0),
            Held::LoadedMsr(msr) => {
                let loads = read::loads(earlier.fields.entered, earlier.memory);
                loads.filter(|load| Number(load.msr.into()) == *msr).last()?.value
            }
            Held::OneOf(_) | Held::LeftOfEarlier(_) | Held::Unpredictable(_) => return None,
        };
        Some(value & self.bits.0)
    }
}

/// An entry of `fields_written` as files have it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldWrittenText {
    #[serde(with = "as_text")]
    field: FieldId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bits: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    one_of: Option<Vec<Number>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plus: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loaded_msr: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left_of_earlier: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unpredictable: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    when: Vec<Condition>,
}

/// What is wrong with an entry of `fields_written`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum FieldWrittenError {
    #[error(
        "an entry of fields_written says what the field then holds, by one of value, one_of, kept = true, plus, \
         loaded_msr, left_of_earlier and unpredictable"
    )]
    Held,
    #[error("a value has bits that the entry is not about, or that the field does not have")]
    OtherBits,
    #[error("unpredictable says which bits nobody can predict, and why")]
    Reason,
    #[error("left_of_earlier is about all of vmx_preemption_timer_value")]
    Timer,
}

impl TryFrom<FieldWrittenText> for FieldWritten {
    type Error = FieldWrittenError;

    fn try_from(text: FieldWrittenText) -> Result<Self, FieldWrittenError> {
        let FieldWrittenText {
            field,
            bits,
            value,
            one_of,
            kept,
            plus,
            loaded_msr,
            left_of_earlier,
            unpredictable,
            when,
        } = text;
        let given = bits;
        let all = Number(field.info().width().mask());
        let bits = bits.unwrap_or(all);
        let held = [
            value.map(Held::Value),
            one_of.map(Held::OneOf),
            kept.filter(|kept| *kept).map(|_| Held::Kept),
            plus.map(Held::Plus),
            loaded_msr.map(Held::LoadedMsr),
            left_of_earlier.map(Held::LeftOfEarlier),
            unpredictable.map(Held::Unpredictable),
        ];
        let mut held = held.into_iter().flatten();
        let (Some(held), None) = (held.next(), held.next()) else {
            return Err(FieldWrittenError::Held);
        };
        let outside = |value: &Number| value.0 & !bits.0 != 0;
        match &held {
            _ if bits.0 & !all.0 != 0 || bits.0 == 0 => Err(FieldWrittenError::OtherBits),
            Held::Value(value) if outside(value) => Err(FieldWrittenError::OtherBits),
            Held::OneOf(values) if values.is_empty() => Err(FieldWrittenError::Held),
            Held::OneOf(values) if values.iter().any(outside) => Err(FieldWrittenError::OtherBits),
            Held::Unpredictable(why) if why.is_empty() || given.is_none() => Err(FieldWrittenError::Reason),
            Held::LeftOfEarlier(_) if field != field::VMX_PREEMPTION_TIMER_VALUE.id() || given.is_some() => {
                Err(FieldWrittenError::Timer)
            }
            _ => Ok(Self { field, bits, held, when }),
        }
    }
}

impl From<FieldWritten> for FieldWrittenText {
    fn from(written: FieldWritten) -> Self {
        let FieldWritten { field, bits, held, when } = written;
        let all = bits.0 == field.info().width().mask();
        let mut text = Self {
            field,
            bits: (!all || matches!(held, Held::Unpredictable(_))).then_some(bits),
            value: None,
            one_of: None,
            kept: None,
            plus: None,
            loaded_msr: None,
            left_of_earlier: None,
            unpredictable: None,
            when,
        };
        match held {
            Held::Value(value) => text.value = Some(value),
            Held::OneOf(values) => text.one_of = Some(values),
            Held::Kept => text.kept = Some(true),
            Held::Plus(more) => text.plus = Some(more),
            Held::LoadedMsr(msr) => text.loaded_msr = Some(msr),
            Held::LeftOfEarlier(most) => text.left_of_earlier = Some(most),
            Held::Unpredictable(why) => text.unpredictable = Some(why),
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory with an MSR-load area at 0: two entries of MSR 174H, with the values 8 and 10H, and none of 175H.
    struct Area;

    impl ReadMemory for Area {
        fn read_u32(&self, address: u64) -> Option<u32> {
            [0x174, 0, 8, 0, 0x174, 0, 0x10, 0].get(usize::try_from(address / 4).ok()?).copied()
        }
    }

    fn written(text: &str) -> FieldWritten {
        toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Whether values are accounted for in GUEST_RIP, which held 1800H before, or in a timer that an earlier entry of the
    /// program has set to 1000H.
    fn accounted<const N: usize>(text: &str, values: [u64; N]) -> [bool; N] {
        let (mut entered, ended) = (Vmcs::default(), Vmcs::default());
        entered.set_raw(field::GUEST_RIP.id(), 0x1800);
        entered.set_raw(field::VM_ENTRY_MSR_LOAD_COUNT.id(), 2);
        let timer = |pin: u64, value| {
            let mut vmcs = Vmcs::default();
            vmcs.set_raw(field::PIN_BASED_VM_EXECUTION_CONTROLS.id(), pin);
            vmcs.set_raw(field::VMX_PREEMPTION_TIMER_VALUE.id(), value);
            vmcs
        };
        let entries = [timer(0x40, 0x2000), timer(0x40, 0x1000), timer(0, 0x3000), timer(0x40, 0)];
        let earlier = Earlier { fields: Fields { entered: &entered, ended: &ended }, entries: &entries, memory: &Area };
        values.map(|value| written(text).accounts_for(value, earlier))
    }

    #[test]
    fn each_kind_of_value_is_that_value_and_no_other() {
        let rip = |held: &str| format!("field = 'guest_rip'\n{held}");
        assert_eq!(accounted(&rip("value = 5"), [5, 4]), [true, false]);
        assert_eq!(accounted(&rip("bits = 0xF\nvalue = 5"), [0x175, 0x176]), [true, false]);
        assert_eq!(accounted(&rip("one_of = [0, 5]"), [0, 5, 1]), [true, true, false]);
        assert_eq!(accounted(&rip("kept = true"), [0x1800, 0x1801]), [true, false]);
        assert_eq!(accounted(&rip("bits = 0x1000\nkept = true"), [0x1234, 0x2234]), [true, false]);
        assert_eq!(accounted(&rip("plus = 2"), [0x1802, 0x1800, 0x1803]), [true, false, false]);
        assert_eq!(accounted(&rip("loaded_msr = 0x174"), [0x10, 8, 0]), [true, false, false]);
        assert_eq!(accounted(&rip("loaded_msr = 0x175"), [0, 0x1800]), [false, false]);
        assert_eq!(accounted(&rip("bits = 0xF\nunpredictable = 'chance'"), [0, 0xF]), [true, true]);
        let timer = "field = 'vmx_preemption_timer_value'\nleft_of_earlier = 0x10";
        assert_eq!(accounted(timer, [0x1000, 0xFF0, 0xFEF, 0x1001, 0]), [true, true, false, false, false]);
    }

    #[test]
    fn an_entry_may_have_conditions_of_its_own() {
        let text = |before: u64| {
            format!("field = 'guest_rip'\nvalue = 5\nwhen = [{{field = 'guest_rip', equals = {before}}}]")
        };
        assert_eq!(accounted(&text(0x1800), [5]), [true]);
        assert_eq!(accounted(&text(0x1801), [5]), [false]);
    }

    #[test]
    fn an_entry_without_a_value_is_refused() {
        for text in [
            "field = 'guest_rip'",
            "field = 'guest_rip'\nbits = 1",
            "field = 'guest_rip'\nkept = false",
            "field = 'guest_rip'\none_of = []",
            "field = 'guest_rip'\nvalue = 1\nkept = true",
            "field = 'guest_rax'\nvalue = 1",
            "field = 'guest_rip'\nbits = 1\nvalue = 2",
            "field = 'guest_rip'\nbits = 1\none_of = [1, 2]",
            "field = 'guest_cs_selector'\nvalue = 0x10000",
            "field = 'guest_cs_selector'\nbits = 0x10000\nvalue = 0",
            "field = 'guest_rip'\nbits = 0\nvalue = 0",
            "field = 'guest_rip'\nunpredictable = 'all of it'",
            "field = 'guest_rip'\nbits = 1\nunpredictable = ''",
            "field = 'guest_rip'\nleft_of_earlier = 1",
            "field = 'vmx_preemption_timer_value'\nbits = 1\nleft_of_earlier = 1",
        ] {
            assert!(toml::from_str::<FieldWritten>(text).is_err(), "{text}");
        }
    }
}
