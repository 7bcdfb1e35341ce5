//! `vmcs minimize`: cases as small as they get.

use std::path::{Path, PathBuf};
use std::{fs, io};

use vmcs_fuzz::findings::case_file::CaseFile;
use vmcs_fuzz::findings::minimise::{Goal, minimise};
use vmcs_fuzz::machines::MachineChoice;
use vmcs_fuzz::oracle::Judgement;

use crate::error::{CliError, Status};
use crate::replay::{Known, deviations};
use crate::target::TargetArgs;
use crate::tested_machine::TestedMachine;
use crate::{output, run};

/// Make the cases of findings as small as they get
///
/// Takes case files, or programs as `vmcs run` reads them. Operations are left out, fields and then bits go back to those of
/// a valid image, as long as the machine still does the same.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 no case disagrees with the model, 1 some do and have been written, 2 a case cannot be \
                        read or executed.\n\nExample:\n  vmcs minimize --target bochs@2.7 -o smaller.json finding.json"
)]
pub(crate) struct Args {
    #[command(flatten)]
    target: TargetArgs,
    /// A case file, or a file of programs, one a line
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where to write the minimal cases; by default standard output
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Judge with the deviations of this file instead of the reviewed ones that come with this program
    #[arg(long, value_name = "FILE")]
    deviations: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let deviations = deviations(args.deviations.as_deref())?;
    let known = read(&args.file)?;
    let observed_by = known.first().and_then(|known| known.by.as_ref()).filter(|_| args.target.target.is_none());
    let choice = observed_by.and_then(|by| MachineChoice::of(by).ok());
    let mut machine = TestedMachine::open(choice.map_or_else(|| args.target.choose(), Ok)?)?;
    let cases = known.iter().map(|known| known.case(&machine)).collect::<Result<Vec<_>, _>>()?;
    let who = machine.opened.target.implementation();
    let mut disagreeing = Vec::new();
    for ((case, judged), known) in cases.iter().zip(machine.judge(&cases, &deviations)?).zip(&known) {
        match &judged.judgement {
            Judgement::Disagree(disagreement) => {
                disagreeing.push((case.clone(), Goal::disagreement(case, disagreement)));
            }
            _ => eprintln!("{}", known.answer(&who.to_string(), case, judged)),
        }
    }
    let (target, setting) = machine.setting(&deviations);
    let minimal = minimise(target, setting, &disagreeing)?;
    let files: Vec<_> = minimal
        .iter()
        .flatten()
        .filter_map(|minimal| minimal.file(&machine.processor, &machine.session, &who))
        .collect();
    match &args.output {
        Some(output) => write(output, &files)?,
        None => {
            for file in &files {
                output::json_pretty(file)?;
            }
        }
    }
    Ok(Status::found(!files.is_empty()))
}

/// The cases of a file: of a case file, or programs.
fn read(file: &Path) -> Result<Vec<Known>, CliError> {
    if let Ok(cases) = CaseFile::read(file) {
        return Ok(cases.into_iter().map(|case| Known::new(case, file)).collect());
    }
    let programs = run::read_programs(file)?;
    Ok(programs.into_iter().map(|checked| Known::of_program(checked.program, file)).collect())
}

/// Writes findings to a directory, a file each, named by the cause.
pub(crate) fn write_findings(directory: &Path, files: &[&CaseFile]) -> Result<(), CliError> {
    fs::create_dir_all(directory).map_err(|error| CliError::file(directory, &error))?;
    for &file in files {
        write(&directory.join(format!("{}.json", file.file_stem())), std::slice::from_ref(file))?;
    }
    Ok(())
}

/// Writes cases to a file, one after the other.
fn write(path: &Path, files: &[CaseFile]) -> Result<(), CliError> {
    let mut text = String::new();
    for file in files {
        text += &serde_json::to_string_pretty(file).map_err(io::Error::from)?;
        text.push('\n');
    }
    fs::write(path, text).map_err(|error| CliError::file(path, &error))
}
