//! `vmcs metal` makes the boot image from which a real machine is started.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::Subcommand;
use vmcs_case::profile::NamedProfile;
use vmcs_fuzz::TestProcessor;
use vmcs_hw::metal::iso::{self, IsoOptions};
use vmcs_hw::metal::tools::Tools;

use crate::error::{CliError, Status};
use crate::interrupt::stop_on_ctrl_c;
use crate::programs::{self, CheckedProgram};
use crate::progress::with_progress;

/// Make the image from which a real machine is started
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: MetalAction,
}

#[derive(Subcommand)]
enum MetalAction {
    Iso(Iso),
}

/// Make a boot image with the probe, for BIOS and UEFI, CD and USB stick
///
/// The machine shows what its processor is, or in one line why it cannot be used, and waits for a host at the serial line:
/// `vmcs diff --target metal:/dev/ttyS0`. With --cases it first executes those programs and prints a line for each,
/// on the screen and the serial line: its number, how its last operation ended, and the CRC-32 of its whole answer. GRUB,
/// xorriso and mtools make the image; if they are not installed, they are unpacked from Debian's packages for this user.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vmcs metal iso vmcs.iso\n  dd if=vmcs.iso of=/dev/sdX bs=1M conv=fsync   (a USB \
                        stick)\n  vmcs diff --target metal:/dev/ttyUSB0 --cases 10000")]
struct Iso {
    /// The image to be made
    #[arg(value_name = "OUT.iso")]
    output: PathBuf,
    /// Programs that the machine executes by itself, one a line (see `vmcs run`)
    #[arg(long, value_name = "PROGRAM.jsonl", requires = "profile")]
    cases: Option<PathBuf>,
    /// The machine's processor, for the valid images of its programs: a profile's name or file
    #[arg(long, value_name = "PROFILE", requires = "cases")]
    profile: Option<String>,
    /// First I/O port of the machine's serial port
    #[arg(long, value_name = "PORT", default_value = "0x3f8", value_parser = io_port)]
    port: u16,
    /// Divisor of the serial port's clock: 1 is 115200 baud on an ordinary port, 12 is 9600
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    divisor: u16,
}

fn io_port(text: &str) -> Result<u16, String> {
    let digits = text.strip_prefix("0x");
    let port = digits.map_or_else(|| text.parse().ok(), |digits| u16::from_str_radix(digits, 16).ok());
    port.ok_or_else(|| "expected an I/O port, such as 0x3f8".to_owned())
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let MetalAction::Iso(iso) = &args.action;
    let requests = match (&iso.cases, &iso.profile) {
        (Some(file), Some(profile)) => {
            let programs = programs::read(file)?;
            let processor = TestProcessor::new(&NamedProfile::find(profile)?.profile);
            let revision = processor.capabilities.revision();
            let names = processor.image_names();
            let case = |checked: &CheckedProgram| {
                checked.program.to_case(revision, &names).map_err(|error| checked.wrong(file, &error))
            };
            let cases = programs.iter().map(case).collect::<Result<Vec<_>, _>>()?;
            Some(iso::requests(&processor.session(), cases.into_iter())?)
        }
        _ => None,
    };
    let stop = stop_on_ctrl_c();
    let tools = match Tools::find() {
        Some(tools) => tools,
        None => {
            eprintln!("GRUB, xorriso and mtools are not all installed: unpacking them from Debian's packages");
            with_progress(|progress| Tools::unpack(progress))?
        }
    };
    let options = IsoOptions { serial: iso.port, divisor: iso.divisor, requests, commands: Vec::new() };
    iso::write(&iso.output, &tools, &options, &mut || {
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    println!("{} starts the probe, from a CD or a USB stick, by BIOS or UEFI", iso.output.display());
    Ok(Status::Clean)
}
