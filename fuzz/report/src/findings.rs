//! Disagreements as the page shows them: what the model says and why, beside what the machine did.

use vmcs_case::program::Program;
use vmcs_fuzz::campaign::Finding;
use vmcs_fuzz::findings::case_file::CaseFile;
use vmcs_fuzz::oracle::Disagreement;
use vmcs_model::checks::CheckId;
use vmcs_model::formats::InstructionError;

use crate::html::{count, sections_of};
use crate::run::Run;

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
    pub(crate) id: String,
    pub(crate) section: &'static str,
    /// The rule, the values, and what would be legal.
    pub(crate) lines: Vec<String>,
}

impl FindingView {
    /// Those of a run: the causes where they were looked for, else the cases.
    pub(crate) fn all(run: &Run) -> Vec<Self> {
        let implementation = run.report.implementation.to_string();
        let cases = run.findings_without_causes().map(|finding| Self::of_case(&implementation, finding));
        run.causes.iter().map(Self::of_cause).chain(cases).collect()
    }

    fn of_case(implementation: &str, finding: &Finding) -> Self {
        let texts = finding.explanations.iter().map(|explanation| explanation.text.as_str());
        Self::new(implementation, finding.program.id.clone(), &finding.disagreement, texts, &finding.program)
    }

    fn of_cause(file: &CaseFile) -> Self {
        let texts = file.model.iter().map(String::as_str);
        let implementation = file.implementation.to_string();
        let view = Self::new(&implementation, file.cause.clone(), &file.disagreement(), texts, &file.program);
        let changes = file.changes.iter().map(|change| {
            let bits = if change.bits.is_empty() { String::new() } else { format!(" ({})", change.bits) };
            format!("{}: {:#x} → {:#x}{bits}", change.field, change.from.0, change.to.0)
        });
        Self {
            cases: Some(count(file.count)),
            model: if file.violated.is_empty() { file.model.clone() } else { Vec::new() },
            machine: Some(file.machine.clone()),
            base: file.base.clone(),
            changes: changes.collect(),
            ..view
        }
    }

    fn new<'a>(
        implementation: &str,
        title: String,
        disagreement: &Disagreement,
        explanations: impl Iterator<Item = &'a str> + Clone,
        program: &Program,
    ) -> Self {
        let violated = disagreement.violated.iter().map(|id| ViolatedView::new(id, explanations.clone()));
        let mut violated: Vec<_> = violated.collect();
        let more_violated = violated.split_off(violated.len().min(MOST_VIOLATED));
        Self {
            title,
            implementation: implementation.to_owned(),
            step: disagreement.step,
            cases: None,
            sections: sections_of(disagreement.violated.iter()),
            permitted: disagreement.permitted.iter().map(|text| OutcomeText::new(text)).collect(),
            violated,
            more_violated,
            model: Vec::new(),
            observed: OutcomeText::new(&disagreement.observed),
            machine: None,
            base: None,
            changes: Vec::new(),
            program: serde_json::to_string(program).expect("a program is JSON"),
        }
    }
}

impl ViolatedView {
    /// `explanations` begin with the check that they are about.
    fn new<'a>(id: &str, mut explanations: impl Iterator<Item = &'a str>) -> Self {
        let info = CheckId::by_id(id).map(CheckId::info);
        let is_about_it = |text: &&str| text.split(':').next() == Some(id);
        let lines = match (explanations.find(is_about_it), info) {
            (Some(text), _) => text.lines().skip(1).map(|line| line.trim().to_owned()).collect(),
            (None, Some(info)) if info.gate.is_empty() => vec![info.rule.to_owned()],
            (None, Some(info)) => vec![info.rule.to_owned(), format!("in force if {}", info.gate)],
            (None, None) => Vec::new(),
        };
        Self { id: id.to_owned(), section: info.map_or("", |info| info.sdm), lines }
    }
}

impl OutcomeText {
    pub(crate) fn new(text: &str) -> Self {
        let error = text.strip_prefix("VMfailValid(").and_then(|rest| rest.strip_suffix(')')?.parse().ok());
        let meaning = match error {
            Some(number) => InstructionError(number).meaning(),
            None if text == "Entered" => Some("the guest runs"),
            None if text.starts_with("EntryFailed(33") => Some("VM-entry failure due to invalid guest state"),
            None if text.starts_with("EntryFailed(34") => Some("VM-entry failure due to MSR loading"),
            None if text == "VMfailInvalid" => Some("no error number is stored"),
            None => None,
        };
        Self { text: text.to_owned(), meaning }
    }
}
