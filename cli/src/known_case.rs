//! Cases that were read from files, and how they end when they are executed again.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use vmcs_case::program::Program;
use vmcs_case::{Case, Implementation};
use vmcs_fuzz::deviations::DeviationIds;
use vmcs_fuzz::findings::again::Again;
use vmcs_fuzz::findings::case_file::CaseFile;
use vmcs_fuzz::oracle::{Disagreement, Judged};
use vmcs_machines::TestedMachine;

use crate::error::CliError;
use crate::programs;

/// A case and what is known of it.
pub(crate) struct KnownCase {
    program: Program,
    /// The machine that it was observed on.
    pub(crate) by: Option<Implementation>,
    cause: Option<String>,
    disagreement: Option<Disagreement>,
    file: PathBuf,
}

/// What is printed of a case.
pub(crate) struct CaseAnswer<'a> {
    cause: &'a str,
    implementation: String,
    pub(crate) again: Again,
}

impl KnownCase {
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

    /// The cases of a file: of a case file, or programs.
    pub(crate) fn read(file: &Path) -> Result<Vec<Self>, CliError> {
        if let Ok(cases) = CaseFile::read(file) {
            return Ok(cases.into_iter().map(|case| Self::new(case, file)).collect());
        }
        let programs = programs::read(file)?;
        Ok(programs.into_iter().map(|checked| Self::of_program(checked.program, file)).collect())
    }

    /// The case that the program means on that machine.
    pub(crate) fn case(&self, machine: &TestedMachine) -> Result<Case, CliError> {
        let wrong = |error| CliError::file(&self.file, &format!("program {:?}: {error}", self.program.id));
        machine.case(&self.program).map_err(wrong)
    }

    /// The answer to the case on the machine `who`.
    pub(crate) fn answer<'a>(&'a self, who: &str, case: &Case, judged: Judged) -> CaseAnswer<'a> {
        CaseAnswer {
            cause: self.cause.as_deref().unwrap_or(&self.program.id),
            implementation: who.to_owned(),
            again: Again::new(case, self.disagreement.as_ref(), judged),
        }
    }
}

impl CaseAnswer<'_> {
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

impl Serialize for CaseAnswer<'_> {
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

impl fmt::Display for CaseAnswer<'_> {
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

/// Writes findings to a directory, a file each, named by the cause.
pub(crate) fn write_findings(directory: &Path, files: &[&CaseFile]) -> Result<(), CliError> {
    fs::create_dir_all(directory).map_err(|error| CliError::file(directory, &error))?;
    for &file in files {
        write(&directory.join(format!("{}.json", file.file_stem())), std::slice::from_ref(file))?;
    }
    Ok(())
}

/// Writes cases to a file, one after the other.
pub(crate) fn write(path: &Path, files: &[CaseFile]) -> Result<(), CliError> {
    let mut text = String::new();
    for file in files {
        text += &serde_json::to_string_pretty(file).map_err(io::Error::from)?;
        text.push('\n');
    }
    fs::write(path, text).map_err(|error| CliError::file(path, &error))
}
