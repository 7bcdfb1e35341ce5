//! Variations of a draft.

use arbitrary::{Result, Unstructured};
use vmcs_model::field::{self, Area, FieldId};

use crate::World;
use crate::coverage::Aim;
use crate::generate::entry_case::{Draft, Way};
use crate::generate::values;

/// Stores that are taken over from another draft, at most.
const MOST_STORES: usize = 16;

/// A draft with one or two things more changed.
pub(super) fn vary(world: &World, u: &mut Unstructured<'_>, draft: &Draft) -> Result<Draft> {
    let mut varied = draft.clone();
    once(world, u, &mut varied)?;
    if u.ratio(1u8, 4u8)? {
        once(world, u, &mut varied)?;
    }
    Ok(varied)
}

fn once(world: &World, u: &mut Unstructured<'_>, draft: &mut Draft) -> Result<()> {
    match u.int_in_range(0..=15u8)? {
        // A changed field, near its value.
        0..=4 if !draft.changes.is_empty() => {
            let (field, value) = *u.choose(&draft.changes)?;
            draft.set(field, values::near(u, &world.capabilities, field, value)?);
        }
        // What another draft changes.
        0..=8 => {
            let recipes = world.recipes();
            let aim = *u.choose(&recipes.safe)?;
            let other = u.choose(recipes.of(aim))?;
            // Long MSR areas are dear, and one of them is enough.
            if other.way == Way::Clear && other.memory.len() <= MOST_STORES {
                for (field, value) in &other.changes {
                    draft.set(*field, *value);
                }
                for (address, qword) in &other.memory {
                    if !draft.memory.iter().any(|(known, _)| known == address) {
                        draft.store(*address, *qword);
                    }
                }
            }
        }
        // A control that the processor has, turned: what it gates comes into force or goes out of it.
        9 | 10 => {
            let (word, may) = allowed(world, u)?;
            if world.fields.contains(&word) && may != 0 {
                let nth = u.int_in_range(0..=may.count_ones() - 1)?;
                let bit = (0..64).filter(|bit| may >> bit & 1 != 0).nth(nth as usize).unwrap_or(0);
                draft.set(word, value_of(world, draft, word) ^ 1 << bit);
            }
        }
        // The value of another field of the width.
        11 => {
            let to = any_field(world, u)?;
            let from = any_field(world, u)?;
            if to.info().width() == from.info().width() {
                let (here, there) = (value_of(world, draft, to), value_of(world, draft, from));
                draft.set(to, there);
                if u.arbitrary()? {
                    draft.set(from, here);
                }
            }
        }
        // The same on another image.
        12 if draft.way == Way::Clear => draft.base = u.choose_index(world.bases.len())?,
        13 => draft.after_mov_ss = u.ratio(1u8, 2u8)?,
        // Any field, near its value.
        _ => {
            let field = any_field(world, u)?;
            let old = value_of(world, draft, field);
            draft.set(field, values::near(u, &world.capabilities, field, old)?);
        }
    }
    Ok(())
}

/// A draft that changes fields that the check reads, for a side to which no way is known.
pub(super) fn blind(world: &World, u: &mut Unstructured<'_>, aim: Aim) -> Result<Draft> {
    let mut draft = Draft { base: u.choose_index(world.bases.len())?, ..Draft::default() };
    let fields = aim.check.info().fields;
    for _ in 0..u.int_in_range(1..=3u8)? {
        if fields.is_empty() {
            break;
        }
        let field = *u.choose(fields)?;
        if world.fields.contains(&field) {
            let old = value_of(world, &draft, field);
            draft.set(field, values::near(u, &world.capabilities, field, old)?);
        }
    }
    Ok(draft)
}

/// The value that a draft has for a field.
fn value_of(world: &World, draft: &Draft, field: FieldId) -> u64 {
    let changed = draft.changes.iter().find(|(changed, _)| *changed == field);
    changed.map_or_else(|| world.bases[draft.base].vmcs.raw(field), |(_, value)| *value)
}

fn any_field(world: &World, u: &mut Unstructured<'_>) -> Result<FieldId> {
    let field = *u.choose(&world.fields)?;
    let is_input = field.info().area() != Area::ExitInformation;
    Ok(if is_input { field } else { field::GUEST_INTERRUPTIBILITY_STATE.id() })
}

/// A control word and the bits that the processor allows to be 1 and to be 0.
fn allowed(world: &World, u: &mut Unstructured<'_>) -> Result<(FieldId, u64)> {
    let has = &world.capabilities;
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
    Ok((word, allowed.may & !allowed.ones))
}
