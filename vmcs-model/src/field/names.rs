//! Finding a component of the VMCS by its name.

use super::{FIELD_COUNT, FIELDS, FieldId};

/// Slots of the table: few enough names that most slots are empty, so that a search seldom looks at more than one name.
const SLOTS: usize = 1024;

/// Every name and alias at the slot of its [`hash`], or at the next one that was free.
static BY_NAME: [Option<Name>; SLOTS] = {
    let mut slots = [None; SLOTS];
    let mut i = 0;
    while i < FIELD_COUNT {
        let info = &FIELDS[i];
        insert(&mut slots, info.name, Name { field: info.id, alias: None });
        let mut alias = 0u8;
        while (alias as usize) < info.aliases.len() {
            insert(&mut slots, info.aliases[alias as usize], Name { field: info.id, alias: Some(alias) });
            alias += 1;
        }
        i += 1;
    }
    slots
};

/// A name, by its place in the table of the components.
#[derive(Clone, Copy)]
struct Name {
    field: FieldId,
    /// Which of the aliases, or the canonical name.
    alias: Option<u8>,
}

impl Name {
    fn text(self) -> &'static str {
        let info = self.field.info();
        self.alias.and_then(|alias| info.aliases.get(usize::from(alias)).copied()).unwrap_or(info.name)
    }
}

const fn insert(slots: &mut [Option<Name>; SLOTS], text: &str, name: Name) {
    let mut slot = hash(text.as_bytes());
    while slots[slot].is_some() {
        slot = (slot + 1) % SLOTS;
    }
    slots[slot] = Some(name);
}

/// A slot, the same whatever the case of the letters.
const fn hash(name: &[u8]) -> usize {
    /// Bit 5 tells small letters from capital ones.
    const CASE: u64 = (u64::MAX / 0xFF) << 5;
    /// Odd, with as many ones as zeros: the fraction of the golden ratio.
    const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut hash = name.len() as u64;
    let mut rest = name;
    while let Some((word, behind)) = rest.split_first_chunk() {
        hash = (hash.rotate_left(5) ^ (u64::from_le_bytes(*word) | CASE)).wrapping_mul(SPREAD);
        rest = behind;
    }
    let mut word = 0;
    while let Some((byte, behind)) = rest.split_first() {
        word = word << 8 | *byte as u64;
        rest = behind;
    }
    hash = (hash.rotate_left(5) ^ (word | CASE)).wrapping_mul(SPREAD);
    (hash >> 32) as usize % SLOTS
}

impl FieldId {
    /// The component with that canonical name or alias; upper and lower case count as the same. `None` if there is none.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        let mut slot = hash(name.as_bytes());
        // The search ends, because some slots are free.
        while let Some(known) = BY_NAME[slot] {
            if known.text().eq_ignore_ascii_case(name) {
                return Some(known.field);
            }
            slot = (slot + 1) % SLOTS;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_belongs_to_one_component() {
        for info in &FIELDS {
            for name in info.aliases.iter().chain([&info.name]) {
                assert_eq!(FieldId::by_name(name), Some(info.id));
                assert_eq!(FieldId::by_name(&name.to_ascii_uppercase()), Some(info.id));
                let mixed: String = name
                    .chars()
                    .enumerate()
                    .map(|(i, c)| if i % 2 == 0 { c.to_ascii_uppercase() } else { c })
                    .collect();
                assert_eq!(FieldId::by_name(&mixed), Some(info.id));
                for other in [&name[1..], &name[..name.len() - 1], &format!("{name}_"), &name.replace('_', "\x7F")] {
                    let known = FIELDS.iter().find(|f| f.name == other || f.aliases.contains(&other)).map(|f| f.id);
                    assert_eq!(FieldId::by_name(other), known, "{other}");
                }
            }
        }
        assert_eq!(FieldId::by_name(""), None);
    }

    #[test]
    fn searches_are_short() {
        let free = BY_NAME.iter().filter(|slot| slot.is_none()).count();
        assert!(free > SLOTS / 2, "{free} slots are free");
        let away = |slot: usize, name: Name| (slot + SLOTS - hash(name.text().as_bytes())) % SLOTS;
        let longest = BY_NAME.iter().enumerate().filter_map(|(slot, name)| Some(away(slot, (*name)?))).max();
        assert!(longest <= Some(8), "{longest:?}");
    }
}
