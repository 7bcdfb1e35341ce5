//! What a dump says of the VM-entry MSR-load area: entries that it lists are judged by the rules of their MSRs.

use vmcs_model::checks::{CheckId, Phase, msr_rule};
use vmcs_model::field;
use vmcs_model::{Capabilities, Outcome};

use crate::dump::MsrLoadEntry;
use crate::partial_entry::{KnownMemory, PartialEntry};

/// Where the area is taken to lie. A dump lists its entries without saying where it found them.
const AREA: u64 = 0x1000;

/// An entry of the area with what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedMsr {
    /// The entry.
    pub entry: MsrLoadEntry,
    /// The name of the MSR, if it has one.
    pub name: Option<&'static str>,
    /// The checks that the entry violates for certain.
    pub violated: Vec<CheckId>,
    /// Whether it is known that the MSR takes the value.
    pub loads: bool,
}

impl PartialEntry {
    /// The entries of the MSR-load area that the dump lists, each judged by itself.
    #[must_use]
    pub fn judge_msr_load(&self, capabilities: &Capabilities) -> Vec<JudgedMsr> {
        self.dump.msr_load.iter().map(|entry| self.judge_msr(*entry, capabilities)).collect()
    }

    fn judge_msr(&self, entry: MsrLoadEntry, capabilities: &Capabilities) -> JudgedMsr {
        let mut alone = self.clone();
        alone.dump.vmcs.set_raw(field::VM_ENTRY_MSR_LOAD_ADDRESS.id(), AREA);
        alone.dump.vmcs.set_raw(field::VM_ENTRY_MSR_LOAD_COUNT.id(), 1);
        alone.memory = KnownMemory::default();
        alone.memory.write(AREA, &u64::from(entry.index).to_le_bytes());
        alone.memory.write(AREA + 8, &entry.value.to_le_bytes());
        let verdict = alone.attempt(capabilities).on(&alone.dump.vmcs, &alone.memory).verdict();
        let of_area = |check: &CheckId| check.info().phase == Phase::MsrLoading;
        let violated: Vec<_> = verdict.violated.iter().filter(of_area).collect();
        let loads = violated.is_empty() && !verdict.undecidable.iter().any(|check| of_area(&check));
        JudgedMsr { entry, name: msr_rule(entry.index).map(|rule| rule.name), violated, loads }
    }
}

/// The number of the entry that is reported not to have been loaded.
pub(super) fn reported_entry(outcome: Outcome) -> Option<u64> {
    match outcome {
        Outcome::EntryFailed { reason: vmcs_model::formats::exit_reason::MSR_LOADING, qualification } => {
            Some(qualification)
        }
        _ => None,
    }
}
