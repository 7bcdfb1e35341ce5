//! `vmcs explain` says what is wrong with a VMCS of which only a part is known, such as one out of a kernel log.

mod report;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use vmcs_case::profile::NamedProfile;
use vmcs_model::{Capabilities, CpuProfile};
use vmcs_texts::diagnosis::PartialEntry;
use vmcs_texts::dump;
use vmcs_texts::image::Syntax;
use vmcs_texts::input::Log;

use crate::error::{CliError, Status};
use crate::image;
use report::Findings;

/// Explain a VMCS dump out of a kernel log: every check that is violated, why, and what would be legal
///
/// The command reads what Linux (KVM's dump_vmcs), Xen and HAXM print, and the registers that QEMU prints after "KVM: entry
/// failed". The dump may stand anywhere in the log. Timestamps, log levels, tags and quoting marks do not matter, nor do
/// lines that a mail program has wrapped.
///
/// The command also takes an image file as `vmcs check` does. Here a field that the file does not list is unknown, not 0,
/// and memory that it does not list is unknown, too.
///
/// A dump lacks many fields, and the log says nothing about the processor. A check that depends on a value that is not known
/// is listed as undecidable, together with what is missing. With --profile fewer checks are undecidable.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 no check is known to be violated, 1 some are, 2 there is no dump or it cannot be \
                        read.\n\nKVM prints the dump only if the module was told to:\n  echo 1 | sudo tee \
                        /sys/module/kvm_intel/parameters/dump_invalid_vmcs\n\nExamples:\n  sudo dmesg | vmcs explain -\n  \
                        vmcs explain --profile skylake-x syslog\n  vmcs explain --json guest.toml"
)]
pub(crate) struct Args {
    /// The log or image; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The processor: a profile's name (see `vmcs caps list`) or file. Without it the capabilities are unknown
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,
    /// Which dump of the log, counted from 1; by default the last
    #[arg(long, value_name = "N")]
    dump: Option<usize>,
    /// Answer in JSON: {"format", "reported", "permitted", "violated": [{"id", "section", "title", "rule", "gate",
    /// "fields", "repair", …}], "undecidable": [{"id", "unknown"}], "notes"}
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let profile = match &args.profile {
        Some(name) => NamedProfile::find(name)?.profile,
        None => CpuProfile::default(),
    };
    let capabilities = Capabilities::new(&profile);
    let entry = read(args, capabilities.revision())?;
    let findings = Findings { diagnosis: entry.diagnose(&capabilities), profiled: args.profile.is_some() };
    if args.json {
        report::json(&findings)?;
    } else {
        report::text(&findings)?;
    }
    Ok(Status::found(!findings.diagnosis.verdict().violated.is_empty()))
}

/// Finds out what the file is, and reads it.
fn read(args: &Args, revision: u32) -> Result<PartialEntry, CliError> {
    let file = args.file.as_path();
    let wrong = |message: String| CliError::File { file: file.to_owned(), message };
    let log = contents(file)?;
    let image = log.image().and_then(|text| Some((text, Syntax::of(file).or_else(|| Syntax::of_text(text))?)));
    if let Some((text, syntax)) = image {
        if args.dump.is_some() {
            return Err(CliError::Usage("--dump chooses a dump of a log, and this is an image".to_owned()));
        }
        return Ok(PartialEntry::of_image(&image::parse(file, text, syntax)?, revision));
    }
    let mut dumps = dump::find_in(&log.lines);
    let count = dumps.len();
    let number = args.dump.unwrap_or(count);
    if count == 0 {
        let hint = if log.lines.iter().any(|line| line.text.contains("dump_invalid_vmcs")) {
            "KVM prints it only with kvm_intel.dump_invalid_vmcs=1"
        } else {
            "expected what KVM, Xen or HAXM print, QEMU's registers after \"KVM: entry failed\", or an image in JSON or TOML"
        };
        return Err(wrong(format!("there is no VMCS dump in it: {hint}")));
    }
    if number == 0 || number > count {
        return Err(wrong(format!("there is no dump {number} in it: expected 1 to {count}")));
    }
    let mut dump = dumps.swap_remove(number - 1);
    if count > 1 {
        dump.notes.insert(0, format!("this is dump {number} of {count} in the log; --dump N explains another"));
    }
    if dump.known() == 0 && dump.reported.is_none() {
        return Err(wrong(
            "there is a dump in it, but no value of a field: expected lines such as \"CR3 = 0x1000\"".to_owned(),
        ));
    }
    Ok(PartialEntry::of_dump(dump))
}

/// What the file holds, which may be compressed.
fn contents(file: &Path) -> Result<Log, CliError> {
    let failed = |error: io::Error| CliError::file(file, &error);
    let input: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin().lock()) } else { Box::new(File::open(file).map_err(failed)?) };
    Log::read(input).map_err(failed)
}
