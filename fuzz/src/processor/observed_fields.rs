//! The fields that cases read after their VM entry, and what they write to the information fields before it.

use vmcs_model::Capabilities;
use vmcs_model::field::{self, Area, FieldId};

/// The name of the image that cases write to the information fields.
pub(crate) const STALE: &str = "stale-information";

/// What the information fields hold before a deep case's entry: no two the same, events valid. None if the processor does
/// not let them be written.
pub(crate) fn stale_information(capabilities: &Capabilities, fields: &[FieldId]) -> Option<Vec<(u32, u64)>> {
    /// A general-protection exception with an error code.
    const EVENT: u64 = 0x8000_0B0D;
    let value = |(index, field): (usize, FieldId)| {
        let events = [field::VM_EXIT_INTERRUPTION_INFORMATION.id(), field::IDT_VECTORING_INFORMATION.id()];
        let value = if events.contains(&field) { EVENT } else { 0x5A5A_A5A5_5A5A_A500 | index as u64 };
        (field.info().encoding.0, value & field.info().width().mask())
    };
    let written = fields.iter().copied().filter(|field| field.info().area() == Area::ExitInformation);
    capabilities.writes_exit_information().then(|| written.enumerate().map(value).collect())
}

/// The information fields that an exit always defines, and that a failed entry must not write. Most exits leave the other
/// information fields undefined, and what those held before is known only if the case has written them.
const REPORTED: [FieldId; 6] = [
    field::EXIT_REASON.id(),
    field::EXIT_QUALIFICATION.id(),
    field::VM_EXIT_INTERRUPTION_INFORMATION.id(),
    field::IDT_VECTORING_INFORMATION.id(),
    field::VM_EXIT_INSTRUCTION_LENGTH.id(),
    field::VM_ENTRY_INTERRUPTION_INFORMATION.id(),
];

/// Encodings of the fields that every look goes to, and those of all others. Each costs a VMREAD in nearly every case.
pub(crate) fn lists(fields: &[FieldId]) -> (Vec<u32>, Vec<u32>) {
    let (reported, others): (Vec<_>, Vec<_>) = fields.iter().copied().partition(|field| REPORTED.contains(field));
    let encodings = |fields: Vec<FieldId>| fields.iter().map(|field| field.info().encoding.0).collect();
    (encodings(reported), encodings(others))
}
