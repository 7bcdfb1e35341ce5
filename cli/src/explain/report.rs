//! The answer, for people and for programs.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value};
use vmcs_case::number::Number;
use vmcs_case::profile::NamedProfile;
use vmcs_model::checks::{CheckId, Failure, Phase};
use vmcs_model::explain::{Limit, Repair, Setting};
use vmcs_model::formats::exit_reason;
use vmcs_model::partial::Unknowns;
use vmcs_model::{Capabilities, EntryAttempt, Outcome};

use super::Findings;
use crate::output::json_pretty;

/// The answer for programs.
#[derive(Serialize)]
struct Answer<'a> {
    format: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reported: Option<String>,
    permitted: Vec<String>,
    /// A failure to load MSRs is permitted at every entry of the area from this one on.
    #[serde(skip_serializing_if = "Option::is_none")]
    msr_failures_from: Option<u64>,
    violated: Vec<Violated>,
    undecidable: Vec<Undecidable>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Violated {
    id: &'static str,
    section: &'static str,
    title: &'static str,
    rule: &'static str,
    gate: &'static str,
    outcomes: Vec<String>,
    fields: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capability: Option<Capability>,
    repair: Option<Change>,
}

/// What a capability MSR says.
#[derive(Serialize)]
struct Capability {
    msr: &'static str,
    setting: &'static str,
    mask: Number,
    wrong: Number,
}

#[derive(Serialize)]
struct Change {
    field: &'static str,
    old: Number,
    new: Number,
    text: String,
}

#[derive(Serialize)]
struct Undecidable {
    id: &'static str,
    unknown: Vec<String>,
}

/// Prints one JSON value.
pub(super) fn json(findings: &Findings<'_>) -> io::Result<()> {
    let verdict = &findings.verdict;
    let undecidable =
        |check: CheckId| Undecidable { id: check.info().id, unknown: names(&findings.unknowns(check), true) };
    json_pretty(&Answer {
        format: findings.dump.format,
        reported: findings.dump.reported.map(|reported| reported.outcome.to_string()),
        permitted: verdict.permitted.iter().map(|outcome| outcome.to_string()).collect(),
        msr_failures_from: verdict.permitted.msr_failures_from(),
        violated: verdict.violated.iter().map(|check| violated(findings, check)).collect(),
        undecidable: verdict.undecidable.iter().map(undecidable).collect(),
        notes: notes(findings),
    })
}

fn violated(findings: &Findings<'_>, check: CheckId) -> Violated {
    let info = check.info();
    let explanation = findings.attempt.on(findings.vmcs(), findings.memory).explain(check);
    let value = |value: Option<u64>| value.map_or(Value::Null, |value| Number(value).to_string().into());
    Violated {
        id: info.id,
        section: info.sdm,
        title: info.title,
        rule: info.rule,
        gate: info.gate,
        outcomes: outcomes(&info.failure).map(|outcome| outcome.to_string()).collect(),
        fields: explanation.fields().map(|(field, known)| (field.info().name.to_owned(), value(known))).collect(),
        capability: explanation.limit().map(|Limit { msr, setting, mask, wrong, .. }| Capability {
            msr: msr.name(),
            setting: match setting {
                Setting::MustBe1 => "must be 1",
                Setting::MayBe1 => "may be 1",
            },
            mask: Number(mask),
            wrong: Number(wrong),
        }),
        repair: explanation.repair().map(|repair| {
            let Repair { field, old, new } = repair;
            Change { field: field.info().name, old: Number(old), new: Number(new), text: repair.to_string() }
        }),
    }
}

/// The outcomes of a check that does not hold.
fn outcomes(failure: &Failure) -> impl Iterator<Item = Outcome> {
    [Some(failure.outcome), failure.or].into_iter().flatten()
}

/// What is not known, each by its name. Without `facts` the processor's are one.
fn names(unknown: &Unknowns, facts: bool) -> Vec<String> {
    let mut names: Vec<String> = unknown.fields.iter().map(|field| field.info().name.to_owned()).collect();
    if facts {
        names.extend(unknown.facts.msrs().map(|msr| msr.name().to_owned()));
        names.extend(unknown.facts.leaves().map(|leaf| {
            let (leaf, subleaf) = leaf.query();
            format!("CPUID.{leaf:02X}H.{subleaf}")
        }));
    } else if unknown.facts != Default::default() {
        names.push("the processor (name it with --profile)".to_owned());
    }
    // An address that comes from an unknown field says nothing.
    names.extend(
        unknown
            .memory
            .filter(|_| unknown.fields.iter().next().is_none())
            .map(|address| format!("memory at {address:#x}")),
    );
    if unknown.executive_vmcs {
        names.push("the executive VMCS".to_owned());
    }
    if unknown.open {
        names.push("what the SDM leaves open".to_owned());
    }
    names
}

/// What there is to know of the dump, and how the report of it fits the checks.
fn notes(findings: &Findings<'_>) -> Vec<String> {
    let mut notes = findings.dump.notes.clone();
    let Some(reported) = findings.dump.reported else { return notes };
    let verdict = &findings.verdict;
    let leads_there = |check: &CheckId| outcomes(&check.info().failure).any(|outcome| reported.is(outcome));
    if !verdict.violated.iter().any(|check| leads_there(&check)) {
        let candidates = verdict.undecidable.iter().filter(|check| leads_there(check)).count();
        notes.push(if candidates > 0 {
            format!(
                "{} is not explained by what is known: its cause is one of {candidates} undecidable checks{}",
                reported.outcome,
                guess(findings, leads_there).unwrap_or_default(),
            )
        } else {
            format!("{} is not explained by any check over these values", reported.outcome)
        });
    }
    for check in verdict.violated.iter().filter(|check| settled(reported.outcome, check.info().phase) == Some(true)) {
        notes.push(format!(
            "{check} is violated by these values, but the processor got past it: something here is not what the VMCS held"
        ));
    }
    notes
}

/// Which check would explain the report on a processor that is known.
fn guess(findings: &Findings<'_>, leads_there: impl Fn(&CheckId) -> bool) -> Option<String> {
    if findings.profiled {
        return None;
    }
    let profiles = NamedProfile::embedded();
    let mut explaining: BTreeMap<CheckId, usize> = BTreeMap::new();
    for profile in profiles {
        let capabilities = Capabilities::new(&profile.profile);
        let attempt = EntryAttempt { capabilities: &capabilities, ..findings.attempt };
        let verdict = attempt.on(findings.vmcs(), findings.memory).verdict();
        let mut checks = verdict.violated.iter().filter(&leads_there);
        if let (Some(check), None) = (checks.next(), checks.next()) {
            *explaining.entry(check).or_default() += 1;
        }
    }
    let (check, count) = explaining.into_iter().max_by_key(|(_, count)| *count)?;
    Some(format!(
        "; {check} would explain it on {count} of the {} processors that `vmcs caps list` knows, so name yours with --profile",
        profiles.len()
    ))
}

/// What an outcome says of the checks of a phase: they passed, or (`false`) they were not made.
fn settled(outcome: Outcome, phase: Phase) -> Option<bool> {
    let reached = match outcome {
        Outcome::FailValid(_) => Phase::ControlsAndHost,
        Outcome::EntryFailed { reason: exit_reason::INVALID_GUEST_STATE, .. } => Phase::GuestState,
        Outcome::EntryFailed { reason: exit_reason::MSR_LOADING, .. } => Phase::MsrLoading,
        _ => return None,
    };
    match phase.cmp(&reached) {
        std::cmp::Ordering::Less => Some(true),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some(false),
    }
}

/// Checks of a group that are listed.
const LISTED: usize = 4;
/// Groups that are listed.
const GROUPS: usize = 16;

/// Prints the answer for people.
pub(super) fn text(findings: &Findings<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let Findings { dump, verdict, .. } = findings;
    let total = vmcs_model::field::FIELDS.len();
    let fields = if dump.known() == 1 { "field" } else { "fields" };
    writeln!(out, "{}: {} of {total} {fields} known", dump.format, dump.known())?;
    if let Some(reported) = dump.reported {
        let unknown = if reported.qualified { "" } else { ", qualification not shown" };
        writeln!(out, "Reported: {}{unknown}", reported.outcome)?;
    }
    let permitted: Vec<_> = verdict.permitted.iter().map(|outcome| outcome.to_string()).collect();
    let later =
        if verdict.permitted.msr_failures_from().is_some() { " or a later entry of the MSR-load area" } else { "" };
    writeln!(out, "Permitted: {}{later}", permitted.join(" or "))?;
    if verdict.violated.is_empty() {
        writeln!(out, "\nNo check is known to be violated.")?;
    } else {
        writeln!(out, "\nViolated:")?;
    }
    for check in verdict.violated.iter() {
        let explanation = findings.attempt.on(findings.vmcs(), findings.memory).explain(check).to_string();
        writeln!(out, "  {}", explanation.replace('\n', "\n  "))?;
    }
    undecidable(findings, &mut out)?;
    let notes = notes(findings);
    if !notes.is_empty() {
        writeln!(out, "\nNotes:")?;
    }
    for note in notes {
        writeln!(out, "  {note}")?;
    }
    Ok(())
}

/// Prints what cannot be decided, by what is missing.
fn undecidable(findings: &Findings<'_>, out: &mut impl Write) -> io::Result<()> {
    let undecidable = &findings.verdict.undecidable;
    if undecidable.is_empty() {
        return Ok(());
    }
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let (mut passed, mut not_reached) = (0, 0);
    for check in undecidable.iter() {
        let outcome = findings.dump.reported.map(|reported| reported.outcome);
        match outcome.and_then(|outcome| settled(outcome, check.info().phase)) {
            Some(true) => passed += 1,
            Some(false) => not_reached += 1,
            None => {
                let missing = names(&findings.unknowns(check), findings.profiled).join(", ");
                groups.entry(missing).or_default().push(check.info().id);
            }
        }
    }
    writeln!(out, "\nUndecidable, for want of:")?;
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, checks)| std::cmp::Reverse(checks.len()));
    for (missing, checks) in groups.iter().take(GROUPS) {
        let listed = checks.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
        let more = if checks.len() > LISTED { format!(" and {} more", checks.len() - LISTED) } else { String::new() };
        writeln!(out, "  {missing}: {listed}{more}")?;
    }
    if groups.len() > GROUPS {
        let rest: usize = groups[GROUPS..].iter().map(|(_, checks)| checks.len()).sum();
        writeln!(out, "  other fields: {rest} more; --json lists all")?;
    }
    for (count, why) in [(passed, "that the processor got past"), (not_reached, "that the processor did not get to")] {
        if count > 0 {
            writeln!(out, "  nothing: {count} checks {why}")?;
        }
    }
    Ok(())
}
