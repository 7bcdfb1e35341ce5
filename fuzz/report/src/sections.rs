//! How many checks of each section of the SDM a campaign has tried.

use std::collections::BTreeSet;

use vmcs_model::checks::CheckId;

/// A section and its checks.
#[derive(Clone, Debug)]
pub struct Section {
    /// Number in the 2024 editions.
    pub number: &'static str,
    /// Title.
    pub title: &'static str,
    /// In the SDM's order.
    pub checks: Vec<CheckId>,
}

/// Every section that states a check, in the order of a VM entry.
#[must_use]
pub fn all() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for check in CheckId::all() {
        let info = check.info();
        match sections.iter_mut().find(|section| section.number == info.sdm) {
            Some(section) => section.checks.push(check),
            None => sections.push(Section { number: info.sdm, title: info.title, checks: vec![check] }),
        }
    }
    sections
}

/// The sections of those checks, separated by spaces.
pub(crate) fn of(checks: impl Iterator<Item = CheckId>) -> String {
    let sections: BTreeSet<_> = checks.map(|check| check.info().sdm).collect();
    sections.into_iter().collect::<Vec<_>>().join(" ")
}
