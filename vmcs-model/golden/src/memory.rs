//! Physical memory for the golden lines: a few dwords are set, and everything else is 0.

use std::collections::BTreeMap;

use vmcs_model::ReadMemory;

/// Memory that is zero where nothing was written: dwords by address.
#[derive(Clone, Debug, Default)]
pub struct Sparse(pub BTreeMap<u64, u32>);

impl Sparse {
    /// Writes a qword, which lies at a multiple of 4.
    #[allow(clippy::cast_possible_truncation, reason = "split in two")]
    pub fn write_u64(&mut self, address: u64, value: u64) {
        self.0.insert(address, value as u32);
        self.0.insert(address + 4, (value >> 32) as u32);
    }
}

impl ReadMemory for Sparse {
    fn read_u32(&self, address: u64) -> Option<u32> {
        Some(self.0.get(&address).copied().unwrap_or(0))
    }
}
