//! `vmcs explain` says what is wrong with a VMCS of which only a part is known, such as one out of a kernel log.

mod input;
mod processor;
mod text;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::ValueEnum;
use vmcs_model::Capabilities;
use vmcs_texts::diagnosis::{Answer, Manner, Section};

use crate::error::{CliError, Status};
use crate::output::json_pretty;
use input::{Asked, Entry};
use text::Columns;

/// Explain why a VM entry failed: the most likely cause, every violated check, and what would be legal
///
/// Give it whatever there is: a kernel log, a mail, an issue's text. The command reads what Linux (KVM's dump_vmcs), Xen and
/// HAXM print, and the registers that QEMU prints after "KVM: entry failed". The dump may stand anywhere in the text.
/// Timestamps, log levels, tags and quoting marks do not matter, nor do lines that a mail program has wrapped. A text with
/// several dumps is answered dump by dump, failed entries first.
///
/// The command also takes an image file as `vmcs check` does. Here a field that the file does not list is unknown, not 0,
/// and memory that it does not list is unknown, too.
///
/// A dump lacks many fields, and the log says little about the processor. A check that depends on a value that is not known
/// is undecided, and the answer says what would decide it. With --profile fewer checks are undecided.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 no check is known to be violated, 1 some are, 2 there is nothing in the text that can be \
                        read, 3 a failed entry is reported and nothing that is known explains it.\n\nKVM prints the dump only \
                        if the module was told to:\n  echo 1 | sudo tee \
                        /sys/module/kvm_intel/parameters/dump_invalid_vmcs\n\nExamples:\n  sudo dmesg | vmcs explain\n  vmcs \
                        explain mail.txt\n  vmcs explain --profile skylake-x syslog\n  vmcs explain --fix guest.toml\n  vmcs \
                        explain --format markdown syslog"
)]
pub(crate) struct Args {
    /// The text or image; without it, or with -, standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The processor: a profile's name or the beginning of several (see `vmcs caps list`), or a file: a profile, or a text
    /// that names the processor or lists its MSRs and CPUID leaves. Without it, what the log says of the processor counts
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,
    /// Which dump of the text, counted from 1; by default all, failed entries first
    #[arg(long, value_name = "N")]
    dump: Option<usize>,
    /// Show the smallest set of changes after which the known values violate no check
    #[arg(long)]
    fix: bool,
    /// Show permitted outcomes, assumptions, notes and everything that is undecided
    #[arg(long, short)]
    verbose: bool,
    /// How to write the answer: text, markdown for the report of an issue, or json (see docs/explain.schema.json)
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Markdown,
    Json,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let named = args.profile.as_deref().map(processor::named).transpose()?;
    let asked = input::read(args.file.as_deref(), args.dump)?;
    let known = named.unwrap_or_else(|| processor::of_lines(asked.lines()));
    let format = if args.json { Format::Json } else { args.format };
    let mut status = 0;
    let mut answers = Vec::new();
    let mut out = BufWriter::new(io::stdout().lock());
    let mut said: Vec<(usize, Vec<Section>)> = Vec::new();
    for entry in asked.entries(known.revision()) {
        let Entry { number, entry } = entry;
        let capabilities = Capabilities::new(&entry.processor(&known.profile));
        let guess = known.guess.as_ref().map(|guess| Capabilities::new(&entry.processor(guess)));
        let mut diagnosis = entry.diagnose(&capabilities);
        if let Some(guess) = &guess {
            diagnosis = diagnosis.guessing(guess);
        }
        // A violation weighs more than an entry that nothing explains.
        status = if status == 1 || diagnosis.status() == 1 { 1 } else { status.max(diagnosis.status()) };
        let fix = args.fix.then(|| diagnosis.fix());
        if format == Format::Json {
            answers.push(diagnosis.answer(&known.processor, fix.as_ref()));
            continue;
        }
        let sections = diagnosis.sections(&known.processor, Manner { verbose: args.verbose, fix: fix.as_ref() });
        if !said.is_empty() {
            writeln!(out)?;
        }
        let shown = numbered(&asked, number, entry.dump.line, &mut said, sections);
        match format {
            Format::Markdown => text::markdown(&shown, &mut out)?,
            _ => text::text(&shown, Columns::of(&io::stdout()), &mut out)?,
        }
    }
    out.flush()?;
    drop(out);
    if let Some(answer) = joined(answers) {
        json_pretty(&answer)?;
    }
    Ok(match status {
        0 => Status::Clean,
        1 => Status::Found,
        _ => Status::Unexplained,
    })
}

/// The answer to one of several dumps: with its number, and short if it was said before.
fn numbered(
    asked: &Asked,
    number: usize,
    line: usize,
    said: &mut Vec<(usize, Vec<Section>)>,
    mut sections: Vec<Section>,
) -> Vec<Section> {
    if asked.count() < 2 {
        return sections;
    }
    // The last section says in which line the dump begins.
    let body = sections[..sections.len() - 1].to_vec();
    let place = if line > 0 { format!("Dump {number} (line {line})") } else { format!("Dump {number}") };
    if let Some((before, _)) = said.iter().find(|(_, same)| *same == body) {
        return vec![Section::Paragraph(format!("{place}: the same as dump {before}."))];
    }
    said.push((number, body));
    if let Some(Section::Paragraph(text)) = sections.first_mut() {
        *text = format!("{place}: {text}");
    }
    sections
}

/// One answer for all: the first, which holds the others.
fn joined(answers: Vec<Answer>) -> Option<Answer> {
    let mut answers = answers.into_iter();
    let mut first = answers.next()?;
    first.others = answers.collect();
    Some(first)
}
