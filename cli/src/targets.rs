//! `vmcs targets`: which machines can be asked, and getting another one.

use std::io;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use vmcs_case::recording;
use vmcs_debian::{Existing, InstallError, Progress, Step};
use vmcs_hw::bochs;
use vmcs_hw::kvm::install_kernel;
use vmcs_hw::targets::{Present, present};

use crate::error::{self, CliError, Status};
use crate::interrupt::stop_on_ctrl_c;
use crate::output;

/// List the machines that can be asked, or install one
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  vmcs targets\n  vmcs targets install bochs --suite sid\n  \
                        vmcs targets install kvm-on-bochs --suite bookworm")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Action {
    /// Unpack a target for this user from Debian's packages, without root rights
    Install(Install),
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  vmcs targets install bochs --suite sid")]
struct Install {
    /// What to install
    #[arg(value_enum)]
    what: Installable,
    /// Debian suite whose package is taken: bookworm has Bochs 2.7 and Linux 6.1, trixie 3.0 and 6.12, sid the newest of
    /// both [default: sid for bochs, bookworm for kvm-on-bochs]
    #[arg(long)]
    suite: Option<String>,
    /// Download it again although it is there
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Installable {
    /// The Bochs emulator
    Bochs,
    /// A Linux kernel whose KVM runs inside a Bochs that is here already
    KvmOnBochs,
}

/// A line of the list.
#[derive(Serialize)]
struct Entry {
    target: String,
    cpus: Vec<String>,
    default_cpu: Option<&'static str>,
    about: String,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    match &args.action {
        None => list(args.json),
        Some(Action::Install(what)) => install(what),
    }
}

fn list(json: bool) -> Result<Status, CliError> {
    let mut entries = Vec::new();
    for Present { name, about, cpus, default_cpu, missing } in present()? {
        let about = missing.map_or(about, |why| format!("not here: {}", error::one_line(&why)));
        entries.push(Entry { target: name.to_string(), cpus, default_cpu, about });
    }
    let has_bochs = entries.iter().any(|entry| entry.target.starts_with("bochs@"));
    entries.push(Entry {
        target: "emu".to_owned(),
        cpus: Vec::new(),
        default_cpu: None,
        about: "the emulator of this program; any profile of `vmcs caps list`".to_owned(),
    });
    for recording in recording::embedded()? {
        entries.push(Entry {
            target: "replay".to_owned(),
            cpus: vec![recording.header.implementation.model.clone()],
            default_cpu: None,
            about: format!("{} recorded cases of {}", recording.cases.len(), recording.header.implementation),
        });
    }
    if json {
        output::json_pretty(&entries)?;
        return Ok(Status::Clean);
    }
    let mut table = output::table(&["TARGET", "WHAT", "CPU MODELS"]);
    for entry in &entries {
        let cpus = entry.cpus.iter().map(|cpu| match &entry.default_cpu {
            Some(default) if default == cpu => format!("{cpu} (default)"),
            _ => cpu.clone(),
        });
        table.add_row([entry.target.clone(), entry.about.clone(), cpus.collect::<Vec<_>>().join(" ")]);
    }
    output::print_table(&table)?;
    if !has_bochs {
        eprintln!("No Bochs here: `vmcs targets install bochs --suite sid` unpacks one without root rights.");
    }
    Ok(Status::Clean)
}

fn install(args: &Install) -> Result<Status, CliError> {
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let suite = |default| args.suite.as_deref().unwrap_or(default);
    let installed = with_progress(|progress| match args.what {
        Installable::Bochs => bochs::packages::unpack(suite("sid"), existing, progress)
            .map(|root| format!("Bochs {} of {} is in {}", root.version, root.suite, root.path.display())),
        Installable::KvmOnBochs => install_kernel(suite("bookworm"), existing, progress)
            .map(|kernel| format!("Linux {} of {} is in {}", kernel.release, kernel.suite, kernel.path.display())),
    })?;
    println!("{installed}");
    Ok(Status::Clean)
}

/// Shows the progress of an installation, which Ctrl-C breaks off.
pub(crate) fn with_progress<T>(install: impl FnOnce(Progress<'_>) -> Result<T, InstallError>) -> Result<T, CliError> {
    let stop = stop_on_ctrl_c();
    let bar = if io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    let style = "{msg} {wide_bar} {bytes}/{total_bytes}";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
    let result = install(&mut |step| {
        match step {
            Step::Wait => bar.set_message("waiting for another installation"),
            Step::Index => bar.set_message("reading the list of packages"),
            Step::Download { done, total } => {
                bar.set_message("downloading");
                bar.set_length(total);
                bar.set_position(done);
            }
            Step::Unpack { package } => bar.set_message(format!("unpacking {package}")),
            Step::Check => bar.set_message("looking at what it holds"),
        }
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    Ok(result?)
}
