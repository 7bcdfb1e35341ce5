//! The `vmcs` command.
#![forbid(unsafe_code)]
#![allow(rustdoc::broken_intra_doc_links, reason = "doc comments of arguments are help texts for people")]

mod bench;
mod caps;
mod check;
mod checks;
mod corpus;
mod deviations;
mod diff;
mod error;
mod explain;
mod fields;
mod generate;
mod generator_name;
mod image;
mod interrupt;
mod known_case;
mod merge;
mod metal;
mod minimize;
mod output;
mod programs;
mod progress;
mod replay;
mod report;
mod run;
mod target;
mod targets;
mod validation;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::{CliError, Status};

/// Model, check and test Intel VMX: what VMLAUNCH and VMRESUME do with a VMCS, and whether real machines agree
#[derive(Parser)]
#[command(version, propagate_version = true)]
#[command(after_help = "Exit status: 0 nothing is wrong, 1 a violation or disagreement was found, 2 the input or the \
                        machinery was at fault. `vmcs COMMAND --help` says more about a command.\n\nExample:\n  vmcs diff --target bochs --cases 100000")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Diff(diff::Args),
    Merge(merge::Args),
    Report(report::Args),
    Validation(validation::Args),
    Explain(explain::Args),
    Run(run::Args),
    Replay(replay::Args),
    Minimize(minimize::Args),
    Check(check::Args),
    Generate(generate::Args),
    Caps(caps::Args),
    Fields(fields::Args),
    Checks(checks::Args),
    Deviations(deviations::Args),
    Targets(targets::Args),
    Metal(metal::Args),
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Diff(args) => diff::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Validation(args) => validation::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Minimize(args) => minimize::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Caps(args) => caps::run(&args),
        Command::Fields(args) => fields::run(&args),
        Command::Checks(args) => checks::run(&args),
        Command::Deviations(args) => deviations::run(&args),
        Command::Targets(args) => targets::run(&args),
        Command::Metal(args) => metal::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(Status::Clean) => ExitCode::SUCCESS,
        Ok(Status::Found) => ExitCode::from(1),
        Ok(Status::Unexplained) => ExitCode::from(3),
        // The reader of the output has closed it, as `head` does: that is no error.
        Err(CliError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vmcs: {}", error::with_advice(&error));
            ExitCode::from(2)
        }
    }
}
