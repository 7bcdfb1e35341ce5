//! Whether a campaign can reach a side of a check on a processor, and if not, why not.

use std::fmt;

use vmcs_model::checks::CheckId;
use vmcs_model::explain::Bits;
use vmcs_model::field::FieldId;

/// Whether a side of a check can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A way there is known, or nothing speaks against one.
    Reachable,
    /// It cannot.
    Unreachable(Reason),
}

/// Why no case on the processor lies on a side of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The rule is always in force.
    NoGate,
    /// Whatever violates it violates that check, too, which ends the entry the same way or earlier.
    Hidden(CheckId),
    /// Of the images that lie there the best still violates that check, which ends the entry before it shows.
    Masked(CheckId),
    /// Nothing in a VMCS turns its gate off.
    FixedGate,
    /// Wherever it is in force it is violated.
    NeverHolds,
    /// The VMCS of the processor does not have the field.
    NoField(FieldId),
    /// The processor does not allow these bits of a field to be 1.
    NotOffered(Bits),
    /// The entry has to be tried in a state in which the probe never is.
    Needs(&'static str),
    /// A fact about the processor lifts the rule, or leaves nothing that violates it.
    Lifted(&'static str),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGate => f.write_str("the rule is always in force"),
            Self::Hidden(check) => write!(f, "whatever violates it violates {check}, which hides it"),
            Self::Masked(check) => write!(f, "every image there violates something else, at least {check}"),
            Self::FixedGate => f.write_str("nothing in a VMCS turns its gate off"),
            Self::NeverHolds => f.write_str("wherever it is in force it is violated"),
            Self::NoField(field) => write!(f, "the processor has no {}", field.info().name),
            Self::NotOffered(bits) => write!(f, "the processor does not allow {bits} of {}", bits.field.info().name),
            Self::Needs(what) => write!(f, "it needs {what}"),
            Self::Lifted(why) => f.write_str(why),
        }
    }
}
