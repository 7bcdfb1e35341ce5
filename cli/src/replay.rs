//! `vmcs replay` executes the cases of case files on any target.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use vmcs_fuzz::deviations::Deviations;
use vmcs_fuzz::findings::case_file::CaseFile;
use vmcs_machines::MachineChoice;

use crate::error::{CliError, Status};
use crate::known_case::KnownCase;
use crate::output;
use crate::target::{self, TargetArgs};

/// Execute the cases of findings again, on the machine that showed them or on another one
///
/// A case file is what `vmcs diff --findings` and `vmcs minimize` write: the program, what was observed and what the model
/// permits. Without --target each case goes to the machine that it names.
#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 no case disagrees with the model, 1 some do, 2 a case cannot be read or \
                        executed.\n\nExamples:\n  vmcs replay findings/\n  vmcs replay --target bochs@3.1 --cpu arrow_lake \
                        finding.json")]
pub(crate) struct Args {
    #[command(flatten)]
    target: TargetArgs,
    /// A case file, or a directory of them
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
    /// Judge with the deviations of this file instead of the reviewed ones that come with this program
    #[arg(long, value_name = "FILE")]
    deviations: Option<PathBuf>,
    /// Print a JSON line for each case: {"cause", "implementation", "result", "observed", "permitted"}
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let deviations = Deviations::read_or_embedded(args.deviations.as_deref())?;
    let files = if args.path.is_dir() { files_of(&args.path)? } else { vec![args.path.clone()] };
    let mut known = Vec::new();
    for file in &files {
        known.extend(CaseFile::read(file)?.into_iter().map(|case| KnownCase::new(case, file)));
    }
    // One machine after the other, each with all of its cases.
    let mut machines: Vec<(MachineChoice, Vec<KnownCase>)> = Vec::new();
    for case in known {
        let machine = match (&args.target.target, &case.by) {
            (None, Some(by)) => MachineChoice::of(by)?,
            _ => args.target.choose()?,
        };
        match machines.iter_mut().find(|(known, _)| *known == machine) {
            Some((_, cases)) => cases.push(case),
            None => machines.push((machine, vec![case])),
        }
    }
    let mut disagrees = false;
    for (machine, known) in machines {
        let mut machine = target::tested(&machine)?;
        let cases = known.iter().map(|known| known.case(&machine)).collect::<Result<Vec<_>, _>>()?;
        let who = machine.target.implementation().to_string();
        for ((known, case), judged) in known.iter().zip(&cases).zip(machine.judge(&cases, &deviations)?) {
            let answer = known.answer(&who, case, judged);
            disagrees |= answer.again.disagreement().is_some();
            if args.json {
                output::json_line(&answer)?;
            } else {
                writeln!(io::stdout().lock(), "{answer}")?;
            }
        }
    }
    Ok(Status::found(disagrees))
}

/// The case files of a directory, by name.
fn files_of(directory: &Path) -> Result<Vec<PathBuf>, CliError> {
    let wrong = |error: io::Error| CliError::file(directory, &error);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.extension().is_some_and(|extension| extension == "json" || extension == "jsonl") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(CliError::file(directory, &"there is no case file in it: expected *.json or *.jsonl"));
    }
    Ok(files)
}
