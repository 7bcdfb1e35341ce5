//! Gathering the values that a text gives to fields, one by one.

use std::collections::BTreeMap;

use vmcs_model::field::{FieldId, Width};

use super::contents::{Damage, Dump};
use crate::names::FieldName;

/// The values that a text gives to fields. One that is given twice must be the same.
#[derive(Debug, Default)]
pub(super) struct Collected {
    given: BTreeMap<FieldName, Given>,
    /// How many fields are given two values.
    contradictions: usize,
    doubtful: Vec<(FieldId, u64)>,
}

/// What a text says of a field, or of bits 63:32 of one.
#[derive(Debug)]
struct Given {
    /// Its value, or why it is unknown.
    value: Result<u64, String>,
    line: usize,
    /// It is given once.
    once: bool,
}

/// So many contradictions show that two dumps were printed into each other.
const MIXED: usize = 3;

impl Collected {
    /// Notes the value that a line gives to a field, or why it cannot be read.
    pub(super) fn give(&mut self, name: FieldName, value: Result<u64, String>, line: usize) {
        let mask = if name.high { u64::from(u32::MAX) } else { name.field.info().width().mask() };
        let value = value.and_then(|value| {
            let fits = value & !mask == 0;
            if fits { Ok(value) } else { Err(format!("{value:#x} does not fit")) }
        });
        match self.given.get_mut(&name) {
            None => {
                self.given.insert(name, Given { value, line, once: true });
            }
            Some(given) => {
                given.once = false;
                if let (Ok(old), Ok(new)) = (&given.value, &value)
                    && old == new
                {
                    return;
                }
                if let Ok(old) = given.value {
                    self.contradictions += 1;
                    let new = value.map_or_else(|why| why, |new| format!("{new:#x}"));
                    given.value = Err(format!("{old:#x} is contradicted by line {line}: {new}"));
                }
            }
        }
    }

    /// Notes the value of a field that is unknown because digits may be missing.
    pub(super) fn doubt(&mut self, field: FieldId, value: u64) {
        self.doubtful.push((field, value));
    }

    /// How many fields have a value.
    pub(super) fn known(&self) -> usize {
        self.given.iter().filter(|(name, given)| !name.high && given.value.is_ok()).count()
    }

    /// The value of a field, or of its bits 31:0, if it is known.
    pub(super) fn value(&self, field: FieldId) -> Option<u64> {
        self.given.get(&FieldName { field, high: false }).and_then(|given| given.value.clone().ok())
    }

    /// Makes a value unknown.
    pub(super) fn forget(&mut self, field: FieldId, why: &str) {
        if let Some(given) = self.given.get_mut(&FieldName { field, high: false })
            && given.value.is_ok()
        {
            given.value = Err(why.to_owned());
        }
    }

    /// Puts the values into a dump. Where any field is given in two halves, a field whose value fits 32 bits needs its other
    /// half, and a half alone is no value. Of two dumps that are printed into each other, a value that is given once may be that
    /// of either.
    pub(super) fn fill(self, dump: &mut Dump) {
        let in_halves = self.given.keys().any(|name| name.high);
        let once = |field| self.given.get(&FieldName { field, high: false }).is_some_and(|given| given.once);
        if !in_halves && self.contradictions == 0 {
            dump.doubtful.extend(self.doubtful.iter().filter(|(field, _)| once(*field)));
        }
        let high = |field| self.given.get(&FieldName { field, high: true });
        for (name, low) in &self.given {
            let FieldName { field, .. } = *name;
            let value = match (name.high, &low.value, high(field)) {
                (true, ..) if self.given.contains_key(&FieldName { field, high: false }) => continue,
                (true, ..) => Err("bits 31:0 are not shown".to_owned()),
                (false, Err(why), _) | (false, Ok(_), Some(Given { value: Err(why), .. })) => Err(why.clone()),
                (false, Ok(low), Some(Given { value: Ok(high), .. })) => match low >> 32 {
                    0 => Ok(high << 32 | low),
                    upper if upper == *high => Ok(*low),
                    upper => Err(format!("bits 63:32 are {upper:#x} and {high:#x}")),
                },
                (false, Ok(low), None) => {
                    let halved = in_halves && field.info().width() == Width::Bits64 && low >> 32 == 0;
                    if halved { Err("bits 63:32 are not shown".to_owned()) } else { Ok(*low) }
                }
            };
            let mixed = self.contradictions >= MIXED && low.once;
            match value {
                Ok(_) if mixed => {
                    let why = "two dumps are printed into each other, and this may be that of either".to_owned();
                    dump.damage.push(Damage { field, line: low.line, why });
                }
                Ok(value) => dump.vmcs.set_raw(field, value),
                Err(why) => dump.damage.push(Damage { field, line: low.line, why }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vmcs_model::field;

    use super::*;

    fn filled(given: &[(FieldId, bool, Result<u64, &str>)]) -> Dump {
        let mut values = Collected::default();
        for (&(field, high, value), line) in given.iter().zip(1..) {
            values.give(FieldName { field, high }, value.map_err(str::to_owned), line);
        }
        let mut dump = Dump::default();
        values.fill(&mut dump);
        dump
    }

    #[test]
    fn a_contradicted_value_is_unknown() {
        let rip = field::GUEST_RIP.id();
        let twice = |second| filled(&[(rip, false, Ok(1)), (rip, false, second)]);
        assert_eq!(twice(Ok(1)).vmcs.raw(rip), Some(1));
        for second in [Ok(2), Err("VMREAD failed")] {
            let dump = twice(second);
            assert_eq!(dump.vmcs.raw(rip), None);
            assert!(dump.damage[0].why.contains("contradicted by line 2"), "{:?}", dump.damage);
        }
        assert_eq!(filled(&[(rip, false, Err("VMREAD failed")), (rip, false, Ok(1))]).vmcs.raw(rip), None);
    }

    #[test]
    fn values_of_two_dumps_are_not_put_together() {
        let fields = [field::GUEST_RIP.id(), field::GUEST_RSP.id(), field::GUEST_CR3.id()];
        let once = (field::GUEST_DR7.id(), false, Ok(0x400));
        let twice = (field::GUEST_RFLAGS.id(), false, Ok(2));
        let give = |values: [u64; 2], count| {
            let both = |field: &FieldId| values.map(|value| (*field, false, Ok(value)));
            let given: Vec<_> = fields[..count].iter().flat_map(both).chain([once, twice, twice]).collect();
            let dump = filled(&given);
            [once.0, twice.0].map(|field| dump.vmcs.raw(field).is_some())
        };
        assert_eq!(give([1, 2], 3), [false, true]);
        assert_eq!(give([1, 2], 2), [true, true]);
        assert_eq!(give([1, 1], 3), [true, true]);
    }

    #[test]
    fn halves_are_put_together() {
        let (a, b) = (field::IO_BITMAP_A_ADDRESS.id(), field::IO_BITMAP_B_ADDRESS.id());
        let dump = filled(&[(a, false, Ok(0x1000)), (a, true, Ok(2)), (b, false, Ok(0x3000))]);
        assert_eq!((dump.vmcs.raw(a), dump.vmcs.raw(b)), (Some(0x2_0000_1000), None));
        assert_eq!(dump.damage[0].why, "bits 63:32 are not shown");
        let dump = filled(&[(a, true, Ok(2)), (b, false, Ok(3 << 32)), (b, true, Ok(4))]);
        assert_eq!((dump.vmcs.raw(a), dump.vmcs.raw(b), dump.damage.len()), (None, None, 2));
        assert_eq!(filled(&[(b, false, Ok(0x3000))]).vmcs.raw(b), Some(0x3000));
    }

    #[test]
    fn a_value_that_does_not_fit_is_unknown() {
        let tr = field::GUEST_TR_SELECTOR.id();
        let dump = filled(&[(tr, false, Ok(0x1_0000))]);
        assert_eq!((dump.vmcs.raw(tr), dump.damage[0].why.as_str()), (None, "0x10000 does not fit"));
    }
}
