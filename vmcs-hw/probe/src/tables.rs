//! GDT, TSS, IDT, EPT and PAE tables at the places that the layout names; exceptions.
// UNSAFETY: descriptor tables are loaded, and the assembly of this crate is included.
#![allow(unsafe_code, reason = "loading descriptor tables, assembly")]

use core::arch::global_asm;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use vmcs_wire::layout;
use x86::dtables::{DescriptorTablePointer, lgdt, lidt};
use x86::segmentation::SegmentSelector;

use crate::memory::write_table;

global_asm!(include_str!("multiboot2.s"));
global_asm!(include_str!("rom_stub.s"), PROBE = const layout::PROBE, BOOT_DISK = const layout::BOOT_DISK);
global_asm!(include_str!("linux_rom.s"));
global_asm!(include_str!("vectors.s"), CR0 = const layout::CR0, CR4 = const layout::CR4, exception = sym exception,
    options(att_syntax));
global_asm!(include_str!("enter.s"),
    PML4 = const layout::PML4, CR0 = const layout::CR0, CR4 = const layout::CR4, EFER = const layout::EFER,
    CODE = const layout::CODE_SELECTOR, DATA = const layout::DATA_SELECTOR, TR = const layout::TSS_SELECTOR,
    GDT = const layout::GDT, GDT_LIMIT = const layout::GDT_LIMIT,
    IDT = const layout::IDT, IDT_LIMIT = const layout::IDT_LIMIT);

/// Tops of the two exception stacks: one page each, below the stack at HOST_RSP.
const EXCEPTION_STACK: u64 = 0x9_5000;
const DOUBLE_FAULT_STACK: u64 = 0x9_6000;

const TSS_DESCRIPTOR: u64 =
    (layout::TSS_LIMIT as u64) | (layout::TSS & 0xFF_FFFF) << 16 | 0x89 << 40 | (layout::TSS >> 24) << 56;

/// Writes all tables and loads GDT, IDT and TR.
pub(crate) fn load() {
    sort_fixups();
    // Null, 64-bit code, data, TSS (two slots), 32-bit code; the other slots are null.
    let gdt = [0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF, TSS_DESCRIPTOR, 0, 0x00CF_9B00_0000_FFFF];
    write_table(layout::GDT, gdt.into_iter().chain([0; 16]).take(16));
    // 64-bit TSS (SDM Vol. 3, Figure 9-11), in quadwords that start at offset 4: RSP0-2, reserved, IST1-7, reserved, map base.
    // Written as dwords in pairs: offset 36 is IST1, 44 is IST2, 102 the I/O map base.
    let mut tss = [0u32; 26];
    tss[9] = EXCEPTION_STACK as u32;
    tss[11] = DOUBLE_FAULT_STACK as u32;
    tss[25] = 0x68 << 16;
    write_table(layout::TSS, tss.chunks(2).map(|pair| u64::from(pair[0]) | u64::from(pair[1]) << 32));
    let stubs = &raw const vector_stubs as u64;
    let gates = (0..256).flat_map(|vector: u64| {
        let offset = stubs + 16 * vector;
        // NMI, #DF and #MC may interrupt another handler: they have a stack of their own.
        let ist = if matches!(vector, 2 | 8 | 18) { 2 } else { 1 };
        let low = offset & 0xFFFF
            | u64::from(layout::CODE_SELECTOR) << 16
            | ist << 32
            | 0x8E << 40
            | (offset >> 16 & 0xFFFF) << 48;
        [low, offset >> 32]
    });
    write_table(layout::IDT, gates);
    identity_tables();

    let gdt = DescriptorTablePointer { limit: layout::GDT_LIMIT as u16, base: layout::GDT as *const u64 };
    let idt = DescriptorTablePointer { limit: layout::IDT_LIMIT as u16, base: layout::IDT as *const u64 };
    // SAFETY: both tables have just been written and stay; the segments in use have the same descriptors in the new
    // GDT as in boot.s's; the TSS descriptor is an available 64-bit TSS, as LTR demands.
    unsafe {
        lgdt(&gdt);
        lidt(&idt);
        x86::task::load_tr(SegmentSelector::from_raw(layout::TSS_SELECTOR));
    }
}

/// EPT and PAE structures that map the first 4 GiB to themselves. The PAE PDPT shares boot.s's page directories.
fn identity_tables() {
    let directory = layout::PML4 + 0x2000;
    write_table(layout::PAE_PDPT, (0..4).map(|index| (directory + 0x1000 * index) | 1));
    let (pdpt, directory) = (layout::EPT_PML4 + 0x1000, layout::EPT_PML4 + 0x2000);
    // Read, write, execute.
    write_table(layout::EPT_PML4, core::iter::once(pdpt | 7));
    write_table(pdpt, (0..4).map(|index| (directory + 0x1000 * index) | 7));
    // 2 MiB pages, write-back.
    write_table(directory, (0..2048).map(|index| index << 21 | 0xB7));
}

unsafe extern "C" {
    static vector_stubs: u8;
    static mut fixups_start: [u64; 2];
    static fixups_end: [u64; 2];
}

/// What an exception entry leaves on the stack.
#[repr(C)]
struct ExceptionFrame {
    registers: [u64; 9],
    vector: u64,
    error_code: u64,
    rip: u64,
}

static VECTOR: AtomicU8 = AtomicU8::new(0);
static ERROR_CODE: AtomicU32 = AtomicU32::new(0);

/// Vector and error code of the latest exception that a fixup caught.
pub(crate) fn last_fault() -> (u8, Option<u32>) {
    let vector = VECTOR.load(Ordering::Relaxed);
    // SDM Vol. 3, Table 7-1; the same list as in vectors.s.
    let has_code = matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30);
    (vector, has_code.then(|| ERROR_CODE.load(Ordering::Relaxed)))
}

/// Each instruction that may fault, and where it goes on then: sorted once [`sort_fixups`] has been called.
fn fixups() -> &'static [[u64; 2]] {
    // SAFETY: linker.ld puts both symbols around the pairs of the section `.fixups`, which is 16-byte aligned; nobody writes
    // there but `sort_fixups`, before anything faults.
    unsafe {
        let (start, end) = (&raw const fixups_start, &raw const fixups_end);
        core::slice::from_raw_parts(start, (end as usize - start as usize) / size_of::<[u64; 2]>())
    }
}

/// Sorts the fixups by the instructions' addresses; the linker leaves them nearly so.
fn sort_fixups() {
    let count = fixups().len();
    let start = &raw mut fixups_start;
    for end in 1..count {
        for index in (1..=end).rev() {
            // SAFETY: both lie among the `count` pairs, in RAM that can be written (linker.ld); no reference to them lives.
            unsafe {
                let (before, here) = (start.add(index - 1), start.add(index));
                if (*before)[0] <= (*here)[0] {
                    break;
                }
                before.swap(here);
            }
        }
    }
}

/// Continues at the fixup of an instruction that may fault; any other exception is the probe's own fault.
extern "C" fn exception(frame: &mut ExceptionFrame) {
    let fixups = fixups();
    let Ok(index) = fixups.binary_search_by_key(&frame.rip, |[instruction, _]| *instruction) else {
        panic!("exception {} (error code {:#x}) at {:#x}", frame.vector, frame.error_code, frame.rip)
    };
    VECTOR.store(frame.vector as u8, Ordering::Relaxed);
    ERROR_CODE.store(frame.error_code as u32, Ordering::Relaxed);
    frame.rip = fixups[index][1];
}
