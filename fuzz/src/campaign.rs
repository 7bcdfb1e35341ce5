//! A campaign: cases go to a target, observations come back and are judged.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use vmcs_hw::program::{OpLine, Program, StartState};
use vmcs_hw::recording::Recorder;
use vmcs_hw::{Case, End, Observation, Session, TargetError};
use vmcs_hw::{Implementation, Target};
use vmcs_wire::Start;

use crate::coverage::Coverage;
use crate::deviations::Deviations;
use crate::oracle::{Disagreement, Explanation, Judgement, Oracle};
use crate::{Generated, Stream, World};

/// Findings that a report holds in full; further ones are counted.
const MOST_FINDINGS: usize = 100;

/// Where cases come from.
pub enum Cases<'a> {
    /// The next `count` cases of a stream.
    Generated {
        /// The stream.
        stream: &'a mut Stream,
        /// How many.
        count: u64,
    },
    /// A list, such as that of a recording.
    Listed {
        /// What made it.
        generator: String,
        /// The seed it was made with.
        seed: u64,
        /// The cases.
        cases: &'a mut dyn Iterator<Item = Case>,
    },
}

/// What a campaign found. It depends on nothing but the cases and the target's answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Who was asked.
    pub implementation: Implementation,
    /// What made the cases.
    pub generator: String,
    /// The seed they were made with.
    pub seed: u64,
    /// Cases that were observed.
    pub cases: u64,
    /// Cases in which every step ended as the architecture says.
    pub agreed: u64,
    /// Cases that the architecture does not decide, by reason.
    pub unspecified: BTreeMap<String, u64>,
    /// The first case for each of these reasons.
    pub unspecified_examples: BTreeMap<String, Program>,
    /// Cases that a reviewed deviation accounts for, by deviation.
    pub deviations: BTreeMap<String, u64>,
    /// Cases that disagree.
    pub disagreed: u64,
    /// The first of them.
    pub findings: Vec<Finding>,
    /// Cases that brought the machine down, and those that hung it.
    pub crashed: u64,
    /// Cases that hung it.
    pub hung: u64,
    /// Outcomes of the last VM entry of each case.
    pub outcomes: BTreeMap<String, u64>,
    /// Checks that entries violated, and in how many cases.
    pub checks: BTreeMap<String, u64>,
    /// The sides of the checks on which the target agreed.
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
    pub explanations: Vec<Explanation>,
    /// The case, as `vmcs run` reads it.
    pub program: Program,
}

/// What the cases of a campaign are executed in and judged by.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The target's processor.
    pub world: &'a World,
    /// What the cases share.
    pub session: &'a Session,
    /// What is known of implementations.
    pub deviations: &'a Deviations,
}

/// Runs a campaign on `target`.
///
/// `progress` is told the number of observed cases after each. Once it breaks off, the campaign ends with what was
/// observed so far.
///
/// # Errors
/// [`CampaignError`].
pub fn run(
    target: &mut dyn Target,
    setting: Setting<'_>,
    cases: Cases<'_>,
    mut recorder: Option<&mut Recorder>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Report, CampaignError> {
    let Setting { world, session, deviations } = setting;
    let implementation = target.implementation();
    let oracle = Oracle::new(world, session, deviations.of(&implementation));
    let mut report = Report::new(implementation);
    let mut failed = None;
    let mut generated;
    let mut listed;
    let source: &mut dyn Iterator<Item = Generated> = match cases {
        Cases::Generated { stream, count } => {
            (report.generator, report.seed) = (stream.generator().name().to_owned(), stream.seed());
            generated = (0..count).map(|_| stream.next(world));
            &mut generated
        }
        Cases::Listed { generator, seed, cases } => {
            (report.generator, report.seed) = (generator, seed);
            listed = cases.map(|case| Generated { case, aim: None });
            &mut listed
        }
    };
    // Cases that were handed out and not observed yet.
    let pending = RefCell::new(VecDeque::new());
    let mut handed_out = source.map(|generated| {
        let case = generated.case.clone();
        pending.borrow_mut().push_back(generated);
        case
    });
    target.run(session, &mut handed_out, &mut |_, observation| {
        let generated = pending.borrow_mut().pop_front().expect("an observation has a case");
        if let Some(recorder) = recorder.as_mut()
            && let Err(error) = recorder.record(&generated.case, &observation)
        {
            failed = Some(error);
            return ControlFlow::Break(());
        }
        report.add(&oracle, &generated, &observation);
        let flow = progress(report.cases);
        report.interrupted = flow.is_break();
        flow
    })?;
    match failed {
        Some(error) => Err(CampaignError::Record(error)),
        None => Ok(report),
    }
}

/// A campaign that could not go on.
#[derive(Debug, thiserror::Error)]
pub enum CampaignError {
    /// The machinery of the target failed.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The recording could not be written.
    #[error("cannot write the recording: {0}")]
    Record(#[source] std::io::Error),
}

impl Report {
    /// The report of no cases.
    fn new(implementation: Implementation) -> Self {
        Self {
            implementation,
            generator: String::new(),
            seed: 0,
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

    fn add(&mut self, oracle: &Oracle<'_>, generated: &Generated, observation: &Observation) {
        let Generated { case, aim } = generated;
        self.cases += 1;
        match observation.end {
            End::Completed => {}
            End::Crashed { .. } => self.crashed += 1,
            End::Hung => self.hung += 1,
        }
        let judged = oracle.judge(case, observation);
        if let Some(outcome) = judged.outcome {
            *self.outcomes.entry(outcome.to_string()).or_default() += 1;
        }
        for check in judged.violated.iter() {
            *self.checks.entry(check.to_string()).or_default() += 1;
        }
        match judged.judgement {
            Judgement::Agree => {
                self.agreed += 1;
                self.coverage.count(&judged.violated, *aim);
            }
            Judgement::Unspecified(why) => {
                *self.unspecified.entry(why.to_owned()).or_default() += 1;
                let example = || program_of(format!("case-{}", self.cases - 1), case);
                self.unspecified_examples.entry(why.to_owned()).or_insert_with(example);
            }
            Judgement::Deviates(id) => *self.deviations.entry(id).or_default() += 1,
            Judgement::Disagree(disagreement) => {
                self.disagreed += 1;
                if self.findings.len() < MOST_FINDINGS {
                    let id = format!("case-{}", self.cases - 1);
                    self.findings.push(Finding {
                        disagreement,
                        explanations: judged.explanations,
                        program: program_of(id, case),
                    });
                }
            }
        }
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
