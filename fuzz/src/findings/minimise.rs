//! Makes a case smaller while what it shows stays the same: fewer operations, fewer fields changed from a valid image,
//! fewer bits changed in each.
//!
//! A smaller case takes the place of a case only if the target, asked again, still does the same. The oracle judges every
//! such candidate, so that a finding does not turn into a known deviation while it gets smaller. All candidates of a round,
//! for all cases, go to the target in one run.

mod edits;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use vmcs_case::{Case, End, Implementation, Session, Target, TargetError};
use vmcs_wire::Op;

use vmcs_model::checks::CheckSet;

use crate::campaign::{CampaignReport, CampaignSetting, Finding};
use crate::deviations::DeviationId;
use crate::findings::case_file::CaseFile;
use crate::oracle::{Difference, Disagreement, Judged, Judgement, Oracle};
use crate::processor::Processor;
use crate::step::{EntryProgress, OpKind, StepEnd};
use edits::{Draft, Edit, Undefined};

pub(crate) use edits::change;

/// Machines that one case may take down while it is minimised.
const MOST_LOSSES: usize = 64;
/// Passes over operations and bits.
const MOST_PASSES: usize = 4;
/// A case that changes at most so many fields of the plain image is preferred to one that changes fewer fields of another
/// image: cases with the same cause then look alike.
const FEW_FIELDS: usize = 3;

/// What has to stay while a case gets smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The instruction ends as the architecture does not permit, for the same reason.
    Disagreement {
        /// The instruction; none if the step is behind the last operation.
        instruction: Option<OpKind>,
        /// The disagreement.
        disagreement: Disagreement,
    },
    /// A reviewed deviation, alone, accounts for what the target does.
    Deviation {
        /// Its id.
        id: DeviationId,
        /// The checks that the deviation omits. If there are any, one of them has to stay violated, because without that
        /// the deviation would account for any crash.
        omits: CheckSet,
    },
}

impl Goal {
    /// The goal to keep the disagreement that `case` shows.
    #[must_use]
    pub fn disagreement(case: &Case, disagreement: &Disagreement) -> Self {
        let instruction = case.ops.get(disagreement.step).map(OpKind::of);
        Self::Disagreement { instruction, disagreement: disagreement.clone() }
    }

    /// Whether a judged case is a smaller one that shows the same.
    #[must_use]
    pub fn is_kept(&self, case: &Case, judged: &Judged) -> bool {
        match (self, &judged.judgement) {
            (Self::Deviation { id, omits }, Judgement::Deviates(found)) => {
                found.are(id) && (omits.is_empty() || omits.iter().any(|check| judged.violated.contains(check)))
            }
            (Self::Disagreement { instruction, disagreement }, Judgement::Disagree(found)) => {
                case.ops.get(found.step).map(OpKind::of) == *instruction
                    && is_same(&disagreement.difference, &found.difference)
            }
            _ => false,
        }
    }
}

/// Whether `found` has the cause of `original`, or a part of it.
///
/// The outcomes are the same, observed and permitted, and no check is violated that was not. A target that got past the
/// checks that the entry has to fail may get further with fewer violations behind them. If it refuses an image that violates
/// a check, and refuses it as well without that violation, then the check has no part in it.
fn is_same(original: &Difference, found: &Difference) -> bool {
    match (original, found) {
        (Difference::Field(original), Difference::Field(found)) => {
            (original.since, original.field) == (found.since, found.field)
        }
        (
            Difference::End { observed, permitted, violated },
            Difference::End { observed: found_observed, permitted: found_permitted, violated: found_violated },
        ) => {
            let kinds = |ends: &[StepEnd]| ends.iter().map(|end| end.kind()).collect::<Vec<_>>();
            let furthest = permitted.iter().filter_map(|end| end.progress()).max();
            let got_past = observed.progress() > furthest
                && furthest.is_some()
                && found_observed.progress() >= observed.progress();
            let same_outcome = observed.kind() == found_observed.kind();
            let same_reason = kinds(permitted) == kinds(found_permitted)
                && violated.is_empty() == found_violated.is_empty()
                && found_violated.iter().all(|check| violated.contains(check));
            let refused = found_observed.progress().is_some_and(|progress| progress < EntryProgress::Entered);
            let no_violation_needed = refused && !violated.is_empty() && found_violated.is_empty();
            same_reason && (same_outcome || got_past) || no_violation_needed && same_outcome
        }
        _ => false,
    }
}

/// The findings of a campaign on `target`, as small as they get, one of each cause; those that came up most come first.
///
/// # Errors
/// [`TargetError`] when the machinery fails.
pub fn findings(
    target: &mut dyn Target,
    setting: CampaignSetting<'_>,
    report: &CampaignReport,
) -> Result<Vec<CaseFile>, TargetError> {
    let CampaignSetting { processor, session, .. } = setting;
    let names = processor.image_names();
    let case =
        |finding: &Finding| finding.program.to_case(processor.capabilities.revision(), &names).unwrap_or_default();
    let cases: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            let case = case(finding);
            let goal = Goal::disagreement(&case, &finding.disagreement);
            (case, goal)
        })
        .collect();
    let mut files: Vec<CaseFile> = Vec::new();
    for ((finding, (case, _)), minimal) in report.findings.iter().zip(&cases).zip(minimise(target, setting, &cases)?) {
        let who = &report.implementation;
        let file = match minimal.and_then(|minimal| minimal.file(processor, session, who)) {
            Some(file) => file,
            None => CaseFile { minimal: false, ..CaseFile::new(processor, session, who, case, &finding.disagreement) },
        };
        match files.iter_mut().find(|known| known.cause() == file.cause() && known.minimal == file.minimal) {
            Some(known) => known.count += 1,
            None => files.push(file),
        }
    }
    files.sort_by_key(|file| std::cmp::Reverse(file.count));
    Ok(files)
}

/// A case that cannot be made smaller, and how it was judged.
#[derive(Clone, Debug)]
pub struct Minimal {
    /// The case.
    pub case: Case,
    /// The judgement on it, and what its entries violate.
    pub judged: Judged,
}

impl Minimal {
    /// The case as a file, if it disagrees.
    #[must_use]
    pub fn file(&self, processor: &Processor, session: &Session, who: &Implementation) -> Option<CaseFile> {
        match &self.judged.judgement {
            Judgement::Disagree(disagreement) => Some(CaseFile::new(processor, session, who, &self.case, disagreement)),
            _ => None,
        }
    }
}

/// Makes cases smaller, each with its goal kept. A case that does not reach its goal on this target, asked again, gives
/// `None`.
///
/// # Errors
/// [`TargetError`] when the machinery fails.
pub fn minimise(
    target: &mut dyn Target,
    setting: CampaignSetting<'_>,
    cases: &[(Case, Goal)],
) -> Result<Vec<Option<Minimal>>, TargetError> {
    let oracle = Oracle::new(setting.processor, setting.session, setting.deviations.of(&target.implementation()));
    let mut asking = Asking { target, session: setting.session, oracle };
    let mut reductions: Vec<_> =
        cases.iter().enumerate().map(|(number, (case, goal))| Reduction::new(number, case, goal)).collect();
    asking.reduce(&mut reductions, setting.processor)?;
    // Those that need another image than the plain one start again from the plain one with the fields that differ.
    let special = reductions.iter().filter_map(|reduction| {
        let case = edits::from_the_plain_image(&reduction.result()?.case, setting.session)?;
        Some(Reduction::new(reduction.number, &case, &reduction.goal))
    });
    let mut from_plain: Vec<_> = special.collect();
    asking.reduce(&mut from_plain, setting.processor)?;
    reductions.append(&mut from_plain);
    let smallest = |number: usize| {
        let of_case = reductions.iter().filter(|reduction| reduction.number == number);
        of_case.filter_map(Reduction::result).min_by_key(|minimal| size(&minimal.case))
    };
    Ok((0..cases.len()).map(smallest).collect())
}

/// How small a case is: fields changed from a valid image, whether that is another than the plain one, operations.
fn size(case: &Case) -> (usize, bool, usize) {
    let fields = case.ops.iter().filter(|op| matches!(op, Op::Vmwrite { .. })).count();
    let special = case.ops.iter().any(|op| matches!(op, Op::WriteImage { image: 1.. }));
    (fields.max(FEW_FIELDS), special, case.ops.len())
}

/// The target and who judges its answers.
struct Asking<'a> {
    target: &'a mut dyn Target,
    session: &'a Session,
    oracle: Oracle<'a>,
}

impl Asking<'_> {
    /// Takes all reductions to their ends, in rounds of one run each.
    fn reduce(&mut self, reductions: &mut [Reduction], processor: &Processor) -> Result<(), TargetError> {
        loop {
            let mut candidates = Vec::new();
            for (owner, reduction) in reductions.iter_mut().enumerate() {
                let drafts = reduction.propose(processor, self.session);
                candidates.extend(drafts.into_iter().map(|draft| (owner, draft.case())));
            }
            if candidates.is_empty() {
                return Ok(());
            }
            let kept = self.which_keep(reductions, &candidates)?;
            let mut by_owner = vec![Vec::new(); reductions.len()];
            for ((owner, _), judged) in candidates.iter().zip(kept) {
                by_owner[*owner].push(judged);
            }
            for (reduction, kept) in reductions.iter_mut().zip(by_owner) {
                reduction.learn(kept);
            }
        }
    }

    /// Which of the candidates keep the goals of their reductions. One that takes the machine down is asked for only as
    /// long as its reduction needs it.
    fn which_keep(
        &mut self,
        reductions: &mut [Reduction],
        candidates: &[(usize, Case)],
    ) -> Result<Vec<Option<Judged>>, TargetError> {
        let mut kept = vec![None; candidates.len()];
        let mut settled = vec![false; reductions.len()];
        let mut waiting: Vec<usize> = (0..candidates.len()).collect();
        while !waiting.is_empty() {
            let mut answered = 0;
            let mut cases = waiting.iter().map(|&candidate| candidates[candidate].1.clone());
            self.target.run(self.session, &mut cases, &mut |index, observation| {
                let candidate = waiting[index];
                answered = index + 1;
                let (owner, case) = &candidates[candidate];
                let reduction = &mut reductions[*owner];
                let judged = self.oracle.judge(case, &observation);
                let keeps = reduction.goal.is_kept(case, &judged);
                if observation.end != End::Completed {
                    reduction.losses += 1;
                    // Each of these answers costs a machine, so the first candidate that keeps the goal is enough.
                    settled[*owner] |= keeps || reduction.losses >= MOST_LOSSES;
                }
                kept[candidate] = keeps.then_some(judged);
                let superfluous = |candidate: &usize| settled[candidates[*candidate].0];
                if observation.end != End::Completed && waiting[answered..].iter().any(superfluous) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })?;
            if answered == 0 {
                break;
            }
            waiting.drain(..answered);
            waiting.retain(|candidate| !settled[candidates[*candidate].0]);
        }
        Ok(kept)
    }
}

/// What a reduction is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReductionPhase {
    /// Whether the case reaches its goal at all.
    Original,
    /// Which operations it can do without.
    Operations,
    /// Which bits can stay as they are.
    Bits,
    /// Nothing can go any more.
    Done,
}

/// A case on its way to a minimal one.
#[derive(Debug)]
struct Reduction {
    /// Number of the case that it is of.
    number: usize,
    goal: Goal,
    draft: Draft,
    /// What the original uses that is not defined.
    undefined: BTreeSet<(Undefined, u64)>,
    /// The judgement on the draft, once there is one.
    judged: Option<Judged>,
    phase: ReductionPhase,
    passes: usize,
    /// What was proposed last: edits that make a candidate each.
    proposed: Vec<Vec<Edit>>,
    /// Edits that keep the goal alone, each with its judgement; next they are tried together.
    good: Vec<(Edit, Judged)>,
    /// Something could go in this pass.
    progress: bool,
    /// Machines that it has taken down.
    losses: usize,
}

impl Reduction {
    fn new(number: usize, case: &Case, goal: &Goal) -> Self {
        Self {
            number,
            goal: goal.clone(),
            draft: Draft::new(case),
            undefined: edits::undefined(case),
            judged: None,
            phase: ReductionPhase::Original,
            passes: 0,
            proposed: Vec::new(),
            good: Vec::new(),
            progress: false,
            losses: 0,
        }
    }

    /// What it has come to, if it reached its goal.
    fn result(&self) -> Option<Minimal> {
        Some(Minimal { case: self.draft.case(), judged: self.judged.clone()? })
    }

    /// Smaller drafts to be tried, none at the end.
    fn propose(&mut self, processor: &Processor, session: &Session) -> Vec<Draft> {
        self.proposed = match self.phase {
            ReductionPhase::Original => vec![Vec::new()],
            ReductionPhase::Done => Vec::new(),
            ReductionPhase::Operations | ReductionPhase::Bits => self.together(),
        };
        while self.proposed.is_empty() && self.phase != ReductionPhase::Done {
            let edits = match self.phase {
                _ if self.losses >= MOST_LOSSES => Vec::new(),
                ReductionPhase::Operations => self.draft.fewer_operations(),
                _ => self.draft.fewer_bits(processor, session),
            };
            self.proposed = edits.into_iter().map(|edit| vec![edit]).filter(|edit| self.is_definite(edit)).collect();
            if self.proposed.is_empty() {
                self.next_phase();
            }
        }
        self.proposed.iter().map(|edits| self.draft.with(edits)).collect()
    }

    /// The good edits all at once, half of them, and so on. The first alone is known to be good: it is applied if there is
    /// nothing to be tried together.
    fn together(&mut self) -> Vec<Vec<Edit>> {
        let edits: Vec<_> = self.good.iter().map(|(edit, _)| edit.clone()).collect();
        let counts = std::iter::successors(Some(edits.len()), |&count| Some(count / 2)).take_while(|&count| count > 1);
        let mut together: Vec<_> = counts.map(|count| edits[..count].to_vec()).collect();
        together.retain(|edits| self.is_definite(edits));
        if together.is_empty() && !self.good.is_empty() {
            let (edit, judged) = self.good.swap_remove(0);
            self.good.clear();
            self.apply(&[edit], judged);
        }
        together
    }

    /// Whether the draft, with these edits, uses nothing undefined but what the original uses.
    fn is_definite(&self, edits: &[Edit]) -> bool {
        edits::undefined(&self.draft.with(edits).case()).is_subset(&self.undefined)
    }

    /// Takes the judgements on those of the proposed drafts that keep the goal.
    fn learn(&mut self, kept: Vec<Option<Judged>>) {
        let proposed = std::mem::take(&mut self.proposed);
        if proposed.is_empty() {
            return;
        }
        let good = std::mem::take(&mut self.good);
        let mut kept = proposed.into_iter().zip(kept).filter_map(|(edits, judged)| Some((edits, judged?)));
        if self.phase == ReductionPhase::Original {
            self.judged = kept.next().map(|(_, judged)| judged);
            self.phase = if self.judged.is_some() { ReductionPhase::Operations } else { ReductionPhase::Done };
        } else if let Some((first, judged)) = good.into_iter().next() {
            let (edits, judged) = kept.next().unwrap_or((vec![first], judged));
            self.apply(&edits, judged);
        } else {
            self.good = kept.filter_map(|(mut edits, judged)| Some((edits.pop()?, judged))).collect();
            if self.good.is_empty() {
                self.next_phase();
            }
        }
    }

    fn apply(&mut self, edits: &[Edit], judged: Judged) {
        self.draft = self.draft.with(edits);
        self.judged = Some(judged);
        self.progress = true;
    }

    fn next_phase(&mut self) {
        self.phase = match self.phase {
            ReductionPhase::Operations => ReductionPhase::Bits,
            ReductionPhase::Bits if self.progress && self.passes < MOST_PASSES => {
                (self.progress, self.passes) = (false, self.passes + 1);
                ReductionPhase::Operations
            }
            _ => ReductionPhase::Done,
        };
    }
}
