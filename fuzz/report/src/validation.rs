//! Which machine agreed with the model on which check, as a Markdown document: what docs/validation.md is.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};
use std::path::Path;

use indicatif::HumanCount;
use serde::{Deserialize, Serialize};
use vmcs_fuzz::coverage::Sides;
use vmcs_fuzz::deviations::{Deviation, Deviations};
use vmcs_model::checks::{CHECK_COUNT, CheckId};

use crate::counts::duration;
use crate::error::ResultsError;
use crate::run::{self, Run};
use crate::sections;
use crate::summary::{CheckState, Summary, Tally, by_implementation, state_of_all};
use crate::table::markdown_text;

/// The counts that the document is made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// One for each implementation and CPU model.
    pub implementations: Vec<Summary>,
}

impl Counts {
    /// The counts of all `files`, of which each holds reports or counts.
    ///
    /// # Errors
    /// [`ResultsError`] names the first file that holds neither.
    pub fn read(files: &[impl AsRef<Path>]) -> Result<Self, ResultsError> {
        let mut parts = Vec::new();
        for file in files {
            parts.extend(read(file.as_ref())?);
        }
        Ok(Self { implementations: by_implementation(parts) })
    }

    /// The document. Where the reviewed `deviations` occurred there is no agreement on the checks that they omit.
    #[must_use]
    pub fn document(&self, deviations: &Deviations) -> String {
        Document { summaries: &self.implementations, deviations }.to_string()
    }
}

/// What a file may hold.
#[derive(Deserialize)]
#[serde(untagged)]
enum ResultsFile {
    Counts(Counts),
    Reports(Vec<Run>),
}

fn read(file: &Path) -> Result<Vec<Summary>, ResultsError> {
    Ok(match run::read_json(file, "reports of `vmcs diff`, or counts of `vmcs validation --data`")? {
        ResultsFile::Counts(counts) => counts.implementations,
        ResultsFile::Reports(runs) => runs.iter().map(Summary::from).collect(),
    })
}

/// The document.
struct Document<'a> {
    summaries: &'a [Summary],
    /// The reviewed ones: where they occurred there is no agreement on the checks that they omit.
    deviations: &'a Deviations,
}

/// What one command did on all its machines.
#[derive(Default)]
struct CampaignTotals {
    cases: u64,
    seconds: f64,
    cpu_seconds: f64,
}

impl Display for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Validation\n\n{}\n", self.totals())?;
        f.write_str(
            "A check is confirmed on its violated side when a machine ended an entry that violates it as the model permits, \
             and on its\nlegal side when a machine did so with the nearest values that are legal. The tables say in how many \
             cases that was seen, and on\nwhich machines: the numbers are those of the list below. `vmcs validation` makes \
             this page from the counts in\n`docs/validation.json.gz`. Bochs is an independent implementation of VMX and not \
             a processor.\n",
        )?;
        self.campaigns(f)?;
        self.implementations(f)?;
        for section in sections::all() {
            self.section(f, &section)?;
        }
        Ok(())
    }
}

impl Document<'_> {
    /// The result in two sentences: what the README quotes.
    fn totals(&self) -> String {
        let sum = |of: &dyn Fn(&Summary) -> u64| HumanCount(self.summaries.iter().map(of).sum());
        let tally: Tally = CheckId::all().map(|check| state_of_all(self.summaries, check)).collect();
        format!(
            "{} cases on {} pairs of an implementation and a CPU model: {} disagreements outside the reviewed deviations, \
             {} cases within them. Of {CHECK_COUNT} checks {} were confirmed on both sides, {} on one, {} on none; {} \
             have a side that none of these can reach.",
            sum(&|s| s.cases),
            self.summaries.len(),
            sum(&|s| s.disagreed),
            sum(&Summary::deviating),
            tally.of(CheckState::Both),
            tally.one_side(),
            tally.of(CheckState::Nothing),
            tally.of(CheckState::Unreachable),
        )
    }

    /// The commands, and what they took.
    fn campaigns(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut campaigns: BTreeMap<String, CampaignTotals> = BTreeMap::new();
        for source in self.summaries.iter().flat_map(|summary| &summary.sources) {
            let command = match &source.command {
                Some(command) => format!("`{command}`"),
                None => format!("generator {}, seed {}", source.generator, source.seed),
            };
            let campaign = campaigns.entry(command).or_default();
            campaign.cases += source.cases;
            // Reports of one command ran beside each other, or one after the other on the same clock.
            campaign.seconds = campaign.seconds.max(source.seconds);
            campaign.cpu_seconds += source.cpu_seconds;
        }
        f.write_str(
            "\n## Campaigns\n\n| command | cases | wall time | CPU time of the machines |\n|---|--:|--:|--:|\n",
        )?;
        let known = |seconds: f64| if seconds > 0.0 { duration(seconds) } else { String::new() };
        for (command, CampaignTotals { cases, seconds, cpu_seconds }) in campaigns {
            writeln!(f, "| {command} | {} | {} | {} |", HumanCount(cases), known(seconds), known(cpu_seconds))?;
        }
        Ok(())
    }

    /// The legend of the numbers that the tables of checks use.
    fn implementations(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "\n## Who was asked\n\n| | implementation and CPU model | cases | agreed | known deviations | left open | \
             disagreed | checks on both sides |\n|--:|---|--:|--:|--:|--:|--:|--:|\n",
        )?;
        for (index, summary) in self.summaries.iter().enumerate() {
            let counts = [summary.cases, summary.agreed, summary.deviating(), summary.open(), summary.disagreed]
                .map(|count| HumanCount(count).to_string())
                .join(" | ");
            let tally = summary.tally(CheckId::all());
            let (both, reachable) = (tally.of(CheckState::Both), tally.reachable());
            writeln!(f, "| {} | {} | {counts} | {both} of {reachable} |", index + 1, summary.implementation)?;
        }
        Ok(())
    }

    fn section(&self, f: &mut fmt::Formatter<'_>, section: &sections::Section) -> fmt::Result {
        writeln!(f, "\n## {} {}\n", section.number, section.title)?;
        writeln!(f, "| check | violated | by | legal | by | not asked |\n|---|--:|---|--:|---|---|")?;
        for check in &section.checks {
            let [violated, legal] = [Sides::violated, |sides: &Sides| sides.legal].map(|of| self.side(*check, of));
            writeln!(f, "| `{}` | {violated} | {legal} | {} |", check.info().id, self.missing(*check))?;
        }
        Ok(())
    }

    /// Cases on one side of a check, and who agreed on them.
    fn side(&self, check: CheckId, of: fn(&Sides) -> u64) -> String {
        let count = |summary: &Summary| of(&summary.coverage.of(check));
        let who: Vec<_> = (0..self.summaries.len()).filter(|index| count(&self.summaries[*index]) > 0).collect();
        format!("{} | {}", HumanCount(self.summaries.iter().map(count).sum()), self.names(&who))
    }

    /// Who could not be asked on both sides, and why.
    fn missing(&self, check: CheckId) -> String {
        let mut reasons: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, summary) in self.summaries.iter().enumerate() {
            let reason = match summary.state(check) {
                CheckState::Unreachable => markdown_text(&summary.unreachable[&check]),
                CheckState::Nothing => match self.deviation(summary, check) {
                    Some(deviation) => format!("deviates, `{}`", deviation.id),
                    None => "not tried".to_owned(),
                },
                CheckState::Both | CheckState::Violated | CheckState::Legal => continue,
            };
            reasons.entry(reason).or_default().push(index);
        }
        let texts = reasons.iter().map(|(reason, who)| format!("{}: {reason}", self.names(who)));
        texts.collect::<Vec<_>>().join("; ")
    }

    /// The deviation that was seen instead of that check.
    fn deviation(&self, summary: &Summary, check: CheckId) -> Option<&Deviation> {
        let of_it = self.deviations.of(&summary.implementation);
        of_it
            .into_iter()
            .find(|deviation| deviation.omitted().contains(check) && summary.deviating_as(&deviation.id) > 0)
    }

    /// `all`, or numbers from 1 with ranges: `1–3, 7`.
    fn names(&self, who: &[usize]) -> String {
        if who.len() == self.summaries.len() && who.len() > 1 {
            return "all".to_owned();
        }
        let mut text = String::new();
        for range in who.chunk_by(|a, b| a + 1 == *b) {
            let (first, last) = (range[0] + 1, range[range.len() - 1] + 1);
            let comma = if text.is_empty() { "" } else { ", " };
            // Writing into a string does not fail.
            let _ = match last - first {
                0 => write!(text, "{comma}{first}"),
                _ => write!(text, "{comma}{first}–{last}"),
            };
        }
        text
    }
}
