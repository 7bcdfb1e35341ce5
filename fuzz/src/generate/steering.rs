//! Which sides of checks the cases of a stream have covered so far, as the model predicts, and which side comes next.

use std::collections::BTreeMap;

use arbitrary::Unstructured;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vmcs_model::checks::{CHECK_COUNT, CheckId, CheckSet};

use crate::coverage::{Aim, Coverage, Side, Sides};

/// Cases that were made on each side of each check, and how often one was wanted there. Empty at first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Steering(Vec<MadeCounts>);

/// What was made for one check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MadeCounts {
    sides: Sides,
    /// Cases that were wanted on each side.
    wanted: [u64; 3],
}

/// Aims among which the one that lacks cases most is taken.
const CANDIDATES: usize = 6;

impl Steering {
    /// The side that is to be made next: of a few at random the one with the fewest cases.
    pub(crate) fn choose(&mut self, aims: &[Aim], u: &mut Unstructured<'_>) -> arbitrary::Result<Aim> {
        self.0.resize(CHECK_COUNT, MadeCounts::default());
        let mut best = *u.choose(aims)?;
        for _ in 1..CANDIDATES {
            let aim = *u.choose(aims)?;
            if self.weight(aim) < self.weight(best) {
                best = aim;
            }
        }
        self.0[best.check.index()].wanted[best.side as usize] += 1;
        Ok(best)
    }

    /// Cases that count for that side. A side that was often wanted in vain does not keep others waiting.
    fn weight(&self, aim: Aim) -> u64 {
        let MadeCounts { sides, wanted } = self.0[aim.check.index()];
        let made = match aim.side {
            Side::Violated => sides.alone + sides.with_others / 8,
            Side::Legal => sides.legal,
            Side::GateOff => sides.gate_off,
        };
        made + wanted[aim.side as usize] / 2
    }

    /// Counts a case that violates `violated`. `aim` is the side that it was made for and lies on; `None` for a random case.
    pub(crate) fn count(&mut self, violated: &CheckSet, aim: Option<Aim>) {
        self.0.resize(CHECK_COUNT, MadeCounts::default());
        let alone = violated.len() == 1;
        for check in violated.iter() {
            let sides = &mut self.0[check.index()].sides;
            *(if alone { &mut sides.alone } else { &mut sides.with_others }) += 1;
        }
        match aim {
            Some(Aim { check, side: Side::Legal }) => self.0[check.index()].sides.legal += 1,
            Some(Aim { check, side: Side::GateOff }) => self.0[check.index()].sides.gate_off += 1,
            _ => {}
        }
    }

    /// The counts by check.
    pub(crate) fn coverage(&self) -> Coverage {
        let made = CheckId::all().zip(&self.0).filter(|(_, made)| made.sides != Sides::default());
        Coverage(made.map(|(check, made)| (check, made.sides)).collect())
    }

    /// Whether nothing was made yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Steering {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let made = CheckId::all().zip(&self.0).filter(|(_, made)| **made != MadeCounts::default());
        serializer.collect_map(made.map(|(check, made)| (check.info().id, made)))
    }
}

impl<'de> Deserialize<'de> for Steering {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let by_id = BTreeMap::<String, MadeCounts>::deserialize(deserializer)?;
        let mut steering = Self::default();
        steering.0.resize(CHECK_COUNT, MadeCounts::default());
        for (id, made) in by_id {
            let check = CheckId::by_id(&id).ok_or_else(|| D::Error::custom(format!("there is no check {id}")))?;
            steering.0[check.index()] = made;
        }
        Ok(steering)
    }
}
