//! A case that disagrees, with what was observed, what the model permits, and the explanations.

use serde::{Deserialize, Serialize};
use vmcs_case::number::Number;
use vmcs_case::program::{FieldKey, MemoryWrite, OpLine, Program};
use vmcs_case::{Case, Implementation, Session};
use vmcs_model::Outcome;
use vmcs_model::checks::{CheckId, CheckSet, Failure};
use vmcs_model::explain::Bits;
use vmcs_model::field::Encoding;
use vmcs_model::formats::exit_reason;
use vmcs_wire::Op;

use super::cause::{Cause, name};
use crate::campaign::program_of;
use crate::emulator::CaseEmulator;
use crate::findings::minimise::change;
use crate::oracle::{About, Difference, Disagreement, ExplanationText};
use crate::processor::Processor;
use crate::step::{OpKind, StepEnd};

/// A case that disagrees, with what was observed, what is permitted, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseFile {
    /// How many cases of a campaign have this cause.
    pub count: u64,
    /// Whether the case was made as small as possible. If not, the disagreement did not show again when the case was
    /// executed once more.
    pub minimal: bool,
    /// The implementation that disagrees with the model.
    pub implementation: Implementation,
    /// The case, as `vmcs run` reads it.
    pub program: Program,
    /// The operation that disagrees; none if there is none at that step.
    pub instruction: Option<OpKind>,
    /// The disagreement, at its step of the program.
    pub disagreement: Disagreement,
    /// The name of the valid image that the case changes.
    pub base: Option<String>,
    /// The fields that differ from that image.
    pub changes: Vec<FieldChange>,
    /// What the case stores to memory, other than the revision identifiers of regions.
    pub memory: Vec<MemoryWrite>,
    /// The model's reasons: an explanation of each violated check, or that there is none.
    pub model: Vec<ModelReason>,
    /// What the machine did, in words.
    pub machine: String,
}

/// A reason of the model, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelReason {
    /// Why a violated check does not hold.
    Check(ExplanationText),
    /// What it says where no check is violated, in a sentence.
    Sentence(String),
}

impl ModelReason {
    /// One line or several.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Check(explanation) => &explanation.text,
            Self::Sentence(text) => text,
        }
    }
}

/// A field that a case changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldChange {
    /// The field.
    pub field: FieldKey,
    /// The value in the valid image.
    pub from: Number,
    /// The value in the case.
    pub to: Number,
    /// The bits in which these differ, with their names.
    pub bits: String,
}

impl CaseFile {
    /// The file of a disagreement that `case` shows on `implementation`.
    #[must_use]
    pub fn new(
        processor: &Processor,
        session: &Session,
        implementation: &Implementation,
        case: &Case,
        disagreement: &Disagreement,
    ) -> Self {
        let names = processor.image_names();
        let Story { base, changes, memory, model } = Story::of(processor, session, case, disagreement);
        let mut file = Self {
            count: 1,
            minimal: true,
            implementation: implementation.clone(),
            program: program_of(String::new(), case).portable(processor.capabilities.revision(), &names),
            instruction: case.ops.get(disagreement.step).map(OpKind::of),
            disagreement: disagreement.clone(),
            base: base.and_then(|image| names.get(image)).map(|&name| name.to_owned()),
            changes,
            memory,
            model,
            machine: String::new(),
        };
        file.machine = file.machine();
        file.program.id = file.cause().to_string();
        file
    }

    /// The cause of the disagreement.
    #[must_use]
    pub fn cause(&self) -> Cause {
        let fields = self.changes.iter().map(|change| change.field.to_string());
        Cause::new(&self.disagreement.difference, self.instruction, self.base.as_deref(), fields)
    }

    /// What the machine did, in words.
    fn machine(&self) -> String {
        let Self { implementation: who, .. } = self;
        let (observed, violated) = match &self.disagreement.difference {
            Difference::Field(_) => {
                let (observed, permitted) = (self.disagreement.observed(), self.disagreement.permitted());
                return format!("{who}: {observed}, and not {}", permitted.join(" or "));
            }
            Difference::End { observed, violated, .. } => (*observed, *violated),
        };
        if violated.is_empty() {
            return self.without_violation(observed);
        }
        let list = violated.iter().map(|check| check.to_string()).collect::<Vec<_>>().join(", ");
        if observed == StepEnd::Outcome(Outcome::Entered) {
            return format!("{who} entered the guest, as if it did not make the check {list}");
        }
        match ending_so(&violated, observed) {
            Some(check) => format!("{who}: {observed}, as for {check}, though another check comes first"),
            None => format!("{who}: {observed}, which is not what {list} leads to"),
        }
    }

    /// What the machine did where no check is violated, in words.
    fn without_violation(&self, observed: StepEnd) -> String {
        let who = &self.implementation;
        let changed: Vec<_> = self.changes.iter().map(|change| change.field.to_string()).collect();
        let changed = if changed.is_empty() { "no field of the image".to_owned() } else { changed.join(", ") };
        let did = match observed {
            StepEnd::Crashed => return format!("{who} went down; changed: {changed}"),
            StepEnd::Hung => return format!("{who} hung; changed: {changed}"),
            StepEnd::Outcome(outcome) => match outcome {
                outcome if outcome == Outcome::fail_valid(7) => Some("refused the entry for its control fields"),
                outcome if outcome == Outcome::fail_valid(8) => Some("refused the entry for its host state"),
                Outcome::EntryFailed { reason: exit_reason::INVALID_GUEST_STATE, .. } => {
                    Some("failed the entry for its guest state")
                }
                Outcome::EntryFailed { reason: exit_reason::MSR_LOADING, .. } => {
                    Some("failed the entry while it loaded MSRs")
                }
                _ => None,
            },
            StepEnd::Ok | StepEnd::Value(_) | StepEnd::NotRun | StepEnd::NoResult => None,
        };
        match did {
            Some(did) => format!("{who} {did}, {observed}; changed: {changed}"),
            None => format!("{who}: {} ended in {observed}; changed: {changed}", name(self.instruction)),
        }
    }
}

/// Of the violated checks the first that leads to that end.
fn ending_so(violated: &CheckSet, observed: StepEnd) -> Option<CheckId> {
    violated.iter().find(|check| {
        let Failure { outcome, or, .. } = check.info().failure;
        std::iter::once(outcome).chain(or).any(|outcome| StepEnd::Outcome(outcome) == observed)
    })
}

/// What led to a disagreement.
struct Story {
    base: Option<usize>,
    changes: Vec<FieldChange>,
    memory: Vec<MemoryWrite>,
    model: Vec<ModelReason>,
}

impl FieldChange {
    fn new(encoding: u64, from: u64, to: u64) -> Self {
        let field = u32::try_from(encoding).ok().and_then(|encoding| Encoding(encoding).full().field());
        let mask = from ^ to;
        let bits = field.filter(|_| mask != 0).map_or_else(String::new, |field| Bits { field, mask }.to_string());
        Self { field: FieldKey::of(encoding), from: Number(from), to: Number(to), bits }
    }
}

impl Story {
    /// Goes through the case on the emulator up to the disagreement.
    fn of(processor: &Processor, session: &Session, case: &Case, disagreement: &Disagreement) -> Self {
        let mut machine = CaseEmulator::new(&processor.profile, case.start);
        let mut story = Self { base: None, changes: Vec::new(), memory: Vec::new(), model: Vec::new() };
        for op in case.ops.iter().take(disagreement.step) {
            match *op {
                Op::WriteImage { image } if Some(image) != processor.stale_image() => story.base = Some(image.into()),
                Op::Vmwrite { encoding, .. } => {
                    story.changes.extend(change(&machine, op).map(|(from, to)| FieldChange::new(encoding, from, to)));
                }
                Op::Store { value, .. } if value & !(1 << 31) != u64::from(processor.capabilities.revision()) => {
                    if let OpLine::Store(write) = OpLine::of(op) {
                        story.memory.push(write);
                    }
                }
                _ => {}
            }
            machine.step(session, op);
        }
        let Some(op) = case.ops.get(disagreement.step) else { return story };
        // Blocking by MOV SS is part of what an entry meets.
        let verdict = machine.verdict(op);
        let explain = |check: CheckId| {
            Some(ModelReason::Check(ExplanationText { about: About::Check(check), text: machine.explain(op, check)? }))
        };
        story.model = disagreement.violated().iter().filter_map(explain).collect();
        if story.model.is_empty() {
            story.model.push(ModelReason::Sentence(match verdict {
                Some(_) => "No check is violated: the entry succeeds.".to_owned(),
                None => format!("{} ends in {}.", OpKind::of(op), disagreement.permitted().join(" or ")),
            }));
        }
        story
    }
}
