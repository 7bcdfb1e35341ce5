//! The generator `controls`: a valid image with one or two control fields changed.

use arbitrary::{Result, Unstructured};
use vmcs_case::Case;
use vmcs_model::controls;
use vmcs_model::field::{self, Area, FieldId};
use vmcs_model::formats::{InterruptionInformation, event_type};
use vmcs_model::{FieldValue, Vmcs};
use vmcs_wire::layout;

use super::values;
use crate::generate::entry_case::EntryCase;
use crate::generate::risk::is_unsupported_event;
use crate::generate::test_processor::TestProcessor;

/// A changed image, launched from VMX root operation.
pub(super) fn case(processor: &TestProcessor, u: &mut Unstructured<'_>) -> Result<Case> {
    let image = u.choose_index(processor.first_bases)?;
    let base = &processor.bases[image].vmcs;
    let mut changes = Vec::new();
    change(processor, u, base, &mut changes)?;
    if u.ratio(1u8, 8u8)? {
        control(processor, u, base, &mut changes)?;
    }
    finish(processor, u, image, changes)
}

/// Injects an event or changes one control field.
pub(super) fn change(
    processor: &TestProcessor,
    u: &mut Unstructured<'_>,
    base: &Vmcs,
    changes: &mut Vec<(FieldId, u64)>,
) -> Result<()> {
    if u.ratio(1u8, 5u8)? { injection(u, changes) } else { control(processor, u, base, changes) }
}

/// The case that launches the changed image, without what the processor does not have.
pub(super) fn finish(
    processor: &TestProcessor,
    u: &mut Unstructured<'_>,
    image: usize,
    mut changes: Vec<(FieldId, u64)>,
) -> Result<Case> {
    changes.retain(|(field, _)| processor.fields.contains(field));
    if !u.ratio(1u16, 1000u16)? {
        changes.retain(|(field, value)| !is_unsupported_event(processor, *field, *value));
    }
    let after_mov_ss = u.ratio(1u8, 64u8)?;
    Ok(EntryCase { base: image, changes, after_mov_ss, ..EntryCase::default() }.case(processor))
}

/// Changes one control field.
fn control(
    processor: &TestProcessor,
    u: &mut Unstructured<'_>,
    base: &Vmcs,
    changes: &mut Vec<(FieldId, u64)>,
) -> Result<()> {
    let controls: Vec<FieldId> =
        processor.fields.iter().copied().filter(|field| field.info().area() == Area::Control).collect();
    let mut field = *u.choose(&controls)?;
    // Half of the changes go to the words that gate everything else.
    if u.ratio(1u8, 2u8)? {
        field = *u.choose(&controls::WORDS)?;
    }
    if let Some((address, count)) = msr_area(field) {
        return msr_area_change(processor, u, address, count, changes);
    }
    changes.push((field, values::mutated(u, &processor.capabilities, field, base.raw(field))?));
    Ok(())
}

/// The address and count fields of the MSR area that `field` belongs to.
fn msr_area(field: FieldId) -> Option<(FieldId, FieldId)> {
    [
        (field::VM_EXIT_MSR_STORE_ADDRESS.id(), field::VM_EXIT_MSR_STORE_COUNT.id()),
        (field::VM_EXIT_MSR_LOAD_ADDRESS.id(), field::VM_EXIT_MSR_LOAD_COUNT.id()),
        (field::VM_ENTRY_MSR_LOAD_ADDRESS.id(), field::VM_ENTRY_MSR_LOAD_COUNT.id()),
    ]
    .into_iter()
    .find(|(address, count)| field == *address || field == *count)
}

/// Changes an MSR area so that it breaks a check, or so that it is empty: an area that passes the checks and has
/// entries would make the processor walk memory that nobody prepared, and a failed walk at a VM exit is a VMX abort.
fn msr_area_change(
    processor: &TestProcessor,
    u: &mut Unstructured<'_>,
    address: FieldId,
    count: FieldId,
    changes: &mut Vec<(FieldId, u64)>,
) -> Result<()> {
    let top = processor.capabilities.address_reserved & processor.capabilities.address_reserved.wrapping_neg();
    let entries = u64::from(*u.choose(&[1u32, 2, 64, 512, 0x1000_0000, 0x1000_0001, 0x8000_0000, u32::MAX])?);
    let (at, entries) = match u.int_in_range(0..=4u8)? {
        0 => (u.arbitrary()?, 0),
        1 => (layout::SCRATCH | 1 << u.int_in_range(0..=3u8)?, entries),
        2 => (top.wrapping_add(u64::from(u.arbitrary::<u16>()? & 0xFFF0)), entries),
        // The last byte lies just beyond the width. A processor that misses it walks the whole area: mostly a short one.
        3 if entries > 512 && !u.ratio(1u16, 400u16)? => (top.wrapping_sub(16), 2),
        3 => (top.wrapping_sub(entries * 16).wrapping_add(16), entries),
        _ => (!0xF, entries),
    };
    changes.push((address, at));
    changes.push((count, entries));
    Ok(())
}

/// Injects an event, mostly one that is almost legal.
fn injection(u: &mut Unstructured<'_>, changes: &mut Vec<(FieldId, u64)>) -> Result<()> {
    let mut event = InterruptionInformation::new().with_valid(true).with_event_type(u.int_in_range(0..=7)?);
    event.set_vector(match (event.event_type(), u.int_in_range(0..=3u8)?) {
        (event_type::NMI, 0..=2) => 2,
        (event_type::OTHER_EVENT, 0..=2) => u.int_in_range(0..=3)?,
        (_, 0..=2) => u.int_in_range(0..=32)?,
        _ => u.arbitrary()?,
    });
    event.set_deliver_error_code(u.ratio(2u8, 5u8)?);
    if u.ratio(1u8, 6u8)? {
        event = InterruptionInformation::from_bits(event.into_bits() ^ 1 << u.int_in_range(0..=31u8)?);
    }
    changes.push((field::VM_ENTRY_INTERRUPTION_INFORMATION.id(), event.to_raw()));
    let length = *u.choose(&[0u32, 1, 2, 14, 15, 16, 31, 255, u32::MAX])?;
    changes.push((field::VM_ENTRY_INSTRUCTION_LENGTH.id(), length.into()));
    let code = *u.choose(&[0u32, 0, 0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x1_0000, 0x8000_0000])?;
    changes.push((field::VM_ENTRY_EXCEPTION_ERROR_CODE.id(), code.into()));
    Ok(())
}
