//! The base of numbers that do not show it, and how many bits the names of a list stand for.

use super::super::items::Item;
use crate::names::FieldName;

/// What the base of a number without prefix is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Hexadecimal,
    Decimal,
    Unknown,
}

/// The base of numbers that do not show it: what the list shows of others.
pub(super) fn base(items: &[Item<'_>]) -> Base {
    let (mut hexadecimal, mut decimal) = (false, false);
    for item in items {
        let Ok(printed) = &item.value else { continue };
        if printed.marked {
            continue;
        }
        // What `struct vmcs12` begins with.
        decimal |= item.typed || item.name.ends_with("revision_id") && printed.decimal() == Some(0x11E5_7ED0);
        let Some(name) = item.field else { continue };
        hexadecimal |= printed.hexadecimal || printed.padded();
        decimal |= !printed.hexadecimal && printed.hex().is_none_or(|value| value & !mask(name) != 0);
    }
    match (hexadecimal, decimal) {
        (true, false) => Base::Hexadecimal,
        (false, true) => Base::Decimal,
        _ => Base::Unknown,
    }
}

/// How many bits the name stands for.
pub(super) fn bits(name: FieldName) -> u32 {
    if name.high { 32 } else { name.field.info().width().bits() }
}

/// The bits that the name stands for.
pub(super) fn mask(name: FieldName) -> u64 {
    u64::MAX >> (64 - bits(name))
}
