//! The SDM's names of the bits of fields, and the meaning of their values in words.

use core::fmt;

use crate::controls::{Entry, Exit, PinBased, Primary, Secondary, SecondaryExit, Tertiary, VmFunctions};
use crate::field::{self, FieldId};
use crate::formats::{AccessRights, ActivityState, Eptp, InterruptionInformation, event_type};
use crate::registers::{Cr0, Cr4, Efer, Rflags};

/// Names of bits, by position.
type Names = &'static [(u32, &'static str)];

const ACCESS_RIGHTS: Names =
    &[(4, "S"), (7, "P"), (12, "AVL"), (13, "L"), (14, "D/B"), (15, "G"), (16, "segment unusable")];
const INTERRUPTION_INFORMATION: Names = &[(11, "deliver error code"), (13, "nested exception"), (31, "valid")];
const INTERRUPTIBILITY: Names = &[
    (0, "blocking by STI"),
    (1, "blocking by MOV SS"),
    (2, "blocking by SMI"),
    (3, "blocking by NMI"),
    (4, "enclave interruption"),
];
const PENDING_DEBUG: Names =
    &[(0, "B0"), (1, "B1"), (2, "B2"), (3, "B3"), (11, "BLD"), (12, "enabled breakpoint"), (14, "BS"), (16, "RTM")];
const EPTP: Names = &[(6, "accessed and dirty flags"), (7, "supervisor shadow-stack pages")];
const SELECTOR: Names = &[(2, "TI")];
const DEBUGCTL: Names = &[
    (0, "LBR"),
    (1, "BTF"),
    (2, "BLD"),
    (6, "TR"),
    (7, "BTS"),
    (8, "BTINT"),
    (9, "BTS_OFF_OS"),
    (10, "BTS_OFF_USR"),
    (11, "FREEZE_LBRS_ON_PMI"),
    (12, "FREEZE_PERFMON_ON_PMI"),
    (14, "FREEZE_WHILE_SMM"),
    (15, "RTM_DEBUG"),
];
const CET: Names = &[
    (0, "SH_STK_EN"),
    (1, "WR_SHSTK_EN"),
    (2, "ENDBR_EN"),
    (3, "LEG_IW_EN"),
    (4, "NO_TRACK_EN"),
    (5, "SUPPRESS_DIS"),
    (10, "SUPPRESS"),
    (11, "TRACKER"),
];

/// What kind of value a field holds.
enum Format {
    Word(Names),
    Cr0,
    Cr4,
    Efer,
    Rflags,
    AccessRights,
    Event,
    Interruptibility,
    PendingDebug,
    ActivityState,
    Eptp,
    Selector,
    Other,
}

fn format(field: FieldId) -> Format {
    let id = field;
    let is = |fields: &[FieldId]| fields.contains(&id);
    let words: [(FieldId, Names); 11] = [
        (field::PIN_BASED_VM_EXECUTION_CONTROLS.id(), PinBased::NAMES),
        (field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), Primary::NAMES),
        (field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), Secondary::NAMES),
        (field::TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), Tertiary::NAMES),
        (field::PRIMARY_VM_EXIT_CONTROLS.id(), Exit::NAMES),
        (field::SECONDARY_VM_EXIT_CONTROLS.id(), SecondaryExit::NAMES),
        (field::VM_ENTRY_CONTROLS.id(), Entry::NAMES),
        (field::VM_FUNCTION_CONTROLS.id(), VmFunctions::NAMES),
        (field::GUEST_IA32_DEBUGCTL.id(), DEBUGCTL),
        (field::GUEST_IA32_S_CET.id(), CET),
        (field::HOST_IA32_S_CET.id(), CET),
    ];
    if let Some((_, names)) = words.into_iter().find(|(word, _)| *word == field) {
        return Format::Word(names);
    }
    let encoding = field.info().encoding.0;
    match encoding {
        // Guest and host selectors, access rights of guest segments.
        0x0800..=0x080E | 0x0C00..=0x0C0C => Format::Selector,
        0x4814..=0x4822 => Format::AccessRights,
        _ if is(&[field::GUEST_CR0.id(), field::HOST_CR0.id()]) => Format::Cr0,
        _ if is(&[field::GUEST_CR4.id(), field::HOST_CR4.id()]) => Format::Cr4,
        _ if is(&[field::GUEST_IA32_EFER.id(), field::HOST_IA32_EFER.id()]) => Format::Efer,
        _ if is(&[field::GUEST_RFLAGS.id()]) => Format::Rflags,
        _ if is(&[field::VM_ENTRY_INTERRUPTION_INFORMATION.id()]) => Format::Event,
        _ if is(&[field::GUEST_INTERRUPTIBILITY_STATE.id()]) => Format::Interruptibility,
        _ if is(&[field::GUEST_PENDING_DEBUG_EXCEPTIONS.id()]) => Format::PendingDebug,
        _ if is(&[field::GUEST_ACTIVITY_STATE.id()]) => Format::ActivityState,
        _ if is(&[field::EPT_POINTER.id()]) => Format::Eptp,
        _ => Format::Other,
    }
}

/// The bits of a field that have a name.
pub(super) fn named_bits(field: FieldId) -> u64 {
    fn mask(names: Names) -> u64 {
        names.iter().fold(0, |mask, (bit, _)| mask | 1 << bit)
    }
    fn flags<F: bitflags::Flags<Bits = u64> + 'static>() -> u64 {
        F::FLAGS.iter().filter(|flag| !flag.name().is_empty()).fold(0, |mask, flag| mask | flag.value().bits())
    }
    match format(field) {
        Format::Word(names) => mask(names),
        Format::Cr0 => flags::<Cr0>(),
        Format::Cr4 => flags::<Cr4>(),
        Format::Efer => flags::<Efer>(),
        Format::Rflags => flags::<Rflags>(),
        Format::AccessRights => mask(ACCESS_RIGHTS),
        Format::Event => mask(INTERRUPTION_INFORMATION),
        Format::Interruptibility => mask(INTERRUPTIBILITY),
        Format::PendingDebug => mask(PENDING_DEBUG),
        Format::Eptp => mask(EPTP),
        Format::Selector => mask(SELECTOR),
        Format::ActivityState | Format::Other => 0,
    }
}

/// The parts of a field that are more than a bit and less than the whole: lowest bit and width of each.
pub(super) fn parts(field: FieldId) -> &'static [(u32, u32)] {
    match format(field) {
        // Type and DPL.
        Format::AccessRights => &[(0, 4), (5, 2)],
        // RPL.
        Format::Selector => &[(0, 2)],
        // Type of the event and vector of an exception.
        Format::Event => &[(8, 3), (0, 5)],
        // Memory type and length of the page walk.
        Format::Eptp => &[(0, 3), (3, 3)],
        // IOPL.
        Format::Rflags => &[(12, 2)],
        Format::ActivityState => &[(0, 2)],
        _ => &[],
    }
}

/// The SDM's name of the bit at position `bit` of a field: of a control word, of a register, or of a field with a format of
/// its own. `None` if that bit has no name.
#[must_use]
pub fn bit_name(field: FieldId, bit: u32) -> Option<&'static str> {
    let names = match format(field) {
        Format::Word(names) => names,
        Format::Cr0 => return flag_name::<Cr0>(bit),
        Format::Cr4 => return flag_name::<Cr4>(bit),
        Format::Efer => return flag_name::<Efer>(bit),
        Format::Rflags => return flag_name::<Rflags>(bit),
        Format::AccessRights => ACCESS_RIGHTS,
        Format::Event => INTERRUPTION_INFORMATION,
        Format::Interruptibility => INTERRUPTIBILITY,
        Format::PendingDebug => PENDING_DEBUG,
        Format::Eptp => EPTP,
        Format::Selector => SELECTOR,
        Format::ActivityState | Format::Other => return None,
    };
    names.iter().find(|(n, _)| *n == bit).map(|(_, name)| *name)
}

/// The name of a flag of a register.
fn flag_name<F: bitflags::Flags<Bits = u64> + 'static>(bit: u32) -> Option<&'static str> {
    F::FLAGS.iter().find(|flag| !flag.name().is_empty() && flag.value().bits() == 1 << bit).map(bitflags::Flag::name)
}

/// What the value of a field means in words, such as the names of the bits that are 1. `Display` writes it; it writes
/// nothing for a field that needs no such text, such as an address or a control word.
#[derive(Clone, Copy)]
pub struct Meaning {
    /// The field that holds the value.
    pub field: FieldId,
    /// The value of the field.
    pub value: u64,
}

impl fmt::Display for Meaning {
    #[allow(clippy::cast_possible_truncation, reason = "the value of a field of that width")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value } = *self;
        match format(field) {
            Format::AccessRights => {
                let rights = AccessRights::from_bits(value as u32);
                if rights.unusable() {
                    return f.write_str("unusable");
                }
                write!(f, "type {}, DPL {}", rights.kind(), rights.dpl())?;
                flags(f, self, ACCESS_RIGHTS, ", ")
            }
            Format::Event => {
                let event = InterruptionInformation::from_bits(value as u32);
                if !event.valid() {
                    return f.write_str("not valid: no event");
                }
                let kind = match event.event_type() {
                    event_type::EXTERNAL_INTERRUPT => "external interrupt",
                    event_type::NMI => "NMI",
                    event_type::HARDWARE_EXCEPTION => "hardware exception",
                    event_type::SOFTWARE_INTERRUPT => "software interrupt",
                    event_type::PRIVILEGED_SOFTWARE_EXCEPTION => "privileged software exception",
                    event_type::SOFTWARE_EXCEPTION => "software exception",
                    event_type::OTHER_EVENT => "other event",
                    _ => "reserved type 1",
                };
                let code = if event.deliver_error_code() { "with" } else { "without" };
                write!(f, "{kind}, vector {}, {code} error code", event.vector())
            }
            Format::Interruptibility => flags(f, self, INTERRUPTIBILITY, ""),
            Format::PendingDebug => flags(f, self, PENDING_DEBUG, ""),
            Format::ActivityState => f.write_str(match ActivityState(value as u32) {
                ActivityState::ACTIVE => "active",
                ActivityState::HLT => "HLT",
                ActivityState::SHUTDOWN => "shutdown",
                ActivityState::WAIT_FOR_SIPI => "wait-for-SIPI",
                _ => "not an activity state",
            }),
            Format::Eptp => {
                let eptp = Eptp::from_bits(value);
                write!(f, "memory type {}, {} levels", eptp.memory_type(), eptp.walk_length_minus_1() + 1)?;
                flags(f, self, EPTP, ", ")
            }
            Format::Selector => {
                write!(f, "RPL {}", value & 3)?;
                flags(f, self, SELECTOR, ", ")
            }
            _ => Ok(()),
        }
    }
}

/// Writes the names of the bits that are 1.
fn flags(f: &mut fmt::Formatter<'_>, meaning: &Meaning, names: Names, mut between: &'static str) -> fmt::Result {
    for (_, name) in names.iter().filter(|(bit, _)| meaning.value >> bit & 1 != 0) {
        write!(f, "{between}{name}")?;
        between = ", ";
    }
    Ok(())
}

/// Bits of a field as people write them: `bits 5 “virtual NMIs”, 9`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// The field that the bits belong to.
    pub field: FieldId,
    /// The mask of the bits that are written.
    pub mask: u64,
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, mut mask } = *self;
        f.write_str(if mask.count_ones() == 1 { "bit" } else { "bits" })?;
        let mut between = " ";
        while mask != 0 {
            let low = mask.trailing_zeros();
            let name = bit_name(field, low);
            // Runs of bits without names are written as ranges.
            let mut high = low;
            while name.is_none() && high < 63 && mask >> (high + 1) & 1 != 0 && bit_name(field, high + 1).is_none() {
                high += 1;
            }
            match (name, high - low) {
                (Some(name), _) => write!(f, "{between}{low} “{name}”")?,
                (None, 0) => write!(f, "{between}{low}")?,
                (None, _) => write!(f, "{between}{high}:{low}")?,
            }
            between = ", ";
            mask = if high == 63 { 0 } else { mask & u64::MAX << (high + 1) };
        }
        Ok(())
    }
}
