//! `vmcs replay`: case files on any target.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use vmcs_case::program::Program;
use vmcs_case::{Case, Implementation};
use vmcs_fuzz::deviations::{DeviationIds, Deviations};
use vmcs_fuzz::findings::again::Again;
use vmcs_fuzz::findings::case_file::CaseFile;
use vmcs_fuzz::machines::MachineChoice;
use vmcs_fuzz::oracle::{Disagreement, Judged};

use crate::error::{CliError, Status};
use crate::output;
use crate::target::TargetArgs;
use crate::tested_machine::TestedMachine;

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

/// A case and what is known of it.
pub(crate) struct Known {
    program: Program,
    /// The machine that it was observed on.
    pub(crate) by: Option<Implementation>,
    cause: Option<String>,
    disagreement: Option<Disagreement>,
    file: PathBuf,
}

/// What is printed of a case.
pub(crate) struct Answer<'a> {
    cause: &'a str,
    implementation: String,
    again: Again,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let deviations = deviations(args.deviations.as_deref())?;
    let files = if args.path.is_dir() { files_of(&args.path)? } else { vec![args.path.clone()] };
    let mut known = Vec::new();
    for file in &files {
        known.extend(CaseFile::read(file)?.into_iter().map(|case| Known::new(case, file)));
    }
    // One machine after the other, each with all of its cases.
    let mut machines: Vec<(MachineChoice, Vec<Known>)> = Vec::new();
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
        let mut machine = TestedMachine::open(machine)?;
        let cases = known.iter().map(|known| known.case(&machine)).collect::<Result<Vec<_>, _>>()?;
        let who = machine.opened.target.implementation().to_string();
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

impl Known {
    pub(crate) fn new(case: CaseFile, file: &Path) -> Self {
        Self {
            cause: Some(case.cause().to_string()),
            disagreement: Some(case.disagreement),
            program: case.program,
            by: Some(case.implementation),
            file: file.to_owned(),
        }
    }

    pub(crate) fn of_program(program: Program, file: &Path) -> Self {
        Self { program, by: None, cause: None, disagreement: None, file: file.to_owned() }
    }

    /// The case that it is on that machine.
    pub(crate) fn case(&self, machine: &TestedMachine) -> Result<Case, CliError> {
        let wrong = |error| CliError::file(&self.file, &format!("program {:?}: {error}", self.program.id));
        machine.case(&self.program).map_err(wrong)
    }

    /// What became of it on `who`.
    pub(crate) fn answer<'a>(&'a self, who: &str, case: &Case, judged: Judged) -> Answer<'a> {
        Answer {
            cause: self.cause.as_deref().unwrap_or(&self.program.id),
            implementation: who.to_owned(),
            again: Again::new(case, self.disagreement.as_ref(), judged),
        }
    }
}

impl Answer<'_> {
    /// What the machine did, or why nothing can be said of it.
    fn observed(&self) -> Option<String> {
        match &self.again {
            Again::LeftOpen(why) => Some(why.to_string()),
            Again::Disagrees(found) | Again::OtherwiseDisagrees(found) => Some(found.observed()),
            Again::Agrees | Again::Deviates(_) => None,
        }
    }

    fn permitted(&self) -> Vec<String> {
        self.again.disagreement().map_or_else(Vec::new, Disagreement::permitted)
    }

    fn deviation(&self) -> Option<&DeviationIds> {
        match &self.again {
            Again::Deviates(ids) => Some(ids),
            _ => None,
        }
    }
}

impl Serialize for Answer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("cause", self.cause)?;
        map.serialize_entry("implementation", &self.implementation)?;
        map.serialize_entry("result", &self.again.to_string())?;
        if let Some(ids) = self.deviation() {
            map.serialize_entry("deviation", &ids.to_string())?;
        }
        if let Some(observed) = self.observed() {
            map.serialize_entry("observed", &observed)?;
        }
        let permitted = self.permitted();
        if !permitted.is_empty() {
            map.serialize_entry("permitted", &permitted)?;
        }
        map.end()
    }
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.implementation, self.again, self.cause)?;
        if let Some(observed) = self.observed() {
            write!(f, "\n  {observed}")?;
        }
        let permitted = self.permitted();
        if !permitted.is_empty() {
            write!(f, ", permitted: {}", permitted.join(" or "))?;
        }
        if let Some(ids) = self.deviation() {
            write!(f, "\n  {ids}")?;
        }
        Ok(())
    }
}

/// The reviewed deviations, or those of a file.
pub(crate) fn deviations(file: Option<&Path>) -> Result<Deviations, CliError> {
    Ok(match file {
        Some(file) => Deviations::read(file)?,
        None => Deviations::embedded()?,
    })
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
