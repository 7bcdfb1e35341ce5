//! What is asked about: the image or the dumps that a text holds.

use std::path::Path;

use crate::LineError;
use crate::diagnosis::PartialEntry;
use crate::dump::{self, Dump};
use crate::image::{Image, Syntax};
use crate::input::Log;
use crate::log::Line;

/// A text that holds something to explain.
#[derive(Clone, Debug)]
pub struct Question {
    /// The lines of the text.
    pub lines: Vec<Line>,
    contents: Contents,
}

#[derive(Clone, Debug)]
enum Contents {
    Image(Box<Image>),
    /// Dumps with their numbers in the text, those that are answered first in front.
    Dumps(Vec<(usize, Dump)>),
}

/// What to say to somebody who gave nothing that can be explained.
pub const WANTED: &str = "expected what KVM, Xen or HAXM print of a VMCS, QEMU's registers after \"KVM: entry failed\", a list of \
                          fields and values, a line that says how an entry failed, or an image in JSON or TOML; KVM prints \
                          the VMCS of a failed entry after `echo 1 | sudo tee \
                          /sys/module/kvm_intel/parameters/dump_invalid_vmcs`, then `sudo dmesg | vmcs explain` explains it";

/// Why there is nothing to explain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NothingToExplain {
    /// There is no text.
    #[error("there is no VMCS dump in it, it is empty: {WANTED}")]
    Empty,
    /// KVM says how to make it print a dump.
    #[error("there is no VMCS dump in it: KVM prints it only with kvm_intel.dump_invalid_vmcs=1")]
    NotPrinted,
    /// There is nothing of the sort.
    #[error("there is no VMCS dump in it: {WANTED}")]
    NoDump,
    /// A dump of another number was asked for.
    #[error("there is no dump {number} in it: expected 1 to {count}")]
    NoSuchDump {
        /// The number that was asked for.
        number: usize,
        /// How many dumps there are.
        count: usize,
    },
    /// A dump was asked for by its number.
    #[error("this is an image, and no log with dumps of which one could be chosen")]
    NotALog,
    /// A dump shows no value.
    #[error("there is a dump in it, but no value of a field: expected lines such as \"CR3 = 0x1000\"")]
    NoValue,
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] LineError),
}

impl Question {
    /// What a text holds, which comes from the file of that name if it comes from one. `number` chooses one of its dumps.
    ///
    /// # Errors
    /// [`NothingToExplain`].
    pub fn new(log: Log, file: Option<&Path>, number: Option<usize>) -> Result<Self, NothingToExplain> {
        let syntax = |text: &str| file.and_then(Syntax::of).or_else(|| Syntax::of_text(text));
        if let Some((text, syntax)) = log.image().and_then(|text| Some((text, syntax(text)?))) {
            if number.is_some() {
                return Err(NothingToExplain::NotALog);
            }
            let contents = Contents::Image(Box::new(Image::parse(text, syntax)?));
            return Ok(Self { lines: log.lines, contents });
        }
        let lines = log.lines;
        if lines.is_empty() {
            return Err(NothingToExplain::Empty);
        }
        let found = if log.pages.is_empty() { dump::find_in(&lines) } else { log.pages };
        let count = found.len();
        if count == 0 {
            let told = lines.iter().any(|line| line.text.contains("dump_invalid_vmcs"));
            return Err(if told { NothingToExplain::NotPrinted } else { NothingToExplain::NoDump });
        }
        if let Some(number) = number.filter(|number| !(1..=count).contains(number)) {
            return Err(NothingToExplain::NoSuchDump { number, count });
        }
        let mut dumps: Vec<_> = (1..).zip(found).filter(|(i, _)| number.is_none_or(|number| number == *i)).collect();
        dumps.retain(|(_, dump)| {
            dump.known() > 0
                || dump.reported.is_some()
                || !dump.named.is_empty()
                || dump::is_failure_without_number(dump)
        });
        if dumps.is_empty() {
            return Err(NothingToExplain::NoValue);
        }
        // Failed entries first.
        dumps.sort_by_key(|(_, dump)| !dump.failed());
        Ok(Self { lines, contents: Contents::Dumps(dumps) })
    }

    /// The entries, each with the number of its dump in the text, on a processor with that VMCS revision identifier.
    pub fn entries(&self, revision: u32) -> impl ExactSizeIterator<Item = (usize, PartialEntry)> + '_ {
        let entries: Vec<_> = match &self.contents {
            Contents::Image(image) => vec![(1, PartialEntry::of_image(image, revision))],
            Contents::Dumps(dumps) => {
                dumps.iter().map(|(number, dump)| (*number, PartialEntry::of_dump(dump.clone()))).collect()
            }
        };
        entries.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_a_number_is_a_question() {
        for text in [
            "Received KVM_EXIT_FAIL_ENTRY signal\n",
            "unexpected kvm exit reason 9\n",
            "Error: ret = HV_ERROR (0xfae94001, at ../accel/hvf/hvf-all.c:123)\n",
            "WHPX: Unexpected VP exit code 5\n",
        ] {
            let log = Log::read(text.as_bytes()).expect(text);
            let question = Question::new(log, None, None).expect(text);
            assert!(matches!(&question.contents, Contents::Dumps(dumps) if dumps.len() == 1), "{text}");
        }
        let log = Log::read(&b"*** Guest State ***\n"[..]).expect("a log");
        assert_eq!(Question::new(log, None, None).err(), Some(NothingToExplain::NoValue));
    }
}
