//! Whether what a target did is what the architecture permits.
//!
//! The emulator executes the case, and each step is compared with the observation. Where the SDM defines one result, the
//! observed one must be the same. A VM entry must end in a permitted outcome. The emulator then takes the observed outcome
//! too, so that it is in the same state as the target for the rest of the case: the fields of the VMCS that the target
//! shows must hold what the emulator has, and another entry must find the launch state that this one has left.

mod difference;
mod effects;
mod entry;
mod exit;
mod fields;
mod judgement;
mod open;
mod reviewed;

use std::sync::OnceLock;

use vmcs_case::program::entry_outcome;
use vmcs_case::{Case, Observation, Session};
use vmcs_model::Vmcs;
use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::field::{Encoding, FieldId};
use vmcs_wire::{Op, Start, StepResult};

use crate::deviations::{Deviation, DeviationIds};
use crate::emulator::CaseEmulator;
use crate::processor::Processor;
use crate::processor::memory::REGION;
use crate::step::{Step, StepEnd};
use entry::Taken;
use fields::Known;
use open::{is_open, was_active_at_vmxoff};
use reviewed::Reviewed;

pub use difference::{Difference, Disagreement, Since, WrongField};
pub(crate) use difference::{DisagreementError, DisagreementText};
pub use judgement::{About, ExplanationText, Judged, Judgement, LeftOpen, ParseAboutError, ParseLeftOpenError};

/// Operations with which image cases begin.
const IMAGE_STEPS: usize = 4;

/// How image cases begin.
fn usual_begin(revision: u32, image: u16) -> [Op; IMAGE_STEPS] {
    [
        Op::Store { address: REGION, size: 4, value: revision.into() },
        Op::Vmclear { address: REGION },
        Op::Vmptrld { address: REGION },
        Op::WriteImage { image },
    ]
}

/// A machine in the middle of a case, and what is known of its current VMCS.
#[derive(Clone, Debug)]
struct Begun {
    machine: CaseEmulator,
    known: Known,
}

/// Judges observations of one target.
#[derive(Debug)]
pub struct Oracle<'a> {
    processor: &'a Processor,
    session: &'a Session,
    reviewed: Reviewed<'a>,
    /// What an [`Op::Observe`] shows that looks at the information fields alone, and one that looks at the state, too.
    looks: [Vec<Option<FieldId>>; 2],
    /// For each image a machine that has written it to a VMCS, as image cases begin; made when it is first needed.
    prepared: Vec<OnceLock<Option<Begun>>>,
}

impl<'a> Oracle<'a> {
    /// For observations of cases of `processor` and `session` on a target that has those deviations.
    #[must_use]
    pub fn new(processor: &'a Processor, session: &'a Session, deviations: Vec<&'a Deviation>) -> Self {
        let prepared = session.images.iter().map(|_| OnceLock::new()).collect();
        let looks = [false, true].map(|state| session.fields_observed(state).map(|e| Encoding(e).field()).collect());
        Self { processor, session, reviewed: Reviewed(deviations), looks, prepared }
    }

    /// Judges one observation.
    #[must_use]
    pub fn judge(&self, case: &Case, observation: &Observation) -> Judged {
        let mut judged = Judged::new();
        let mut accounted = DeviationIds::NONE;
        let judgement = self.walk(case, observation, &mut judged, &mut accounted, None);
        judged.only_fields = judgement == Judgement::Agree;
        judged.judgement = match judgement {
            Judgement::Agree if accounted.is_empty() => Judgement::Agree,
            Judgement::Agree => Judgement::Deviates(accounted),
            Judgement::Deviates(ids) => {
                accounted.extend(&ids);
                Judgement::Deviates(accounted)
            }
            judgement => judgement,
        };
        judged
    }

    /// The deviations whose conditions the case meets although the target does as the SDM says: they are too wide.
    #[must_use]
    pub fn refuted(&self, case: &Case, observation: &Observation) -> DeviationIds {
        let mut refuted = DeviationIds::NONE;
        self.walk(case, observation, &mut Judged::new(), &mut DeviationIds::default(), Some(&mut refuted));
        refuted
    }

    /// Goes through the case until something is not as it should be. `accounted` are the deviations in what fields hold,
    /// which do not end it. `refuted` takes those that do not show where they should, if somebody asks.
    fn walk(
        &self,
        case: &Case,
        observation: &Observation,
        judged: &mut Judged,
        accounted: &mut DeviationIds,
        mut refuted: Option<&mut DeviationIds>,
    ) -> Judgement {
        let (Begun { mut machine, mut known }, done) = match self.prepared(case, observation) {
            Some((begun, done)) => (begun.clone(), done),
            None => {
                (Begun { machine: CaseEmulator::new(&self.processor.profile, case.start), known: Known::NOTHING }, 0)
            }
        };
        let is_look = |op: &Op| matches!(op, Op::Observe { .. });
        let last_look = case.ops.iter().rposition(is_look).unwrap_or(case.ops.len());
        for (step, op) in case.ops.iter().enumerate().skip(done) {
            let observed = observation.steps.get(step);
            if let Some(verdict) = machine.verdict(op) {
                if step < last_look {
                    judged.violated = judged.violated.union(&verdict.violated);
                    judged.outcome = observed.and_then(entry_outcome);
                }
                let taken = self.reviewed.entry(&machine, op, &verdict, observed, &observation.end);
                if let (Some(refuted), Ok(taken)) = (&mut refuted, &taken) {
                    refuted.extend(&self.reviewed.attempt(&machine, op).refuted(&verdict, taken.outcome));
                }
                match taken {
                    // After the last operation nobody looks at the machine.
                    Ok(_) if step + 1 == case.ops.len() => {}
                    Ok(taken) => follow(&mut machine, &mut known, op, &taken),
                    Err(Judgement::Disagree(_)) if was_active_at_vmxoff(&case.ops[..step]) => {
                        return Judgement::Unspecified(LeftOpen::ActiveAtVmxoff);
                    }
                    Err(judgement) => {
                        if matches!(judgement, Judgement::Disagree(_)) {
                            let explain = |check: CheckId| {
                                Some(ExplanationText { about: About::Check(check), text: machine.explain(op, check)? })
                            };
                            judged.explanations = verdict.violated.iter().filter_map(explain).collect();
                        }
                        return judgement.at(step);
                    }
                }
                continue;
            }
            let Some(observed) = observed else {
                return Judgement::Unspecified(LeftOpen::DownBefore);
            };
            if matches!(op, Op::Time { .. }) {
                // Nor is it followed how often its entries were executed.
                return Judgement::Unspecified(LeftOpen::Duration);
            }
            if let (Op::Observe { state }, StepResult::Fields(values)) = (op, observed)
                && let Some(shown) = self.shown(*state, values)
            {
                if let Some(refuted) = &mut refuted {
                    refuted.extend(&self.reviewed.refuted_by_fields(&machine, &known, shown.clone()));
                }
                match self.reviewed.fields(&mut machine, &mut known, shown) {
                    Ok(ids) => accounted.extend(&ids),
                    Err(wrong) => {
                        let (disagreement, explanation) = *wrong;
                        judged.explanations = vec![explanation];
                        return Judgement::Disagree(disagreement).at(step);
                    }
                }
                continue;
            }
            let expected = machine.step(self.session, op);
            if expected != *observed && !is_open(op, &expected, observed) {
                return self.instruction(op, &expected, observed, step);
            }
            known.note(op, observed, &self.session.images);
        }
        Judgement::Agree
    }

    /// The fields that an [`Op::Observe`] shows; `None` if they are not as many as the session's lists have.
    fn shown<'b>(
        &'b self,
        state: bool,
        values: &'b [u64],
    ) -> Option<impl Iterator<Item = (FieldId, u64)> + Clone + use<'b>> {
        let fields = &self.looks[usize::from(state)];
        let shown = fields.iter().zip(values).filter_map(|(field, value)| Some(((*field)?, *value)));
        (fields.len() == values.len()).then_some(shown)
    }

    /// A machine that has executed the first operations of the case, and how many, if the target did them, too.
    fn prepared(&self, case: &Case, observation: &Observation) -> Option<(&Begun, usize)> {
        let Some(begin @ [Op::Store { .. }, Op::Vmclear { .. }, Op::Vmptrld { .. }, Op::WriteImage { image }]) =
            case.ops.get(..IMAGE_STEPS)
        else {
            return None;
        };
        let usual = usual_begin(self.processor.capabilities.revision(), *image);
        let done = observation.steps.get(..IMAGE_STEPS)?;
        if case.start != Start::VmxRoot || *begin != usual || done.iter().any(|step| *step != StepResult::Ok) {
            return None;
        }
        let make = || {
            let mut begun =
                Begun { machine: CaseEmulator::new(&self.processor.profile, Start::VmxRoot), known: Known::NOTHING };
            let mut succeeds = |op| {
                let result = begun.machine.step(self.session, op);
                begun.known.note(op, &result, &self.session.images);
                result == StepResult::Ok
            };
            usual.iter().all(&mut succeeds).then_some(begun)
        };
        let begun = self.prepared.get(usize::from(*image))?.get_or_init(make).as_ref()?;
        Some((begun, IMAGE_STEPS))
    }

    /// The judgement on an instruction that ended differently.
    fn instruction(&self, op: &Op, expected: &Step, observed: &Step, step: usize) -> Judgement {
        let (expected, observed) = (StepEnd::of(expected), StepEnd::of(observed));
        let mut deviations = self.reviewed.0.iter();
        let matching = deviations.find(|deviation| deviation.accounts_for_end(op, expected, observed));
        let difference = Difference::End { observed, permitted: vec![expected], violated: CheckSet::EMPTY };
        match matching {
            Some(deviation) => Judgement::Deviates(deviation.id.clone().into()),
            None => Judgement::Disagree(Disagreement { step, difference }),
        }
    }
}

/// Takes the machine where the target went.
fn follow(machine: &mut CaseEmulator, known: &mut Known, op: &Op, taken: &Taken) {
    let Taken { outcome, reason, qualification } = *taken;
    let entered = Box::new(machine.processor().current().map_or_else(Vmcs::new, |region| region.fields.clone()));
    machine.follow(op, outcome, reason, qualification);
    known.note_entry(machine, entered, outcome, reason);
}
