//! Values to try in a field: near its old value, and at the edges where the rules of processors change.

use arbitrary::{Result, Unstructured};
use vmcs_model::Capabilities;
use vmcs_model::field::FieldId;

/// A value for `field` that differs from `old`, except by rare chance.
pub(super) fn mutated(u: &mut Unstructured<'_>, capabilities: &Capabilities, field: FieldId, old: u64) -> Result<u64> {
    let width = field.info().width();
    let bit = |u: &mut Unstructured<'_>| -> Result<u64> { Ok(1 << u.int_in_range(0..=width.bits() - 1)?) };
    let value = match u.int_in_range(0..=9u8)? {
        0..=5 => old ^ bit(u)?,
        6 => old ^ bit(u)? ^ bit(u)?,
        7 => edge(u, capabilities)?,
        8 => old.wrapping_add(u64::from(u.arbitrary::<i8>()?.unsigned_abs())).wrapping_sub(64),
        _ => u.arbitrary()?,
    };
    Ok(value & width.mask())
}

/// A value at an edge: of the physical-address width, of pages, of bytes, of the word.
fn edge(u: &mut Unstructured<'_>, capabilities: &Capabilities) -> Result<u64> {
    let top = capabilities.address_reserved & capabilities.address_reserved.wrapping_neg();
    Ok(*u.choose(&[
        0,
        1,
        u64::MAX,
        top,
        top.wrapping_sub(1),
        top.wrapping_sub(16),
        top.wrapping_sub(0x1000),
        top | 0x1000,
        0xFFF,
        0x1000,
        0x1001,
        0x8000_0000,
        0xFFFF_FFFF,
        0x1_0000_0000,
        0x7FFF_FFFF_F000,
        0xFF,
        0x100,
        0xFFFF,
    ])?)
}
