//! Physical memory, from which the emulator reads VMCS regions, bitmaps and MSR areas.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::ops::Range;

use vmcs_model::ReadMemory;

const PAGE_BYTES: usize = 4096;
const PAGE_SHIFT: u32 = PAGE_BYTES.trailing_zeros();

/// Physical memory. Only pages that were written take room on the host. Values are little-endian. A copy shares its pages
/// with the original until one of the two writes to them.
///
/// Memory that was never written reads as the background byte, which is 0 unless [`Self::set_background`] changes it.
/// Beyond the physical-address width, and from the address of [`Self::set_end`] on, there is no memory: reads there return
/// all ones, and writes are lost. Where it is not known what memory holds ([`Self::set_unknown`]), instructions read what
/// the pages hold, but the checks of a VM entry treat the contents as unknown.
#[derive(Clone, Debug)]
pub struct PhysicalMemory {
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>,
    background: u8,
    beyond: u64,
    end: u64,
    unknown: &'static [Range<u64>],
}

impl PhysicalMemory {
    /// Memory in which nothing was written. `beyond` is a mask of address bits: an address in which one of them is 1 lies
    /// beyond the physical-address width.
    #[must_use]
    pub const fn new(beyond: u64) -> Self {
        Self { pages: BTreeMap::new(), background: 0, beyond, end: u64::MAX, unknown: &[] }
    }

    /// Sets the byte that memory which was never written reads as. Pages that exist already keep what they hold.
    pub fn set_background(&mut self, byte: u8) {
        self.background = byte;
    }

    /// Says that memory ends at the physical address `end`: from there on there is no memory.
    pub fn set_end(&mut self, end: u64) {
        self.end = end;
    }

    /// Says at which physical addresses it is not known what a read returns, such as those where devices and ROMs answer.
    pub fn set_unknown(&mut self, unknown: &'static [Range<u64>]) {
        self.unknown = unknown;
    }

    /// Whether it is not known what a read at `address` returns.
    fn is_unknown(&self, address: u64) -> bool {
        self.unknown.iter().any(|range| range.contains(&address))
    }

    /// Whether there is no memory at `address`.
    fn is_nowhere(&self, address: u64) -> bool {
        address & self.beyond != 0 || address >= self.end
    }

    /// Reads the bytes from `address` on. Addresses wrap around at the end of the 64-bit address space.
    pub fn read_bytes(&self, address: u64, into: &mut [u8]) {
        let mut address = address;
        for byte in into {
            *byte = self.read_u8(address);
            address = address.wrapping_add(1);
        }
    }

    /// Reads the byte at `address`.
    #[must_use]
    pub fn read_u8(&self, address: u64) -> u8 {
        if self.is_nowhere(address) {
            return 0xFF;
        }
        self.pages.get(&(address >> PAGE_SHIFT)).map_or(self.background, |page| page[offset(address)])
    }

    /// Reads the dword at `address`, aligned or not.
    #[must_use]
    pub fn read_u32(&self, address: u64) -> u32 {
        u32::from_le_bytes(self.read(address))
    }

    /// Reads the qword at `address`, aligned or not.
    #[must_use]
    pub fn read_u64(&self, address: u64) -> u64 {
        u64::from_le_bytes(self.read(address))
    }

    /// Writes one byte at `address`.
    pub fn write_u8(&mut self, address: u64, value: u8) {
        self.write_bytes(address, &[value]);
    }

    /// Writes two bytes at `address`, aligned or not.
    pub fn write_u16(&mut self, address: u64, value: u16) {
        self.write_bytes(address, &value.to_le_bytes());
    }

    /// Writes four bytes at `address`, aligned or not.
    pub fn write_u32(&mut self, address: u64, value: u32) {
        self.write_bytes(address, &value.to_le_bytes());
    }

    /// Writes eight bytes at `address`, aligned or not.
    pub fn write_u64(&mut self, address: u64, value: u64) {
        self.write_bytes(address, &value.to_le_bytes());
    }

    /// Writes `bytes` from `address` on. Addresses wrap around at the end of the 64-bit address space.
    pub fn write_bytes(&mut self, address: u64, bytes: &[u8]) {
        let mut address = address;
        let mut rest = bytes;
        while !rest.is_empty() {
            let start = offset(address);
            let (now, later) = rest.split_at(rest.len().min(PAGE_BYTES - start));
            if !self.is_nowhere(address) {
                let background = self.background;
                let page =
                    self.pages.entry(address >> PAGE_SHIFT).or_insert_with(|| Arc::new([background; PAGE_BYTES]));
                Arc::make_mut(page)[start..start + now.len()].copy_from_slice(now);
            }
            address = address.wrapping_add(now.len() as u64);
            rest = later;
        }
    }

    fn read<const N: usize>(&self, address: u64) -> [u8; N] {
        let mut bytes = [0; N];
        let start = offset(address);
        if !self.is_nowhere(address) && start + N <= PAGE_BYTES {
            match self.pages.get(&(address >> PAGE_SHIFT)) {
                Some(page) => bytes.copy_from_slice(&page[start..start + N]),
                None => bytes.fill(self.background),
            }
        } else {
            self.read_bytes(address, &mut bytes);
        }
        bytes
    }
}

impl ReadMemory for PhysicalMemory {
    fn read_u32(&self, address: u64) -> Option<u32> {
        (!self.is_unknown(address)).then(|| self.read_u32(address))
    }

    fn read_u64(&self, address: u64) -> Option<u64> {
        (!self.is_unknown(address)).then(|| self.read_u64(address))
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the offset has 12 bits")]
const fn offset(address: u64) -> usize {
    address as usize & (PAGE_BYTES - 1)
}

#[cfg(test)]
mod tests {
    use vmcs_model::ReadMemory;

    use super::PhysicalMemory;

    #[test]
    fn what_was_never_written_reads_as_the_background() {
        let mut memory = PhysicalMemory::new(u64::MAX << 36);
        assert_eq!(memory.read_u64(0x1234), 0);
        memory.set_background(0xFF);
        assert_eq!(memory.read_u32(0x1234), u32::MAX);
        memory.write_u8(0x1234, 0);
        assert_eq!(memory.read_u32(0x1234), 0xFFFF_FF00);
    }

    #[test]
    fn values_are_little_endian_and_cross_pages() {
        let mut memory = PhysicalMemory::new(u64::MAX << 36);
        memory.write_u64(0x1FFC, 0x1122_3344_5566_7788);
        assert_eq!(memory.read_u8(0x1FFC), 0x88);
        assert_eq!(memory.read_u32(0x2000), 0x1122_3344);
        assert_eq!(memory.read_u64(0x1FFC), 0x1122_3344_5566_7788);
        memory.write_u16(0x1FFF, 0xABCD);
        assert_eq!(memory.read_u64(0x1FFC), 0x1122_33AB_CD66_7788);
    }

    #[test]
    fn what_devices_answer_is_not_known() {
        let mut memory = PhysicalMemory::new(u64::MAX << 36);
        memory.set_unknown(&[0xA_0000..0xB_0000, 0xB_0000..0xC_0000]);
        assert_eq!(ReadMemory::read_u64(&memory, 0x9_FFF8), Some(0));
        assert_eq!(ReadMemory::read_u64(&memory, 0xA_0000), None);
        assert_eq!(ReadMemory::read_u32(&memory, 0xB_FFFC), None);
        assert_eq!(ReadMemory::read_u32(&memory, 0xC_0000), Some(0));
    }

    #[test]
    fn beyond_the_width_there_is_nothing() {
        let mut memory = PhysicalMemory::new(u64::MAX << 36);
        memory.write_u32(1 << 36, 7);
        assert_eq!(memory.read_u32(1 << 36), u32::MAX);
        memory.write_u64((1 << 36) - 4, 0x7777_7777_1111_1111);
        assert_eq!(memory.read_u64((1 << 36) - 4), 0xFFFF_FFFF_1111_1111);
    }
}
