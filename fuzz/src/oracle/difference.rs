//! Disagreements: in what a target differed from what the architecture permits, as a value and in the form that files have.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use vmcs_model::Verdict;
use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::field::FieldId;

use crate::step::StepEnd;

/// A step that is not as the architecture permits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "DisagreementText", into = "DisagreementText")]
pub struct Disagreement {
    /// Index of the operation.
    pub step: usize,
    /// What is not as it should be.
    pub difference: Difference,
}

/// What is not as the architecture permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The step ended otherwise.
    End {
        /// What the target did.
        observed: StepEnd,
        /// What the architecture permits.
        permitted: Vec<StepEnd>,
        /// Checks that the entry violates, for an entry.
        violated: CheckSet,
    },
    /// A field of the current VMCS holds something else.
    Field(WrongField),
}

/// A field that does not hold what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongField {
    /// What was the last to change fields.
    pub since: Since,
    /// The field.
    pub field: FieldId,
    /// What it holds.
    pub observed: u64,
    /// What it should hold.
    pub expected: u64,
}

/// What was the last to change the fields of the current VMCS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Since {
    /// VMWRITE, or another instruction that is no entry.
    Writes,
    /// An entry that failed with VMfail or an exception.
    Refusal,
    /// An entry that failed during or after loading guest state.
    FailedEntry,
    /// A VM exit.
    Exit,
}

impl Since {
    const ALL: [Self; 4] = [Self::Writes, Self::Refusal, Self::FailedEntry, Self::Exit];

    /// When the field was looked at, in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Writes => "before the entry",
            Self::Refusal => "after the refused entry",
            Self::FailedEntry => "after the failed entry",
            Self::Exit => "after the exit",
        }
    }
}

impl Disagreement {
    /// An entry that ended otherwise than `verdict` says.
    pub(super) fn of_entry(verdict: &Verdict, observed: StepEnd) -> Self {
        let permitted = verdict.permitted.iter().map(StepEnd::Outcome).collect();
        Self { step: 0, difference: Difference::End { observed, permitted, violated: verdict.violated } }
    }

    /// Checks that the entry violates; none for what is no entry.
    #[must_use]
    pub const fn violated(&self) -> CheckSet {
        match self.difference {
            Difference::End { violated, .. } => violated,
            Difference::Field(_) => CheckSet::EMPTY,
        }
    }

    /// What the target did, for people.
    #[must_use]
    pub fn observed(&self) -> String {
        match &self.difference {
            Difference::End { observed, .. } => observed.to_string(),
            Difference::Field(wrong) => format!("{} {}", wrong.since.text(), FieldEquals(wrong.field, wrong.observed)),
        }
    }

    /// What the architecture permits, for people.
    #[must_use]
    pub fn permitted(&self) -> Vec<String> {
        match &self.difference {
            Difference::End { permitted, .. } => permitted.iter().map(ToString::to_string).collect(),
            Difference::Field(wrong) => vec![FieldEquals(wrong.field, wrong.expected).to_string()],
        }
    }
}

/// A field and what it holds: `guest_rip is 0x9000`.
struct FieldEquals(FieldId, u64);

impl fmt::Display for FieldEquals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:#x}", self.0.info().name, self.1)
    }
}

impl FromStr for FieldEquals {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let parse = || {
            let (name, value) = text.split_once(" is 0x")?;
            Some(Self(FieldId::by_name(name)?, u64::from_str_radix(value, 16).ok()?))
        };
        parse().ok_or(())
    }
}

/// A disagreement as files have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DisagreementText {
    /// Index of the operation.
    pub(crate) step: usize,
    /// What the architecture permits.
    pub(crate) permitted: Vec<String>,
    /// What the target did.
    pub(crate) observed: String,
    /// Checks that the entry violates, for an entry.
    pub(crate) violated: Vec<String>,
}

impl From<Disagreement> for DisagreementText {
    fn from(disagreement: Disagreement) -> Self {
        Self {
            step: disagreement.step,
            permitted: disagreement.permitted(),
            observed: disagreement.observed(),
            violated: disagreement.violated().iter().map(|check| check.to_string()).collect(),
        }
    }
}

/// A text of a file that is no disagreement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DisagreementError {
    /// A step does not end so.
    #[error("{0:?} is neither what a step ends in nor what a field holds")]
    End(String),
    /// There is no such check.
    #[error("there is no check {0:?}")]
    Check(String),
}

impl TryFrom<DisagreementText> for Disagreement {
    type Error = DisagreementError;

    fn try_from(text: DisagreementText) -> Result<Self, DisagreementError> {
        let DisagreementText { step, permitted, observed, violated } = text;
        if let Some(wrong) = WrongField::parse(&observed, &permitted) {
            return Ok(Self { step, difference: Difference::Field(wrong) });
        }
        let end = |text: String| text.parse().map_err(|_| DisagreementError::End(text));
        let check = |id: String| CheckId::by_id(&id).ok_or(DisagreementError::Check(id));
        Ok(Self {
            step,
            difference: Difference::End {
                observed: end(observed)?,
                permitted: permitted.into_iter().map(end).collect::<Result<_, _>>()?,
                violated: violated.into_iter().map(check).collect::<Result<_, _>>()?,
            },
        })
    }
}

impl WrongField {
    /// What the texts of [`Disagreement::observed`] and [`Disagreement::permitted`] say of a field, if they do.
    fn parse(observed: &str, permitted: &[String]) -> Option<Self> {
        let (since, rest) = Since::ALL
            .into_iter()
            .find_map(|since| Some((since, observed.strip_prefix(since.text())?.strip_prefix(' ')?)))?;
        let FieldEquals(field, observed) = rest.parse().ok()?;
        let [permitted] = permitted else { return None };
        let FieldEquals(_, expected) = permitted.parse().ok().filter(|FieldEquals(of, _)| *of == field)?;
        Some(Self { since, field, observed, expected })
    }
}

#[cfg(test)]
mod tests {
    use vmcs_model::Outcome;
    use vmcs_model::field;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let first = CheckId::all().next().unwrap();
        let refused = Difference::End {
            observed: StepEnd::Outcome(Outcome::Entered),
            permitted: vec![StepEnd::Outcome(Outcome::fail_valid(7)), StepEnd::Outcome(Outcome::FailInvalid)],
            violated: CheckSet::from_iter([first]),
        };
        let read =
            Difference::End { observed: StepEnd::Value(5), permitted: vec![StepEnd::Ok], violated: CheckSet::EMPTY };
        let held = |since| {
            let field = field::GUEST_RIP.id();
            Difference::Field(WrongField { since, field, observed: 0x9000, expected: u64::MAX })
        };
        for difference in [refused, read].into_iter().chain(Since::ALL.map(held)) {
            let disagreement = Disagreement { step: 3, difference };
            let text = serde_json::to_string(&disagreement).unwrap();
            assert_eq!(serde_json::from_str::<Disagreement>(&text).unwrap(), disagreement, "{text}");
        }
    }

    #[test]
    fn what_is_no_disagreement_is_refused() {
        let text = |observed: &str, permitted: &str, violated: &str| {
            format!(
                "{{\"step\": 0, \"observed\": {observed:?}, \"permitted\": [{permitted:?}], \"violated\": {violated}}}"
            )
        };
        let is_one = |text: &str| serde_json::from_str::<Disagreement>(text).is_ok();
        assert!(is_one(&text("Entered", "VMfailValid(7)", "[]")));
        assert!(is_one(&text("after the exit guest_rip is 0x0", "guest_rip is 0x1", "[]")));
        assert!(!is_one(&text("entered", "VMfailValid(7)", "[]")));
        assert!(!is_one(&text("Entered", "VMfailValid(7)", "[\"no.such.check\"]")));
        assert!(!is_one(&text("after the exit guest_rip is 0x0", "guest_rsp is 0x1", "[]")));
        assert!(!is_one(&text("after lunch guest_rip is 0x0", "guest_rip is 0x1", "[]")));
    }
}
