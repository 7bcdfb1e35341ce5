//! Saving and restoring the MSRs that MSR-load areas name.
// UNSAFETY: MSRs are written.
#![allow(unsafe_code, reason = "MSRs are written")]

use vmcs_model::field;

use crate::memory;
use crate::rest::encoding;
use crate::vmx;

/// Entries of an MSR-load area that are looked at. Where an area is longer, memory behind the entries that a case has
/// prepared is mostly all 0.
const MOST_ENTRIES: u64 = 64;
/// MSRs that are restored behind one entry.
const MOST_MSRS: usize = 32;

/// The MSRs that the MSR-load areas of an entry and its exit name, and what they held before.
pub(crate) struct LoadedMsrs {
    /// `None` for one that cannot be read.
    values: [(u32, Option<u64>); MOST_MSRS],
    count: usize,
}

impl LoadedMsrs {
    /// Those of no entry.
    pub(crate) const NONE: Self = Self { values: [(0, None); MOST_MSRS], count: 0 };

    /// Notes those of the current VMCS, before its entry.
    #[inline]
    pub(crate) fn read(&mut self) {
        self.count = 0;
        for (count, address) in [
            (field::VM_ENTRY_MSR_LOAD_COUNT, field::VM_ENTRY_MSR_LOAD_ADDRESS),
            (field::VM_EXIT_MSR_LOAD_COUNT, field::VM_EXIT_MSR_LOAD_ADDRESS),
        ] {
            let count = vmx::value(encoding(count));
            if count != 0 {
                self.note(count, vmx::value(encoding(address)));
            }
        }
    }

    #[inline(never)]
    fn note(&mut self, count: u64, address: u64) {
        for entry in 0..count.min(MOST_ENTRIES) {
            // Where there is no memory, no entry can be loaded.
            let Some(msr) = memory::load(address.wrapping_add(16 * entry)) else { break };
            let known = self.values[..self.count].iter().any(|(known, _)| *known == msr);
            // Memory that nobody has prepared names 0, an MSR of the first Pentium that nothing depends on.
            if msr != 0
                && !known
                && let Some(slot) = self.values.get_mut(self.count)
            {
                *slot = (msr, vmx::rdmsr(msr));
                self.count += 1;
            }
        }
    }

    /// Writes back what they held.
    #[inline]
    pub(crate) fn restore(&self) {
        for (msr, value) in &self.values[..self.count] {
            if let Some(value) = *value {
                // SAFETY: the value is the one that the probe ran with before the entry.
                unsafe { vmx::wrmsr(*msr, value) };
            }
        }
    }
}
