//! The state in which the probe executes cases: its addresses in memory, and the state of the processor.

use vmcs_model::CpuState;
use vmcs_model::baseline::Addresses;
use vmcs_model::registers::{Cr0, Cr4, Efer};
use vmcs_wire::layout;

/// Where the probe has what an image points to.
pub const PROBE_ADDRESSES: Addresses = Addresses {
    page_tables: layout::PML4,
    gdt: layout::GDT,
    tss: layout::TSS,
    idt: layout::IDT,
    host: (layout::HOST_RIP, layout::HOST_RSP),
    guest: (layout::GUEST_RIP, layout::GUEST_RSP),
};

/// The processor as an entry of the probe finds it: a 64-bit host at CPL 0 in VMX root operation, whose current VMCS is the
/// first region.
#[must_use]
pub const fn probe_host() -> CpuState {
    CpuState {
        cr0: Cr0::from_bits_retain(layout::CR0),
        cr4: Cr4::from_bits_retain(layout::CR4),
        efer: Efer::from_bits_retain(layout::EFER),
        vmxon_pointer: layout::VMXON_REGION,
        vmcs_pointer: layout::VMCS_REGIONS,
        ..CpuState::host_64()
    }
}
