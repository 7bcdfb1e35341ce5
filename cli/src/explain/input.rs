//! Reading what `vmcs explain` is asked about: a file or standard input.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use vmcs_texts::input::Log;
use vmcs_texts::question::{NothingToExplain, Question};

use super::text::Columns;
use crate::error::CliError;

/// What to paste, for somebody at a terminal.
const PASTE: &str = "Paste the kernel log or the dump of a failed VM entry here, then press Ctrl-D on a line of its own. What is \
                     read: KVM's dump (\"*** Guest State ***\"), Xen's, HAXM's, QEMU's registers after \"KVM: entry \
                     failed\", the line with the error alone, or an image in JSON or TOML. `vmcs explain --help` says more.";

/// Reads the file, or standard input if none is named. `number` chooses a dump.
pub(super) fn read(file: Option<&Path>, number: Option<usize>) -> Result<Question, CliError> {
    let standard_input = Path::new("-");
    if file.is_none() && io::stdin().is_terminal() {
        Columns::of(&io::stderr()).write(PASTE, &mut io::stderr().lock())?;
    }
    let file = file.unwrap_or(standard_input);
    let failed = |error: io::Error| CliError::file(file, &error);
    let input: Box<dyn Read> =
        if file == standard_input { Box::new(io::stdin().lock()) } else { Box::new(File::open(file).map_err(failed)?) };
    let log = Log::read(input).map_err(failed)?;
    Question::new(log, Some(file), number).map_err(|nothing| match nothing {
        NothingToExplain::NotALog => CliError::Usage("--dump chooses a dump of a log, and this is an image".to_owned()),
        NothingToExplain::Image(error) => CliError::line(file, error),
        nothing => CliError::File { file: file.to_owned(), message: nothing.to_string() },
    })
}
