//! The causes that VirtualBox names: the table of them, and the name in a line of nested VMX.

use std::sync::LazyLock;

use vmcs_model::checks::CheckId;

use super::super::contents::{Dump, Named, Reported};
use crate::log::Line;

/// Causes by number and name.
pub(super) const CAUSES: &str = include_str!("causes.tsv");

/// A row of the table of causes.
pub(super) struct Cause {
    pub(super) kind: &'static str,
    pub(super) number: Option<u64>,
    pub(super) name: &'static str,
    pub(super) checks: &'static str,
    pub(super) rule: &'static str,
}

pub(super) fn causes() -> impl Iterator<Item = &'static Cause> {
    static ROWS: LazyLock<Vec<Cause>> = LazyLock::new(|| rows().collect());
    ROWS.iter()
}

fn rows() -> impl Iterator<Item = Cause> {
    CAUSES.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut columns = line.split('\t');
        let mut next = || columns.next();
        let (kind, number, name, checks, rule) = (next()?, next()?, next()?, next()?, next()?);
        Some(Cause { kind, number: number.parse().ok(), name, checks, rule })
    })
}

impl Cause {
    pub(super) fn checks(&self) -> impl Iterator<Item = CheckId> {
        self.checks.split(',').filter_map(CheckId::by_id)
    }

    /// What it names, once for each check that it can mean.
    pub(super) fn named(&self) -> Vec<Named> {
        let number = self.number.map_or(String::new(), |number| format!("HM error {number}, "));
        let words = format!("{number}{}: {}", self.name, self.rule);
        let named: Vec<_> = self.checks().map(|check| Named { check: Some(check), words: words.clone() }).collect();
        if named.is_empty() { vec![Named { check: None, words }] } else { named }
    }
}

/// The cause that nested VMX names in a line, and the dump that follows from it.
pub(super) fn diagnosis(line: &Line) -> Option<(&'static str, Dump)> {
    let (before, rest) = line.text.split_once("enmDiag")?;
    let (_, name) = rest.split_once('(')?;
    let (name, rest) = name.split_once(')')?;
    let cause = causes().find(|cause| cause.kind == "VDIAG" && cause.name == name)?;
    let mut dump = Dump { line: line.number, named: cause.named(), ..Dump::new("VirtualBox") };
    let instruction = before.contains("vmlaunch") || before.contains("vmresume");
    if instruction && rest.contains("VM-exit") {
        let reason = if cause.name.starts_with("MsrLoad") { 0x8000_0022 } else { 0x8000_0021 };
        let link = cause.name.starts_with("VmcsLinkPtr") || cause.name == "AddrVmcsLinkPtr";
        dump.reported = Reported::hardware_error(reason, link.then_some(4));
    } else if instruction && rest.contains("VMFail") {
        let outcome = cause.checks().next().map(|check| check.info().failure.outcome);
        dump.reported = outcome.map(|outcome| Reported::Outcome { outcome, qualified: true });
    } else if !instruction {
        dump.reported = None;
    }
    dump.note("the guest of VirtualBox is itself a hypervisor, and VirtualBox refused the entry of its guest");
    Some((cause.name, dump))
}
