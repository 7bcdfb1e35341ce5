//! A valid VMCS to start from. Change one of its fields and see which checks that breaks.

use crate::capabilities::{Capabilities, Facts};
use crate::controls::{Entry, Exit, PinBased};
use crate::field::{self, Field, FieldValue};
use crate::formats::{AccessRights, Selector};
use crate::msr::Source;
use crate::registers::{Cr0, Cr4, Efer, Rflags};
use crate::vmcs::Vmcs;

/// What the IA32_PAT MSR holds after a reset.
const PAT_RESET: u64 = 0x0007_0406_0007_0406;
const CODE: u16 = 0x08;
const DATA: u16 = 0x10;
const TASK: u16 = 0x18;

/// The linear addresses of what the image points to. No check looks at what lies there, but who executes the entry has to
/// put page tables, descriptor tables and code there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The page tables, to which CR3 of host and guest points: a physical address, a multiple of 4096 below 4 GiB.
    pub page_tables: u64,
    /// The GDT of host and guest.
    pub gdt: u64,
    /// The TSS of host and guest.
    pub tss: u64,
    /// The IDT of host and guest.
    pub idt: u64,
    /// RIP and RSP of the host.
    pub host: (u64, u64),
    /// RIP and RSP of the guest.
    pub guest: (u64, u64),
}

impl Default for Addresses {
    /// Arbitrary addresses in the first 2 MiB: page tables at 80000H, GDT at 90000H, TSS at 91000H, IDT at 92000H; the host
    /// at 101000H with RSP 98000H, the guest at 101800H with RSP 9A000H.
    fn default() -> Self {
        Self {
            page_tables: 0x8_0000,
            gdt: 0x9_0000,
            tss: 0x9_1000,
            idt: 0x9_2000,
            host: (0x10_1000, 0x9_8000),
            guest: (0x10_1800, 0x9_A000),
        }
    }
}

/// The smallest valid image of a 64-bit guest and a 64-bit host for the processor with these `capabilities`.
///
/// Beyond the controls that the processor demands it sets only the address-space sizes, the loading and saving of
/// IA32_EFER and IA32_PAT where the processor can do it, and a VMX-preemption timer that expires at once. If the controls do
/// not allow a 64-bit host and guest, as on a processor without Intel 64, both are 32-bit. Controls that the profile leaves
/// out count as allowing them.
///
/// It points to the addresses of [`Addresses::default`]; [`plain_64bit_at`] takes others.
///
/// ```
/// use vmcs_model::{Capabilities, CpuProfile, baseline};
///
/// let capabilities = Capabilities::new(&CpuProfile::default());
/// let vmcs = baseline::plain_64bit(&capabilities);
/// assert_eq!(vmcs.get(vmcs_model::field::GUEST_RIP), baseline::Addresses::default().guest.0);
/// ```
#[must_use]
pub fn plain_64bit(capabilities: &Capabilities) -> Vmcs {
    plain_64bit_at(capabilities, &Addresses::default())
}

/// The same image as [`plain_64bit`], with the addresses `at`.
#[must_use]
pub fn plain_64bit_at(capabilities: &Capabilities, at: &Addresses) -> Vmcs {
    let mut vmcs = Vmcs::new();
    let wide = controls(&mut vmcs, capabilities);
    host(&mut vmcs, capabilities, at, wide);
    guest(&mut vmcs, capabilities, at, wide);
    vmcs
}

/// Sets the control words, and returns whether the guest is 64-bit.
fn controls(vmcs: &mut Vmcs, has: &Capabilities) -> bool {
    let mut set = |word: crate::field::FieldId, value: u64| vmcs.set_raw(word, value);
    let exit = Exit::HOST_ADDRESS_SPACE_SIZE
        | Exit::SAVE_IA32_EFER
        | Exit::LOAD_IA32_EFER
        | Exit::SAVE_IA32_PAT
        | Exit::LOAD_IA32_PAT;
    let entry = Entry::IA_32E_MODE_GUEST | Entry::LOAD_IA32_EFER | Entry::LOAD_IA32_PAT;
    let timer = PinBased::ACTIVATE_VMX_PREEMPTION_TIMER.to_raw();
    set(field::PIN_BASED_VM_EXECUTION_CONTROLS.id(), has.pin.nearest(timer));
    set(field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), has.primary.nearest(0));
    set(field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), has.secondary.nearest(0));
    // If the MSR of a word is not known, it is not known which bits may be 1. A 64-bit host needs these two in any case.
    let needed = |word, bit| if has.unknown.intersects(Facts::of(word)) { bit } else { 0 };
    let host_64 = needed(Source::Exit, Exit::HOST_ADDRESS_SPACE_SIZE.to_raw());
    let guest_64 = needed(Source::Entry, Entry::IA_32E_MODE_GUEST.to_raw());
    set(field::PRIMARY_VM_EXIT_CONTROLS.id(), has.exit.nearest(exit.to_raw()) | host_64);
    set(field::VM_ENTRY_CONTROLS.id(), has.entry.nearest(entry.to_raw()) | guest_64);
    vmcs.get(field::VM_ENTRY_CONTROLS).contains(Entry::IA_32E_MODE_GUEST)
}

fn cr0(has: &Capabilities) -> Cr0 {
    Cr0::from_bits_retain(has.cr0.nearest(0x8001_0033))
}

fn cr4(has: &Capabilities) -> Cr4 {
    Cr4::from_bits_retain(has.cr4.nearest(0x2620))
}

fn host(vmcs: &mut Vmcs, has: &Capabilities, at: &Addresses, wide: bool) {
    vmcs.set(field::HOST_CR0, cr0(has));
    vmcs.set(field::HOST_CR3, at.page_tables);
    vmcs.set(field::HOST_CR4, cr4(has));
    vmcs.set(field::HOST_CS_SELECTOR, Selector::from_bits(CODE));
    for data in [
        field::HOST_ES_SELECTOR,
        field::HOST_SS_SELECTOR,
        field::HOST_DS_SELECTOR,
        field::HOST_FS_SELECTOR,
        field::HOST_GS_SELECTOR,
    ] {
        vmcs.set(data, Selector::from_bits(DATA));
    }
    vmcs.set(field::HOST_TR_SELECTOR, Selector::from_bits(TASK));
    vmcs.set(field::HOST_TR_BASE, at.tss);
    vmcs.set(field::HOST_GDTR_BASE, at.gdt);
    vmcs.set(field::HOST_IDTR_BASE, at.idt);
    vmcs.set(field::HOST_RSP, at.host.1);
    vmcs.set(field::HOST_RIP, at.host.0);
    vmcs.set(field::HOST_IA32_PAT, PAT_RESET);
    vmcs.set(field::HOST_IA32_EFER, efer(wide));
}

fn efer(wide: bool) -> Efer {
    if wide { Efer::LMA | Efer::LME } else { Efer::empty() }
}

/// A segment register of the guest: its fields.
type SegmentFields = (Field<Selector>, Field<u64>, Field<u32>, Field<AccessRights>);

fn guest(vmcs: &mut Vmcs, has: &Capabilities, at: &Addresses, wide: bool) {
    // Flat, accessed: read/write data, and 64-bit or 32-bit code.
    const DATA_RIGHTS: u32 = 0xC093;
    let code_rights = if wide { 0xA09B } else { 0xC09B };
    let data: [SegmentFields; 5] = [
        (field::GUEST_ES_SELECTOR, field::GUEST_ES_BASE, field::GUEST_ES_LIMIT, field::GUEST_ES_ACCESS_RIGHTS),
        (field::GUEST_SS_SELECTOR, field::GUEST_SS_BASE, field::GUEST_SS_LIMIT, field::GUEST_SS_ACCESS_RIGHTS),
        (field::GUEST_DS_SELECTOR, field::GUEST_DS_BASE, field::GUEST_DS_LIMIT, field::GUEST_DS_ACCESS_RIGHTS),
        (field::GUEST_FS_SELECTOR, field::GUEST_FS_BASE, field::GUEST_FS_LIMIT, field::GUEST_FS_ACCESS_RIGHTS),
        (field::GUEST_GS_SELECTOR, field::GUEST_GS_BASE, field::GUEST_GS_LIMIT, field::GUEST_GS_ACCESS_RIGHTS),
    ];
    let code: SegmentFields =
        (field::GUEST_CS_SELECTOR, field::GUEST_CS_BASE, field::GUEST_CS_LIMIT, field::GUEST_CS_ACCESS_RIGHTS);
    let task: SegmentFields =
        (field::GUEST_TR_SELECTOR, field::GUEST_TR_BASE, field::GUEST_TR_LIMIT, field::GUEST_TR_ACCESS_RIGHTS);
    let mut set = |segment: SegmentFields, selector: u16, base: u64, limit: u32, rights: u32| {
        vmcs.set(segment.0, Selector::from_bits(selector));
        vmcs.set(segment.1, base);
        vmcs.set(segment.2, limit);
        vmcs.set(segment.3, AccessRights::from_bits(rights));
    };
    set(code, CODE, 0, u32::MAX, code_rights);
    for segment in data {
        set(segment, DATA, 0, u32::MAX, DATA_RIGHTS);
    }
    set(task, TASK, at.tss, 0x67, 0x8B);
    vmcs.set(field::GUEST_LDTR_ACCESS_RIGHTS, AccessRights::new().with_unusable(true));
    vmcs.set(field::GUEST_CR0, cr0(has));
    vmcs.set(field::GUEST_CR3, at.page_tables);
    // PAE paging would make a 32-bit guest depend on memory.
    vmcs.set(field::GUEST_CR4, if wide { cr4(has) } else { cr4(has) - Cr4::PAE });
    vmcs.set(field::GUEST_GDTR_BASE, at.gdt);
    vmcs.set(field::GUEST_GDTR_LIMIT, 0x27);
    vmcs.set(field::GUEST_IDTR_BASE, at.idt);
    vmcs.set(field::GUEST_IDTR_LIMIT, 0xFFF);
    vmcs.set(field::GUEST_DR7, 0x400);
    vmcs.set(field::GUEST_RSP, at.guest.1);
    vmcs.set(field::GUEST_RIP, at.guest.0);
    vmcs.set(field::GUEST_RFLAGS, Rflags::FIXED1);
    vmcs.set(field::GUEST_IA32_PAT, PAT_RESET);
    vmcs.set(field::GUEST_IA32_EFER, efer(wide));
    vmcs.set(field::VMCS_LINK_POINTER, u64::MAX);
}
