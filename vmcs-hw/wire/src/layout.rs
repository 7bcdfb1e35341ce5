//! Physical addresses that host, probe and generators agree on.
//!
//! They are fixed, so that the same case means the same on every target: the host-state area of an image can name
//! the probe's exit path, page tables and descriptor tables without asking.

use core::ops::Range;

/// End of the memory that a target gives to the probe; the Bochs target's machine has no more.
pub const MEMORY_END: u64 = 0x200_0000;
/// Memory that case programs own. Every page of it that a case touches is zero when the case starts.
pub const ARENA: Range<u64> = 0x1_0000..0x8_0000;

/// The VMXON region of cases that start in VMX root operation. Its first dword holds the VMCS revision identifier.
pub const VMXON_REGION: u64 = 0x1_0000;
/// First of [`VMCS_REGION_COUNT`] consecutive pages meant for VMCS regions.
pub const VMCS_REGIONS: u64 = 0x1_1000;
/// Pages at [`VMCS_REGIONS`].
pub const VMCS_REGION_COUNT: u64 = 7;
/// Virtual-APIC page.
pub const VIRTUAL_APIC: u64 = 0x1_8000;
/// APIC-access page.
pub const APIC_ACCESS: u64 = 0x1_9000;
/// I/O bitmap A; bitmap B is the next page.
pub const IO_BITMAPS: u64 = 0x1_A000;
/// MSR bitmaps.
pub const MSR_BITMAPS: u64 = 0x1_C000;
/// VMREAD bitmap; the VMWRITE bitmap is the next page.
pub const VMREAD_BITMAP: u64 = 0x1_D000;
/// Page-modification log.
pub const PML: u64 = 0x1_F000;
/// Virtualization-exception information area.
pub const VE_INFORMATION: u64 = 0x2_0000;
/// EPTP list.
pub const EPTP_LIST: u64 = 0x2_1000;
/// Posted-interrupt descriptor.
pub const POSTED_INTERRUPT: u64 = 0x2_2000;
/// Sub-page-permission table.
pub const SPP_TABLE: u64 = 0x2_3000;
/// PID-pointer table.
pub const PID_POINTERS: u64 = 0x2_4000;
/// VM-entry MSR-load area.
pub const ENTRY_MSR_LOAD: u64 = 0x2_5000;
/// VM-exit MSR-store area.
pub const EXIT_MSR_STORE: u64 = 0x2_6000;
/// VM-exit MSR-load area.
pub const EXIT_MSR_LOAD: u64 = 0x2_7000;
/// Page-directory-pointer table of a guest that uses PAE paging.
pub const GUEST_PDPT: u64 = 0x2_8000;
/// Pages free for cases, up to the end of [`ARENA`].
pub const SCRATCH: u64 = 0x3_0000;

/// Identity-mapping page tables of the probe (PML4 page; 4 GiB are mapped). CR3 of the probe and of plain guests.
pub const PML4: u64 = 0x8_0000;
/// EPT paging structures that map the first 4 GiB to themselves, write-back (PML4 page).
pub const EPT_PML4: u64 = 0x8_8000;
/// Four-entry PDPT that identity-maps 4 GiB for 32-bit PAE paging.
pub const PAE_PDPT: u64 = 0x8_7000;

/// Pages of the paging structures: those at [`PML4`], with [`PAE_PDPT`], and those at [`EPT_PML4`].
pub const PAGING: Range<u64> = PML4..EPT_PML4 + 0x6000;

/// The qword at an address in [`PAGING`] that is a multiple of 8. A guest with PAE paging takes it for a PDPTE if its CR3 points
/// there. The accessed and dirty bits that a processor sets are not in it.
#[must_use]
pub const fn paging_entry(address: u64) -> u64 {
    let index = (address & 0xFFF) >> 3;
    let (root, permissions, page_2m) = if address < EPT_PML4 { (PML4, 3, 0x83) } else { (EPT_PML4, 7, 0xB7) };
    match (address - root) >> 12 {
        0 if index == 0 => (root + 0x1000) | permissions,
        1 if index < 4 => (root + 0x2000 + 0x1000 * index) | permissions,
        // Page directories of 2 MiB pages.
        directory @ 2..=5 => (512 * (directory - 2) + index) << 21 | page_2m,
        7 if index < 4 => (PML4 + 0x2000 + 0x1000 * index) | 1,
        _ => 0,
    }
}

/// The upper one of the places where devices and ROMs answer; the other one is in low memory.
pub const HIGH_DEVICES: Range<u64> = 0xC000_0000..0x1_0000_0000;

/// Where it is not known what memory holds: firmware's data, the probe with its tables, devices and ROMs.
pub const UNKNOWN: [Range<u64>; 3] = [0..ARENA.start, PAGING.end..BUFFERS_END, HIGH_DEVICES];

/// Where the probe is loaded.
pub const PROBE: u64 = 0x10_0000;
/// Buffer of the probe for the session, 1 MiB and a page.
pub const SESSION_BUFFER: u64 = 0x20_0000;
/// Buffer of the probe for an answer, 1 MiB.
pub const ANSWER_BUFFER: u64 = 0x30_1000;
/// Buffer of the probe for a batch, 256 KiB.
pub const BATCH_BUFFER: u64 = 0x40_1000;
/// Buffer of the probe for a message on the serial line, 1 MiB and a page.
pub const MESSAGE_BUFFER: u64 = 0x44_1000;
/// End of the buffers.
pub const BUFFERS_END: u64 = 0x54_2000;
/// Where the probe moves a file of requests ([`crate::serial::requests`]) that a loader gives to it.
pub const REQUESTS: u64 = 0x60_0000;
/// Most bytes of that file.
pub const MAX_REQUESTS_BYTES: u64 = 16 << 20;
/// EAX at the probe's 32-bit entry: work lies on the disk ([`crate::disk`]).
pub const BOOT_DISK: u32 = 0x4449_534B;
/// EAX at the probe's 32-bit entry: work lies in memory ([`crate::mailbox`]).
pub const BOOT_MAILBOX: u32 = 0x4D41_494C;
/// EAX at the probe's 32-bit entry: a Multiboot2 loader has started it, whose information EBX points to.
pub const BOOT_MULTIBOOT2: u32 = 0x36D7_6289;
/// HOST_RIP: the probe's exit path, at a fixed place of its image.
///
/// While an entry runs, the probe lets it stand in for every other HOST_RIP below 4 GiB, where memory is mapped and
/// control would be lost. A HOST_RIP above comes back by way of a page fault.
pub const HOST_RIP: u64 = PROBE + 0x1000;
/// GUEST_RIP of plain guests: a VMCALL in a loop, followed by HLT.
pub const GUEST_RIP: u64 = PROBE + 0x1800;
/// GDT of the probe.
pub const GDT: u64 = 0x9_0000;
/// Limit of the GDT.
pub const GDT_LIMIT: u32 = 0x7F;
/// TSS of the probe.
pub const TSS: u64 = 0x9_1000;
/// Limit of the TSS.
pub const TSS_LIMIT: u32 = 0x67;
/// IDT of the probe.
pub const IDT: u64 = 0x9_2000;
/// Limit of the IDT.
pub const IDT_LIMIT: u32 = 0xFFF;
/// HOST_RSP: top of a stack that the exit path leaves at once.
pub const HOST_RSP: u64 = 0x9_8000;
/// GUEST_RSP: top of a stack for plain guests.
pub const GUEST_RSP: u64 = 0x9_A000;
/// End of the probe's tables and stacks in low memory.
pub const TABLES_END: u64 = GUEST_RSP;

/// 64-bit code segment of the probe.
pub const CODE_SELECTOR: u16 = 0x08;
/// Data segment of the probe.
pub const DATA_SELECTOR: u16 = 0x10;
/// Task register of the probe.
pub const TSS_SELECTOR: u16 = 0x18;
/// CR0 of the probe: PG, WP, NE, ET, MP, PE.
pub const CR0: u64 = 0x8001_0033;
/// CR4 of the probe in VMX operation: VMXE, OSXMMEXCPT, OSFXSR, PAE.
pub const CR4: u64 = 0x0000_2620;
/// IA32_EFER of the probe: NXE (where supported), LMA, LME.
pub const EFER: u64 = 0x0000_0500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paging_structures_map_memory_to_itself() {
        for (root, first_level) in [(PML4, 0), (EPT_PML4, 0), (PAE_PDPT, 1)] {
            for address in [0, 0x20_0000, 0x4000_0000, 0x8020_0000, 0xFFE0_0000_u64] {
                let (mut table, mut address_bits) = (root, [39, 30, 21].into_iter().skip(first_level));
                let mapped = loop {
                    let Some(shift) = address_bits.next() else { break table };
                    let entry = paging_entry(table + 8 * (address >> shift & 0x1FF));
                    assert!(
                        entry & 1 != 0 && (entry >> 7 & 1 == 1) == (shift == 21),
                        "{root:#x} {address:#x}: {entry:#x}"
                    );
                    table = entry & !0xFFF;
                };
                assert_eq!(mapped, address, "{root:#x}");
            }
        }
        assert_eq!([PML4 + 8, PAE_PDPT + 0x20, EPT_PML4 + 0x1020].map(paging_entry), [0; 3]);
    }
}
