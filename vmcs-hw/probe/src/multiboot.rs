//! What a Multiboot2 loader says about the machine. The format is that of the Multiboot2 specification, "Boot information
//! format".
// UNSAFETY: boot.s has saved the loader's words, and a file of requests is moved.
#![allow(unsafe_code, reason = "memory that boot.s and the loader have written is read")]

use vmcs_wire::codec::{DecodeError, Reader};
use vmcs_wire::layout;

use crate::memory;

/// Bytes that boot.s saves, at most.
pub(crate) const INFORMATION_BYTES: usize = 0x8000;

const COMMAND_LINE: u32 = 1;
const MODULE: u32 = 3;
const MEMORY_MAP: u32 = 6;
const FRAMEBUFFER: u32 = 8;

/// The loader's words.
#[derive(Clone, Copy)]
pub(crate) struct Information(&'static [u8]);

/// A part of the memory map.
#[derive(Clone, Copy)]
pub(crate) struct MemoryRange {
    /// First address.
    pub(crate) start: u64,
    /// Address behind the last one.
    pub(crate) end: u64,
    /// Whether it is free memory; if not, it is memory that firmware keeps, or a device.
    pub(crate) free: bool,
}

/// What the screen is.
#[derive(Clone, Copy)]
pub(crate) struct Framebuffer {
    pub(crate) address: u64,
    /// Bytes of a line.
    pub(crate) pitch: u32,
    /// Pixels or characters of a line.
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) bits: u8,
    /// Characters with their attributes, as VGA has them.
    pub(crate) text: bool,
}

impl Information {
    /// What boot.s has saved.
    pub(crate) fn saved() -> Self {
        unsafe extern "C" {
            static loader_information: [u8; INFORMATION_BYTES];
        }
        // SAFETY: boot.s reserves that many bytes under this name in .bss, and writes to them before `main` alone.
        Self(unsafe { &loader_information })
    }

    /// The tags: each its type and its content. They end with the tag of type 0, or where the saved bytes end.
    fn tags(self) -> impl Iterator<Item = (u32, &'static [u8])> {
        // Before the tags: their total size, and a reserved dword.
        let mut rest = &self.0[8..];
        core::iter::from_fn(move || {
            let mut reader = Reader::new(rest);
            let (kind, size) = (reader.u32().ok()?, reader.u32().ok()? as usize);
            let content = reader.bytes(size.checked_sub(8)?).ok()?;
            rest = rest.get(size.next_multiple_of(8)..)?;
            (kind != 0).then_some((kind, content))
        })
    }

    fn find(self, kind: u32) -> Option<&'static [u8]> {
        self.tags().find(|(found, _)| *found == kind).map(|(_, content)| content)
    }

    /// The words behind the program's name.
    pub(crate) fn command_line(self) -> &'static str {
        let text = self.find(COMMAND_LINE).unwrap_or_default();
        core::str::from_utf8(text).unwrap_or_default().trim_end_matches('\0')
    }

    /// The memory map.
    pub(crate) fn memory(self) -> impl Iterator<Item = MemoryRange> + Clone {
        const AVAILABLE: u32 = 1;
        let map = self.find(MEMORY_MAP).unwrap_or_default();
        let entry = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            let (start, length, kind) = (reader.u64()?, reader.u64()?, reader.u32()?);
            Ok::<_, DecodeError>(MemoryRange { start, end: start.saturating_add(length), free: kind == AVAILABLE })
        };
        let size = map.first_chunk().map_or(0, |size| u32::from_le_bytes(*size)) as usize;
        let entries = map.get(8..).unwrap_or_default();
        entries.chunks(size.max(1)).filter_map(move |bytes| entry(bytes).ok())
    }

    /// The screen.
    pub(crate) fn framebuffer(self) -> Option<Framebuffer> {
        const TEXT: u8 = 2;
        let mut reader = Reader::new(self.find(FRAMEBUFFER)?);
        let mut decode = || {
            Ok::<_, DecodeError>(Framebuffer {
                address: reader.u64()?,
                pitch: reader.u32()?,
                width: reader.u32()?,
                height: reader.u32()?,
                bits: reader.u8()?,
                text: reader.u8()? == TEXT,
            })
        };
        decode().ok()
    }

    /// The file that the loader has brought, moved to where neither cases nor buffers touch it.
    ///
    /// # Panics
    /// When it is too long.
    pub(crate) fn requests(self) -> Option<&'static [u8]> {
        let mut reader = Reader::new(self.find(MODULE)?);
        let (start, end) = (reader.u32().ok()? as usize, reader.u32().ok()? as usize);
        let length = end.checked_sub(start)?;
        let place = memory::REQUESTS.take();
        assert!(length <= place.len(), "the file of requests is too long ({length} bytes)");
        // SAFETY: the loader has put the module into memory below 4 GiB, which is identity-mapped, and nothing has been
        // written there yet; `copy` allows the two to overlap. The place has room, as asserted.
        unsafe { core::ptr::copy(start as *const u8, place.as_mut_ptr(), length) };
        Some(&place[..length])
    }
}

/// The address up to which `regions` cover memory without a gap, from `start` on.
fn covered(regions: impl Iterator<Item = MemoryRange> + Clone, start: u64, free: bool) -> u64 {
    let mut end = start;
    while let Some(region) =
        regions.clone().find(|region| region.start <= end && end < region.end && (region.free || !free))
    {
        end = region.end;
    }
    end
}

/// Where memory ends, and the first address of the probe's own places that the firmware keeps.
pub(crate) struct MemoryExtent {
    /// Address up to which there is memory, from 1 MiB on.
    pub(crate) end: u64,
    /// What is kept by firmware among what the probe uses.
    pub(crate) kept: Option<u64>,
}

impl MemoryExtent {
    /// Of this machine.
    pub(crate) fn of(information: Information) -> Self {
        let regions = information.memory();
        let used = [layout::ARENA.start..layout::TABLES_END, layout::PROBE..layout::BUFFERS_END];
        let kept = used.into_iter().find_map(|range| {
            let end = covered(regions.clone(), range.start, true);
            (end < range.end).then_some(end)
        });
        Self { end: covered(regions, layout::PROBE, false), kept }
    }
}
