//! The answer of `vmcs explain`, as text for people and as JSON for programs.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value};
use vmcs_case::number::Number;
use vmcs_model::Outcome;
use vmcs_model::checks::{CheckId, Failure};
use vmcs_model::explain::{Limit, Repair, Setting};
use vmcs_model::partial::Unknowns;
use vmcs_texts::diagnosis::{Diagnosis, Guess, Note, Settled};
use vmcs_texts::dump::{Damage, Reported};

use crate::output::json_pretty;

/// What `vmcs explain` reports.
pub(super) struct Findings<'a> {
    pub(super) diagnosis: Diagnosis<'a>,
    /// Whether --profile names a processor.
    pub(super) profiled: bool,
}

/// The answer for programs.
#[derive(Serialize)]
struct ExplainAnswer<'a> {
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
    repair: Option<RepairAnswer>,
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
struct RepairAnswer {
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
    let verdict = findings.diagnosis.verdict();
    let undecidable =
        |check: CheckId| Undecidable { id: check.info().id, unknown: names(&findings.diagnosis.unknowns(check), true) };
    json_pretty(&ExplainAnswer {
        format: findings.diagnosis.entry().dump.format,
        reported: findings.diagnosis.entry().dump.reported.map(|reported| reported.to_string()),
        permitted: verdict.permitted.iter().map(|outcome| outcome.to_string()).collect(),
        msr_failures_from: verdict.permitted.msr_failures_from(),
        violated: verdict.violated.iter().map(|check| violated(findings, check)).collect(),
        undecidable: verdict.undecidable.iter().map(undecidable).collect(),
        notes: notes(findings),
    })
}

fn violated(findings: &Findings<'_>, check: CheckId) -> Violated {
    let info = check.info();
    let explanation = findings.diagnosis.explain(check);
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
            RepairAnswer { field: field.info().name, old: Number(old), new: Number(new), text: repair.to_string() }
        }),
    }
}

/// The outcomes of a check that does not hold.
fn outcomes(failure: &Failure) -> impl Iterator<Item = Outcome> {
    [Some(failure.outcome), failure.or].into_iter().flatten()
}

/// The names of what is not known. Unless `facts` is true, all facts about the processor count as one.
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
    let Findings { diagnosis, profiled } = findings;
    let dump = &diagnosis.entry().dump;
    let reported = dump.reported.map_or_else(String::new, |reported| reported.to_string());
    let guess = || {
        let Guess { check, processors, of } = diagnosis.guess().filter(|_| !profiled)?;
        Some(format!(
            "; {check} would explain it on {processors} of the {of} processors that `vmcs caps list` knows, so name yours with \
             --profile"
        ))
    };
    let text = |note: Note| match note {
        Note::CauseUndecidable(candidates) => format!(
            "{reported} is not explained by what is known: its cause is one of {candidates} undecidable checks{}",
            guess().unwrap_or_default(),
        ),
        Note::Unexplained => format!("{reported} is not explained by any check over these values"),
        Note::GotPast(check) => format!(
            "{check} is violated by these values, but the processor got past it: something here is not what the VMCS held"
        ),
    };
    let damage = dump.damage.iter().map(|Damage { field, line, why }| {
        format!("the value of {field} cannot be read in line {line} ({why}): taken as unknown")
    });
    dump.notes.iter().cloned().chain(damage).chain(diagnosis.notes().into_iter().map(text)).collect()
}

/// Checks of a group that are listed.
const LISTED: usize = 4;
/// Groups that are listed.
const GROUPS: usize = 16;

/// Prints the answer for people.
pub(super) fn text(findings: &Findings<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let (dump, verdict) = (&findings.diagnosis.entry().dump, findings.diagnosis.verdict());
    let total = vmcs_model::field::FIELDS.len();
    let fields = if dump.known() == 1 { "field" } else { "fields" };
    writeln!(out, "{}: {} of {total} {fields} known", dump.format, dump.known())?;
    if let Some(reported) = dump.reported {
        let unknown = match reported {
            Reported::Outcome { qualified: false, .. } => ", qualification not shown",
            _ => "",
        };
        writeln!(out, "Reported: {reported}{unknown}")?;
    }
    let permitted: Vec<_> = verdict.permitted.iter().map(|outcome| outcome.to_string()).collect();
    let later = verdict
        .permitted
        .msr_failures_from()
        .map_or("", |_| " or EntryFailed(34, n) for any later entry n of the MSR-load area");
    writeln!(out, "Permitted: {}{later}", permitted.join(" or "))?;
    if verdict.violated.is_empty() {
        writeln!(out, "\nNo check is known to be violated.")?;
    } else {
        writeln!(out, "\nViolated:")?;
    }
    for check in verdict.violated.iter() {
        let explanation = findings.diagnosis.explain(check).to_string();
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
    let undecidable = &findings.diagnosis.verdict().undecidable;
    if undecidable.is_empty() {
        return Ok(());
    }
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let (mut passed, mut not_reached) = (0, 0);
    for check in undecidable.iter() {
        match findings.diagnosis.settled(check) {
            Some(Settled::Passed) => passed += 1,
            Some(Settled::NotReached) => not_reached += 1,
            None => {
                let missing = names(&findings.diagnosis.unknowns(check), findings.profiled).join(", ");
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
