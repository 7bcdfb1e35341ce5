//! Disagreements as the page shows them: what the model says and why, beside what the machine did.

use vmcs_case::program::Program;
use vmcs_fuzz::campaign::Finding;
use vmcs_fuzz::findings::case_file::{CaseFile, ModelReason};
use vmcs_fuzz::oracle::{About, Difference, Disagreement, ExplanationText};
use vmcs_fuzz::step::StepEnd;
use vmcs_model::Outcome;
use vmcs_model::checks::CheckId;
use vmcs_model::formats::exit_reason;

use crate::counts::count;
use crate::run::Run;
use crate::sections;

/// Violated checks of a finding that are shown at once.
const MOST_VIOLATED: usize = 4;

/// A disagreement, or a cause of several.
pub(crate) struct FindingView {
    pub(crate) title: String,
    pub(crate) implementation: String,
    pub(crate) step: usize,
    /// How many cases came to this, where it is known.
    pub(crate) cases: Option<String>,
    /// Sections of the violated checks, separated by spaces.
    pub(crate) sections: String,
    pub(crate) permitted: Vec<OutcomeText>,
    pub(crate) violated: Vec<ViolatedView>,
    /// Violated checks beyond the first few.
    pub(crate) more_violated: Vec<ViolatedView>,
    /// What the model says where no check is violated.
    pub(crate) model: Vec<String>,
    pub(crate) observed: OutcomeText,
    /// What the machine did, in words.
    pub(crate) machine: Option<String>,
    /// The valid image that the case changes.
    pub(crate) base: Option<String>,
    pub(crate) changes: Vec<String>,
    pub(crate) program: String,
}

/// An outcome and what it means.
pub(crate) struct OutcomeText {
    pub(crate) text: String,
    pub(crate) meaning: Option<&'static str>,
}

pub(crate) struct ViolatedView {
    pub(crate) id: &'static str,
    pub(crate) section: &'static str,
    /// The rule, the values, and what would be legal.
    pub(crate) lines: Vec<String>,
}

impl FindingView {
    /// The findings of a run: one for each cause if the causes were looked for, else one for each case.
    pub(crate) fn all(run: &Run) -> Vec<Self> {
        let implementation = run.report.implementation.to_string();
        let cases = run.findings_without_causes().map(|finding| Self::of_case(&implementation, finding));
        run.causes.iter().map(Self::of_cause).chain(cases).collect()
    }

    fn of_case(implementation: &str, finding: &Finding) -> Self {
        let explanations: Vec<_> = finding.explanations.iter().collect();
        Self::new(implementation, finding.program.id.clone(), &finding.disagreement, &explanations, &finding.program)
    }

    fn of_cause(file: &CaseFile) -> Self {
        let explanation = |reason: &'_ ModelReason| match reason {
            ModelReason::Check(explanation) => Some(explanation.clone()),
            ModelReason::Sentence(_) => None,
        };
        let explanations: Vec<_> = file.model.iter().filter_map(explanation).collect();
        let explanations: Vec<_> = explanations.iter().collect();
        let implementation = file.implementation.to_string();
        let title = file.cause().to_string();
        let view = Self::new(&implementation, title, &file.disagreement, &explanations, &file.program);
        let changes = file.changes.iter().map(|change| {
            let bits = if change.bits.is_empty() { String::new() } else { format!(" ({})", change.bits) };
            format!("{}: {:#x} → {:#x}{bits}", change.field, change.from.0, change.to.0)
        });
        let sentences = file.model.iter().map(|reason| reason.text().to_owned()).collect();
        Self {
            cases: Some(count(file.count)),
            model: if file.disagreement.violated().is_empty() { sentences } else { Vec::new() },
            machine: Some(file.machine.clone()),
            base: file.base.clone(),
            changes: changes.collect(),
            ..view
        }
    }

    fn new(
        implementation: &str,
        title: String,
        disagreement: &Disagreement,
        explanations: &[&ExplanationText],
        program: &Program,
    ) -> Self {
        let checks = disagreement.violated();
        let mut violated: Vec<_> = checks.iter().map(|check| ViolatedView::new(check, explanations)).collect();
        let (observed, permitted) = match &disagreement.difference {
            Difference::End { observed, permitted, .. } => {
                (OutcomeText::of_end(*observed), permitted.iter().copied().map(OutcomeText::of_end).collect())
            }
            Difference::Field(_) => (
                OutcomeText { text: disagreement.observed(), meaning: None },
                disagreement.permitted().into_iter().map(|text| OutcomeText { text, meaning: None }).collect(),
            ),
        };
        let more_violated = violated.split_off(violated.len().min(MOST_VIOLATED));
        Self {
            title,
            implementation: implementation.to_owned(),
            step: disagreement.step,
            cases: None,
            sections: sections::of(checks.iter()),
            permitted,
            violated,
            more_violated,
            model: Vec::new(),
            observed,
            machine: None,
            base: None,
            changes: Vec::new(),
            program: serde_json::to_string(program).expect("a program is JSON"),
        }
    }
}

impl ViolatedView {
    fn new(check: CheckId, explanations: &[&ExplanationText]) -> Self {
        let info = check.info();
        let explanation = explanations.iter().find(|explanation| explanation.about == About::Check(check));
        let lines = match explanation {
            // The first line is the check's id and how the entry ends.
            Some(explanation) => explanation.text.lines().skip(1).map(|line| line.trim().to_owned()).collect(),
            None if info.gate.is_empty() => vec![info.rule.to_owned()],
            None => vec![info.rule.to_owned(), format!("in force if {}", info.gate)],
        };
        Self { id: info.id, section: info.sdm, lines }
    }
}

impl OutcomeText {
    /// What a step ended in.
    fn of_end(end: StepEnd) -> Self {
        match end {
            StepEnd::Outcome(outcome) => Self::new(outcome),
            other => Self { text: other.to_string(), meaning: None },
        }
    }

    /// An outcome.
    pub(crate) fn new(outcome: Outcome) -> Self {
        let meaning = match outcome {
            Outcome::FailValid(error) => error.meaning(),
            Outcome::Entered => Some("the guest runs"),
            Outcome::EntryFailed { reason: exit_reason::INVALID_GUEST_STATE, .. } => {
                Some("VM-entry failure due to invalid guest state")
            }
            Outcome::EntryFailed { reason: exit_reason::MSR_LOADING, .. } => {
                Some("VM-entry failure due to MSR loading")
            }
            Outcome::FailInvalid => Some("no error number is stored"),
            Outcome::Fault(_) | Outcome::Exited { .. } | Outcome::EntryFailed { .. } => None,
        };
        Self { text: outcome.to_string(), meaning }
    }
}
