//! The result of campaigns as one self-contained HTML page. `templates/report.html` is the page, and this file prepares
//! what it shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use askama::Template;
use indicatif::HumanCount;
use vmcs_fuzz::campaign::Finding;
use vmcs_fuzz::deviations::{Deviation, Deviations};
use vmcs_model::checks::CheckId;
use vmcs_model::formats::InstructionError;

use super::chart::{self, Chart};
use super::input::Run;
use super::sections;
use super::summary::{State, Summary, Tally, by_implementation, state_of_all};
use crate::error::CliError;

/// Violated checks of a finding that are shown at once.
const MOST_VIOLATED: usize = 4;

#[derive(Template)]
#[template(path = "report.html")]
struct Page {
    css: &'static str,
    script: &'static str,
    version: &'static str,
    /// Who was asked, for the title.
    asked: String,
    interrupted: bool,
    disagreed: u64,
    tiles: Vec<Tile>,
    implementations: Vec<Machine>,
    legend: Vec<(&'static str, &'static str)>,
    sections: Vec<SectionView>,
    findings: Vec<FindingView>,
    /// Findings that no report holds in full.
    more_findings: u64,
    deviations: Vec<DeviationView>,
    unspecified: Vec<(String, String)>,
    outcomes: Vec<OutcomeView>,
    width: f64,
    height: f64,
}

/// A number that matters.
struct Tile {
    label: &'static str,
    value: String,
    note: String,
}

/// One implementation and CPU model.
struct Machine {
    name: String,
    cases: String,
    agreed: String,
    deviating: String,
    open: String,
    disagreed: String,
    down: String,
    coverage: String,
    rate: String,
    sources: Vec<SourceView>,
}

/// Cases of one generator and seed.
struct SourceView {
    title: String,
    command: Option<String>,
    chart: Option<Chart>,
}

/// A section of the SDM.
struct SectionView {
    number: &'static str,
    title: &'static str,
    summary: String,
    rows: Vec<CellRow>,
    checks: Vec<CheckView>,
}

/// The cells of one implementation.
struct CellRow {
    name: String,
    label: String,
    count: String,
    cells: Vec<Cell>,
}

struct Cell {
    class: &'static str,
    tip: String,
}

/// A check in words and numbers.
struct CheckView {
    id: &'static str,
    rule: &'static str,
    gate: &'static str,
    class: &'static str,
    state: &'static str,
    alone: String,
    with_others: String,
    legal: String,
    gate_off: String,
    reasons: BTreeSet<String>,
}

struct FindingView {
    title: String,
    implementation: String,
    step: usize,
    sections: String,
    permitted: Vec<OutcomeText>,
    violated: Vec<ViolatedView>,
    /// Violated checks beyond the first few.
    more_violated: Vec<ViolatedView>,
    observed: OutcomeText,
    program: String,
}

/// An outcome and what it means.
struct OutcomeText {
    text: String,
    meaning: Option<String>,
}

struct ViolatedView {
    id: String,
    section: String,
    /// The rule, the values, and what would be legal.
    lines: Vec<String>,
}

struct DeviationView {
    id: String,
    cases: String,
    who: Vec<(String, String)>,
    sections: String,
    text: Option<Deviation>,
}

struct OutcomeView {
    outcome: OutcomeText,
    cases: String,
    share: String,
}

/// Writes the page.
pub(crate) fn write(path: &Path, runs: &[Run], deviations: &Deviations) -> Result<(), CliError> {
    let page = Page::new(runs, deviations).render().expect("a template into a string cannot fail");
    fs::write(path, page).map_err(|error| CliError::file(path, &error))
}

fn count(n: u64) -> String {
    HumanCount(n).to_string()
}

impl Page {
    fn new(runs: &[Run], deviations: &Deviations) -> Self {
        let summaries = by_implementation(runs.iter().map(Summary::from));
        let disagreed = summaries.iter().map(|summary| summary.disagreed).sum();
        let findings: Vec<_> = runs
            .iter()
            .flat_map(|run| run.report.findings.iter().map(|finding| FindingView::new(run, finding)))
            .collect();
        Self {
            css: include_str!("../../templates/report.css"),
            script: include_str!("../../templates/report.js"),
            version: env!("CARGO_PKG_VERSION"),
            asked: match &summaries[..] {
                [one] => one.implementation.to_string(),
                several => format!("{} implementations and CPU models", several.len()),
            },
            interrupted: summaries.iter().any(|summary| summary.interrupted),
            disagreed,
            tiles: tiles(&summaries),
            implementations: summaries.iter().map(|summary| Machine::new(summary, runs)).collect(),
            legend: State::ALL.map(|state| (state.class(), state.text())).to_vec(),
            sections: sections::all().iter().map(|section| SectionView::new(section, &summaries)).collect(),
            more_findings: disagreed.saturating_sub(findings.len() as u64),
            findings,
            deviations: deviation_views(&summaries, deviations),
            unspecified: descending(summaries.iter().flat_map(|summary| &summary.unspecified))
                .map(|(why, cases)| (why.clone(), count(cases)))
                .collect(),
            outcomes: outcomes(&summaries),
            width: chart::WIDTH,
            height: chart::HEIGHT,
        }
    }
}

fn tiles(summaries: &[Summary]) -> Vec<Tile> {
    let sum = |of: &dyn Fn(&Summary) -> u64| summaries.iter().map(of).sum::<u64>();
    let tile = |label, value, note: &str| Tile { label, value: count(value), note: note.to_owned() };
    let tally: Tally = CheckId::all().map(|check| state_of_all(summaries, check)).collect();
    vec![
        tile("Cases", sum(&|s| s.cases), ""),
        tile("Agreed", sum(&|s| s.agreed), "every step ended as the SDM says"),
        tile("Known deviations", sum(&Summary::deviating), "reviewed, each with its evidence"),
        tile("Left open", sum(&Summary::open), "the SDM does not decide"),
        tile("Disagreements", sum(&|s| s.disagreed), "outside the reviewed deviations"),
        Tile {
            label: "Checks on both sides",
            value: format!("{} / {}", tally.of(State::Both), tally.reachable()),
            note: format!(
                "{} on one side, {} not tried, {} unreachable",
                tally.one_side(),
                tally.of(State::Nothing),
                tally.of(State::Unreachable)
            ),
        },
    ]
}

impl Machine {
    fn new(summary: &Summary, runs: &[Run]) -> Self {
        let tally = summary.tally(CheckId::all());
        let cpu_seconds = summary.cpu_seconds();
        let timed: u64 = summary.sources.iter().filter(|source| source.cpu_seconds > 0.0).map(|s| s.cases).sum();
        Self {
            name: summary.implementation.to_string(),
            cases: count(summary.cases),
            agreed: count(summary.agreed),
            deviating: count(summary.deviating()),
            open: count(summary.open()),
            disagreed: count(summary.disagreed),
            down: count(summary.crashed + summary.hung),
            coverage: format!("{} / {}", tally.of(State::Both), tally.reachable()),
            rate: if cpu_seconds > 0.0 { chart::short(timed as f64 / cpu_seconds) } else { "–".to_owned() },
            sources: runs
                .iter()
                .filter(|run| run.report.implementation == summary.implementation)
                .map(SourceView::new)
                .collect(),
        }
    }

    /// Whether a chart can be drawn.
    fn has_charts(&self) -> bool {
        self.sources.iter().any(|source| source.chart.is_some())
    }
}

impl SourceView {
    fn new(run: &Run) -> Self {
        let report = &run.report;
        Self {
            title: format!("{} cases of the generator {}, seed {}", count(report.cases), report.generator, report.seed),
            command: run.timeline.as_ref().map(|timeline| timeline.command.clone()).filter(|text| !text.is_empty()),
            chart: run.timeline.as_ref().and_then(|timeline| Chart::new(&timeline.samples)),
        }
    }
}

impl SectionView {
    fn new(section: &sections::Section, summaries: &[Summary]) -> Self {
        let tally: Tally = section.checks.iter().map(|check| state_of_all(summaries, *check)).collect();
        Self {
            number: section.number,
            title: section.title,
            summary: match tally.reachable() {
                0 => "not reachable".to_owned(),
                reachable => format!("{} of {reachable} reachable checks on both sides", tally.of(State::Both)),
            },
            rows: summaries.iter().map(|summary| CellRow::new(section, summary)).collect(),
            checks: section.checks.iter().map(|check| CheckView::new(*check, summaries)).collect(),
        }
    }
}

impl CellRow {
    fn new(section: &sections::Section, summary: &Summary) -> Self {
        let tally = summary.tally(section.checks.iter().copied());
        let words: Vec<_> = State::ALL
            .iter()
            .filter(|state| tally.of(**state) > 0)
            .map(|state| format!("{} {}", tally.of(*state), state.text()))
            .collect();
        Self {
            name: summary.implementation.to_string(),
            label: format!("{}, {}: {}", section.number, summary.implementation, words.join(", ")),
            count: format!("{} / {}", tally.of(State::Both), tally.reachable()),
            cells: section.checks.iter().map(|check| Cell::new(*check, summary)).collect(),
        }
    }
}

impl Cell {
    fn new(check: CheckId, summary: &Summary) -> Self {
        let id = check.info().id;
        let (sides, state) = (summary.coverage.of(check), summary.state(check));
        let mut tip = format!(
            "{id}\n{}\nviolated alone {}, with others {}\nnearest legal {}, gate off {}",
            state.text(),
            count(sides.alone),
            count(sides.with_others),
            count(sides.legal),
            count(sides.gate_off)
        );
        if let Some(reason) = summary.unreachable.get(id) {
            tip = format!("{tip}\n{reason}");
        }
        Self { class: state.class(), tip }
    }
}

impl CheckView {
    fn new(check: CheckId, summaries: &[Summary]) -> Self {
        let info = check.info();
        let sum = |of: fn(&vmcs_fuzz::coverage::Sides) -> u64| {
            count(summaries.iter().map(|summary| of(&summary.coverage.of(check))).sum())
        };
        let state = state_of_all(summaries, check);
        Self {
            id: info.id,
            rule: info.rule,
            gate: info.gate,
            class: state.class(),
            state: state.text(),
            alone: sum(|sides| sides.alone),
            with_others: sum(|sides| sides.with_others),
            legal: sum(|sides| sides.legal),
            gate_off: sum(|sides| sides.gate_off),
            reasons: summaries.iter().filter_map(|summary| summary.unreachable.get(info.id).cloned()).collect(),
        }
    }
}

impl FindingView {
    fn new(run: &Run, finding: &Finding) -> Self {
        let disagreement = &finding.disagreement;
        let mut violated: Vec<_> = disagreement.violated.iter().map(|id| ViolatedView::new(id, finding)).collect();
        let more_violated = violated.split_off(violated.len().min(MOST_VIOLATED));
        Self {
            title: finding.program.id.clone(),
            implementation: run.report.implementation.to_string(),
            step: disagreement.step,
            sections: sections_of(disagreement.violated.iter()),
            permitted: disagreement.permitted.iter().map(|text| OutcomeText::new(text)).collect(),
            violated,
            more_violated,
            observed: OutcomeText::new(&disagreement.observed),
            program: serde_json::to_string(&finding.program).expect("a program is JSON"),
        }
    }
}

impl ViolatedView {
    fn new(id: &str, finding: &Finding) -> Self {
        let info = CheckId::by_id(id).map(CheckId::info);
        let explanation = finding.explanations.iter().find(|explanation| explanation.check == id);
        let lines = match (explanation, info) {
            // Its first line is the check and the outcome.
            (Some(explanation), _) => explanation.text.lines().skip(1).map(|line| line.trim().to_owned()).collect(),
            (None, Some(info)) if info.gate.is_empty() => vec![info.rule.to_owned()],
            (None, Some(info)) => vec![info.rule.to_owned(), format!("in force if {}", info.gate)],
            (None, None) => Vec::new(),
        };
        Self { id: id.to_owned(), section: info.map_or(String::new(), |info| info.sdm.to_owned()), lines }
    }
}

impl OutcomeText {
    fn new(text: &str) -> Self {
        let error = text.strip_prefix("VMfailValid(").and_then(|rest| rest.strip_suffix(')')?.parse().ok());
        let meaning = match error {
            Some(number) => InstructionError(number).meaning(),
            None if text == "Entered" => Some("the guest runs"),
            None if text.starts_with("EntryFailed(33") => Some("VM-entry failure due to invalid guest state"),
            None if text.starts_with("EntryFailed(34") => Some("VM-entry failure due to MSR loading"),
            None if text == "VMfailInvalid" => Some("no error number is stored"),
            None => None,
        };
        Self { text: text.to_owned(), meaning: meaning.map(str::to_owned) }
    }
}

/// The sections of those checks, separated by spaces.
fn sections_of<'a>(checks: impl Iterator<Item = &'a String>) -> String {
    let sections: BTreeSet<_> = checks.filter_map(|id| Some(CheckId::by_id(id)?.info().sdm)).collect();
    sections.into_iter().collect::<Vec<_>>().join(" ")
}

/// A row for each deviation that occurred. Where several account for a case together it counts for each.
fn deviation_views(summaries: &[Summary], deviations: &Deviations) -> Vec<DeviationView> {
    let ids: BTreeSet<_> = summaries.iter().flat_map(Summary::deviation_ids).collect();
    let described = |id: &str| {
        let mut known = summaries.iter().flat_map(|summary| deviations.of(&summary.implementation));
        known.find(|deviation| deviation.id == id)
    };
    let view = |id: &str| {
        let cases = summaries.iter().map(|summary| (summary.implementation.to_string(), summary.deviating_as(id)));
        let who: Vec<_> = cases.filter(|(_, cases)| *cases > 0).collect();
        let text = described(id);
        DeviationView {
            id: id.to_owned(),
            cases: count(who.iter().map(|(_, cases)| cases).sum()),
            who: who.into_iter().map(|(name, cases)| (name, count(cases))).collect(),
            sections: text.map_or(String::new(), |deviation| sections_of(deviation.omits.iter())),
            text: text.cloned(),
        }
    };
    ids.into_iter().map(view).collect()
}

fn outcomes(summaries: &[Summary]) -> Vec<OutcomeView> {
    let all: u64 = summaries.iter().flat_map(|summary| summary.outcomes.values()).sum();
    descending(summaries.iter().flat_map(|summary| &summary.outcomes))
        .map(|(text, cases)| OutcomeView {
            outcome: OutcomeText::new(text),
            cases: count(cases),
            share: format!("{:.1}", 100.0 * cases as f64 / all as f64),
        })
        .collect()
}

/// The sums of those counts, the greatest first.
fn descending<'a>(counts: impl Iterator<Item = (&'a String, &'a u64)>) -> impl Iterator<Item = (&'a String, u64)> {
    let mut sums: BTreeMap<&String, u64> = BTreeMap::new();
    for (key, count) in counts {
        *sums.entry(key).or_default() += count;
    }
    let mut all: Vec<_> = sums.into_iter().collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    all.into_iter()
}
