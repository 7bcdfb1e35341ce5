//! `vmcs explain` says what is wrong with a VMCS of which only a part is known, such as one out of a kernel log.

mod input;
mod processor;
mod text;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::ValueEnum;
use vmcs_texts::diagnosis::{Answer, Manner};
use vmcs_texts::explanation::{self, Explained};

use crate::error::{CliError, Status};
use crate::output::json_pretty;
use text::Columns;

/// Explain why a VM entry failed: the most likely cause, every violated check, and what would be legal
///
/// Give it whatever there is: a kernel log, a mail, an issue's text, compressed by gzip or xz or not. The command reads the dumps
/// of KVM, Xen and HAXM; QEMU's registers after "KVM: entry failed"; any list of fields and values, in the names of Linux, the
/// SDM, ia32-doc, Apple's, VirtualBox', Xen's, Bochs' or the x86 crate; VBox.log; what bhyve, xhyve, OpenBSD's vmm, Jailhouse,
/// kontain and barevisor print; KVM's tracepoints; KVM's struct vmcs12 as a debugger prints it or as a page of memory; and a
/// line, or only a number, that says how an entry failed.
///
/// A dump may stand anywhere in the text. Timestamps, log levels, tags and quoting marks do not matter, nor do lines that a mail
/// program has wrapped. A value that was cut or damaged counts as unknown. A text with several dumps is answered dump by dump,
/// failed entries first.
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
    let processor = args.profile.as_deref().map(processor::named).transpose()?;
    let question = input::read(args.file.as_deref(), args.dump)?;
    let manner = Manner { verbose: args.verbose, options: true };
    let answers = explanation::explain(&question, processor.as_ref(), manner, args.fix);
    let status = explanation::status(&answers);
    match if args.json { Format::Json } else { args.format } {
        Format::Json => {
            if let Some(answer) = joined(answers) {
                json_pretty(&answer)?;
            }
        }
        format => {
            let mut out = BufWriter::new(io::stdout().lock());
            for (i, Explained { sections, .. }) in answers.iter().enumerate() {
                if i > 0 {
                    writeln!(out)?;
                }
                match format {
                    Format::Markdown => text::markdown(sections, &mut out)?,
                    _ => text::text(sections, Columns::of(&io::stdout()), &mut out)?,
                }
            }
            out.flush()?;
        }
    }
    Ok(match status {
        0 => Status::Clean,
        1 => Status::Found,
        _ => Status::Unexplained,
    })
}

/// One answer for all: the first, which holds the others.
fn joined(answers: Vec<Explained>) -> Option<Answer> {
    let mut answers = answers.into_iter().map(|explained| explained.answer);
    let mut first = answers.next()?;
    first.others = answers.collect();
    Some(first)
}
