//! What `vmcs explain` is asked about: a file or standard input, and the dumps in it.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use vmcs_texts::diagnosis::PartialEntry;
use vmcs_texts::dump::{self, Dump};
use vmcs_texts::image::{Image, Syntax};

use super::text::Columns;
use crate::error::CliError;
use crate::image;

/// What was read.
#[derive(Debug)]
pub(super) struct Asked {
    /// The whole text.
    text: String,
    contents: Contents,
}

#[derive(Debug)]
enum Contents {
    Image(Image),
    /// Dumps with their numbers in the text, those that are answered first in front.
    Dumps(Vec<(usize, Dump)>),
}

/// An entry to be explained.
#[derive(Debug)]
pub(super) struct Entry {
    /// The number of the dump in the text, counted from 1.
    pub(super) number: usize,
    /// The entry.
    pub(super) entry: PartialEntry,
}

/// Most bytes that are read.
const MOST_BYTES: u64 = 256 << 20;

/// What the command wants, for somebody who gave it nothing.
const WANTED: &str = "expected what KVM, Xen or HAXM print of a VMCS, QEMU's registers after \"KVM: entry failed\", a line that \
                      says how an entry failed, or an image in JSON or TOML; KVM prints the VMCS of a failed entry after `echo \
                      1 | sudo tee /sys/module/kvm_intel/parameters/dump_invalid_vmcs`, then `sudo dmesg | vmcs explain` \
                      explains it";

/// The same for somebody at a terminal.
const PASTE: &str = "Paste the kernel log or the dump of a failed VM entry here, then press Ctrl-D on a line of its own. What is \
                     read: KVM's dump (\"*** Guest State ***\"), Xen's, HAXM's, QEMU's registers after \"KVM: entry \
                     failed\", the line with the error alone, or an image in JSON or TOML. `vmcs explain --help` says more.";

/// Reads the file, or standard input if none is named. `number` chooses a dump.
pub(super) fn read(file: Option<&Path>, number: Option<usize>) -> Result<Asked, CliError> {
    let standard_input = Path::new("-");
    if file.is_none() && io::stdin().is_terminal() {
        Columns::of(&io::stderr()).write(PASTE, &mut io::stderr().lock())?;
    }
    let file = file.unwrap_or(standard_input);
    let wrong = |message: String| CliError::File { file: file.to_owned(), message };
    let text = contents(file)?;
    if let Some(syntax) = Syntax::of(file).or_else(|| Syntax::of_text(&text)) {
        if number.is_some() {
            return Err(CliError::Usage("--dump chooses a dump of a log, and this is an image".to_owned()));
        }
        let image = image::parse(file, &text, syntax)?;
        return Ok(Asked { text, contents: Contents::Image(image) });
    }
    if text.trim().is_empty() {
        return Err(wrong(format!("there is no VMCS dump in it, it is empty: {WANTED}")));
    }
    let found = dump::find(&text);
    if found.is_empty() {
        let hint = if text.contains("dump_invalid_vmcs") {
            "KVM prints it only with kvm_intel.dump_invalid_vmcs=1"
        } else {
            WANTED
        };
        return Err(wrong(format!("there is no VMCS dump in it: {hint}")));
    }
    let count = found.len();
    if let Some(number) = number.filter(|number| *number == 0 || *number > count) {
        return Err(wrong(format!("there is no dump {number} in it: expected 1 to {count}")));
    }
    let mut dumps: Vec<_> = (1..).zip(found).filter(|(i, _)| number.is_none_or(|number| number == *i)).collect();
    dumps.retain(|(_, dump)| dump.known() > 0 || dump.reported.is_some() || !dump.named.is_empty());
    if dumps.is_empty() {
        return Err(wrong(
            "there is a dump in it, but no value of a field: expected lines such as \"CR3 = 0x1000\"".to_owned(),
        ));
    }
    // Failed entries first.
    dumps.sort_by_key(|(_, dump)| dump.reported.is_none());
    Ok(Asked { text, contents: Contents::Dumps(dumps) })
}

impl Asked {
    /// The lines of the text.
    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    /// How many entries are explained.
    pub(super) fn count(&self) -> usize {
        match &self.contents {
            Contents::Image(_) => 1,
            Contents::Dumps(dumps) => dumps.len(),
        }
    }

    /// The entries, on a processor with that VMCS revision identifier.
    pub(super) fn entries(&self, revision: u32) -> impl Iterator<Item = Entry> + '_ {
        let (image, dumps) = match &self.contents {
            Contents::Image(image) => {
                (Some(Entry { number: 1, entry: PartialEntry::of_image(image, revision) }), &[][..])
            }
            Contents::Dumps(dumps) => (None, &dumps[..]),
        };
        let dumps =
            dumps.iter().map(|(number, dump)| Entry { number: *number, entry: PartialEntry::of_dump(dump.clone()) });
        image.into_iter().chain(dumps)
    }
}

/// The text of the file; bytes that are not UTF-8 are no part of a dump.
fn contents(file: &Path) -> Result<String, CliError> {
    let failed = |error: io::Error| CliError::file(file, &error);
    let input: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin().lock()) } else { Box::new(File::open(file).map_err(failed)?) };
    let mut bytes = Vec::new();
    input.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        let message = format!("it is too long: expected at most {} MiB", MOST_BYTES >> 20);
        return Err(CliError::File { file: PathBuf::from(file), message });
    }
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}
