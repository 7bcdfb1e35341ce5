//! The cause of a finding. Findings with the same cause count as one.

use std::collections::BTreeSet;
use std::fmt;

use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::field::FieldId;

use crate::oracle::{Difference, Since};
use crate::processor::base_images::PLAIN;
use crate::step::{OpKind, StepEnd, StepEndKind};

/// The cause of a finding. `Display` writes the text that files and reports have for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A field that does not hold what it should: `after the exit guest_rip`.
    Field(Since, FieldId),
    /// An instruction that ends otherwise: `vmlaunch Entered instead of VMfailValid(7): ctl.vpid.nonzero`.
    End {
        /// The instruction.
        instruction: Option<OpKind>,
        /// What the instruction ended in.
        observed: StepEndKind,
        /// What the instruction may end in.
        permitted: Vec<StepEndKind>,
        /// What the permitted ends follow from.
        from: Origin,
    },
}

/// What an outcome follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Violated checks.
    Checks(CheckSet),
    /// No check is violated: the fields that the case changes, and the image if it is not the plain one.
    Changes {
        /// The fields by their names.
        fields: BTreeSet<String>,
        /// The name of the image.
        image: Option<String>,
    },
}

impl Cause {
    /// What the disagreement of an instruction comes from, in a case that changes `fields` of the valid image `base`.
    pub(super) fn new(
        difference: &Difference,
        instruction: Option<OpKind>,
        base: Option<&str>,
        fields: impl Iterator<Item = String>,
    ) -> Self {
        match difference {
            Difference::Field(wrong) => Self::Field(wrong.since, wrong.field),
            Difference::End { observed, permitted, violated } => Self::End {
                instruction,
                observed: observed.kind(),
                permitted: permitted.iter().copied().map(StepEnd::kind).collect(),
                from: if violated.is_empty() {
                    let image = base.filter(|base| *base != PLAIN).map(str::to_owned);
                    Origin::Changes { fields: fields.collect(), image }
                } else {
                    Origin::Checks(*violated)
                },
            },
        }
    }
}

impl Origin {
    /// What it consists of, in the order of the texts.
    fn parts(&self) -> BTreeSet<String> {
        match self {
            Self::Checks(checks) => checks.iter().map(CheckId::info).map(|info| info.id.to_owned()).collect(),
            Self::Changes { fields, image } => {
                let image = image.iter().map(|image| format!("{image} image"));
                fields.iter().cloned().chain(image).collect()
            }
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(since, field) => write!(f, "{} {}", since.text(), field.info().name),
            Self::End { instruction, observed, permitted, from } => {
                let permitted: Vec<_> = permitted.iter().map(ToString::to_string).collect();
                write!(f, "{} {observed} instead of {}", name(*instruction), permitted.join(" or "))?;
                for (index, part) in from.parts().iter().enumerate() {
                    write!(f, "{}{part}", if index == 0 { ": " } else { ", " })?;
                }
                Ok(())
            }
        }
    }
}

/// The name of an operation, where there is one.
pub(super) fn name(instruction: Option<OpKind>) -> &'static str {
    instruction.map_or(NOTHING, OpKind::name)
}

/// What stands in files where there is no operation.
pub(super) const NOTHING: &str = "nothing";
