//! The smallest set of changes after which the state that is known enters.

use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::explain::Repair;
use vmcs_model::partial::PartialVmcs;

use super::{Diagnosis, branches};

/// Changes that were judged one after the other.
#[derive(Clone, Debug)]
pub struct Fix {
    /// The changes, in their order.
    pub changes: Vec<Repair>,
    /// What is still violated after them; empty if the state that is known enters.
    pub left: Vec<CheckId>,
    /// Checks that were undecidable before and are so after the changes.
    pub undecidable: u32,
}

/// Most changes that are tried one after the other.
const MOST_CHANGES: usize = 32;

impl Diagnosis<'_> {
    /// Looks for changes of single fields after which no check is violated: at each step the one after which the fewest are.
    /// Then those are left out that turn out not to be needed.
    #[must_use]
    pub fn fix(&self) -> Fix {
        let mut vmcs = self.entry.dump.vmcs.clone();
        let mut changes: Vec<Repair> = Vec::new();
        // A bit that chooses a mode may mend much at once.
        let modes = self.mode_changes(&self.certain_findings());
        if let Some((repair, _)) = modes.into_iter().max_by_key(|(_, mended)| mended.len()) {
            vmcs = changed(&vmcs, &repair);
            changes.push(repair);
        }
        while changes.len() < MOST_CHANGES {
            let violated = self.broken(&vmcs);
            let entry = self.attempt.on(&vmcs, &self.entry.memory);
            let candidates = violated.iter().filter_map(|check| entry.explain(check).repair());
            let best = candidates.map(|repair| (self.broken(&changed(&vmcs, &repair)).len(), repair));
            let best = best.min_by_key(|(left, _)| *left).filter(|(left, _)| *left < violated.len());
            let Some((_, repair)) = best else { break };
            vmcs = changed(&vmcs, &repair);
            changes.push(repair);
        }
        let left = self.broken(&vmcs);
        let mut i = 0;
        while i < changes.len() {
            let mut fewer = changes.clone();
            fewer.remove(i);
            let without = fewer.iter().fold(self.entry.dump.vmcs.clone(), |vmcs, repair| changed(&vmcs, repair));
            if self.broken(&without).iter().all(|check| left.contains(check)) {
                changes = fewer;
                vmcs = without;
            } else {
                i += 1;
            }
        }
        let changes = joined(&self.entry.dump.vmcs, &changes);
        let decided = branches::decide(self.attempt, &vmcs, &self.entry.memory);
        Fix { changes, left: left.iter().collect(), undecidable: decided.verdict.undecidable.len() }
    }

    /// What is violated: for certain, or in the likely one of two states.
    fn broken(&self, vmcs: &PartialVmcs) -> CheckSet {
        let decided = branches::decide(self.attempt, vmcs, &self.entry.memory);
        let mut violated = decided.verdict.violated;
        decided.alternatives.iter().for_each(|alternative| violated.insert(alternative.likely));
        violated
    }
}

/// Changes of the same field as one, from what the field holds in `vmcs`.
fn joined(vmcs: &PartialVmcs, changes: &[Repair]) -> Vec<Repair> {
    let mut joined: Vec<Repair> = Vec::new();
    for change in changes {
        match joined.iter_mut().find(|known| known.field == change.field) {
            Some(known) => known.new = change.new,
            None => joined.push(Repair { old: vmcs.raw(change.field).unwrap_or(change.old), ..*change }),
        }
    }
    joined
}

fn changed(vmcs: &PartialVmcs, repair: &Repair) -> PartialVmcs {
    let mut vmcs = vmcs.clone();
    vmcs.set_raw(repair.field, repair.new);
    vmcs
}
