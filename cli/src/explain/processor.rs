//! What --profile of `vmcs explain` says of the processor: a name, or a file.

use std::fs;
use std::path::Path;

use vmcs_case::profile::{FindProfileError, NamedProfile};
use vmcs_texts::known_processor::KnownProcessor;

use crate::error::CliError;

/// What is known of the processor of that name, or of the file of that name.
pub(super) fn named(name: &str) -> Result<KnownProcessor, CliError> {
    if let Some(text) = text_of(Path::new(name))? {
        let mut known = KnownProcessor::of_lines(text.lines());
        known.source.named = true;
        if known.source.words.is_empty() {
            let message = "there is neither a profile in it nor anything that says which processor it is: expected a profile in \
                           JSON, or what cpuid -r, rdmsr, InstLatX64, VirtualBox or /proc/cpuinfo print";
            return Err(CliError::File { file: name.into(), message: message.to_owned() });
        }
        return Ok(known);
    }
    match NamedProfile::find(name) {
        Ok(found) => Ok(KnownProcessor::of_profile(found.profile)),
        Err(FindProfileError::Name(unknown)) if unknown.ambiguous => {
            Ok(KnownProcessor::by_name(name).map_err(FindProfileError::from)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// The text of the file, if there is one and it is no profile in JSON.
fn text_of(file: &Path) -> Result<Option<String>, CliError> {
    if !file.is_file() {
        return Ok(None);
    }
    let text = fs::read(file).map_err(|error| CliError::file(file, &error))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok((!text.trim_start().starts_with('{')).then_some(text))
}
