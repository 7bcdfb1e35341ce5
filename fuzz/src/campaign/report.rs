//! The report of a campaign: what was found, and how the reports of parts are put together.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use vmcs_case::profile::NamedProfile;
use vmcs_case::program::{OpLine, Program, StartState};
use vmcs_case::{Case, End, Implementation, Observation};
use vmcs_model::Outcome;
use vmcs_model::checks::CheckId;
use vmcs_wire::Start;

use super::{CampaignSetting, Shard};
use crate::coverage::Coverage;
use crate::deviations::DeviationIds;
use crate::oracle::{Disagreement, ExplanationText, Judgement, LeftOpen, Oracle};
use crate::{Generated, Stream, as_text};

/// Findings that a report holds in full; further ones are counted.
const MOST_FINDINGS: usize = 100;

/// What a campaign found on one processor. It depends on nothing but the cases and the target's answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignReport {
    /// Who was asked.
    pub implementation: Implementation,
    /// What made the cases.
    pub generator: String,
    /// The seed they were made with.
    pub seed: u64,
    /// What else the cases and their judgements depend on.
    pub basis: Basis,
    /// The parts of the campaign that this is about.
    pub shards: BTreeSet<u32>,
    /// How many parts the campaign has.
    pub shard_count: u32,
    /// Cases that were observed.
    pub cases: u64,
    /// Cases in which every step ended as the architecture says.
    pub agreed: u64,
    /// Cases that the architecture does not decide, by reason.
    #[serde(with = "as_text::keys")]
    pub unspecified: BTreeMap<LeftOpen, u64>,
    /// The first case for each of these reasons.
    #[serde(with = "as_text::keys")]
    pub unspecified_examples: BTreeMap<LeftOpen, Program>,
    /// Cases that a reviewed deviation accounts for, by deviation.
    #[serde(with = "as_text::keys")]
    pub deviations: BTreeMap<DeviationIds, u64>,
    /// Cases that disagree.
    pub disagreed: u64,
    /// The first of the cases that disagree.
    pub findings: Vec<Finding>,
    /// Cases that brought the machine down.
    pub crashed: u64,
    /// Cases that hung the machine.
    pub hung: u64,
    /// Outcomes of the VM entry that each case is about: its last one, apart from entries that only show what the one
    /// before has left.
    #[serde(with = "as_text::keys")]
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Checks that entries violated, and in how many cases.
    #[serde(with = "as_text::keys")]
    pub checks: BTreeMap<CheckId, u64>,
    /// The sides of the checks on which the target's entries ended as they should.
    pub coverage: Coverage,
    /// The campaign was interrupted.
    pub interrupted: bool,
}

/// A case that disagrees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What is wrong.
    #[serde(flatten)]
    pub disagreement: Disagreement,
    /// Why the model says that the violated checks do not hold.
    #[serde(default)]
    pub explanations: Vec<ExplanationText>,
    /// The case, as `vmcs run` reads it.
    pub program: Program,
}

/// What cases and judgements depend on besides generator and seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// Version of this program.
    pub version: String,
    /// The processor.
    pub profile: NamedProfile,
    /// Checksum (CRC-32) of what is known of the implementation.
    pub deviations: u32,
    /// Checksum (CRC-32) of the stream's first cases: another generator of the same name makes others. `None` for cases
    /// that come from a list.
    pub stream: Option<u32>,
}

impl Basis {
    /// Cases that [`Basis::stream`] is about.
    const SAMPLE: usize = 64;

    /// The basis of a campaign on `implementation`.
    pub(super) fn new(implementation: &Implementation, setting: CampaignSetting<'_>, stream: Option<Stream>) -> Self {
        let sample = |mut stream: Stream| {
            let cases = (0..Self::SAMPLE).map(|_| program_of(String::new(), &stream.next(setting.processor).case));
            checksum(&cases.collect::<Vec<_>>())
        };
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            profile: NamedProfile {
                name: implementation.to_string(),
                source: "read out of the target".to_owned(),
                confidence: None,
                profile: setting.processor.profile.clone(),
            },
            deviations: checksum(&setting.deviations.of(implementation)),
            stream: stream.map(sample),
        }
    }

    /// What of it differs from another, if anything does.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.version != other.version {
            Some(format!("version {} of this program, not {}", other.version, self.version))
        } else if self.profile != other.profile {
            Some(format!("another profile of {}", self.profile.name))
        } else if self.stream != other.stream {
            Some("a generator of that name that makes other cases".to_owned())
        } else if self.deviations != other.deviations {
            Some("other deviations".to_owned())
        } else {
            None
        }
    }
}

fn checksum(value: &impl Serialize) -> u32 {
    crc32fast::hash(&serde_json::to_vec(value).expect("every key is a string"))
}

/// Reports that are not parts of one campaign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// They come from different campaigns.
    #[error("they are not parts of one campaign: {0}")]
    Different(String),
    /// A part is there twice.
    #[error("part {shard}/{count} of the campaign on {implementation} is there twice")]
    Overlap {
        /// The part.
        shard: u32,
        /// Of how many.
        count: u32,
        /// On which machine.
        implementation: Implementation,
    },
}

impl CampaignReport {
    /// The report of no cases of a part of a campaign.
    pub(super) fn new(
        implementation: Implementation,
        generator: String,
        seed: u64,
        shard: Shard,
        basis: Basis,
    ) -> Self {
        Self {
            implementation,
            generator,
            seed,
            basis,
            shards: BTreeSet::from([shard.number()]),
            shard_count: shard.count(),
            cases: 0,
            agreed: 0,
            unspecified: BTreeMap::new(),
            unspecified_examples: BTreeMap::new(),
            deviations: BTreeMap::new(),
            disagreed: 0,
            findings: Vec::new(),
            crashed: 0,
            hung: 0,
            outcomes: BTreeMap::new(),
            checks: BTreeMap::new(),
            coverage: Coverage::default(),
            interrupted: false,
        }
    }

    /// Counts a case; `name` is what its program is called if it is kept.
    pub(super) fn add(
        &mut self,
        name: impl FnOnce() -> String,
        oracle: &Oracle<'_>,
        generated: &Generated,
        observation: &Observation,
    ) {
        let Generated { case, aim } = generated;
        self.cases += 1;
        match observation.end {
            End::Completed => {}
            End::Crashed { .. } => self.crashed += 1,
            End::Hung => self.hung += 1,
        }
        let judged = oracle.judge(case, observation);
        if let Some(outcome) = judged.outcome {
            *self.outcomes.entry(outcome).or_default() += 1;
        }
        for check in judged.violated.iter() {
            *self.checks.entry(check).or_default() += 1;
        }
        match judged.judgement {
            Judgement::Agree => {
                self.agreed += 1;
                self.coverage.count(&judged.violated, *aim);
            }
            Judgement::Unspecified(why) => {
                *self.unspecified.entry(why).or_default() += 1;
                self.unspecified_examples.entry(why).or_insert_with(|| program_of(name(), case));
            }
            Judgement::Deviates(ids) => {
                *self.deviations.entry(ids).or_default() += 1;
                // If only the contents of fields deviate, the entry itself ended as it should.
                if judged.only_fields {
                    self.coverage.count(&judged.violated, *aim);
                }
            }
            Judgement::Disagree(disagreement) => {
                self.disagreed += 1;
                if self.findings.len() < MOST_FINDINGS {
                    self.findings.push(Finding {
                        disagreement,
                        explanations: judged.explanations,
                        program: program_of(name(), case),
                    });
                }
            }
        }
    }

    /// Adds the cases of `other`, which come after those of this one.
    pub(super) fn append(&mut self, other: Self) {
        self.shards.extend(other.shards);
        self.cases += other.cases;
        self.agreed += other.agreed;
        add_counts(&mut self.unspecified, other.unspecified);
        for (why, example) in other.unspecified_examples {
            self.unspecified_examples.entry(why).or_insert(example);
        }
        add_counts(&mut self.deviations, other.deviations);
        self.disagreed += other.disagreed;
        self.findings.extend(other.findings);
        self.findings.truncate(MOST_FINDINGS);
        self.crashed += other.crashed;
        self.hung += other.hung;
        add_counts(&mut self.outcomes, other.outcomes);
        add_counts(&mut self.checks, other.checks);
        self.coverage.merge(&other.coverage);
        self.interrupted |= other.interrupted;
    }

    /// Puts reports on the parts of one campaign together: one report for each machine, in the order in which the
    /// machines come.
    ///
    /// # Errors
    /// [`MergeError`]: parts of different campaigns, or a part twice.
    pub fn merge(reports: impl IntoIterator<Item = Self>) -> Result<Vec<Self>, MergeError> {
        let mut machines: Vec<Vec<Self>> = Vec::new();
        for report in reports {
            if let Some(first) = machines.first().and_then(|machine| machine.first()) {
                first.same_campaign(&report)?;
            }
            let known = machines.iter_mut().find(|machine| machine[0].implementation == report.implementation);
            let Some(machine) = known else {
                machines.push(vec![report]);
                continue;
            };
            if let Some(difference) = machine[0].basis.difference(&report.basis) {
                return Err(MergeError::Different(format!("one was made with {difference}")));
            }
            if let Some(&shard) = machine.iter().find_map(|other| other.shards.intersection(&report.shards).next()) {
                let (count, implementation) = (report.shard_count, report.implementation);
                return Err(MergeError::Overlap { shard, count, implementation });
            }
            machine.push(report);
        }
        let merged = machines.into_iter().map(|mut machine| {
            machine.sort_by_key(|report| report.shards.first().copied());
            let mut parts = machine.into_iter();
            let mut whole = parts.next().expect("a machine has a report");
            parts.for_each(|part| whole.append(part));
            whole
        });
        Ok(merged.collect())
    }

    /// Whether `other` comes from the same campaign, on whatever machine.
    fn same_campaign(&self, other: &Self) -> Result<(), MergeError> {
        let difference = |what: &str, one: &dyn std::fmt::Display, two: &dyn std::fmt::Display| {
            Err(MergeError::Different(format!("one has {what} {one}, another {two}")))
        };
        if self.generator != other.generator {
            return difference("the generator", &self.generator, &other.generator);
        }
        if self.seed != other.seed {
            return difference("the seed", &self.seed, &other.seed);
        }
        if self.shard_count != other.shard_count {
            return difference("the number of parts", &self.shard_count, &other.shard_count);
        }
        if self.basis.version != other.basis.version {
            return difference("the program's version", &self.basis.version, &other.basis.version);
        }
        Ok(())
    }

    /// The parts of the campaign that are not in this report.
    pub fn missing_shards(&self) -> impl Iterator<Item = u32> + '_ {
        (1..=self.shard_count).filter(|shard| !self.shards.contains(shard))
    }

    /// Whether its counts fit together.
    pub(super) fn adds_up(&self) -> bool {
        let counted = [self.agreed, self.disagreed].into_iter();
        let counted = counted.chain(self.unspecified.values().copied()).chain(self.deviations.values().copied());
        self.cases == counted.sum::<u64>() && self.findings.len() as u64 == self.disagreed.min(MOST_FINDINGS as u64)
    }
}

/// Adds the counts of `from` to those of `into`.
pub fn add_counts<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
    for (key, count) in from {
        *into.entry(key).or_default() += count;
    }
}

/// A case as a program line.
#[must_use]
pub fn program_of(id: String, case: &Case) -> Program {
    Program {
        id,
        start: match case.start {
            Start::OutsideVmx => StartState::Outside,
            Start::VmxRoot => StartState::VmxRoot,
        },
        memory: Vec::new(),
        ops: case.ops.iter().map(OpLine::of).collect(),
    }
}
