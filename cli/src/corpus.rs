//! Reading the corpus of a fuzzer as cases.

use std::fs;
use std::path::Path;

use crate::error::CliError;

/// Most bytes of a file: libFuzzer's own limit.
const MOST_BYTES: u64 = 1 << 20;

/// The files of a corpus directory: name and bytes, by name. Every sequence of bytes is a case of every generator.
pub(crate) fn read(directory: &Path) -> Result<Vec<(String, Vec<u8>)>, CliError> {
    let wrong = |message: &str| CliError::File { file: directory.to_owned(), message: message.to_owned() };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| CliError::file(directory, &error))? {
        let file = entry.map_err(|error| CliError::file(directory, &error))?.path();
        let about = fs::metadata(&file).map_err(|error| CliError::file(&file, &error))?;
        let refused = |message: String| Err(CliError::File { file: file.clone(), message });
        if !about.is_file() {
            return refused("not a case: a corpus holds files of bytes only".to_owned());
        }
        if about.len() > MOST_BYTES {
            return refused(format!("not a case: {} bytes, and a case has at most {MOST_BYTES}", about.len()));
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push((name, fs::read(&file).map_err(|error| CliError::file(&file, &error))?));
    }
    if files.is_empty() {
        return Err(wrong("expected the files of a fuzzer's corpus, and the directory is empty"));
    }
    files.sort();
    Ok(files)
}
