//! `vmcs run`: programs of VMX instructions on a target.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use serde::{Serialize, Serializer};
use vmcs_case::lines::read_line;
use vmcs_case::number::Number;
use vmcs_case::program::{FieldKey, Program, ProgramError, result_text};
use vmcs_case::{End, Observation, Session, StepResult};
use vmcs_fuzz::TestProcessor;

use crate::error::{CliError, Status};
use crate::interrupt::stop_on_ctrl_c;
use crate::target::{self, TargetArgs};

/// Execute programs of VMX instructions on a target, one result per step
///
/// A program is a line of JSON: {"id", "start", "memory", "ops"}. It starts outside VMX operation ("start": "outside")
/// or in VMX root operation with the VMXON region at 0x10000 ("vmx_root"). Memory is zero but for "memory":
/// [{"address", "u32"|"u64"|"bytes"}]; "u32": "revision" stands for the processor's VMCS revision identifier. Operations:
/// vmxon, vmclear, vmptrld {address}; vmxoff, vmptrst, vmcall; vmread {field}; vmwrite {field, value}; vmlaunch, vmresume
/// {mov_ss}; vmfunc {eax, ecx}; invept {type, eptp}; invvpid {type, vpid, address}; store {address, u32|u64|bytes};
/// image {image}: VMWRITE of every field of a valid image by its name, "plain" being a 64-bit guest, or its number; observe
/// {state}: VMREAD of the fields that tell of an exit, with "state": true of every field; time {instruction:
/// "vmlaunch"|"vmresume"|"nothing", rounds}: the entry so often, with the differences of the time-stamp counter as
/// "samples" (see `vmcs bench`).
#[derive(clap::Args)]
#[command(after_help = "Example:\n  echo '{\"id\": \"a\", \"memory\": [{\"address\": \"0x10000\", \"u32\": \
                        \"revision\"}], \"ops\": [{\"op\": \"vmxon\", \"address\": \"0x10000\"}, {\"op\": \
                        \"vmlaunch\"}]}' |\n    vmcs run --target emu -\n\nprints {\"id\":\"a\",\"results\":[\"ok\",\
                        \"VMfailInvalid\"],\"values\":[null,null]}")]
pub(crate) struct Args {
    #[command(flatten)]
    target: TargetArgs,
    /// A file of programs, one a line; - for standard input
    #[arg(value_name = "PROGRAM.jsonl")]
    programs: PathBuf,
    /// Accepted for symmetry: the answers are JSON anyway
    #[arg(long)]
    json: bool,
}

/// What is printed for a program.
#[derive(Serialize)]
struct Answer {
    id: String,
    results: Vec<String>,
    values: Vec<Option<Number>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    samples: Vec<Option<Vec<u64>>>,
    /// What each observe has read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    observed: Vec<FieldValues>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
}

/// Fields and what they hold, in the order of the session's lists.
struct FieldValues(Vec<(FieldKey, Number)>);

impl Serialize for FieldValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(field, value)| (field.to_string(), value)))
    }
}

/// A checked program.
pub(crate) struct Checked {
    pub(crate) program: Program,
    /// Its line in the file, counted from 1.
    line: usize,
    /// Operations that set up its memory.
    setup: usize,
    /// Operations of each of its lines.
    lines: Vec<usize>,
}

impl Checked {
    pub(crate) fn wrong(&self, file: &Path, error: &ProgramError) -> CliError {
        let message = format!("program {:?}: {error}", self.program.id);
        CliError::Line { file: file.to_owned(), line: self.line, message }
    }
}

impl Answer {
    fn new(checked: &Checked, observation: &Observation, session: &Session) -> Self {
        let mut steps = observation.steps.iter().skip(checked.setup);
        let mut results = Vec::with_capacity(checked.lines.len());
        let mut values = Vec::with_capacity(checked.lines.len());
        let mut samples = Vec::with_capacity(checked.lines.len());
        for &ops in &checked.lines {
            // A line of several operations ends as the first that does not succeed.
            let parts: Vec<_> = steps.by_ref().take(ops).collect();
            let decisive = parts.iter().find(|step| !matches!(step, StepResult::Ok)).or(parts.last());
            results.push(decisive.map_or_else(|| result_text(&StepResult::<()>::NotRun), |step| result_text(step)));
            values.push(match decisive {
                Some(StepResult::Value(value)) => Some(Number(*value)),
                _ => None,
            });
            samples.push(match decisive {
                Some(StepResult::Timed { samples, .. }) => Some(samples.clone()),
                _ => None,
            });
        }
        // Of programs that measure.
        if samples.iter().all(Option::is_none) {
            samples.clear();
        }
        let end = match &observation.end {
            End::Completed => None,
            End::Crashed { detail } => Some(format!("the machine crashed: {detail}")),
            End::Hung => Some("the machine hung".to_owned()),
        };
        // Without state the list is shorter.
        let key = |encoding| FieldKey::of(u64::from(encoding));
        let fields = |step: &StepResult<Vec<u64>>| match step {
            StepResult::Fields(values) => {
                let named = session.fields_observed(true).zip(values);
                Some(FieldValues(named.map(|(encoding, value)| (key(encoding), Number(*value))).collect()))
            }
            _ => None,
        };
        let observed = observation.steps.iter().filter_map(fields).collect();
        Self { id: checked.program.id.clone(), results, values, samples, observed, end }
    }
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let programs = read_programs(&args.programs)?;
    let stop = stop_on_ctrl_c();
    let mut opened = target::open(&args.target)?;
    let captured = opened.capture()?;
    let processor = TestProcessor::new(&captured.profile.profile);
    let session = processor.session();
    let revision = processor.capabilities.revision();

    let images = processor.image_names();
    let case = |checked: &Checked| {
        checked.program.to_case(revision, &images).map_err(|error| checked.wrong(&args.programs, &error))
    };
    let mut cases = programs.iter().map(case).collect::<Result<Vec<_>, _>>()?.into_iter();
    let mut out = io::stdout().lock();
    let mut failed = None;
    opened.target.run(&session, &mut cases, &mut |index, observation| {
        let answer = Answer::new(&programs[index], &observation, &session);
        let written = serde_json::to_writer(&mut out, &answer).map_err(io::Error::from).and_then(|()| writeln!(out));
        if let Err(error) = written {
            failed = Some(error);
            return ControlFlow::Break(());
        }
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(Status::Clean),
    }
}

/// The programs of a file, all of them checked.
pub(crate) fn read_programs(file: &Path) -> Result<Vec<Checked>, CliError> {
    let mut reader: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file).map_err(|error| CliError::file(file, &error))?))
    };
    let mut programs = Vec::new();
    let mut text = Vec::new();
    for line in 1.. {
        let wrong = |message: String| CliError::Line { file: file.to_owned(), line, message };
        if !read_line(&mut reader, &mut text).map_err(|error| wrong(error.to_string()))? {
            break;
        }
        if text.is_empty() {
            continue;
        }
        let program: Program = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        let mut checked = Checked { program, line, setup: 0, lines: Vec::new() };
        (checked.setup, checked.lines) = checked.program.extents().map_err(|error| checked.wrong(file, &error))?;
        programs.push(checked);
    }
    Ok(programs)
}
