//! What there is to say about an image.

use std::collections::BTreeMap;

use vmcs_model::checks::CheckId;
use vmcs_model::partial::{PartialVmcs, Unknowns};
use vmcs_model::{EntryAttempt, ReadMemory, Verdict};
use vmcs_texts::dump::Dump;

/// Memory of which only some bytes are known.
#[derive(Default)]
pub(super) struct KnownMemory(pub(super) BTreeMap<u64, u8>);

impl ReadMemory for KnownMemory {
    fn read_u32(&self, address: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        for (byte, offset) in bytes.iter_mut().zip(0..) {
            *byte = *self.0.get(&address.checked_add(offset)?)?;
        }
        Some(u32::from_le_bytes(bytes))
    }
}

/// What there is to say.
pub(super) struct Findings<'a> {
    pub(super) dump: &'a Dump,
    pub(super) attempt: EntryAttempt<'a>,
    pub(super) memory: &'a KnownMemory,
    pub(super) verdict: Verdict,
    /// A profile was named.
    pub(super) profiled: bool,
}

impl Findings<'_> {
    pub(super) fn vmcs(&self) -> &PartialVmcs {
        &self.dump.vmcs
    }

    /// Why a check cannot be decided.
    pub(super) fn unknowns(&self, check: CheckId) -> Unknowns {
        self.attempt.on(self.vmcs(), self.memory).unknowns(check)
    }
}
