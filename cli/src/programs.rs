//! Reading programs of VMX instructions.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use vmcs_case::lines::{ReadLineError, read_line};
use vmcs_case::program::{Program, ProgramError};

use crate::error::CliError;

/// A program that is well-formed. Whether the images that it names exist depends on the processor.
pub(crate) struct CheckedProgram {
    pub(crate) program: Program,
    /// Its line in the file, counted from 1.
    line: usize,
}

impl CheckedProgram {
    /// What is wrong with it on some processor.
    pub(crate) fn wrong(&self, file: &Path, error: &ProgramError) -> CliError {
        let message = format!("program {:?}: {error}", self.program.id);
        CliError::Line { file: file.to_owned(), line: self.line, message }
    }
}

/// The programs of a file, all of them checked.
pub(crate) fn read(file: &Path) -> Result<Vec<CheckedProgram>, CliError> {
    let mut reader: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file).map_err(|error| CliError::file(file, &error))?))
    };
    let mut programs = Vec::new();
    let mut text = Vec::new();
    for line in 1.. {
        let wrong = |message: String| CliError::Line { file: file.to_owned(), line, message };
        let more = read_line(&mut reader, &mut text).map_err(|error| match error {
            ReadLineError::Io(error) => CliError::file(file, &error),
            ReadLineError::TooLong => wrong(error.to_string()),
        })?;
        if !more {
            break;
        }
        if text.is_empty() {
            continue;
        }
        let program: Program = serde_json::from_slice(&text).map_err(|error| wrong(not_a_program(&error)))?;
        let checked = CheckedProgram { program, line };
        checked.program.extents().map_err(|error| checked.wrong(file, &error))?;
        programs.push(checked);
    }
    // What comes through a pipe may be nothing; a file that somebody names has something in it.
    if programs.is_empty() && file != Path::new("-") {
        return Err(CliError::file(file, &"there is no program in it"));
    }
    Ok(programs)
}

/// What is wrong with a line: the message of the JSON reader with the column. The line number in it, always 1, is left out.
fn not_a_program(error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = error.to_string();
    let message = message.strip_suffix(&place).unwrap_or(&message);
    let expected = if error.is_data() {
        ""
    } else {
        "; expected a program, such as {\"id\": \"a\", \"ops\": [{\"op\": \"vmxoff\"}]}"
    };
    format!("{message} (column {}){expected}", error.column())
}
