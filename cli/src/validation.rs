//! `vmcs validation` writes the document that says which machines agreed with the model on which check.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use vmcs_fuzz::deviations::Deviations;
use vmcs_report::run::write_json;
use vmcs_report::validation::Counts;

use crate::error::{CliError, Status};

/// Write the Markdown document that says which machines agreed with the model on which check, such as docs/validation.md
///
/// It names for each check the machines that agreed on entries that violate the check and on the nearest entries that do
/// not, with the number of cases, or says why no machine could be asked.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  vmcs validation run.json --data docs/validation.json.gz -o docs/validation.md\n  vmcs \
                        validation docs/validation.json.gz"
)]
pub(crate) struct Args {
    /// Reports that `vmcs diff --json` or `vmcs diff --report FILE.json` wrote, or counts that --data of this command wrote
    #[arg(required = true, value_name = "REPORT")]
    files: Vec<PathBuf>,
    /// Write the document to this file instead of printing it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the counts that the document is made from to this file, compressed if its name ends in .gz
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let counts = Counts::read(&args.files)?;
    if let Some(file) = &args.data {
        write_json(file, &counts)?;
    }
    let text = counts.document(&Deviations::embedded()?);
    match &args.output {
        Some(file) => fs::write(file, text).map_err(|error| CliError::file(file, &error))?,
        None => io::stdout().write_all(text.as_bytes())?,
    }
    Ok(Status::found(counts.implementations.iter().any(|summary| summary.disagreed > 0)))
}
