//! What memory holds when a case executes its VM entry.

use vmcs_model::{Capabilities, ReadMemory};
use vmcs_wire::layout;

/// The VMCS region that image cases use.
pub(crate) const REGION: u64 = layout::VMCS_REGIONS;

/// Memory as the probe prepares it, with the qwords that a case stores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CaseMemory<'a> {
    base: &'a [(u64, u64)],
    own: &'a [(u64, u64)],
    revision: u32,
    beyond: u64,
}

impl<'a> CaseMemory<'a> {
    /// Memory that holds the qwords of `base` and of `own`, each in the order of its addresses, which are multiples of 8.
    /// Those of `own` are stored later.
    pub(crate) fn new(capabilities: &Capabilities, base: &'a [(u64, u64)], own: &'a [(u64, u64)]) -> Self {
        Self { base, own, revision: capabilities.revision(), beyond: capabilities.physical_reserved }
    }
}

impl CaseMemory<'_> {
    /// The qword that `address` lies in; `None` where that is not known.
    fn qword(&self, address: u64) -> Option<u64> {
        let qword = address & !7;
        // Nearly every read goes there, and nothing else that a case prepares does.
        if layout::ARENA.contains(&qword) {
            if qword == REGION || qword == layout::VMXON_REGION {
                return Some(self.revision.into());
            }
            let stored = |stores: &[(u64, u64)]| {
                let index = stores.binary_search_by_key(&qword, |(at, _)| *at).ok()?;
                Some(stores[index].1)
            };
            return stored(self.own).or_else(|| stored(self.base)).or(Some(0));
        }
        if layout::UNKNOWN.iter().any(|range| range.contains(&qword)) {
            return None;
        }
        if qword & self.beyond != 0 || qword >= layout::MEMORY_END {
            return Some(u64::MAX);
        }
        Some(if layout::PAGING.contains(&qword) { layout::paging_entry(qword) } else { 0 })
    }
}

impl ReadMemory for CaseMemory<'_> {
    fn read_u32(&self, address: u64) -> Option<u32> {
        #[allow(clippy::cast_possible_truncation, reason = "half of it")]
        Some((self.qword(address)? >> (8 * (address & 4))) as u32)
    }

    fn read_u64(&self, address: u64) -> Option<u64> {
        if address & 7 == 0 {
            return self.qword(address);
        }
        let low = self.read_u32(address)?;
        let high = self.read_u32(address.wrapping_add(4))?;
        Some(u64::from(high) << 32 | u64::from(low))
    }
}
