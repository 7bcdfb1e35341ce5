//! Recipes: for each side of each check, entries that are known to lie on that side.

use vmcs_model::checks::{CHECK_COUNT, CheckId};

use super::made::is_risky;
use crate::coverage::Aim;
use crate::generate::entry_case::EntryCase;
use crate::generate::reach::Reach;
use crate::processor::Processor;

/// Entries by check and side.
#[derive(Debug)]
pub(crate) struct Recipes {
    by_aim: Vec<[Vec<EntryCase>; 3]>,
    /// For a side that no entry shows: of those that would lie there the fewest violated checks, and the first of them.
    obstacles: Vec<[Option<(u32, CheckId)>; 3]>,
    /// Sides of checks that are worth trying, whether an entry is known for them or not.
    pub(crate) aims: Vec<Aim>,
    /// Those of these sides whose entries do not stop the machine.
    pub(crate) safe: Vec<Aim>,
    /// What can be reached, by check and side.
    pub(crate) reach: Vec<[Reach; 3]>,
}

/// Most ways to violate a check that are kept.
const MOST: usize = 48;

impl Recipes {
    /// Recipes without any entry.
    pub(super) fn none() -> Self {
        let by_aim = vec![Default::default(); CHECK_COUNT];
        let obstacles = vec![[None; 3]; CHECK_COUNT];
        Self { by_aim, obstacles, aims: Vec::new(), safe: Vec::new(), reach: Vec::new() }
    }

    /// The entries that are known to lie on that side.
    pub(crate) fn of(&self, aim: Aim) -> &[EntryCase] {
        &self.by_aim[aim.check.index()][aim.side as usize]
    }

    /// The check that hides the side, see [`Trial::obstacle`](super::trial::Trial::obstacle).
    pub(crate) fn obstacle(&self, aim: Aim) -> Option<CheckId> {
        self.obstacles[aim.check.index()][aim.side as usize].map(|(_, check)| check)
    }

    /// Notes what hides an entry that would lie there.
    pub(super) fn note_obstacle(&mut self, obstacle: (u32, CheckId), aim: Aim) {
        let known = &mut self.obstacles[aim.check.index()][aim.side as usize];
        if known.is_none_or(|known| obstacle.0 < known.0) {
            *known = Some(obstacle);
        }
    }

    /// Adds an entry that lies on that side. Returns whether there was room for it.
    pub(crate) fn add(&mut self, aim: Aim, entry: &EntryCase) -> bool {
        let known = &mut self.by_aim[aim.check.index()][aim.side as usize];
        let is_new = known.len() < MOST && !known.contains(entry);
        if is_new {
            known.push(entry.clone());
        }
        is_new
    }

    /// Drops entries that stop the machine if there are others, and entries that violate more checks than others do.
    pub(super) fn finish(&mut self, processor: &Processor, aim: Aim) {
        let known = std::mem::take(&mut self.by_aim[aim.check.index()][aim.side as usize]);
        let mut ways: Vec<_> = known
            .into_iter()
            .map(|entry| {
                let vmcs = entry.image(processor);
                let violated = entry.violations(processor, &vmcs);
                (is_risky(processor, &entry, &vmcs, &violated), violated.len(), entry)
            })
            .collect();
        if let Some(least) = ways.iter().map(|(risky, ..)| *risky).min() {
            ways.retain(|(risky, ..)| *risky == least);
            if !least {
                self.safe.push(aim);
            }
            self.aims.push(aim);
        }
        // Where some ways show the check alone, others that do not are few.
        let fewest = ways.iter().map(|(_, violated, _)| *violated).min().unwrap_or(0);
        let (alone, others): (Vec<_>, Vec<_>) = ways.into_iter().partition(|(_, violated, _)| *violated == fewest);
        let few = if alone.is_empty() { others.len() } else { alone.len().div_ceil(4) };
        self.by_aim[aim.check.index()][aim.side as usize] =
            alone.into_iter().chain(others.into_iter().take(few)).map(|(_, _, entry)| entry).collect();
    }
}
