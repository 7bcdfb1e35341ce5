//! `vmcs run` executes programs of VMX instructions on a target.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use vmcs_case::answer::ProgramAnswer;
use vmcs_fuzz::TestProcessor;

use crate::error::{CliError, Status};
use crate::interrupt::stop_on_ctrl_c;
use crate::programs::{self, CheckedProgram};
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
/// "vmlaunch"|"vmresume"|"nothing", rounds}: executes the instruction `rounds` times, with the differences of the time-stamp
/// counter as "samples" (see `vmcs bench`).
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
    /// Has no effect: the answers are always JSON. Accepted because other commands have it
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let programs = programs::read(&args.programs)?;
    let stop = stop_on_ctrl_c();
    let mut opened = target::open(&args.target)?;
    let captured = opened.capture()?;
    let processor = TestProcessor::new(&captured.profile.profile);
    let session = processor.session();
    let revision = processor.capabilities.revision();

    let images = processor.image_names();
    let case = |checked: &CheckedProgram| {
        checked.program.to_case(revision, &images).map_err(|error| checked.wrong(&args.programs, &error))
    };
    let mut cases = programs.iter().map(case).collect::<Result<Vec<_>, _>>()?.into_iter();
    let mut out = io::stdout().lock();
    let mut failed = None;
    opened.target.run(&session, &mut cases, &mut |index, observation| {
        let answer = ProgramAnswer::new(&programs[index].program, &observation, &session);
        let answer = answer.expect("programs are checked when they are read");
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
