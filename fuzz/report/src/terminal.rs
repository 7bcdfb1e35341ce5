//! The result of campaigns as tables for a terminal.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, Write};

use comfy_table::{CellAlignment, Table};
use indicatif::HumanCount;
use vmcs_fuzz::campaign::Finding;
use vmcs_fuzz::findings::case_file::CaseFile;
use vmcs_model::checks::CheckId;

use crate::run::Run;
use crate::sections;
use crate::summary::{CheckState, Summary, Tally, by_implementation};
use crate::table::{self, write_table};

/// Findings that are printed in full.
const MOST_FINDINGS: usize = 10;

/// Violated checks of a finding that are explained.
const MOST_EXPLAINED: usize = 3;

/// Writes what was found on each implementation, the findings, and the totals at the end.
///
/// # Errors
/// What writing to `out` fails with.
pub fn write(out: &mut dyn Write, runs: &[Run]) -> io::Result<()> {
    let summaries = by_implementation(runs.iter().map(Summary::from));
    for summary in &summaries {
        write_summary(out, summary)?;
        write_not_seen(out, runs.iter().filter(|run| run.report.implementation == summary.implementation))?;
    }
    let causes: Vec<_> = runs.iter().flat_map(|run| &run.causes).collect();
    for cause in causes.iter().take(MOST_FINDINGS) {
        write_cause(out, cause)?;
    }
    let of_run = |run| Run::findings_without_causes(run).map(move |finding| (run, finding));
    let findings: Vec<_> = runs.iter().flat_map(of_run).collect();
    for (run, finding) in findings.iter().take(MOST_FINDINGS) {
        write_finding(out, &run.report.implementation.to_string(), finding)?;
    }
    let more = [causes.len(), findings.len()].map(|count| count.saturating_sub(MOST_FINDINGS)).iter().sum::<usize>();
    if more > 0 {
        writeln!(out, "… and {more} more: --report FILE.html shows all\n")?;
    }
    write_table(out, &totals(&summaries))
}

/// One implementation: its sources, its coverage by section, and its deviations.
fn write_summary(out: &mut dyn Write, summary: &Summary) -> io::Result<()> {
    let interrupted = if summary.interrupted { " (interrupted)" } else { "" };
    writeln!(out, "{}{interrupted}", summary.implementation)?;
    for source in &summary.sources {
        writeln!(out, "  {}", source.title())?;
    }
    writeln!(out)?;
    let mut table = table::table(&["SECTION", "CHECKS", "BOTH SIDES", "ONE SIDE", "NOT TRIED", "UNREACHABLE"]);
    let mut row = |name: String, tally: Tally| {
        let counts = [
            tally.of(CheckState::Both).to_string() + " / " + &tally.reachable().to_string(),
            tally.one_side().to_string(),
            tally.of(CheckState::Nothing).to_string(),
            tally.of(CheckState::Unreachable).to_string(),
        ];
        table.add_row(
            [name, (tally.reachable() + tally.of(CheckState::Unreachable)).to_string()].into_iter().chain(counts),
        );
    };
    for section in sections::all() {
        row(format!("{} {}", section.number, section.title), summary.tally(section.checks));
    }
    row("all".to_owned(), summary.tally(CheckId::all()));
    numbers(&mut table, 1);
    write_table(out, &table)?;
    for (title, counts) in [
        ("KNOWN DEVIATION", texts(&summary.deviations)),
        ("LEFT OPEN BY THE ARCHITECTURE", texts(&summary.unspecified)),
    ] {
        if !counts.is_empty() {
            writeln!(out)?;
            let mut table = table::table(&[title, "CASES"]);
            table.add_rows(counts);
            numbers(&mut table, 1);
            write_table(out, &table)?;
        }
    }
    writeln!(out)
}

/// What was counted, and how often, for people.
fn texts<K: Display>(counts: &BTreeMap<K, u64>) -> Vec<[String; 2]> {
    counts.iter().map(|(what, count)| [what.to_string(), HumanCount(*count).to_string()]).collect()
}

/// The reviewed deviations that no case of these runs met.
fn write_not_seen<'a>(out: &mut dyn Write, mut runs: impl Iterator<Item = &'a Run>) -> io::Result<()> {
    let Some(first) = runs.next() else { return Ok(()) };
    let mut not_seen = first.not_seen.clone();
    for run in runs {
        not_seen.retain(|id| run.not_seen.contains(id));
    }
    if not_seen.is_empty() {
        return Ok(());
    }
    let list = not_seen.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ");
    writeln!(out, "Deviations that no case met (rare, or stale: `vmcs deviations` shows which):\n  {list}\n")
}

/// One row for each implementation, and their sum.
fn totals(summaries: &[Summary]) -> Table {
    let mut table = table::table(&[
        "IMPLEMENTATION",
        "CASES",
        "AGREED",
        "DEVIATE",
        "LEFT OPEN",
        "DISAGREED",
        "CRASHED",
        "HUNG",
        "CHECKS ON BOTH SIDES",
    ]);
    let counts = |summary: &Summary| {
        let Summary { cases, agreed, disagreed, crashed, hung, .. } = *summary;
        [cases, agreed, summary.deviating(), summary.open(), disagreed, crashed, hung]
    };
    let text = |counts: [u64; 7]| counts.map(|count| HumanCount(count).to_string()).into_iter();
    for summary in summaries {
        let tally = summary.tally(CheckId::all());
        let coverage = format!("{} / {}", tally.of(CheckState::Both), tally.reachable());
        let name = std::iter::once(summary.implementation.to_string());
        table.add_row(name.chain(text(counts(summary))).chain([coverage]));
    }
    if summaries.len() > 1 {
        let mut sum = [0; 7];
        for summary in summaries {
            sum.iter_mut().zip(counts(summary)).for_each(|(sum, count)| *sum += count);
        }
        table.add_row(std::iter::once("all".to_owned()).chain(text(sum)));
    }
    numbers(&mut table, 1);
    table
}

fn write_cause(out: &mut dyn Write, cause: &CaseFile) -> io::Result<()> {
    let CaseFile { implementation, count, machine, .. } = cause;
    writeln!(out, "{implementation}: {}, {count} {}", cause.cause(), if *count == 1 { "case" } else { "cases" })?;
    writeln!(out, "  {machine}")?;
    for line in cause.model.iter().take(MOST_EXPLAINED).flat_map(|reason| reason.text().lines()) {
        writeln!(out, "    {line}")?;
    }
    writeln!(out, "  {}\n", serde_json::to_string(&cause.program)?)
}

fn write_finding(out: &mut dyn Write, implementation: &str, finding: &Finding) -> io::Result<()> {
    let disagreement = &finding.disagreement;
    writeln!(out, "{implementation}, {}: step {}", finding.program.id, disagreement.step)?;
    writeln!(out, "  ended in {}, permitted: {}", disagreement.observed(), disagreement.permitted().join(", "))?;
    let violated: Vec<_> = disagreement.violated().iter().map(|check| check.to_string()).collect();
    if !violated.is_empty() {
        writeln!(out, "  violated: {}", violated.join(", "))?;
    }
    let explained = finding.explanations.iter().take(MOST_EXPLAINED);
    for line in explained.flat_map(|explanation| explanation.text.lines()) {
        writeln!(out, "    {line}")?;
    }
    writeln!(out, "  {}\n", serde_json::to_string(&finding.program)?)
}

/// Aligns the columns from `first` on as numbers.
fn numbers(table: &mut Table, first: usize) {
    for column in table.column_iter_mut().skip(first) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}
