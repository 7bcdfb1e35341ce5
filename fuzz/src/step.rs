//! The steps of a case as values: the operation of each step, and how it ended.

use std::fmt;
use std::str::FromStr;

use vmcs_case::program::entry_outcome;
use vmcs_case::{End, Op, StepResult};
use vmcs_model::Outcome;
use vmcs_model::formats::exit_reason;

/// A result of a step of a case.
pub type Step = StepResult<Vec<u64>>;

/// The kind of an operation, without its operands. `Display` writes the name that programs have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpKind {
    /// VMXON.
    Vmxon,
    /// VMXOFF.
    Vmxoff,
    /// VMCLEAR.
    Vmclear,
    /// VMPTRLD.
    Vmptrld,
    /// VMPTRST.
    Vmptrst,
    /// VMREAD.
    Vmread,
    /// VMWRITE.
    Vmwrite,
    /// VMLAUNCH.
    Vmlaunch,
    /// VMRESUME.
    Vmresume,
    /// VMCALL.
    Vmcall,
    /// VMFUNC.
    Vmfunc,
    /// INVEPT.
    Invept,
    /// INVVPID.
    Invvpid,
    /// VMWRITE of every field of an image.
    Image,
    /// A store to memory.
    Store,
    /// The question which check an entry would violate first.
    Diagnose,
    /// The measurement of an entry.
    Time,
    /// VMREAD of the fields that tell of an entry.
    Observe,
}

impl OpKind {
    /// Every kind.
    pub const ALL: [Self; 18] = [
        Self::Vmxon,
        Self::Vmxoff,
        Self::Vmclear,
        Self::Vmptrld,
        Self::Vmptrst,
        Self::Vmread,
        Self::Vmwrite,
        Self::Vmlaunch,
        Self::Vmresume,
        Self::Vmcall,
        Self::Vmfunc,
        Self::Invept,
        Self::Invvpid,
        Self::Image,
        Self::Store,
        Self::Diagnose,
        Self::Time,
        Self::Observe,
    ];

    /// The kind of an operation.
    #[must_use]
    pub const fn of(op: &Op) -> Self {
        match op {
            Op::Vmxon { .. } => Self::Vmxon,
            Op::Vmxoff => Self::Vmxoff,
            Op::Vmclear { .. } => Self::Vmclear,
            Op::Vmptrld { .. } => Self::Vmptrld,
            Op::Vmptrst => Self::Vmptrst,
            Op::Vmread { .. } => Self::Vmread,
            Op::Vmwrite { .. } => Self::Vmwrite,
            Op::Vmlaunch { .. } => Self::Vmlaunch,
            Op::Vmresume { .. } => Self::Vmresume,
            Op::Vmcall => Self::Vmcall,
            Op::Vmfunc { .. } => Self::Vmfunc,
            Op::Invept { .. } => Self::Invept,
            Op::Invvpid { .. } => Self::Invvpid,
            Op::WriteImage { .. } => Self::Image,
            Op::Store { .. } => Self::Store,
            Op::Diagnose { .. } => Self::Diagnose,
            Op::Time { .. } => Self::Time,
            Op::Observe { .. } => Self::Observe,
        }
    }

    /// The name that programs have for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vmxon => "vmxon",
            Self::Vmxoff => "vmxoff",
            Self::Vmclear => "vmclear",
            Self::Vmptrld => "vmptrld",
            Self::Vmptrst => "vmptrst",
            Self::Vmread => "vmread",
            Self::Vmwrite => "vmwrite",
            Self::Vmlaunch => "vmlaunch",
            Self::Vmresume => "vmresume",
            Self::Vmcall => "vmcall",
            Self::Vmfunc => "vmfunc",
            Self::Invept => "invept",
            Self::Invvpid => "invvpid",
            Self::Image => "image",
            Self::Store => "store",
            Self::Diagnose => "diagnose",
            Self::Time => "time",
            Self::Observe => "observe",
        }
    }
}

impl fmt::Display for OpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that is no value of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseStepError {
    /// No program has an operation of that name.
    #[error("expected an operation of a program, such as vmlaunch")]
    Op,
    /// No step ends so.
    #[error("expected what a step ends in, such as ok, VMfailValid(7), #GP(0) or Entered")]
    End,
}

impl FromStr for OpKind {
    type Err = ParseStepError;

    fn from_str(text: &str) -> Result<Self, ParseStepError> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or(ParseStepError::Op)
    }
}

/// What a step of a case ended in. `Display` writes the form that files and reports use, and `FromStr` reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StepEnd {
    /// VMsucceed, or a store that was made: `ok`.
    Ok,
    /// VMsucceed with the value that the instruction produced: `ok 0x5`.
    Value(u64),
    /// An outcome of VMLAUNCH or VMRESUME; other instructions fail and raise exceptions as those do.
    Outcome(Outcome),
    /// The step was not executed: `not run`.
    NotRun,
    /// The step has no result, although the machine completed the case: `no result`.
    NoResult,
    /// The machine went down: `crashed`.
    Crashed,
    /// The machine did not come back: `hung`.
    Hung,
}

impl StepEnd {
    /// What an observed result is.
    #[must_use]
    pub fn of(step: &Step) -> Self {
        match step {
            StepResult::Value(value) => Self::Value(*value),
            StepResult::NotRun => Self::NotRun,
            other => entry_outcome(other).map_or(Self::Ok, Self::Outcome),
        }
    }

    /// What became of the step at which a case ended so.
    #[must_use]
    pub const fn of_case(end: &End) -> Self {
        match end {
            End::Completed => Self::NoResult,
            End::Crashed { .. } => Self::Crashed,
            End::Hung => Self::Hung,
        }
    }

    /// The end without what a smaller case may change.
    #[must_use]
    pub const fn kind(self) -> StepEndKind {
        StepEndKind(match self {
            Self::Value(_) => Self::Ok,
            Self::Outcome(Outcome::EntryFailed { reason: reason @ exit_reason::MSR_LOADING, .. }) => {
                Self::Outcome(Outcome::EntryFailed { reason, qualification: 0 })
            }
            other => other,
        })
    }

    /// How far a VM entry got that ended so, `None` for what is no outcome of one.
    #[must_use]
    pub const fn progress(self) -> Option<EntryProgress> {
        match self {
            Self::Outcome(Outcome::FailInvalid) => Some(EntryProgress::FailInvalid),
            Self::Outcome(Outcome::FailValid(_)) => Some(EntryProgress::FailValid),
            Self::Outcome(Outcome::EntryFailed { reason: exit_reason::INVALID_GUEST_STATE, .. }) => {
                Some(EntryProgress::GuestState)
            }
            Self::Outcome(Outcome::EntryFailed { reason: exit_reason::MSR_LOADING, .. }) => {
                Some(EntryProgress::MsrLoading)
            }
            Self::Outcome(Outcome::Entered) => Some(EntryProgress::Entered),
            _ => None,
        }
    }
}

/// What a step ended in, without what a smaller case may change: a value that was read, the number of an entry of the
/// MSR-load area.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepEndKind(StepEnd);

impl fmt::Display for StepEndKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            StepEnd::Outcome(Outcome::EntryFailed { reason: reason @ exit_reason::MSR_LOADING, .. }) => {
                write!(f, "EntryFailed({reason}")
            }
            end => end.fmt(f),
        }
    }
}

/// How far a VM entry got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryProgress {
    /// VMfailInvalid.
    FailInvalid,
    /// VMfailValid.
    FailValid,
    /// It failed for the guest state.
    GuestState,
    /// It failed while MSRs were loaded.
    MsrLoading,
    /// The guest was entered.
    Entered,
}

impl From<Outcome> for StepEnd {
    fn from(outcome: Outcome) -> Self {
        Self::Outcome(outcome)
    }
}

impl fmt::Display for StepEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Value(value) => write!(f, "ok {value:#x}"),
            Self::Outcome(outcome) => outcome.fmt(f),
            Self::NotRun => f.write_str("not run"),
            Self::NoResult => f.write_str("no result"),
            Self::Crashed => f.write_str("crashed"),
            Self::Hung => f.write_str("hung"),
        }
    }
}

impl FromStr for StepEnd {
    type Err = ParseStepError;

    fn from_str(text: &str) -> Result<Self, ParseStepError> {
        Ok(match text {
            "ok" => Self::Ok,
            "not run" => Self::NotRun,
            "no result" => Self::NoResult,
            "crashed" => Self::Crashed,
            "hung" => Self::Hung,
            _ => {
                let value = text.strip_prefix("ok 0x").map(|digits| u64::from_str_radix(digits, 16));
                match value {
                    Some(value) => Self::Value(value.map_err(|_| ParseStepError::End)?),
                    None => Self::Outcome(text.parse().map_err(|_| ParseStepError::End)?),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for kind in OpKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let ends = [
            StepEnd::Ok,
            StepEnd::Value(0),
            StepEnd::Value(u64::MAX),
            StepEnd::Outcome(Outcome::Entered),
            StepEnd::Outcome(Outcome::fail_valid(7)),
            StepEnd::NotRun,
            StepEnd::NoResult,
            StepEnd::Crashed,
            StepEnd::Hung,
        ];
        for end in ends {
            assert_eq!(end.to_string().parse(), Ok(end), "{end}");
        }
        assert_eq!("ok 5".parse::<StepEnd>(), Err(ParseStepError::End));
        assert_eq!("vmrun".parse::<OpKind>(), Err(ParseStepError::Op));
    }

    #[test]
    fn values_and_the_numbers_of_msr_entries_are_details() {
        let failed = |reason, qualification| StepEnd::Outcome(Outcome::EntryFailed { reason, qualification });
        let refused = |error| StepEnd::Outcome(Outcome::fail_valid(error));
        assert_eq!([StepEnd::Value(1), StepEnd::Value(2)].map(StepEnd::kind), [StepEnd::Ok.kind(); 2]);
        assert_eq!(failed(34, 1).kind(), failed(34, 2).kind());
        assert_ne!(failed(33, 0).kind(), failed(33, 4).kind());
        assert_ne!(refused(7).kind(), refused(8).kind());
    }

    #[test]
    fn entries_get_further_and_further() {
        let stages = ["VMfailInvalid", "VMfailValid(7)", "EntryFailed(33, 0)", "EntryFailed(34, 1)", "Entered"];
        let stages = stages.map(|text| text.parse::<StepEnd>().unwrap().progress());
        assert!(stages.is_sorted() && stages[0].is_some(), "{stages:?}");
        assert_eq!(StepEnd::Crashed.progress(), None);
    }
}
