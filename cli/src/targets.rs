//! `vmcs targets`: which machines can be asked, and getting another one.

use std::io;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use vmcs_hw::bochs::debian::{self, Existing, Step};
use vmcs_hw::bochs::{self, BochsInstall};
use vmcs_hw::recording;

use crate::diff::stop_on_ctrl_c;
use crate::error::{CliError, Status};
use crate::output;
use crate::target::default_model;

/// List the machines that can be asked, or install one
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  vmcs targets\n  vmcs targets install bochs --suite sid")]
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
    /// Debian suite whose package is taken: bookworm has Bochs 2.7, trixie 3.0, sid 3.1
    #[arg(long, default_value = "sid")]
    suite: String,
    /// Download it again although it is there
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Installable {
    /// The Bochs emulator
    Bochs,
}

/// A line of the list.
#[derive(Serialize)]
struct Entry {
    target: String,
    cpus: Vec<String>,
    default_cpu: Option<String>,
    about: String,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    match &args.action {
        None => list(args.json),
        Some(Action::Install(install)) => install_bochs(install),
    }
}

fn list(json: bool) -> Result<Status, CliError> {
    let mut entries = Vec::new();
    let installs = bochs::installs()?;
    for install in installs.iter().rev() {
        entries.push(Entry {
            target: format!("bochs@{}", install.version),
            cpus: install.models()?,
            default_cpu: Some(default_model(install.version).to_owned()),
            about: format!("Bochs {}, {}", install.version, place(install)),
        });
    }
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
    if installs.is_empty() {
        eprintln!("No Bochs here: `vmcs targets install bochs --suite sid` unpacks one without root rights.");
    }
    Ok(Status::Clean)
}

/// Where a Bochs lies.
fn place(install: &BochsInstall) -> String {
    install.command.last().map_or_else(String::new, |program| program.display().to_string())
}

fn install_bochs(args: &Install) -> Result<Status, CliError> {
    let Installable::Bochs = args.what;
    let stop = stop_on_ctrl_c();
    let bar = if io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    let style = "{msg} {wide_bar} {bytes}/{total_bytes}";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let root = debian::install(&args.suite, existing, &mut |step| {
        match step {
            Step::Wait => bar.set_message("waiting for another installation"),
            Step::Index => bar.set_message("reading the list of packages"),
            Step::Download { done, total } => {
                bar.set_message("downloading");
                bar.set_length(total);
                bar.set_position(done);
            }
            Step::Unpack { package } => bar.set_message(format!("unpacking {package}")),
            Step::Check => bar.set_message("starting it"),
        }
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    let root = root?;
    println!("Bochs {} of {} is in {}", root.version, root.suite, root.path.display());
    Ok(Status::Clean)
}
