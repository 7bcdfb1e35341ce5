//! `vmcs report`, and the end of `vmcs diff`: they show the results of campaigns to people.

use std::path::{Path, PathBuf};
use std::{fs, io};

use vmcs_fuzz::deviations::Deviations;
use vmcs_report::run::{self, Run};
use vmcs_report::{html, terminal};

use crate::error::{CliError, Status};

/// Show the results of campaigns: as a page for a browser, or as tables
///
/// Reports of the same implementation and CPU model are added up.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vmcs diff --cases 100000 --report run.json\n  vmcs report run.json -o run.html")]
pub(crate) struct Args {
    /// Reports that `vmcs diff --report FILE.json` or `vmcs diff --json` wrote, also compressed by gzip, and state
    /// directories
    #[arg(required = true, value_name = "REPORT|STATE_DIR")]
    files: Vec<PathBuf>,
    /// Write one self-contained HTML page to this file, or all reports as JSON if its name does not end in .html, instead
    /// of printing tables
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Take the descriptions of deviations from this file instead of the reviewed ones that come with this program
    #[arg(long, value_name = "FILE")]
    deviations: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let deviations = Deviations::read_or_embedded(args.deviations.as_deref())?;
    let runs = run::read_all(&args.files)?;
    match &args.output {
        Some(file) => write(file, &runs, &deviations)?,
        None => terminal::write(&mut io::stdout().lock(), &runs)?,
    }
    Ok(Status::found(runs.iter().any(|run| run.report.disagreed > 0)))
}

/// Writes results to a file: as a page if its name ends in `.html`, else as JSON.
pub(crate) fn write(file: &Path, runs: &[Run], deviations: &Deviations) -> Result<(), CliError> {
    if file.extension().is_some_and(|extension| extension == "html") {
        fs::write(file, html::page(runs, deviations)).map_err(|error| CliError::file(file, &error))
    } else {
        Ok(run::write_json(file, &runs)?)
    }
}
