//! Whether a campaign can reach a side of a check on a processor, and if not, why not.

use std::fmt;

use vmcs_model::checks::CheckId;
use vmcs_model::explain::Bits;
use vmcs_model::field::FieldId;

/// Whether a side of a check can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// An entry on that side is known, or no reason is known why there should be none.
    Reachable,
    /// The side cannot be reached, for this reason.
    Unreachable(Reason),
}

/// Why no case on the processor lies on a side of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The rule is always in force.
    NoGate,
    /// Every image that violates the rule also violates that other check, which ends the entry in the same way or earlier.
    Hidden(CheckId),
    /// Every image on that side violates another check, at least this one, which ends the entry before the side shows.
    Masked(CheckId),
    /// No value of a field takes the rule out of force.
    FixedGate,
    /// The rule is violated whenever it is in force.
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
