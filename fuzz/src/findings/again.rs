//! How the case of a finding ends when it is executed again, on the machine that showed it or on another one.

use std::fmt;

use vmcs_case::Case;

use crate::deviations::DeviationIds;
use crate::findings::minimise::Goal;
use crate::oracle::{Disagreement, Judged, Judgement, LeftOpen};

/// How a case ended that was executed again. `Display` writes it in a word or two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// The machine does what the architecture says.
    Agrees,
    /// The SDM leaves open what the machine should do.
    LeftOpen(LeftOpen),
    /// Reviewed deviations account for what the machine does.
    Deviates(DeviationIds),
    /// The case shows the disagreement that is known of it, or any if none is known.
    Disagrees(Disagreement),
    /// The case shows another disagreement than the one that is known of it.
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
