//! Making variations of an entry.

use arbitrary::{Result, Unstructured};
use vmcs_model::field::{self, Area, FieldId};

use crate::coverage::Aim;
use crate::generate::entry_case::{EntryCase, StateBefore};
use crate::generate::test_processor::TestProcessor;
use crate::generate::values;

/// Stores that are taken over from another entry, at most.
const MOST_STORES: usize = 16;

/// Changes one or two more things of an entry.
pub(super) fn vary(processor: &TestProcessor, u: &mut Unstructured<'_>, entry: &EntryCase) -> Result<EntryCase> {
    let mut varied = entry.clone();
    once(processor, u, &mut varied)?;
    if u.ratio(1u8, 4u8)? {
        once(processor, u, &mut varied)?;
    }
    Ok(varied)
}

fn once(processor: &TestProcessor, u: &mut Unstructured<'_>, entry: &mut EntryCase) -> Result<()> {
    match u.int_in_range(0..=15u8)? {
        // A changed field, near its value.
        0..=4 if !entry.changes.is_empty() => {
            let (field, value) = *u.choose(&entry.changes)?;
            entry.set(field, values::mutated(u, &processor.capabilities, field, value)?);
        }
        // What another entry changes.
        0..=8 => {
            let recipes = processor.recipes();
            let aim = *u.choose(&recipes.safe)?;
            let other = u.choose(recipes.of(aim))?;
            // Long MSR areas take long to judge, and one of them is enough.
            if other.before == StateBefore::Clear && other.memory.len() <= MOST_STORES {
                for (field, value) in &other.changes {
                    entry.set(*field, *value);
                }
                for (address, qword) in &other.memory {
                    if !entry.memory.iter().any(|(known, _)| known == address) {
                        entry.store(*address, *qword);
                    }
                }
            }
        }
        // A control that the processor has is inverted, so that checks come into force or go out of force.
        9 | 10 => {
            let (word, may) = allowed(processor, u)?;
            if processor.fields.contains(&word) && may != 0 {
                let nth = u.int_in_range(0..=may.count_ones() - 1)?;
                let bit = (0..64).filter(|bit| may >> bit & 1 != 0).nth(nth as usize).unwrap_or(0);
                entry.set(word, value_of(processor, entry, word) ^ 1 << bit);
            }
        }
        // The value of another field of the width.
        11 => {
            let to = any_field(processor, u)?;
            let from = any_field(processor, u)?;
            if to.info().width() == from.info().width() {
                let (here, there) = (value_of(processor, entry, to), value_of(processor, entry, from));
                entry.set(to, there);
                if u.arbitrary()? {
                    entry.set(from, here);
                }
            }
        }
        // The same on another image.
        12 if entry.before == StateBefore::Clear => entry.base = u.choose_index(processor.bases.len())?,
        13 => entry.after_mov_ss = u.ratio(1u8, 2u8)?,
        // Any field, near its value.
        _ => {
            let field = any_field(processor, u)?;
            let old = value_of(processor, entry, field);
            entry.set(field, values::mutated(u, &processor.capabilities, field, old)?);
        }
    }
    Ok(())
}

/// An entry that changes fields that the check reads, for a side to which no way is known.
pub(super) fn blind(processor: &TestProcessor, u: &mut Unstructured<'_>, aim: Aim) -> Result<EntryCase> {
    let mut entry = EntryCase { base: u.choose_index(processor.bases.len())?, ..EntryCase::default() };
    let fields = aim.check.info().fields;
    for _ in 0..u.int_in_range(1..=3u8)? {
        if fields.is_empty() {
            break;
        }
        let field = *u.choose(fields)?;
        if processor.fields.contains(&field) {
            let old = value_of(processor, &entry, field);
            entry.set(field, values::mutated(u, &processor.capabilities, field, old)?);
        }
    }
    Ok(entry)
}

/// The value that an entry has for a field.
fn value_of(processor: &TestProcessor, entry: &EntryCase, field: FieldId) -> u64 {
    let changed = entry.changes.iter().find(|(changed, _)| *changed == field);
    changed.map_or_else(|| processor.bases[entry.base].vmcs.raw(field), |(_, value)| *value)
}

fn any_field(processor: &TestProcessor, u: &mut Unstructured<'_>) -> Result<FieldId> {
    let field = *u.choose(&processor.fields)?;
    let is_input = field.info().area() != Area::ExitInformation;
    Ok(if is_input { field } else { field::GUEST_INTERRUPTIBILITY_STATE.id() })
}

/// A control word and the bits that the processor allows to be 1 and to be 0.
fn allowed(processor: &TestProcessor, u: &mut Unstructured<'_>) -> Result<(FieldId, u64)> {
    let has = &processor.capabilities;
    let words = [
        (field::PIN_BASED_VM_EXECUTION_CONTROLS.id(), has.pin),
        (field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), has.primary),
        (field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), has.secondary),
        (field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), has.secondary),
        (field::TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), has.tertiary),
        (field::PRIMARY_VM_EXIT_CONTROLS.id(), has.exit),
        (field::SECONDARY_VM_EXIT_CONTROLS.id(), has.secondary_exit),
        (field::VM_ENTRY_CONTROLS.id(), has.entry),
    ];
    let (word, allowed) = *u.choose(&words)?;
    Ok((word, allowed.may() & !allowed.ones))
}
