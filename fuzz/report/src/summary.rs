//! The sum of all reports of one implementation.

use std::collections::{BTreeMap, BTreeSet};

use indicatif::HumanCount;
use serde::{Deserialize, Serialize};
use vmcs_case::Implementation;
use vmcs_fuzz::as_text;
use vmcs_fuzz::campaign::add_counts;
use vmcs_fuzz::coverage::{Coverage, Sides};
use vmcs_fuzz::deviations::{DeviationId, DeviationIds};
use vmcs_fuzz::oracle::LeftOpen;
use vmcs_model::Outcome;
use vmcs_model::checks::CheckId;

use crate::run::Run;

/// The reports of one implementation and CPU model, added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Who was asked.
    pub implementation: Implementation,
    /// Cases that were observed.
    pub cases: u64,
    /// Cases that agreed.
    pub agreed: u64,
    /// Cases that disagreed.
    pub disagreed: u64,
    /// Cases that brought the machine down.
    pub crashed: u64,
    /// Cases that hung it.
    pub hung: u64,
    /// A campaign was interrupted.
    pub interrupted: bool,
    /// Cases that a reviewed deviation accounts for, by deviation.
    #[serde(with = "as_text::keys")]
    pub deviations: BTreeMap<DeviationIds, u64>,
    /// Cases that the architecture does not decide, by reason.
    #[serde(with = "as_text::keys")]
    pub unspecified: BTreeMap<LeftOpen, u64>,
    /// Outcomes of the last VM entry of each case.
    #[serde(with = "as_text::keys")]
    pub outcomes: BTreeMap<Outcome, u64>,
    /// The sides of the checks on which it agreed.
    pub coverage: Coverage,
    /// Checks of which it can never be on both sides, and why.
    #[serde(with = "as_text::keys")]
    pub unreachable: BTreeMap<CheckId, String>,
    /// Where the cases came from.
    pub sources: Vec<CaseSource>,
}

/// Where cases came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseSource {
    /// What made them.
    pub generator: String,
    /// The seed.
    pub seed: u64,
    /// Which parts of the campaign they are, if not all.
    pub part: Option<String>,
    /// How many.
    pub cases: u64,
    /// The command line, where it is known.
    pub command: Option<String>,
    /// Wall time since the command began, in seconds; 0 where it is not known.
    pub seconds: f64,
    /// CPU time of the target, in seconds; 0 where it is not known.
    pub cpu_seconds: f64,
}

/// How far a check was tried on one implementation, or on several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckState {
    /// Agreement on a violation and on the nearest legal side.
    Both,
    /// Agreement on a violation only.
    Violated,
    /// Agreement on the nearest legal side only.
    Legal,
    /// The processor can never show it, and it was not shown.
    Unreachable,
    /// No case was on either side.
    Nothing,
}

impl CheckState {
    /// All, in the order of legends and tables.
    pub const ALL: [Self; 5] = [Self::Both, Self::Violated, Self::Legal, Self::Nothing, Self::Unreachable];

    /// Words for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Both => "both sides",
            Self::Violated => "violated side only",
            Self::Legal => "legal side only",
            Self::Unreachable => "unreachable",
            Self::Nothing => "not tried",
        }
    }

    /// The name that the style sheet knows.
    pub const fn class(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Violated => "violated",
            Self::Legal => "legal",
            Self::Unreachable => "unreachable",
            Self::Nothing => "nothing",
        }
    }
}

/// Checks by [`CheckState`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([usize; CheckState::ALL.len()]);

impl Tally {
    /// The checks in that state.
    pub fn of(&self, state: CheckState) -> usize {
        self.0[state as usize]
    }

    /// The checks that can be reached at all.
    pub fn reachable(&self) -> usize {
        self.0.iter().sum::<usize>() - self.of(CheckState::Unreachable)
    }

    /// Checks of which one side only was tried.
    pub fn one_side(&self) -> usize {
        self.of(CheckState::Violated) + self.of(CheckState::Legal)
    }
}

impl FromIterator<CheckState> for Tally {
    fn from_iter<I: IntoIterator<Item = CheckState>>(states: I) -> Self {
        let mut tally = Self::default();
        for state in states {
            tally.0[state as usize] += 1;
        }
        tally
    }
}

impl Summary {
    /// Adds another summary of the same implementation.
    fn merge(&mut self, other: Self) {
        self.cases += other.cases;
        self.agreed += other.agreed;
        self.disagreed += other.disagreed;
        self.crashed += other.crashed;
        self.hung += other.hung;
        self.interrupted |= other.interrupted;
        add_counts(&mut self.deviations, other.deviations);
        add_counts(&mut self.unspecified, other.unspecified);
        add_counts(&mut self.outcomes, other.outcomes);
        self.coverage.merge(&other.coverage);
        self.unreachable.extend(other.unreachable);
        self.sources.extend(other.sources);
    }

    /// How far a check was tried.
    pub fn state(&self, check: CheckId) -> CheckState {
        state_of_all(std::slice::from_ref(self), check)
    }

    /// The states of these checks.
    pub fn tally(&self, checks: impl IntoIterator<Item = CheckId>) -> Tally {
        checks.into_iter().map(|check| self.state(check)).collect()
    }

    /// Cases that a reviewed deviation accounts for.
    pub fn deviating(&self) -> u64 {
        self.deviations.values().sum()
    }

    /// The deviations that occurred, alone or with others; one that did both comes twice.
    pub fn deviation_ids(&self) -> impl Iterator<Item = &DeviationId> {
        self.deviations.keys().flat_map(DeviationIds::iter)
    }

    /// Cases that this deviation accounts for, alone or with others.
    pub fn deviating_as(&self, id: &DeviationId) -> u64 {
        let concerned = self.deviations.iter().filter(|(ids, _)| ids.contains(id));
        concerned.map(|(_, cases)| cases).sum()
    }

    /// Cases that the architecture leaves open.
    pub fn open(&self) -> u64 {
        self.unspecified.values().sum()
    }

    /// CPU time of the target, in seconds; 0 where it is not known.
    pub fn cpu_seconds(&self) -> f64 {
        self.sources.iter().map(|source| source.cpu_seconds).sum()
    }
}

impl CaseSource {
    /// Number, generator, seed and part in words.
    pub fn title(&self) -> String {
        let (cases, generator, seed) = (HumanCount(self.cases), &self.generator, self.seed);
        let part = self.part.as_ref().map_or(String::new(), |part| format!(", part {part}"));
        format!("{cases} cases of the generator {generator} with seed {seed}{part}")
    }
}

/// `2, 3 of 8`; nothing for the whole.
fn part_of(shards: &BTreeSet<u32>, count: u32) -> Option<String> {
    let numbers: Vec<_> = shards.iter().map(ToString::to_string).collect();
    (numbers.len() as u64 != u64::from(count)).then(|| format!("{} of {count}", numbers.join(", ")))
}

impl From<&Run> for Summary {
    fn from(run: &Run) -> Self {
        let end = run.samples().last().copied().unwrap_or_default();
        let command = run.command().map(str::to_owned);
        let Run { report, unreachable, .. } = run.clone();
        Self {
            implementation: report.implementation,
            cases: report.cases,
            agreed: report.agreed,
            disagreed: report.disagreed,
            crashed: report.crashed,
            hung: report.hung,
            interrupted: report.interrupted,
            deviations: report.deviations,
            unspecified: report.unspecified,
            outcomes: report.outcomes,
            coverage: report.coverage,
            unreachable,
            sources: vec![CaseSource {
                part: part_of(&report.shards, report.shard_count),
                generator: report.generator,
                seed: report.seed,
                cases: report.cases,
                command,
                seconds: end.seconds,
                cpu_seconds: end.cpu_seconds,
            }],
        }
    }
}

/// One summary for each implementation, in the order in which they first come.
pub fn by_implementation(parts: impl IntoIterator<Item = Summary>) -> Vec<Summary> {
    let mut summaries: Vec<Summary> = Vec::new();
    for part in parts {
        match summaries.iter_mut().find(|summary| summary.implementation == part.implementation) {
            Some(summary) => summary.merge(part),
            None => summaries.push(part),
        }
    }
    summaries
}

/// How far a check was tried on all implementations together.
pub fn state_of_all(summaries: &[Summary], check: CheckId) -> CheckState {
    let any = |count: fn(&Sides) -> u64| summaries.iter().any(|summary| count(&summary.coverage.of(check)) > 0);
    let impossible = |summary: &Summary| summary.unreachable.contains_key(&check);
    match (any(Sides::violated), any(|sides| sides.legal)) {
        (true, true) => CheckState::Both,
        _ if !summaries.is_empty() && summaries.iter().all(impossible) => CheckState::Unreachable,
        (true, false) => CheckState::Violated,
        (false, true) => CheckState::Legal,
        (false, false) => CheckState::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(violated: u64, legal: u64, unreachable: bool) -> Summary {
        let mut summary = Summary {
            implementation: Implementation { name: "M".into(), version: "1".into(), model: "c".into(), on: None },
            cases: 0,
            agreed: 0,
            disagreed: 0,
            crashed: 0,
            hung: 0,
            interrupted: false,
            deviations: BTreeMap::new(),
            unspecified: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            coverage: Coverage::default(),
            unreachable: BTreeMap::new(),
            sources: Vec::new(),
        };
        let check = CheckId::all().next().unwrap();
        let sides = Sides { alone: violated, legal, ..Sides::default() };
        summary.coverage.0.insert(check, sides);
        if unreachable {
            summary.unreachable.insert(check, "there is no such control".to_owned());
        }
        summary
    }

    #[test]
    fn the_state_of_a_check_on_one_and_on_several() {
        let check = CheckId::all().next().unwrap();
        let states = [
            (summary(1, 1, true), CheckState::Both),
            (summary(2, 0, false), CheckState::Violated),
            (summary(0, 2, false), CheckState::Legal),
            (summary(0, 2, true), CheckState::Unreachable),
            (summary(0, 0, false), CheckState::Nothing),
        ];
        for (summary, state) in &states {
            assert_eq!(summary.state(check), *state, "{summary:?}");
            assert_eq!(state_of_all(std::slice::from_ref(summary), check), *state);
        }
        let all = |which: &[usize]| -> CheckState {
            let some: Vec<_> = which.iter().map(|index| states[*index].0.clone()).collect();
            state_of_all(&some, check)
        };
        assert_eq!(all(&[1, 2]), CheckState::Both);
        assert_eq!(all(&[3, 3]), CheckState::Unreachable);
        assert_eq!(all(&[3, 4]), CheckState::Legal);
        assert_eq!(all(&[1, 4]), CheckState::Violated);
    }
}
