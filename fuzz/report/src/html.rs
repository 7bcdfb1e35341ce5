//! The result of campaigns as one self-contained HTML page. `templates/report.html` is the page, and this file prepares
//! what it shows.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use askama::Template;
use vmcs_fuzz::deviations::{Deviation, DeviationId, Deviations};
use vmcs_model::checks::CheckId;

use crate::chart::{self, Chart};
use crate::counts::{count, short};
use crate::findings::{FindingView, OutcomeText};
use crate::run::Run;
use crate::sections;
use crate::summary::{CheckState, Summary, Tally, by_implementation, state_of_all};

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
    implementations: Vec<MachineRow>,
    campaigns: Vec<CampaignView>,
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
struct MachineRow {
    name: String,
    cases: String,
    agreed: String,
    deviating: String,
    open: String,
    disagreed: String,
    down: String,
    coverage: String,
    rate: String,
}

/// What one command did, or one generator and seed where the command is not known.
struct CampaignView {
    command: Option<String>,
    title: String,
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

/// The page.
#[must_use]
pub fn page(runs: &[Run], deviations: &Deviations) -> String {
    Page::new(runs, deviations).render().expect("a template into a string cannot fail")
}

impl Page {
    fn new(runs: &[Run], deviations: &Deviations) -> Self {
        let summaries = by_implementation(runs.iter().map(Summary::from));
        let disagreed = summaries.iter().map(|summary| summary.disagreed).sum();
        let kept: u64 = runs.iter().map(|run| run.report.findings.len() as u64).sum();
        Self {
            css: include_str!("../templates/report.css"),
            script: include_str!("../templates/report.js"),
            version: env!("CARGO_PKG_VERSION"),
            asked: match &summaries[..] {
                [one] => one.implementation.to_string(),
                several => format!("{} implementations and CPU models", several.len()),
            },
            interrupted: summaries.iter().any(|summary| summary.interrupted),
            disagreed,
            tiles: tiles(&summaries),
            implementations: summaries.iter().map(MachineRow::new).collect(),
            campaigns: campaigns(runs),
            legend: CheckState::ALL.map(|state| (state.class(), state.text())).to_vec(),
            sections: sections::all().iter().map(|section| SectionView::new(section, &summaries)).collect(),
            findings: runs.iter().flat_map(FindingView::all).collect(),
            more_findings: disagreed.saturating_sub(kept),
            deviations: deviation_views(&summaries, deviations),
            unspecified: descending(summaries.iter().flat_map(|summary| &summary.unspecified))
                .map(|(why, cases)| (why.to_string(), count(cases)))
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
            value: format!("{} / {}", tally.of(CheckState::Both), tally.reachable()),
            note: format!(
                "{} on one side, {} not tried, {} unreachable",
                tally.one_side(),
                tally.of(CheckState::Nothing),
                tally.of(CheckState::Unreachable)
            ),
        },
    ]
}

impl MachineRow {
    fn new(summary: &Summary) -> Self {
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
            coverage: format!("{} / {}", tally.of(CheckState::Both), tally.reachable()),
            rate: if cpu_seconds > 0.0 { short(timed as f64 / cpu_seconds) } else { "–".to_owned() },
        }
    }
}

/// One for each command, in the order of the runs.
fn campaigns(runs: &[Run]) -> Vec<CampaignView> {
    let key = |run: &Run| match run.command() {
        None => (None, run.report.generator.clone(), run.report.seed),
        Some(command) => (Some(command.to_owned()), String::new(), 0),
    };
    let keys: BTreeSet<_> = runs.iter().map(key).collect();
    let view = |wanted| {
        let its: Vec<_> = runs.iter().filter(|run| key(run) == wanted).collect();
        let timelines: Vec<_> = its.iter().map(|run| run.samples()).collect();
        let cases = count(its.iter().map(|run| run.report.cases).sum());
        let machines: BTreeSet<_> = its.iter().map(|run| run.report.implementation.to_string()).collect();
        let who = match (machines.len(), machines.first()) {
            (1, Some(one)) => one.clone(),
            (several, _) => format!("{several} implementations and CPU models"),
        };
        let made: BTreeSet<_> =
            its.iter().map(|run| format!("{}, seed {}", run.report.generator, run.report.seed)).collect();
        let made = made.into_iter().collect::<Vec<_>>().join("; ");
        CampaignView {
            title: format!("{cases} cases on {who}; generator {made}"),
            chart: Chart::new(&chart::together(&timelines)),
            command: wanted.0,
        }
    };
    keys.into_iter().map(view).collect()
}

impl SectionView {
    fn new(section: &sections::Section, summaries: &[Summary]) -> Self {
        let tally: Tally = section.checks.iter().map(|check| state_of_all(summaries, *check)).collect();
        Self {
            number: section.number,
            title: section.title,
            summary: match tally.reachable() {
                0 => "not reachable".to_owned(),
                reachable => format!("{} of {reachable} reachable checks on both sides", tally.of(CheckState::Both)),
            },
            rows: summaries.iter().map(|summary| CellRow::new(section, summary)).collect(),
            checks: section.checks.iter().map(|check| CheckView::new(*check, summaries)).collect(),
        }
    }
}

impl CellRow {
    fn new(section: &sections::Section, summary: &Summary) -> Self {
        let tally = summary.tally(section.checks.iter().copied());
        let words: Vec<_> = CheckState::ALL
            .iter()
            .filter(|state| tally.of(**state) > 0)
            .map(|state| format!("{} {}", tally.of(*state), state.text()))
            .collect();
        Self {
            name: summary.implementation.to_string(),
            label: format!("{}, {}: {}", section.number, summary.implementation, words.join(", ")),
            count: format!("{} / {}", tally.of(CheckState::Both), tally.reachable()),
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
        if let Some(reason) = summary.unreachable.get(&check) {
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
            reasons: summaries.iter().filter_map(|summary| summary.unreachable.get(&check).cloned()).collect(),
        }
    }
}

/// A row for each deviation that occurred. Where several account for a case together it counts for each.
fn deviation_views(summaries: &[Summary], deviations: &Deviations) -> Vec<DeviationView> {
    let ids: BTreeSet<_> = summaries.iter().flat_map(Summary::deviation_ids).collect();
    let described = |id: &DeviationId| {
        let mut known = summaries.iter().flat_map(|summary| deviations.of(&summary.implementation));
        known.find(|deviation| deviation.id == *id)
    };
    let view = |id: &DeviationId| {
        let cases = summaries.iter().map(|summary| (summary.implementation.to_string(), summary.deviating_as(id)));
        let who: Vec<_> = cases.filter(|(_, cases)| *cases > 0).collect();
        let text = described(id);
        DeviationView {
            id: id.to_string(),
            cases: count(who.iter().map(|(_, cases)| cases).sum()),
            who: who.into_iter().map(|(name, cases)| (name, count(cases))).collect(),
            sections: text.map_or(String::new(), |deviation| sections::of(deviation.omits.iter().copied())),
            text: text.cloned(),
        }
    };
    ids.into_iter().map(view).collect()
}

fn outcomes(summaries: &[Summary]) -> Vec<OutcomeView> {
    let all: u64 = summaries.iter().flat_map(|summary| summary.outcomes.values()).sum();
    descending(summaries.iter().flat_map(|summary| &summary.outcomes))
        .map(|(outcome, cases)| OutcomeView {
            outcome: OutcomeText::new(*outcome),
            cases: count(cases),
            share: format!("{:.1}", 100.0 * cases as f64 / all as f64),
        })
        .collect()
}

/// The sums of those counts, the greatest first, equal ones in the order of their texts.
fn descending<'a, K: Ord + Display + 'a>(
    counts: impl Iterator<Item = (&'a K, &'a u64)>,
) -> impl Iterator<Item = (&'a K, u64)> {
    let mut sums: BTreeMap<&K, u64> = BTreeMap::new();
    for (key, count) in counts {
        *sums.entry(key).or_default() += count;
    }
    let mut all: Vec<_> = sums.into_iter().collect();
    all.sort_by_cached_key(|(key, count)| (Reverse(*count), key.to_string()));
    all.into_iter()
}
