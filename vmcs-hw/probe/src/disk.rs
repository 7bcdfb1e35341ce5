//! The disk: master of the second ATA channel at 170H, by programmed I/O.
// UNSAFETY: port I/O.
#![allow(unsafe_code, reason = "port I/O")]

use core::arch::asm;

use vmcs_wire::batch::Task;
use vmcs_wire::codec::{Reader, Writer};
use vmcs_wire::disk::{Control, Extent, Link, SECTOR, sectors};
use x86::io::{inb, outb};

use crate::transport::Transport;

const DATA: u16 = 0x170;
const SECTOR_COUNT: u16 = 0x172;
const LBA: u16 = 0x173;
const DEVICE: u16 = 0x176;
const COMMAND: u16 = 0x177;
const CONTROL: u16 = 0x376;

const READ_SECTORS: u8 = 0x20;
const WRITE_SECTORS: u8 = 0x30;
const BUSY: u8 = 0x80;
const DATA_REQUEST: u8 = 0x08;
const ERROR: u8 = 0x01;

/// Work on the disk.
#[derive(Debug, Default)]
pub struct Disk {
    /// Slot of the answer.
    slot: Extent,
    /// The next batch.
    next: Extent,
}

impl Transport for Disk {
    fn begin<'a>(&mut self, buffer: &'a mut [u8]) -> Option<(Task, &'a [u8])> {
        let mut sector = [0; SECTOR];
        read(0, &mut sector);
        let control = Control::decode(&mut Reader::new(&sector)).expect("sector 0 holds a control block");
        if control.started {
            return None;
        }
        let started = Control { started: true, ..control };
        started.encode(&mut Writer::new(&mut sector)).expect("a sector has room for it");
        write(0, &sector);
        match control.task {
            Task::Profile => self.slot = control.first,
            Task::Run => self.next = control.first,
        }
        Some((control.task, read_extent(control.session, buffer)))
    }

    fn next_batch<'a>(&mut self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        if self.next.sectors == 0 {
            return None;
        }
        let mut reader = Reader::new(read_extent(self.next, buffer));
        let link = Link::decode(&mut reader).expect("the link decodes");
        (self.slot, self.next) = (link.answer, link.next);
        Some(reader.rest())
    }

    fn answer_room(&self) -> usize {
        self.slot.sectors as usize * SECTOR
    }

    fn submit(&mut self, buffer: &[u8], bytes: usize, _complete: bool) {
        write(self.slot.lba, &buffer[..sectors(bytes) * SECTOR]);
    }
}

/// Reads whole sectors from `lba` on.
///
/// # Panics
/// When `target` is not a number of whole sectors, and when the disk reports an error.
fn read(mut lba: u32, target: &mut [u8]) {
    assert!(target.len().is_multiple_of(SECTOR));
    for part in target.chunks_mut(256 * SECTOR) {
        lba = command(READ_SECTORS, lba, part.len() / SECTOR);
        for sector in part.chunks_mut(SECTOR) {
            wait(DATA_REQUEST);
            // SAFETY: REP INSD writes 128 doublewords, the length of the sector; DF is 0 by the ABI; the disk has announced
            // the data.
            unsafe {
                asm!("rep insd", in("dx") DATA, inout("rcx") SECTOR / 4 => _, inout("rdi") sector.as_mut_ptr() => _,
                    options(nostack, preserves_flags));
            }
        }
    }
}

/// Writes whole sectors from `lba` on, in order.
///
/// # Panics
/// As [`read`].
fn write(mut lba: u32, source: &[u8]) {
    assert!(source.len().is_multiple_of(SECTOR));
    for part in source.chunks(256 * SECTOR) {
        lba = command(WRITE_SECTORS, lba, part.len() / SECTOR);
        for sector in part.chunks(SECTOR) {
            wait(DATA_REQUEST);
            // SAFETY: REP OUTSD reads 128 doublewords, the length of the sector; otherwise as in `read`.
            unsafe {
                asm!("rep outsd", in("dx") DATA, inout("rcx") SECTOR / 4 => _, inout("rsi") sector.as_ptr() => _,
                    options(nostack, preserves_flags, readonly));
            }
        }
        wait(0);
    }
}

/// Reads an extent into the front of `buffer` and returns that part.
fn read_extent(extent: Extent, buffer: &mut [u8]) -> &[u8] {
    let part = &mut buffer[..extent.sectors as usize * SECTOR];
    read(extent.lba, part);
    part
}

/// Issues a command for up to 256 sectors and returns the sector after them.
fn command(code: u8, lba: u32, sectors: usize) -> u32 {
    let [low, middle, high, top] = lba.to_le_bytes();
    wait(0);
    // SAFETY: the registers of the ATA channel, which nobody else uses; interrupts are off (nIEN), and a command of
    // programmed I/O touches memory only by the INS and OUTS above.
    unsafe {
        outb(CONTROL, 2);
        outb(DEVICE, 0xE0 | top);
        // 256 sectors are written as 0.
        outb(SECTOR_COUNT, (sectors & 0xFF) as u8);
        outb(LBA, low);
        outb(LBA + 1, middle);
        outb(LBA + 2, high);
        outb(COMMAND, code);
    }
    lba + sectors as u32
}

/// Waits until the disk is not busy and shows the `wanted` status bits.
fn wait(wanted: u8) {
    loop {
        // SAFETY: reading the status register; its side effect, acknowledging an interrupt, is wanted.
        let status = unsafe { inb(COMMAND) };
        if status & BUSY == 0 {
            assert!(status & ERROR == 0, "the disk reports an error (status {status:#04x})");
            if status & wanted == wanted {
                return;
            }
        }
    }
}
