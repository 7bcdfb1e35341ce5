//! `vmcs merge` puts the reports of the parts of a campaign together.

use std::path::{Path, PathBuf};
use std::{fs, io};

use vmcs_fuzz::campaign::{CampaignReport, saved_reports};
use vmcs_report::{Run, terminal};

use crate::error::{CliError, Status};
use crate::output;

/// Put the reports of the parts of a campaign together
///
/// The parts come from `vmcs diff --shard`. A part that is there twice, or one of another campaign, is refused.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  vmcs diff --shard 1/2 --state one; vmcs diff --shard 2/2 --json > two.json\n  vmcs \
                        merge one two.json"
)]
pub(crate) struct Args {
    /// State directories, and reports that `vmcs diff --json` wrote
    #[arg(required = true, value_name = "STATE_DIR|REPORT.json")]
    parts: Vec<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let mut parts = Vec::new();
    for part in &args.parts {
        parts.extend(read(part)?);
    }
    let reports = CampaignReport::merge(parts).map_err(|error| CliError::Usage(error.to_string()))?;
    for report in &reports {
        let missing: Vec<_> = report.missing_shards().map(|shard| shard.to_string()).collect();
        if !missing.is_empty() {
            let (missing, count) = (missing.join(", "), report.shard_count);
            eprintln!("{}: of {count} parts these are missing: {missing}", report.implementation);
        }
    }
    if args.json {
        output::json_pretty(&reports)?;
    } else {
        let runs: Vec<_> = reports.iter().cloned().map(Run::from).collect();
        terminal::write(&mut io::stdout().lock(), &runs)?;
    }
    Ok(Status::found(reports.iter().any(|report| report.disagreed > 0)))
}

/// The reports of a state directory or of a file.
fn read(part: &Path) -> Result<Vec<CampaignReport>, CliError> {
    if part.is_dir() {
        return Ok(saved_reports(part)?.into_iter().map(|(report, _)| report).collect());
    }
    let text = fs::read(part).map_err(|error| CliError::file(part, &error))?;
    serde_json::from_slice(&text).map_err(|error| {
        let message = format!("expected reports as `vmcs diff --json` prints them: {error}");
        CliError::File { file: part.to_owned(), message }
    })
}
