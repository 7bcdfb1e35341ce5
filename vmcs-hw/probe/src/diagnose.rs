//! Finding out why an entry failed: the model's checks read the fields by VMREAD, on the processor itself.

use vmcs_model::field::{FIELD_COUNT, FIELDS};
use vmcs_model::registers::{Cr0, Cr4, Efer};
use vmcs_model::vmcs::FieldReader;
use vmcs_model::{Capabilities, CpuState, EntryAttempt, EntryInstruction, FieldId, ReadMemory};
use vmcs_wire::{NO_VIOLATION, layout};

use crate::{capabilities, memory, vmx};

/// What this processor can do.
#[cold]
#[inline(never)]
pub(crate) fn capabilities() -> Capabilities {
    Capabilities::new(&capabilities::read())
}

/// The index of the first check that the entry which has just failed violates.
#[cold]
#[inline(never)]
pub(crate) fn first_violation(capabilities: &Capabilities, resume: bool, vmxon_pointer: u64) -> u64 {
    let instruction = if resume { EntryInstruction::Vmresume } else { EntryInstruction::Vmlaunch };
    let (_, vmcs_pointer) = vmx::vmptrst();
    let cpu = CpuState {
        cr0: Cr0::from_bits_retain(layout::CR0),
        cr4: Cr4::from_bits_retain(layout::CR4),
        efer: Efer::from_bits_retain(layout::EFER),
        vmxon_pointer,
        vmcs_pointer,
        ..CpuState::host_64()
    };
    let vmcs = FieldReader(read);
    let entry = EntryAttempt::by(instruction, &cpu, capabilities).on(&vmcs, &Ram);
    entry.first_violation().map_or(NO_VIOLATION, |check| check.index() as u64)
}

/// VMREAD, once: it has a place in the fixup table.
#[inline(never)]
fn read(field: FieldId) -> u64 {
    vmx::vmread(ENCODINGS[field.index()].into()).1
}

/// The encodings alone: the table of the fields has their names and more, which would be linked too.
pub(crate) static ENCODINGS: [u32; FIELD_COUNT] = {
    let mut encodings = [0; FIELD_COUNT];
    let mut i = 0;
    while i < FIELD_COUNT {
        encodings[i] = FIELDS[i].encoding.0;
        i += 1;
    }
    encodings
};

/// The machine's memory.
struct Ram;

impl ReadMemory for Ram {
    fn read_u32(&self, address: u64) -> Option<u32> {
        memory::load(address)
    }
}
