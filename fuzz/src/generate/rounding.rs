//! Rounding: makes a valid image from any image, with as few changes as it finds.

use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::field::FieldId;
use vmcs_model::{EntryAttempt, Outcome, ReadMemory, Vmcs, baseline};

/// Repairs that are tried before whole fields are given up.
const REPAIRS: usize = 256;

/// A valid image near `vmcs`: the attempt to enter it is certain to succeed. `None` if not even the plain guest is valid
/// in that attempt.
///
/// Violated checks are repaired one after the other, in the SDM's order, each by the smallest change of a field that makes
/// it hold. Where repairs undo one another, or none helps, the fields of the check take the values of the plain guest. At
/// the end every field, and then every bit, goes back to what it was where the image stays valid with it.
#[must_use]
pub fn round<M: ReadMemory>(attempt: EntryAttempt<'_>, vmcs: &Vmcs, memory: &M) -> Option<Vmcs> {
    let plain = baseline::plain_64bit(attempt.capabilities);
    let mut rounded = vmcs.clone();
    let mut last = attempt.on(&rounded, memory).violations();
    for _ in 0..REPAIRS {
        let Some(check) = last.iter().next() else { break };
        let repair = attempt.on(&rounded, memory).explain(check).repair();
        let repaired = repair.map(|repair| {
            rounded.set_raw(repair.field, repair.new);
            attempt.on(&rounded, memory).violations()
        });
        last = match repaired {
            Some(after) if is_progress(&last, &after) => after,
            _ => {
                give_up(&mut rounded, &plain, check.info().fields);
                attempt.on(&rounded, memory).violations()
            }
        };
    }
    if !enters(attempt, &rounded, memory) {
        // Some checks are undecidable, or repairs have undone one another.
        let verdict = attempt.on(&rounded, memory).verdict();
        let open = verdict.violated.union(&verdict.undecidable);
        open.iter().for_each(|check| give_up(&mut rounded, &plain, check.info().fields));
    }
    if !enters(attempt, &rounded, memory) {
        rounded = plain;
    }
    enters(attempt, &rounded, memory).then(|| {
        go_back(attempt, &mut rounded, vmcs, memory);
        rounded
    })
}

/// Whether the checks that are violated now come later, or are fewer.
fn is_progress(before: &CheckSet, after: &CheckSet) -> bool {
    let first = |set: &CheckSet| set.iter().next().map(CheckId::index);
    match (first(before), first(after)) {
        (Some(old), Some(new)) => new > old || (new == old && after.len() < before.len()),
        (_, after) => after.is_none(),
    }
}

/// Sets the fields to what the plain guest has.
fn give_up(vmcs: &mut Vmcs, plain: &Vmcs, fields: &[FieldId]) {
    for field in fields {
        vmcs.set_raw(*field, plain.raw(*field));
    }
}

/// Nothing but an entry is permitted.
fn enters<M: ReadMemory>(attempt: EntryAttempt<'_>, vmcs: &Vmcs, memory: &M) -> bool {
    attempt.on(vmcs, memory).violations().is_empty()
        && attempt.on(vmcs, memory).verdict().permitted.single() == Some(Outcome::Entered)
}

/// Gives fields, and then bits, of a valid image the values of `wanted` where it stays valid.
fn go_back<M: ReadMemory>(attempt: EntryAttempt<'_>, vmcs: &mut Vmcs, wanted: &Vmcs, memory: &M) {
    let keep = |vmcs: &mut Vmcs, field: FieldId, value: u64| {
        let old = vmcs.raw(field);
        vmcs.set_raw(field, value);
        if !enters(attempt, vmcs, memory) {
            vmcs.set_raw(field, old);
        }
    };
    for field in FieldId::all().filter(|field| vmcs.raw(*field) != wanted.raw(*field)).collect::<Vec<_>>() {
        keep(vmcs, field, wanted.raw(field));
        let mut rest = vmcs.raw(field) ^ wanted.raw(field);
        while rest != 0 {
            let bit = rest & rest.wrapping_neg();
            rest &= rest - 1;
            keep(vmcs, field, vmcs.raw(field) ^ bit);
        }
    }
}
