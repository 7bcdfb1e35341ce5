//! `vmcs minimize` makes cases as small as they get.

use std::path::PathBuf;

use vmcs_fuzz::deviations::Deviations;
use vmcs_fuzz::findings::minimise::{Goal, minimise};
use vmcs_fuzz::oracle::Judgement;
use vmcs_machines::MachineChoice;

use crate::error::{CliError, Status};
use crate::known_case::{self, KnownCase};
use crate::output;
use crate::target::{self, TargetArgs};

/// Make the cases of findings as small as they get
///
/// The command takes case files, or programs as `vmcs run` reads them. It leaves out operations and sets fields, and then
/// bits, back to those of a valid image, as long as the machine still does the same.
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
    let deviations = Deviations::read_or_embedded(args.deviations.as_deref())?;
    let known = KnownCase::read(&args.file)?;
    let observed_by = known.first().and_then(|known| known.by.as_ref()).filter(|_| args.target.target.is_none());
    let choice = observed_by.and_then(|by| MachineChoice::of(by).ok());
    let mut machine = target::tested(&choice.map_or_else(|| args.target.choose(), Ok)?)?;
    let cases = known.iter().map(|known| known.case(&machine)).collect::<Result<Vec<_>, _>>()?;
    let who = machine.target.implementation();
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
        Some(output) => known_case::write(output, &files)?,
        None => {
            for file in &files {
                output::json_pretty(file)?;
            }
        }
    }
    Ok(Status::found(!files.is_empty()))
}
