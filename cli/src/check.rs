//! `vmcs check` judges images by the model, and prints a verdict on each.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use vmcs_case::lines::read_line;
use vmcs_case::profile::NamedProfile;
use vmcs_model::Capabilities;
use vmcs_texts::answer::{AnswerFormat, CaseJudge};
use vmcs_texts::case::ImageCase;

use crate::error::{CliError, Status};
use crate::image;

/// Judge VMCS images: which outcomes of a VM entry the SDM permits, and every check that is violated
///
/// The base is an image file: JSON if its name ends in .json, TOML if it ends in .toml. It has three parts, each of which
/// may be missing. "fields": a field's name or encoding (see `vmcs fields`) and its value; a field that is not listed is 0.
/// "memory": a list of {"address", "u32"|"u64"|"bytes"}; memory is zero elsewhere. "cpu": the processor that executes the
/// entry, which is in VMX root operation at CPL 0: cr0, cr4, efer (by default as the host-state area has them), cs_l, smm,
/// mov_ss_blocking, vmxon_pointer, vmcs_pointer.
///
/// A case is a line of JSON: {"id": "a", "set": {FIELD: VALUE}, "memory": […], "op": "vmlaunch"|"vmresume"}. It is the
/// base with these fields and this memory changed; all but "id" can be left out. VMLAUNCH finds the VMCS clear, VMRESUME
/// finds it launched. It is a shadow VMCS if bit 31 of the dword at vmcs_pointer is 1 in memory.
///
/// Numbers are strings such as "0x6800" or integers. "u32" can also be "revision", the processor's VMCS revision
/// identifier, or "shadow_revision", the same with the shadow-VMCS indicator.
///
/// Each case is answered by a line, in their order. A check is undecidable if it depends on a capability that the profile
/// leaves out. If a failure to load MSRs is permitted not only at the entries that "permitted" lists but at every later one,
/// "msr_failures_from" is the number of the first of these.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 no case violates a check, 1 some do, 2 a line was wrong; the answers before it \
                        are valid.\n\nA base image in TOML begins like\n  [fields]\n  guest_rip = 0x1000\n  \
                        vmcs_link_pointer = \"0xffffffffffffffff\"\n\nExample:\n  echo '{\"id\": \"a\", \"set\": \
                        {\"guest_rflags\": 0}}' |\n    vmcs check --profile tiger-lake --base guest.toml --cases - \
                        --json\n\nprints, if the rest of the image is as it should be,\n  \
                        {\"id\":\"a\",\"permitted\":[\"EntryFailed(33, 0)\"],\"violated\":[\"guest.rflags.bit1\"],\
                        \"undecidable\":[]}"
)]
pub(crate) struct Args {
    /// The processor: a profile's name (see `vmcs caps list`) or file
    #[arg(long, value_name = "PROFILE")]
    profile: String,
    /// The image that the cases change
    #[arg(long, value_name = "FILE.json|FILE.toml")]
    base: PathBuf,
    /// The cases, one a line; - for standard input. Without them the base alone is judged, under the id "base"
    #[arg(long, value_name = "FILE.jsonl")]
    cases: Option<PathBuf>,
    /// Answer in JSON: {"id", "permitted": [outcomes], "violated": [check ids], "undecidable": [check ids]}
    #[arg(long)]
    json: bool,
}

/// Bytes that are read and written at once.
const BUFFER: usize = 1 << 16;

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let capabilities = Capabilities::new(&NamedProfile::find(&args.profile)?.profile);
    let format = if args.json { AnswerFormat::Json } else { AnswerFormat::Text };
    let mut judge = CaseJudge::new(capabilities, &image::load(&args.base)?, format);
    let mut out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
    let mut found = false;
    let done = match &args.cases {
        None => judge.answer(&ImageCase::base(), &mut out).map(|violates| found = violates).map_err(CliError::from),
        Some(file) => answer_all(&mut judge, file, &mut out, &mut found),
    };
    // Whatever went wrong with a line, the answers before it stand.
    out.flush()?;
    done.map(|()| Status::found(found))
}

/// Answers line by line, and notes whether a case violates a check.
fn answer_all(judge: &mut CaseJudge, file: &Path, out: &mut impl Write, found: &mut bool) -> Result<(), CliError> {
    let cases: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(file).map_err(|error| CliError::file(file, &error))?)
    };
    let mut cases = BufReader::with_capacity(BUFFER, cases);
    let mut text = Vec::new();
    let mut answered = false;
    for line in 1.. {
        if cases.buffer().is_empty() {
            // The next line may come late, so the answers so far are written.
            out.flush()?;
        }
        let wrong = |message| CliError::Line { file: file.to_owned(), line, message };
        if !read_line(&mut cases, &mut text).map_err(|error| wrong(error.to_string()))? {
            break;
        }
        if text.is_empty() {
            continue;
        }
        let case = ImageCase::parse(&text).map_err(wrong)?;
        *found |= judge.answer(&case, out)?;
        answered = true;
    }
    // What comes through a pipe may be nothing; a file that somebody names has something in it.
    if answered || file == Path::new("-") { Ok(()) } else { Err(CliError::file(file, &"there is no case in it")) }
}
