//! Whether what a target did is what the architecture permits.
//!
//! The emulator goes through the case beside the observation. Where the SDM defines one result it must be the observed
//! one; a VM entry must end in a permitted outcome, and then the emulator takes that outcome too, so that what follows
//! is judged in the state that the target is in.

use std::sync::OnceLock;

use std::collections::BTreeSet;

use vmcs_hw::program::{entry_outcome, result_text};
use vmcs_hw::{Case, End, Observation, Session};
use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::field::{self, Area, Encoding};
use vmcs_model::formats::ExitReason;
use vmcs_model::{Outcome, Verdict};
use vmcs_wire::{Op, Start, StepResult};

use crate::World;
use crate::deviations::{Deviation, TOGETHER};
use crate::draft::REGION;
use crate::machine::{Machine, Step};

/// What the comparison of one case came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Every step ended as the architecture says.
    Agree,
    /// The target did something that the architecture leaves open, or that nobody could see.
    Unspecified(&'static str),
    /// The target deviated as a reviewed deviation of it says.
    Deviates(String),
    /// The target did what the architecture does not permit.
    Disagree(Disagreement),
}

/// A step that ended as the architecture does not permit.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Disagreement {
    /// Index of the operation.
    pub step: usize,
    /// What the architecture permits.
    pub permitted: Vec<String>,
    /// What the target did.
    pub observed: String,
    /// Checks that the entry violates, for an entry.
    pub violated: Vec<String>,
}

/// A judged case.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The judgement.
    pub judgement: Judgement,
    /// Checks that its entries violated.
    pub violated: CheckSet,
    /// Outcome of its last VM entry as observed.
    pub outcome: Option<Outcome>,
    /// Why the checks do not hold that the entry in disagreement violated.
    pub explanations: Vec<Explanation>,
}

/// Why a check does not hold, for people: its rule and section, the values, and what would be legal.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Explanation {
    /// The check.
    pub check: String,
    /// Several lines.
    pub text: String,
}

/// Where an entry went, and how the guest left again.
struct Taken {
    outcome: Outcome,
    reason: ExitReason,
    qualification: u64,
}

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

/// Judges observations of one target.
#[derive(Debug)]
pub struct Oracle<'a> {
    world: &'a World,
    session: &'a Session,
    deviations: Vec<&'a Deviation>,
    /// For each image a machine that has written it to a VMCS, as image cases begin; made when it is first needed.
    prepared: Vec<OnceLock<Option<Machine>>>,
}

impl<'a> Oracle<'a> {
    /// For observations of cases of `world` and `session` on a target that has those deviations.
    #[must_use]
    pub fn new(world: &'a World, session: &'a Session, deviations: Vec<&'a Deviation>) -> Self {
        let prepared = session.images.iter().map(|_| OnceLock::new()).collect();
        Self { world, session, deviations, prepared }
    }

    /// Judges one observation.
    #[must_use]
    pub fn judge(&self, case: &Case, observation: &Observation) -> Judged {
        let (mut machine, done) = match self.prepared(case, observation) {
            Some((machine, done)) => (machine.clone(), done),
            None => (Machine::new(&self.world.profile, case.start), 0),
        };
        let mut judged =
            Judged { judgement: Judgement::Agree, violated: CheckSet::EMPTY, outcome: None, explanations: Vec::new() };
        for (step, op) in case.ops.iter().enumerate().skip(done) {
            let observed = observation.steps.get(step);
            if let Some(verdict) = machine.verdict(op) {
                judged.violated = judged.violated.union(&verdict.violated);
                judged.outcome = observed.and_then(entry_outcome);
                match self.entry(&machine, op, &verdict, observed, &observation.end) {
                    // After the last operation nobody looks at the machine.
                    Ok(_) if step + 1 == case.ops.len() => {}
                    Ok(Taken { outcome, reason, qualification }) => {
                        machine.follow(op, outcome, reason, qualification);
                    }
                    Err(Judgement::Disagree(_)) if was_active_at_vmxoff(&case.ops[..step]) => {
                        judged.judgement = Judgement::Unspecified("the VMCS was active when VMX operation was left");
                        return judged;
                    }
                    Err(judgement) => {
                        if matches!(judgement, Judgement::Disagree(_)) {
                            let explain = |check: CheckId| {
                                Some(Explanation { check: check.to_string(), text: machine.explain(op, check)? })
                            };
                            judged.explanations = verdict.violated.iter().filter_map(explain).collect();
                        }
                        judged.judgement = judgement.at(step);
                        return judged;
                    }
                }
                continue;
            }
            let Some(observed) = observed else {
                judged.judgement = Judgement::Unspecified("the machine went down before");
                return judged;
            };
            if matches!(op, Op::Time { .. }) {
                // Nor is it followed how often its entries were executed.
                judged.judgement = Judgement::Unspecified("no rule says how long an entry takes");
                return judged;
            }
            let expected = machine.step(self.session, op);
            if expected != *observed && !is_open(op, &expected, observed) {
                judged.judgement = self.instruction(op, &expected, observed, step);
                return judged;
            }
        }
        judged
    }

    /// A machine that has executed the first operations of the case, and how many, if the target did them, too.
    fn prepared(&self, case: &Case, observation: &Observation) -> Option<(&Machine, usize)> {
        let Some(begin @ [Op::Store { .. }, Op::Vmclear { .. }, Op::Vmptrld { .. }, Op::WriteImage { image }]) =
            case.ops.get(..IMAGE_STEPS)
        else {
            return None;
        };
        let usual = usual_begin(self.world.capabilities.revision(), *image);
        let done = observation.steps.get(..IMAGE_STEPS)?;
        if case.start != Start::VmxRoot || *begin != usual || done.iter().any(|step| *step != StepResult::Ok) {
            return None;
        }
        let make = || {
            let mut machine = Machine::new(&self.world.profile, Start::VmxRoot);
            usual.iter().all(|op| machine.step(self.session, op) == StepResult::Ok).then_some(machine)
        };
        let machine = self.prepared.get(usize::from(*image))?.get_or_init(make).as_ref()?;
        Some((machine, IMAGE_STEPS))
    }

    /// Compares a VM entry; where the target went.
    fn entry(
        &self,
        machine: &Machine,
        op: &Op,
        verdict: &Verdict,
        observed: Option<&Step>,
        end: &End,
    ) -> Result<Taken, Judgement> {
        let Some(step) = observed else {
            return Err(self.down(machine, op, verdict, end));
        };
        let Some(outcome) = entry_outcome(step) else {
            return Err(Judgement::disagree(verdict, result_text(step)));
        };
        if !verdict.permits(&outcome) {
            return Err(self.explained(machine, op, verdict, outcome));
        }
        let (reason, qualification) = match *step {
            StepResult::Exit { reason, qualification, .. } => (ExitReason::from_bits(reason), qualification),
            _ => (ExitReason::new(), 0),
        };
        Ok(Taken { outcome, reason, qualification })
    }

    /// The machine went down at a VM entry.
    fn down(&self, machine: &Machine, op: &Op, verdict: &Verdict, end: &End) -> Judgement {
        let (text, open) = match end {
            End::Completed => return Judgement::disagree(verdict, "no result".to_owned()),
            End::Crashed { .. } => ("crashed", "the machine crashed after an entry"),
            End::Hung => ("hung", "the machine hung after an entry"),
        };
        if let Some(deviation) = self.applicable(machine).find(|deviation| deviation.crashes) {
            return Judgement::Deviates(deviation.id.clone());
        }
        // A guest, or host state that was loaded, can take a machine down; an instruction that fails cannot.
        let leaves = |verdict: &Verdict| {
            verdict.permitted.iter().any(|o| matches!(o, Outcome::Entered | Outcome::EntryFailed { .. }))
        };
        if leaves(verdict) {
            return Judgement::Unspecified(open);
        }
        let applicable: Vec<_> = self.applicable(machine).collect();
        match Self::omitting(machine, op, verdict, &applicable, &leaves) {
            Some(ids) => Judgement::Deviates(ids),
            None => Judgement::disagree(verdict, text.to_owned()),
        }
    }

    /// The deviations that omit checks which are violated and without which the verdict is `wanted`: one alone, or else
    /// all of them together.
    fn omitting(
        machine: &Machine,
        op: &Op,
        verdict: &Verdict,
        applicable: &[&Deviation],
        wanted: &dyn Fn(&Verdict) -> bool,
    ) -> Option<String> {
        let omits = |deviation: &&&Deviation| {
            deviation
                .omitted()
                .iter()
                .any(|check| verdict.violated.contains(check) || verdict.undecidable.contains(check))
        };
        let omitting: Vec<_> = applicable.iter().filter(omits).collect();
        let is_wanted = |omitted: &CheckSet| machine.verdict_omitting(op, omitted).is_some_and(|v| wanted(&v));
        if let Some(deviation) = omitting.iter().find(|deviation| is_wanted(&deviation.omitted())) {
            return Some(deviation.id.clone());
        }
        let all = omitting.iter().flat_map(|deviation| &deviation.omits).filter_map(|id| CheckId::by_id(id)).collect();
        let ids: Vec<_> = omitting.iter().map(|deviation| deviation.id.as_str()).collect();
        (!omitting.is_empty() && is_wanted(&all)).then(|| ids.join(TOGETHER))
    }

    /// The judgement on an outcome that is not permitted: a deviation if one accounts for it.
    fn explained(&self, machine: &Machine, op: &Op, verdict: &Verdict, observed: Outcome) -> Judgement {
        let text = observed.to_string();
        // Where devices answer the verdict takes one answer for granted.
        if machine.verdict_omitting(op, &CheckSet::EMPTY).is_some_and(|verdict| verdict.permits(&observed)) {
            return Judgement::Unspecified("the entry reads what a device answers");
        }
        let applicable: Vec<_> = self.applicable(machine).collect();
        if let Some(ids) = Self::omitting(machine, op, verdict, &applicable, &|v| v.permits(&observed)) {
            return Judgement::Deviates(ids);
        }
        if let Some(deviation) = applicable.iter().find(|deviation| deviation.entry.as_deref() == Some(&text)) {
            return Judgement::Deviates(deviation.id.clone());
        }
        Judgement::disagree(verdict, text)
    }

    /// The judgement on an instruction that ended differently.
    fn instruction(&self, op: &Op, expected: &Step, observed: &Step, step: usize) -> Judgement {
        let (expected, observed) = (describe(expected), describe(observed));
        let matching = self.deviations.iter().find(|deviation| {
            deviation.instruction.as_deref() == Some(mnemonic(op))
                && deviation.result.as_ref().is_none_or(|result| *result == observed)
                && deviation.instead_of.as_ref() == Some(&expected)
        });
        match matching {
            Some(deviation) => Judgement::Deviates(deviation.id.clone()),
            None => Judgement::Disagree(Disagreement { step, permitted: vec![expected], observed, violated: vec![] }),
        }
    }

    /// The deviations whose conditions the current VMCS meets.
    fn applicable<'b>(&'b self, machine: &'b Machine) -> impl Iterator<Item = &'a Deviation> + 'b {
        let (current, memory) = (machine.processor().current(), machine.processor().memory());
        self.deviations
            .iter()
            .copied()
            .filter(move |deviation| current.is_some_and(|region| deviation.applies(&region.fields, memory)))
    }
}

impl Judgement {
    fn disagree(verdict: &Verdict, observed: String) -> Self {
        Self::Disagree(Disagreement {
            step: 0,
            permitted: verdict.permitted.iter().map(|outcome| outcome.to_string()).collect(),
            observed,
            violated: verdict.violated.iter().map(|check| check.to_string()).collect(),
        })
    }

    fn at(mut self, step: usize) -> Self {
        if let Self::Disagree(disagreement) = &mut self {
            disagreement.step = step;
        }
        self
    }
}

/// A result with its value.
fn describe(step: &Step) -> String {
    match step {
        StepResult::Value(value) => format!("ok {value:#x}"),
        other => result_text(other),
    }
}

/// The instruction's name as programs have it.
#[must_use]
pub fn mnemonic(op: &Op) -> &'static str {
    match op {
        Op::Vmxon { .. } => "vmxon",
        Op::Vmxoff => "vmxoff",
        Op::Vmclear { .. } => "vmclear",
        Op::Vmptrld { .. } => "vmptrld",
        Op::Vmptrst => "vmptrst",
        Op::Vmread { .. } => "vmread",
        Op::Vmwrite { .. } => "vmwrite",
        Op::Vmlaunch { .. } => "vmlaunch",
        Op::Vmresume { .. } => "vmresume",
        Op::Vmcall => "vmcall",
        Op::Vmfunc { .. } => "vmfunc",
        Op::Invept { .. } => "invept",
        Op::Invvpid { .. } => "invvpid",
        Op::WriteImage { .. } => "image",
        Op::Store { .. } => "store",
        Op::Diagnose { .. } => "diagnose",
        Op::Time { .. } => "time",
    }
}

/// Whether the VMCS that is current after `ops` was active at a VMXOFF. Its data may be with the processor alone then, and are lost:
/// VMCLEAR comes first (SDM 25.11.1, Software Use of Virtual-Machine Control Structures).
fn was_active_at_vmxoff(ops: &[Op]) -> bool {
    let (mut active, mut lost) = (BTreeSet::new(), BTreeSet::new());
    let mut current = None;
    for op in ops {
        match op {
            Op::Vmptrld { address } => {
                active.insert(*address);
                current = Some(*address);
            }
            Op::Vmclear { address } => {
                active.remove(address);
            }
            Op::Vmxoff => lost.append(&mut active),
            _ => {}
        }
    }
    current.is_some_and(|current| lost.contains(&current))
}

/// Whether two values differ only where the SDM says nothing about the field: VM-exit information that the exit before
/// did not define keeps whatever a processor left there, and VMCLEAR initialises no field.
fn is_open(op: &Op, expected: &Step, observed: &Step) -> bool {
    let (Op::Vmread { encoding }, StepResult::Value(_), StepResult::Value(_)) = (op, expected, observed) else {
        return false;
    };
    let field = u32::try_from(*encoding).ok().map(|encoding| Encoding(encoding).full()).and_then(Encoding::field);
    field.is_some_and(|field| {
        field.info().area() == Area::ExitInformation
            && field != field::VM_INSTRUCTION_ERROR.id()
            && field != field::EXIT_REASON.id()
            && field != field::EXIT_QUALIFICATION.id()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vmclear_before_vmxoff_keeps_a_vmcs() {
        let (load, clear) = (Op::Vmptrld { address: 0x1000 }, Op::Vmclear { address: 0x1000 });
        let on = Op::Vmxon { address: 0x2000 };
        assert!(was_active_at_vmxoff(&[load, Op::Vmxoff, on, load]));
        assert!(!was_active_at_vmxoff(&[load, clear, Op::Vmxoff, on, load]));
        assert!(!was_active_at_vmxoff(&[load, Op::Vmxoff, on, Op::Vmptrld { address: 0x3000 }]));
    }
}
