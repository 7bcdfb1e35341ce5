//! `vmcs targets` lists the machines that can be asked, and installs another one.

use clap::Subcommand;
use serde::Serialize;
use vmcs_case::recording;
use vmcs_debian::Existing;
use vmcs_hw::bochs;
use vmcs_hw::kvm::install_kernel;
use vmcs_hw::targets::{Present, TargetName, present};

use crate::error::{self, CliError, Status};
use crate::output;
use crate::progress::with_progress;

/// List the machines that can be asked, or install one
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  vmcs targets\n  vmcs targets install bochs --suite sid\n  \
                        vmcs targets install kvm-on-bochs --suite bookworm")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<TargetsAction>,
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum TargetsAction {
    /// Unpack a target from Debian's packages for this user, without root rights
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
    /// Download it again although it is installed
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
struct ListedTarget {
    target: String,
    cpus: Vec<String>,
    default_cpu: Option<&'static str>,
    about: String,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    match &args.action {
        None => list(args.json),
        Some(TargetsAction::Install(what)) => install(what),
    }
}

fn list(json: bool) -> Result<Status, CliError> {
    let mut entries = Vec::new();
    let mut has_bochs = false;
    for Present { name, about, cpus, default_cpu, missing } in present()? {
        has_bochs |= matches!(name, TargetName::Bochs(_));
        let about = missing.map_or(about, |why| format!("not here: {}", error::one_line(&why)));
        entries.push(ListedTarget { target: name.to_string(), cpus, default_cpu, about });
    }
    entries.push(ListedTarget {
        target: "emu".to_owned(),
        cpus: Vec::new(),
        default_cpu: None,
        about: "the emulator of this program; any profile of `vmcs caps list`".to_owned(),
    });
    for recording in recording::embedded()? {
        entries.push(ListedTarget {
            target: "replay".to_owned(),
            cpus: vec![recording.header.implementation.model.clone()],
            default_cpu: None,
            about: format!(
                "{} recorded cases of the generator {} on {}",
                recording.cases.len(),
                recording.header.generator,
                recording.header.implementation
            ),
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
        eprintln!("There is no Bochs here: `vmcs targets install bochs --suite sid` unpacks one without root rights.");
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
