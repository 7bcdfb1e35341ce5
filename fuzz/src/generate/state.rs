//! The generator `state`: a valid image with one or two guest-state or host-state fields changed.

use arbitrary::{Result, Unstructured};
use vmcs_case::Case;
use vmcs_model::Vmcs;
use vmcs_model::controls::PinBased;
use vmcs_model::field::{self, Area, FieldId};
use vmcs_model::formats::ActivityState;
use vmcs_model::registers::Cr4;

use super::{controls, values};
use crate::generate::risk::holds_known_pdptes;
use crate::generate::test_processor::TestProcessor;

/// A changed image, launched from VMX root operation.
pub(super) fn case(processor: &TestProcessor, u: &mut Unstructured<'_>) -> Result<Case> {
    let image = u.choose_index(processor.first_bases)?;
    let mut changes = Vec::new();
    for _ in 0..if u.ratio(1u8, 6u8)? { 2 } else { 1 } {
        change(processor, u, &processor.bases[image].vmcs, &mut changes)?;
    }
    controls::finish(processor, u, image, changes)
}

/// Changes one guest-state or host-state field.
pub(super) fn change(
    processor: &TestProcessor,
    u: &mut Unstructured<'_>,
    base: &Vmcs,
    changes: &mut Vec<(FieldId, u64)>,
) -> Result<()> {
    let of_state = |field: &&FieldId| matches!(field.info().area(), Area::GuestState | Area::HostState);
    let fields: Vec<FieldId> = processor.fields.iter().filter(of_state).copied().collect();
    let field = *u.choose(&fields)?;
    let value = match special(u, field)? {
        Some(value) => value,
        None => values::mutated(u, &processor.capabilities, field, base.raw(field))?,
    };
    if !takes_the_machine_down(processor, field, value) || u.ratio(1u16, 2000u16)? {
        changes.push((field, value));
    }
    Ok(())
}

/// A value that bit flips would rarely hit, for some fields.
fn special(u: &mut Unstructured<'_>, field: FieldId) -> Result<Option<u64>> {
    if u.ratio(1u8, 2u8)? {
        return Ok(None);
    }
    let value = if field == field::GUEST_ACTIVITY_STATE.id() {
        u.int_in_range(0..=4)?
    } else if field == field::GUEST_INTERRUPTIBILITY_STATE.id() {
        u.int_in_range(0..=31)?
    } else if field == field::GUEST_PENDING_DEBUG_EXCEPTIONS.id() {
        *u.choose(&[0u64, 1, 0xF, 0x1000, 0x4000, 0x5000, 0x1_0000, 0x1_1000, 0x800])?
    } else if field == field::GUEST_IA32_PAT.id() || field == field::HOST_IA32_PAT.id() {
        0x0007_0406_0007_0406 ^ u64::from(u.int_in_range(0..=7u8)?) << (8 * u.int_in_range(0..=7u32)?)
    } else if field == field::VMCS_LINK_POINTER.id() {
        *u.choose(&[0u64, 0x1_1000, 0x1_2000, 0x1_2001, u64::MAX - 1, 1 << 52])?
    } else {
        return Ok(None);
    };
    Ok(Some(value))
}

/// Whether the value, where it passes the checks, leaves the machine in no state to answer: host paging that maps nothing
/// or forbids the probe its addresses, a guest that waits for an interrupt that never comes.
fn takes_the_machine_down(processor: &TestProcessor, field: FieldId, value: u64) -> bool {
    let timer = processor.capabilities.pin.may() & u64::from(PinBased::ACTIVATE_VMX_PREEMPTION_TIMER.bits()) != 0;
    field == field::HOST_CR3.id()
        || field == field::HOST_RIP.id()
        || field == field::HOST_CR4.id() && Cr4::from_bits_retain(value).intersects(Cr4::LA57 | Cr4::LASS)
        || field == field::GUEST_ACTIVITY_STATE.id()
            && (value == u64::from(ActivityState::WAIT_FOR_SIPI.0) || (!timer && value != 0))
        || field == field::GUEST_CR3.id() && !holds_known_pdptes(value)
}
