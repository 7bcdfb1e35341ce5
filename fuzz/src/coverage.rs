//! Which checks a campaign has tried, and on which side of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vmcs_model::checks::{CheckId, CheckSet};

use crate::as_text;
pub use crate::generate::reach::{Reach, Reason};

/// A side of a check that a case can lie on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The check does not hold.
    Violated,
    /// The check is in force and holds, and the nearest other value would violate it.
    Legal,
    /// The check is not in force, and would be violated if it were.
    GateOff,
}

impl Side {
    /// Every side.
    pub const ALL: [Self; 3] = [Self::Violated, Self::Legal, Self::GateOff];
}

/// What a case was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aim {
    /// The check.
    pub check: CheckId,
    /// The side of it.
    pub side: Side,
}

/// Cases on each side of one check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sides {
    /// Cases that violated this check and no other.
    pub alone: u64,
    /// Cases that violated this check and others.
    pub with_others: u64,
    /// Cases at the nearest legal value.
    pub legal: u64,
    /// Cases in which the check was not violated only because it was not in force.
    pub gate_off: u64,
}

impl Sides {
    /// Cases that violated the check.
    #[must_use]
    pub const fn violated(&self) -> u64 {
        self.alone + self.with_others
    }
}

/// Cases on each side of every check that was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Coverage(#[serde(with = "as_text::keys")] pub BTreeMap<CheckId, Sides>);

impl Coverage {
    /// Counts a case that violated `violated` and was made for `aim`.
    pub fn count(&mut self, violated: &CheckSet, aim: Option<Aim>) {
        let alone = violated.iter().nth(1).is_none();
        for check in violated.iter() {
            let sides = self.of_mut(check);
            *(if alone { &mut sides.alone } else { &mut sides.with_others }) += 1;
        }
        match aim {
            Some(Aim { check, side: Side::Legal }) if !violated.contains(check) => self.of_mut(check).legal += 1,
            Some(Aim { check, side: Side::GateOff }) if !violated.contains(check) => self.of_mut(check).gate_off += 1,
            _ => {}
        }
    }

    /// The cases of one check.
    #[must_use]
    pub fn of(&self, check: CheckId) -> Sides {
        self.0.get(&check).copied().unwrap_or_default()
    }

    /// Adds what another campaign has tried.
    pub fn merge(&mut self, other: &Self) {
        for (check, sides) in &other.0 {
            let into = self.0.entry(*check).or_default();
            into.alone += sides.alone;
            into.with_others += sides.with_others;
            into.legal += sides.legal;
            into.gate_off += sides.gate_off;
        }
    }

    fn of_mut(&mut self, check: CheckId) -> &mut Sides {
        self.0.entry(check).or_default()
    }
}
