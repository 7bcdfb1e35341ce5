//! Why an entry failed: the model's checks over VMREAD, on the processor itself.

use core::arch::x86_64::__cpuid_count;

use vmcs_model::field::{FIELD_COUNT, FIELDS};
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::profile::{CpuidLeaf, MsrValue};
use vmcs_model::registers::{Cr0, Cr4, Efer};
use vmcs_model::vmcs::FieldReader;
use vmcs_model::{
    Capabilities, CpuProfile, CpuState, EntryAttempt, EntryInstruction, FieldId, LaunchState, ReadMemory,
};
use vmcs_wire::{NO_VIOLATION, layout};

use crate::{memory, vmx};

const IA32_PERF_CAPABILITIES: u32 = 0x345;
const IA32_TME_ACTIVATE: u32 = 0x982;

/// What this processor can do.
#[cold]
#[inline(never)]
pub(crate) fn capabilities() -> Capabilities {
    let mut profile = CpuProfile::default();
    let read = |number| vmx::rdmsr(number).map_or(MsrValue::Absent, MsrValue::Value);
    for msr in CapabilityMsr::ALL {
        profile.set_msr(msr, read(msr.number()));
    }
    profile.perf_capabilities = read(IA32_PERF_CAPABILITIES);
    profile.tme_activate = vmx::rdmsr(IA32_TME_ACTIVATE).unwrap_or(0);
    for leaf in CpuidLeaf::ALL {
        let (number, subleaf) = leaf.query();
        let highest = __cpuid_count(number & 0x8000_0000, 0).eax;
        let registers = if number <= highest {
            let r = __cpuid_count(number, subleaf);
            [r.eax, r.ebx, r.ecx, r.edx]
        } else {
            [0; 4]
        };
        profile.set_cpuid(leaf, registers);
    }
    Capabilities::new(&profile)
}

/// The index of the first check that the entry which has just failed violates.
#[cold]
#[inline(never)]
pub(crate) fn first_violation(capabilities: &Capabilities, resume: bool, vmxon_pointer: u64) -> u64 {
    let (instruction, launch_state) = if resume {
        (EntryInstruction::Vmresume, LaunchState::Launched)
    } else {
        (EntryInstruction::Vmlaunch, LaunchState::Clear)
    };
    let (_, vmcs_pointer) = vmx::vmptrst();
    let cpu = CpuState {
        cr0: Cr0::from_bits_retain(layout::CR0),
        cr4: Cr4::from_bits_retain(layout::CR4),
        efer: Efer::from_bits_retain(layout::EFER),
        vmxon_pointer,
        vmcs_pointer,
        ..CpuState::host_64()
    };
    let attempt = EntryAttempt { instruction, launch_state, shadow: false, cpu: &cpu, capabilities };
    let vmcs = FieldReader(read);
    vmcs_model::first_violation(attempt, &vmcs, &Ram).map_or(NO_VIOLATION, |check| check.index() as u64)
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
