//! For each side of each check the entries that are known to lie there.

use vmcs_golden::corpus;
use vmcs_model::checks::{CHECK_COUNT, CheckId};

use super::search;
use super::{is_risky, obstacle};
use crate::TestProcessor;
use crate::coverage::{Aim, Side};
use crate::generate::entry_case::{EntryCase, StateBefore};
use crate::generate::reach::{self, Reach};

/// Entries by check and side.
#[derive(Debug)]
pub(crate) struct Recipes {
    by_aim: Vec<[Vec<EntryCase>; 3]>,
    /// For a side that no entry shows: of those that would lie there the fewest violated checks, and the first of them.
    obstacles: Vec<[Option<(u32, CheckId)>; 3]>,
    /// Sides of checks that are worth trying, known ways or not.
    pub(crate) aims: Vec<Aim>,
    /// Those of them whose ways leave the machine alive.
    pub(crate) safe: Vec<Aim>,
    /// What can be reached, by check and side.
    pub(crate) reach: Vec<[Reach; 3]>,
}

/// Most ways to violate a check that are kept.
const MOST: usize = 48;

impl Recipes {
    /// Works out the ways: those of the golden lines on every image that they fit, then those that a search finds.
    pub(crate) fn new(processor: &TestProcessor) -> Self {
        let by_aim = vec![Default::default(); CHECK_COUNT];
        let obstacles = vec![[None; 3]; CHECK_COUNT];
        let mut all = Self { by_aim, obstacles, aims: Vec::new(), safe: Vec::new(), reach: Vec::new() };
        all.add_golden_lines(processor);
        search::violations(processor, &mut all);
        search::legal_sides(processor, &mut all);
        search::open_gates(processor, &mut all);
        let aims = || CheckId::all().flat_map(|check| Side::ALL.map(|side| Aim { check, side }));
        aims().for_each(|aim| all.finish(processor, aim));
        all.reach = reach::of(processor, &all);
        // Chance may find what the search has not.
        let open = |all: &Self, aim: &Aim| {
            all.of(*aim).is_empty() && all.reach[aim.check.index()][aim.side as usize] == Reach::Reachable
        };
        let open: Vec<_> = aims().filter(|aim| open(&all, aim)).collect();
        all.aims.extend(open);
        all
    }

    /// The known ways.
    pub(crate) fn of(&self, aim: Aim) -> &[EntryCase] {
        &self.by_aim[aim.check.index()][aim.side as usize]
    }

    /// The check that hides the side, see [`obstacle`].
    pub(crate) fn obstacle(&self, aim: Aim) -> Option<CheckId> {
        self.obstacles[aim.check.index()][aim.side as usize].map(|(_, check)| check)
    }

    /// Notes what hides an entry that would lie there.
    pub(super) fn note_obstacle(&mut self, processor: &TestProcessor, entry: &EntryCase, aim: Aim) {
        let known = &mut self.obstacles[aim.check.index()][aim.side as usize];
        if let Some(new) = obstacle(processor, entry, aim).filter(|new| known.is_none_or(|old| new.0 < old.0)) {
            *known = Some(new);
        }
    }

    /// Adds an entry that lies there. Whether there was room.
    pub(crate) fn add(&mut self, aim: Aim, entry: EntryCase) -> bool {
        let known = &mut self.by_aim[aim.check.index()][aim.side as usize];
        let is_new = known.len() < MOST && !known.contains(&entry);
        if is_new {
            known.push(entry);
        }
        is_new
    }

    /// The lines of the golden corpus, played with every image.
    fn add_golden_lines(&mut self, processor: &TestProcessor) {
        for (n, line) in corpus::lines().iter().enumerate() {
            let ids = line.expected.violated.iter();
            let checks: Vec<_> = ids.filter_map(|id| CheckId::by_id(id)).collect();
            // With the plain image, and with different ones of the others.
            for base in (0..processor.bases.len()).filter(|base| *base == 0 || (base + n) % 4 == 0) {
                let scenes = std::iter::once(&line.scene).chain(line.neighbour.as_ref().map(|(scene, _)| scene));
                for scene in scenes {
                    let stage = scene.with(&processor.capabilities, processor.bases[base].vmcs.clone());
                    let Some(entry) = EntryCase::of_stage(processor, base, &stage) else { continue };
                    if base > 0 && entry.before != StateBefore::Clear {
                        continue;
                    }
                    for check in &checks {
                        for side in Side::ALL {
                            let aim = Aim { check: *check, side };
                            search::take(processor, self, aim, entry.clone());
                        }
                    }
                }
            }
        }
    }

    /// Drops ways that take the machine down where there are others, and those that violate more than others do.
    fn finish(&mut self, processor: &TestProcessor, aim: Aim) {
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
