//! `vmcs check`: what the model says about images, one verdict a line.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use vmcs_case::lines::read_line;
use vmcs_case::profile::NamedProfile;
use vmcs_model::checks::CheckSet;
use vmcs_model::formats::RegionHeader;
use vmcs_model::{Capabilities, CpuState, EntryAttempt, EntryInstruction, ReadMemory, Vmcs};
use vmcs_texts::case::{Case, Op};
use vmcs_texts::image::{Image, Memory};

use crate::error::{CliError, Status};
use crate::image;

/// Judge VMCS images: which outcomes of a VM entry the SDM permits, and every check that is violated
///
/// The base is an image file, JSON or TOML by its extension, of three parts that may each be missing. "fields": a field's
/// name or encoding (see `vmcs fields`) and its value; a field that is not listed is 0. "memory": a list of {"address",
/// "u32"|"u64"|"bytes"}; memory is zero elsewhere. "cpu": the processor that executes the entry, which is in VMX root
/// operation at CPL 0: cr0, cr4, efer (by default as the host-state area has them), cs_l, smm, mov_ss_blocking,
/// vmxon_pointer, vmcs_pointer.
///
/// A case is a line of JSON: {"id": "a", "set": {FIELD: VALUE}, "memory": […], "op": "vmlaunch"|"vmresume"}. It is the
/// base with these fields and this memory changed; all but "id" can be left out. VMLAUNCH finds the VMCS clear, VMRESUME
/// finds it launched; it is a shadow VMCS if memory at the vmcs_pointer says so.
///
/// Numbers are strings such as "0x6800" or integers. "u32" can also be "revision", the processor's VMCS revision
/// identifier, or "shadow_revision", the same with the shadow-VMCS indicator.
///
/// Each case is answered by a line, in their order. A check is undecidable if it depends on a capability that the profile
/// leaves out. If a failure to load MSRs is permitted not only at the entries that "permitted" lists but at all later ones,
/// "msr_failures_from" has the first.
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

/// What is printed for a case.
#[derive(Serialize)]
struct Answer {
    id: String,
    permitted: Vec<String>,
    /// A failure to load MSRs is permitted at every entry of the area from this one on.
    #[serde(skip_serializing_if = "Option::is_none")]
    msr_failures_from: Option<u64>,
    violated: Vec<&'static str>,
    undecidable: Vec<&'static str>,
    /// Why the first of the violated checks do not hold, for people.
    #[serde(skip)]
    explanations: Vec<String>,
}

/// Violated checks that are explained; an image that violates more is not one that was meant to be valid.
const EXPLAINED: usize = 5;

/// What the cases have in common.
struct Judge {
    /// Answers explain what is violated.
    explain: bool,
    capabilities: Capabilities,
    cpu: CpuState,
    vmcs: Vmcs,
    memory: Memory,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let capabilities = Capabilities::new(&NamedProfile::find(&args.profile)?.profile);
    let judge = Judge::new(capabilities, image::load(&args.base)?, !args.json);
    let mut out = Printer { json: args.json, found: false, out: io::BufWriter::new(io::stdout().lock()) };
    let done = match &args.cases {
        None => out.print(&judge.answer(Case::base())).map_err(CliError::from),
        Some(file) => answer_all(&judge, file, &mut out),
    };
    // Whatever went wrong with a line, the answers before it stand.
    out.out.flush()?;
    done.map(|()| Status::found(out.found))
}

/// Answers line by line.
fn answer_all(judge: &Judge, file: &Path, out: &mut Printer<impl Write>) -> Result<(), CliError> {
    let cases: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(file).map_err(|error| CliError::file(file, &error))?)
    };
    let mut cases = BufReader::new(cases);
    let mut text = Vec::new();
    for line in 1.. {
        if cases.buffer().is_empty() {
            // The next line may be long in coming.
            out.out.flush()?;
        }
        let wrong = |message| CliError::Line { file: file.to_owned(), line, message };
        if !read_line(&mut cases, &mut text).map_err(|error| wrong(error.to_string()))? {
            break;
        }
        if text.is_empty() {
            continue;
        }
        let case = Case::parse(&text).map_err(wrong)?;
        out.print(&judge.answer(case))?;
    }
    Ok(())
}

impl Judge {
    fn new(capabilities: Capabilities, image: Image, explain: bool) -> Self {
        let vmcs = image.to_vmcs();
        let memory = image.to_memory(capabilities.revision());
        Self { explain, capabilities, cpu: image.cpu, vmcs, memory }
    }

    fn answer(&self, case: Case) -> Answer {
        let mut vmcs = self.vmcs.clone();
        case.set.apply(&mut vmcs);
        if case.memory.0.is_empty() {
            self.judge(case.id, case.op, &vmcs, &self.memory)
        } else {
            let mut memory = self.memory.clone();
            memory.apply(&case.memory.0, self.capabilities.revision());
            self.judge(case.id, case.op, &vmcs, &memory)
        }
    }

    fn judge(&self, id: String, op: Op, vmcs: &Vmcs, memory: &Memory) -> Answer {
        let entry = self.attempt(op, memory).on(vmcs, memory);
        let verdict = entry.verdict();
        let ids = |checks: &CheckSet| checks.iter().map(|check| check.info().id).collect();
        let explained = verdict.violated.iter().take(if self.explain { EXPLAINED } else { 0 });
        Answer {
            id,
            explanations: explained.map(|check| entry.explain(check).to_string()).collect(),
            permitted: verdict.permitted.iter().map(|outcome| outcome.to_string()).collect(),
            msr_failures_from: verdict.permitted.msr_failures_from(),
            violated: ids(&verdict.violated),
            undecidable: ids(&verdict.undecidable),
        }
    }

    fn attempt(&self, op: Op, memory: &Memory) -> EntryAttempt<'_> {
        let instruction = match op {
            Op::Vmlaunch => EntryInstruction::Vmlaunch,
            Op::Vmresume => EntryInstruction::Vmresume,
        };
        let header = memory.read_u32(self.cpu.vmcs_pointer).map_or(RegionHeader::new(), RegionHeader::from_bits);
        EntryAttempt::by(instruction, &self.cpu, &self.capabilities).with_shadow(header.shadow())
    }
}

/// Prints answers.
struct Printer<W: Write> {
    json: bool,
    /// Something was violated.
    found: bool,
    out: W,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, answer: &Answer) -> io::Result<()> {
        self.found |= !answer.violated.is_empty();
        if self.json {
            serde_json::to_writer(&mut self.out, answer)?;
            return writeln!(self.out);
        }
        write!(self.out, "{}: {}", answer.id.escape_debug(), answer.permitted.join(" or "))?;
        if answer.msr_failures_from.is_some() {
            write!(self.out, " or a later entry of the MSR-load area")?;
        }
        for (what, checks) in [("violated", &answer.violated), ("undecidable", &answer.undecidable)] {
            if !checks.is_empty() {
                write!(self.out, " | {what}: {}", checks.join(", "))?;
            }
        }
        writeln!(self.out)?;
        for explanation in &answer.explanations {
            writeln!(self.out, "  {}", explanation.replace('\n', "\n  "))?;
        }
        let rest = answer.violated.len() - answer.explanations.len();
        if rest > 0 {
            writeln!(self.out, "  … and {rest} more, see `vmcs checks ID`")?;
        }
        Ok(())
    }
}
