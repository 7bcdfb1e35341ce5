//! How the case of a finding ends when it is executed again, on the machine that showed it or on another one.

use std::fmt;

use vmcs_case::Case;

use crate::deviations::DeviationIds;
use crate::findings::minimise::Goal;
use crate::oracle::{Disagreement, Judged, Judgement, LeftOpen};

/// What became of a case. `Display` says it in a word or two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// The machine does what the architecture says.
    Agrees,
    /// Nothing can be said of what the machine does.
    LeftOpen(LeftOpen),
    /// Reviewed deviations account for what the machine does.
    Deviates(DeviationIds),
    /// It shows the disagreement that it is known for, or one if it is known for none.
    Disagrees(Disagreement),
    /// It shows another disagreement than the one that it is known for.
    OtherwiseDisagrees(Disagreement),
}

impl Again {
    /// What the judgement on a case says, which is `known` for a disagreement if there is one.
    #[must_use]
    pub fn new(case: &Case, known: Option<&Disagreement>, judged: Judged) -> Self {
        let same = |known: &Disagreement| Goal::disagreement(case, known).is_kept(case, &judged);
        let same = known.is_none_or(same);
        match judged.judgement {
            Judgement::Agree => Self::Agrees,
            Judgement::Unspecified(why) => Self::LeftOpen(why),
            Judgement::Deviates(ids) => Self::Deviates(ids),
            Judgement::Disagree(found) if same => Self::Disagrees(found),
            Judgement::Disagree(found) => Self::OtherwiseDisagrees(found),
        }
    }

    /// The disagreement that it shows, if it shows one.
    #[must_use]
    pub const fn disagreement(&self) -> Option<&Disagreement> {
        match self {
            Self::Disagrees(found) | Self::OtherwiseDisagrees(found) => Some(found),
            Self::Agrees | Self::LeftOpen(_) | Self::Deviates(_) => None,
        }
    }
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agrees => "agrees",
            Self::LeftOpen(_) => "left open",
            Self::Deviates(_) => "known deviation",
            Self::Disagrees(_) => "disagrees",
            Self::OtherwiseDisagrees(_) => "otherwise disagrees",
        })
    }
}
