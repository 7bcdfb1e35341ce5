//! A campaign's report together with its circumstances, such as the command line and the throughput, and the files that hold
//! both.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vmcs_fuzz::campaign::timeline::{Sample, Timeline};
use vmcs_fuzz::campaign::{CampaignReport, Finding, saved_reports};
use vmcs_fuzz::coverage::{Aim, Side};
use vmcs_fuzz::deviations::DeviationId;
use vmcs_fuzz::findings::case_file::CaseFile;
use vmcs_fuzz::generate::reach::Reach;
use vmcs_fuzz::{TestProcessor, as_text};
use vmcs_model::checks::CheckId;

use crate::error::ResultsError;

/// A report, how it came about, and what its processor can never show.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The report.
    #[serde(flatten)]
    pub report: CampaignReport,
    /// How the report came about: command line, time and throughput.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
    /// Checks of which this processor can never be on both sides, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "as_text::keys")]
    pub unreachable: BTreeMap<CheckId, String>,
    /// The findings as small as they get, one of each cause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<CaseFile>,
    /// Reviewed deviations of this implementation that no case met: rare ones, or stale ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_seen: Vec<DeviationId>,
}

impl From<CampaignReport> for Run {
    fn from(report: CampaignReport) -> Self {
        Self { report, timeline: None, unreachable: BTreeMap::new(), causes: Vec::new(), not_seen: Vec::new() }
    }
}

impl Run {
    /// A report that a command with these arguments made on the processor of `processor`.
    #[must_use]
    pub fn of_command(
        arguments: impl Iterator<Item = String>,
        report: CampaignReport,
        timeline: Timeline,
        processor: &TestProcessor,
    ) -> Self {
        let command = command_line(arguments);
        Self { timeline: Some(Timeline { command, ..timeline }), unreachable: unreachable(processor), ..report.into() }
    }

    /// The command line that made it, where it is known.
    #[must_use]
    pub fn command(&self) -> Option<&str> {
        self.timeline.as_ref().map(|timeline| timeline.command.as_str()).filter(|command| !command.is_empty())
    }

    /// The findings in the order of the cases; none if their causes were looked for.
    pub fn findings_without_causes(&self) -> impl Iterator<Item = &Finding> {
        self.report.findings.iter().filter(|_| self.causes.is_empty())
    }

    /// How many cases were executed over time.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        self.timeline.as_ref().map_or(&[], |timeline| &timeline.samples)
    }
}

/// Checks of which a campaign cannot reach the violated side, the legal one, or both, and why.
fn unreachable(processor: &TestProcessor) -> BTreeMap<CheckId, String> {
    let mut sides: BTreeMap<CheckId, [Option<String>; 2]> = BTreeMap::new();
    for (Aim { check, side }, reach) in processor.reach() {
        let (Reach::Unreachable(reason), Side::Violated | Side::Legal) = (reach, side) else { continue };
        sides.entry(check).or_default()[usize::from(side == Side::Legal)] = Some(reason.to_string());
    }
    let text = |sides: [Option<String>; 2]| match sides {
        [Some(violated), Some(legal)] if violated == legal => violated,
        [violated, legal] => {
            let named = [("no violation", violated), ("no legal side", legal)];
            let known = named.into_iter().filter_map(|(side, reason)| Some(format!("{side}: {}", reason?)));
            known.collect::<Vec<_>>().join("; ")
        }
    };
    sides.into_iter().map(|(check, sides)| (check, text(sides))).collect()
}

/// The command as one would call it again, without where it writes its results.
fn command_line(arguments: impl Iterator<Item = String>) -> String {
    let mut command = "vmcs".to_owned();
    let mut value_of_output = false;
    for argument in arguments {
        let is_output = argument == "--report" || argument == "--record";
        let skipped = value_of_output || is_output || argument == "--json" || argument.starts_with("--report=");
        value_of_output = is_output;
        if !skipped {
            command.push(' ');
            command.push_str(&argument);
        }
    }
    command
}

/// The reports of all files and state directories.
///
/// # Errors
/// [`ResultsError`] names the first that cannot be read or does not hold reports.
pub fn read_all(files: &[PathBuf]) -> Result<Vec<Run>, ResultsError> {
    let mut all = Vec::new();
    for file in files {
        if file.is_dir() {
            let saved = saved_reports(file)?.into_iter();
            all.extend(saved.map(|(report, timeline)| Run { timeline: Some(timeline), ..Run::from(report) }));
            continue;
        }
        let runs: Vec<Run> = read_json(file, "an array of reports as `vmcs diff --json` prints it")?;
        all.extend(runs);
    }
    Ok(all)
}

/// A JSON value of a file, which may be compressed by gzip. `expected` is for people.
///
/// # Errors
/// [`ResultsError`] if it cannot be read or is not such a value.
pub fn read_json<T: DeserializeOwned>(path: &Path, expected: &str) -> Result<T, ResultsError> {
    let bytes = fs::read(path).map_err(|error| ResultsError::file(path, &error))?;
    let mut text = Vec::new();
    if bytes.starts_with(&[0x1F, 0x8B]) {
        MultiGzDecoder::new(&bytes[..]).read_to_end(&mut text).map_err(|error| ResultsError::file(path, &error))?;
    } else {
        text = bytes;
    }
    serde_json::from_slice(&text)
        .map_err(|error| ResultsError::file(path, &format_args!("{error}; expected {expected}")))
}

/// Writes a JSON value, compressed by gzip if the file's name ends in `.gz`.
///
/// # Errors
/// [`ResultsError`] if it cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), ResultsError> {
    let written = || {
        let mut file = BufWriter::new(File::create(path)?);
        if path.extension().is_some_and(|extension| extension == "gz") {
            let mut stream = GzEncoder::new(&mut file, Compression::best());
            serde_json::to_writer(&mut stream, value)?;
            stream.finish()?;
        } else {
            serde_json::to_writer_pretty(&mut file, value)?;
            writeln!(file)?;
        }
        file.flush()
    };
    written().map_err(|error| ResultsError::file(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_told_without_its_outputs() {
        let of = |text: &str| command_line(text.split(' ').map(str::to_owned));
        assert_eq!(of("diff --report a.html --cases 5 --json"), "vmcs diff --cases 5");
        assert_eq!(of("diff --report=a.html --record r --seed=2"), "vmcs diff --seed=2");
    }
}
