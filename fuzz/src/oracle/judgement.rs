//! The oracle's judgement on a case, as a value.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use vmcs_model::Outcome;
use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::field::FieldId;

use super::difference::Disagreement;
use crate::as_text;
use crate::deviations::DeviationIds;

/// What the comparison of one case came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Every step ended as the architecture says.
    Agree,
    /// The target did something that the architecture leaves open, or that nobody could see.
    Unspecified(LeftOpen),
    /// The target deviated as a reviewed deviation of it says, or as several together do.
    Deviates(DeviationIds),
    /// The target did what the architecture does not permit.
    Disagree(Disagreement),
}

/// Why nothing can be said of what a target did. `Display` writes the form that files and reports use, and `FromStr`
/// reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeftOpen {
    /// A measurement was made.
    Duration,
    /// The VMCS was active at a VMXOFF, so that its data may be lost.
    ActiveAtVmxoff,
    /// A guest that was entered, or host state that was loaded, crashed the machine.
    Crashed,
    /// It hung the machine.
    Hung,
    /// The machine went down at an operation that is no entry.
    DownBefore,
}

impl LeftOpen {
    /// Every reason.
    pub const ALL: [Self; 5] = [Self::Duration, Self::ActiveAtVmxoff, Self::Crashed, Self::Hung, Self::DownBefore];

    /// The reason in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Duration => "no rule says how long an entry takes",
            Self::ActiveAtVmxoff => "the VMCS was active when VMX operation was left",
            Self::Crashed => "the machine crashed after an entry",
            Self::Hung => "the machine hung after an entry",
            Self::DownBefore => "the machine went down before",
        }
    }
}

impl fmt::Display for LeftOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

/// A text that is no reason why nothing can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a reason why the architecture leaves something open")]
pub struct ParseLeftOpenError;

impl FromStr for LeftOpen {
    type Err = ParseLeftOpenError;

    fn from_str(text: &str) -> Result<Self, ParseLeftOpenError> {
        Self::ALL.into_iter().find(|reason| reason.text() == text).ok_or(ParseLeftOpenError)
    }
}

/// A judged case.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The judgement.
    pub judgement: Judgement,
    /// Checks that its entries violated, but for those behind its last [`Op::Observe`](vmcs_wire::Op::Observe), which only help to look.
    pub violated: CheckSet,
    /// Outcome of the last of these entries as observed.
    pub outcome: Option<Outcome>,
    /// Nothing but what fields hold deviates: every instruction ended as the architecture says.
    pub only_fields: bool,
    /// Why the checks do not hold that the entry in disagreement violated.
    pub explanations: Vec<ExplanationText>,
}

/// Why the model says what it says, for people: rule and section, the values, and what would be legal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplanationText {
    /// What it is about.
    #[serde(rename = "check", with = "as_text")]
    pub about: About,
    /// Several lines.
    pub text: String,
}

/// What an explanation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A check that does not hold.
    Check(CheckId),
    /// A field that holds something else than it should.
    Field(FieldId),
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Check(check) => check.info().id,
            Self::Field(field) => field.info().name,
        })
    }
}

/// A text that names neither a check nor a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a check or a field")]
pub struct ParseAboutError;

impl FromStr for About {
    type Err = ParseAboutError;

    fn from_str(text: &str) -> Result<Self, ParseAboutError> {
        let field = || FieldId::by_name(text).map(Self::Field);
        CheckId::by_id(text).map(Self::Check).or_else(field).ok_or(ParseAboutError)
    }
}

impl Judged {
    /// The judgement on a case of which nothing was seen yet.
    pub(super) const fn new() -> Self {
        Self {
            judgement: Judgement::Agree,
            violated: CheckSet::EMPTY,
            outcome: None,
            only_fields: true,
            explanations: Vec::new(),
        }
    }
}

impl Judgement {
    pub(super) fn at(mut self, step: usize) -> Self {
        if let Self::Disagree(disagreement) = &mut self {
            disagreement.step = step;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_in_the_order_of_their_texts_and_are_read_back() {
        assert!(LeftOpen::ALL.is_sorted() && LeftOpen::ALL.map(LeftOpen::text).is_sorted());
        for reason in LeftOpen::ALL {
            assert_eq!(reason.to_string().parse(), Ok(reason));
        }
    }

    #[test]
    fn explanations_are_about_checks_or_fields() {
        let check = CheckId::all().next().unwrap();
        for about in [About::Check(check), About::Field(FieldId::all().next().unwrap())] {
            assert_eq!(about.to_string().parse(), Ok(about));
        }
        assert_eq!("guest_rax".parse::<About>(), Err(ParseAboutError));
    }
}
