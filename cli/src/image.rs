//! Reading image files.

use std::fs;
use std::path::Path;

use vmcs_texts::image::{Image, Syntax};

use crate::error::CliError;

/// Reads a JSON or TOML file.
pub(crate) fn load(file: &Path) -> Result<Image, CliError> {
    let text = fs::read_to_string(file).map_err(|error| CliError::file(file, &error))?;
    let syntax = Syntax::of(file).ok_or_else(|| {
        let message = "expected an image, a file whose name ends in .json or .toml".to_owned();
        CliError::File { file: file.to_owned(), message }
    })?;
    Image::parse(&text, syntax).map_err(|error| CliError::line(file, error))
}
