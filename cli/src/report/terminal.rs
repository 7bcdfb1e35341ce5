//! The result of campaigns as tables for a terminal.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table};
use indicatif::HumanCount;
use vmcs_fuzz::campaign::Finding;
use vmcs_fuzz::case_file::CaseFile;
use vmcs_model::checks::CheckId;

use super::input::Run;
use super::sections;
use super::summary::{State, Summary, Tally, by_implementation};
use crate::output;

/// Findings that are printed in full.
const MOST_FINDINGS: usize = 10;

/// Violated checks of a finding that are explained.
const MOST_EXPLAINED: usize = 3;

/// Prints what was found on each implementation, the findings, and the totals at the end.
pub(crate) fn print(runs: &[Run]) -> io::Result<()> {
    let summaries = by_implementation(runs.iter().map(Summary::from));
    for summary in &summaries {
        print_summary(summary)?;
        print_not_seen(runs.iter().filter(|run| run.report.implementation == summary.implementation))?;
    }
    let causes: Vec<_> = runs.iter().flat_map(|run| &run.causes).collect();
    for cause in causes.iter().take(MOST_FINDINGS) {
        print_cause(cause)?;
    }
    let of_run = |run| Run::findings_without_causes(run).map(move |finding| (run, finding));
    let findings: Vec<_> = runs.iter().flat_map(of_run).collect();
    for (run, finding) in findings.iter().take(MOST_FINDINGS) {
        print_finding(&run.report.implementation.to_string(), finding)?;
    }
    let more = [causes.len(), findings.len()].map(|count| count.saturating_sub(MOST_FINDINGS)).iter().sum::<usize>();
    if more > 0 {
        writeln!(io::stdout(), "… and {more} more: --report FILE.html shows all\n")?;
    }
    output::print_table(&totals(&summaries))
}

/// One implementation: its sources, its coverage by section, and its deviations.
fn print_summary(summary: &Summary) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let interrupted = if summary.interrupted { " (interrupted)" } else { "" };
    writeln!(out, "{}{interrupted}", summary.implementation)?;
    for source in &summary.sources {
        writeln!(out, "  {}", source.title())?;
    }
    writeln!(out)?;
    drop(out);
    let mut table = output::table(&["SECTION", "CHECKS", "BOTH SIDES", "ONE SIDE", "NOT TRIED", "UNREACHABLE"]);
    let mut row = |name: String, tally: Tally| {
        let counts = [
            tally.of(State::Both).to_string() + " / " + &tally.reachable().to_string(),
            tally.one_side().to_string(),
            tally.of(State::Nothing).to_string(),
            tally.of(State::Unreachable).to_string(),
        ];
        table.add_row([name, (tally.reachable() + tally.of(State::Unreachable)).to_string()].into_iter().chain(counts));
    };
    for section in sections::all() {
        row(format!("{} {}", section.number, section.title), summary.tally(section.checks));
    }
    row("all".to_owned(), summary.tally(CheckId::all()));
    numbers(&mut table, 1);
    output::print_table(&table)?;
    for (title, counts) in
        [("KNOWN DEVIATION", &summary.deviations), ("LEFT OPEN BY THE ARCHITECTURE", &summary.unspecified)]
    {
        if !counts.is_empty() {
            writeln!(io::stdout())?;
            let mut table = output::table(&[title, "CASES"]);
            table.add_rows(counts.iter().map(|(what, count)| [what.clone(), HumanCount(*count).to_string()]));
            numbers(&mut table, 1);
            output::print_table(&table)?;
        }
    }
    writeln!(io::stdout())
}

/// The reviewed deviations that no case of these runs met.
fn print_not_seen<'a>(mut runs: impl Iterator<Item = &'a Run>) -> io::Result<()> {
    let Some(first) = runs.next() else { return Ok(()) };
    let mut not_seen = first.not_seen.clone();
    for run in runs {
        not_seen.retain(|id| run.not_seen.contains(id));
    }
    if not_seen.is_empty() {
        return Ok(());
    }
    let list = not_seen.join("\n  ");
    writeln!(io::stdout(), "Deviations that no case met (rare, or stale: `vmcs deviations` shows which):\n  {list}\n")
}

/// One row for each implementation, and their sum.
fn totals(summaries: &[Summary]) -> Table {
    let mut table = output::table(&[
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
        let coverage = format!("{} / {}", tally.of(State::Both), tally.reachable());
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

fn print_cause(cause: &CaseFile) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let CaseFile { implementation, cause: what, count, machine, .. } = cause;
    writeln!(out, "{implementation}: {what}, {count} {}", if *count == 1 { "case" } else { "cases" })?;
    writeln!(out, "  {machine}")?;
    for line in cause.model.iter().take(MOST_EXPLAINED).flat_map(|text| text.lines()) {
        writeln!(out, "    {line}")?;
    }
    writeln!(out, "  {}\n", serde_json::to_string(&cause.program)?)
}

fn print_finding(implementation: &str, finding: &Finding) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let disagreement = &finding.disagreement;
    writeln!(out, "{implementation}, {}: step {}", finding.program.id, disagreement.step)?;
    writeln!(out, "  ended in {}, permitted: {}", disagreement.observed, disagreement.permitted.join(", "))?;
    if !disagreement.violated.is_empty() {
        writeln!(out, "  violated: {}", disagreement.violated.join(", "))?;
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
