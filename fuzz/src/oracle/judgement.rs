//! What the oracle says of a case.

use vmcs_case::program::result_text;
use vmcs_model::checks::CheckSet;
use vmcs_model::{Outcome, Verdict};
use vmcs_wire::{Op, StepResult};

use crate::emulator::Step;

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
    /// Checks that its entries violated, but for those behind its last [`Op::Observe`], which only help to look.
    pub violated: CheckSet,
    /// Outcome of the last of these entries as observed.
    pub outcome: Option<Outcome>,
    /// Nothing but what fields hold deviates: every instruction ended as the architecture says.
    pub only_fields: bool,
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

impl Judgement {
    pub(super) fn disagree(verdict: &Verdict, observed: String) -> Self {
        Self::Disagree(Disagreement {
            step: 0,
            permitted: verdict.permitted.iter().map(|outcome| outcome.to_string()).collect(),
            observed,
            violated: verdict.violated.iter().map(|check| check.to_string()).collect(),
        })
    }

    pub(super) fn at(mut self, step: usize) -> Self {
        if let Self::Disagree(disagreement) = &mut self {
            disagreement.step = step;
        }
        self
    }
}

/// A result with its value.
pub(super) fn describe(step: &Step) -> String {
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
        Op::Observe { .. } => "observe",
    }
}
