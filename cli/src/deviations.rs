//! `vmcs deviations` lists what implementations are known to do otherwise than the SDM, and tries whether they still do it.

mod update;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;
use vmcs_case::Implementation;
use vmcs_fuzz::deviations::{Deviation, DeviationId, Deviations};
use vmcs_machines::{Instead, MachineChoice};

use crate::error::{CliError, Status};
use crate::output;
use crate::target::{self, TargetArgs};

/// List what implementations are known to do otherwise than the SDM, and execute the smallest case of each
///
/// Each deviation of fuzz/deviations has a case that shows it. The case is executed on the implementation that it names,
/// or with --target on that machine, if the deviation applies to it. A deviation is stale if its case does not show it any
/// more.
#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 no deviation is stale, 1 some are, 2 the input or the machinery was at \
                        fault.\n\nExamples:\n  vmcs deviations\n  vmcs deviations --target bochs@3.1 --cpu arrow_lake\n  vmcs \
                        deviations --update fuzz/deviations/bochs.toml")]
pub(crate) struct Args {
    #[command(flatten)]
    target: TargetArgs,
    /// Take the deviations of this file instead of those that come with this program
    #[arg(long, value_name = "FILE")]
    deviations: Option<PathBuf>,
    /// Find the smallest case of each deviation of this file, by campaigns on every Bochs here, and write it there
    #[arg(long, value_name = "FILE", conflicts_with_all = ["deviations", "target"])]
    update: Option<PathBuf>,
    /// With --update: how many cases of each generator are executed on each machine
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    cases: u64,
    /// Print a JSON line for each deviation: {"id", "implementation", "state", "behaviour", "sdm", "program"}
    #[arg(long)]
    json: bool,
}

/// What is printed of a deviation.
#[derive(Serialize)]
struct DeviationLine<'a> {
    id: &'a DeviationId,
    /// Where the case was executed, or would be.
    implementation: String,
    state: DeviationState,
    /// How the case ended if it did not show the deviation.
    #[serde(skip_serializing_if = "Option::is_none")]
    instead: Option<String>,
    behaviour: &'a str,
    sdm: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<vmcs_case::program::Program>,
}

/// Whether a deviation shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum DeviationState {
    /// The case of the deviation deviates, and this deviation alone accounts for that.
    Shows,
    /// The case does not show the deviation any more on the implementation that the deviation names.
    Stale,
    /// The case does not show the deviation on another machine, which --target names.
    NotShown,
    /// The implementation is not on this computer.
    NotHere,
    /// The deviation has no case.
    NoCase,
}

impl fmt::Display for DeviationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Shows => "shows",
            Self::Stale => "stale",
            Self::NotShown => "not shown",
            Self::NotHere => "not here",
            Self::NoCase => "no case",
        })
    }
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    if let Some(file) = &args.update {
        return update::run(file, args.cases);
    }
    let deviations = Deviations::read_or_embedded(args.deviations.as_deref())?;
    let mut states: Vec<Option<(Implementation, DeviationState, Option<Instead>)>> =
        deviations.iter().map(|_| None).collect();
    // One machine after the other, each with all of its cases.
    let mut machines: Vec<MachineChoice> = Vec::new();
    if args.target.target.is_some() {
        machines.push(args.target.choose()?);
    } else {
        // Those that are here.
        for place in deviations.iter().filter_map(Deviation::shown_by) {
            machines.extend(MachineChoice::of(&place).ok().filter(|machine| !machines.contains(machine)));
        }
    }
    for machine in machines {
        let mut machine = target::tested(&machine)?;
        let here = machine.target.implementation();
        let applies: Vec<_> = deviations.of(&here).into_iter().map(|deviation| deviation.id.clone()).collect();
        let given = args.target.target.is_some();
        let asked: Vec<(usize, &Deviation)> = deviations
            .iter()
            .enumerate()
            .filter(|(_, deviation)| applies.contains(&deviation.id))
            .filter(|(_, deviation)| given || deviation.shown_by().as_ref() == Some(&here))
            .collect();
        let theirs: Vec<_> = asked.iter().map(|(_, deviation)| *deviation).collect();
        for ((index, deviation), found) in asked.iter().zip(machine.shows(&deviations, &theirs)?) {
            let state = match &found {
                _ if deviation.case.is_none() => DeviationState::NoCase,
                None => DeviationState::Shows,
                Some(_) if deviation.shown_by().as_ref() == Some(&here) => DeviationState::Stale,
                Some(_) => DeviationState::NotShown,
            };
            states[*index] = Some((here.clone(), state, found));
        }
    }
    let mut stale = false;
    for (deviation, known) in deviations.iter().zip(states) {
        let (place, state, instead) = match (known, deviation.shown_by()) {
            (Some((place, state, instead)), _) => (place.to_string(), state, instead),
            // Others are not of the machine that was named.
            (None, _) if args.target.target.is_some() => continue,
            (None, Some(place)) => (place.to_string(), DeviationState::NotHere, None),
            (None, None) => (deviation.implementation.clone(), DeviationState::NoCase, None),
        };
        stale |= state == DeviationState::Stale;
        let line = DeviationLine {
            id: &deviation.id,
            implementation: place,
            state,
            instead: instead.map(|instead| instead.to_string()),
            behaviour: &deviation.behaviour,
            sdm: &deviation.sdm,
            program: deviation.program(),
        };
        if args.json {
            output::json_line(&line)?;
        } else {
            line.print()?;
        }
    }
    Ok(Status::found(stale))
}

impl DeviationLine<'_> {
    fn print(&self) -> io::Result<()> {
        let Self { id, implementation, state, .. } = self;
        let mut out = io::stdout().lock();
        write!(out, "{state:<9}  {id}  ({implementation})")?;
        match &self.instead {
            Some(instead) => writeln!(out, ": {instead}"),
            None => writeln!(out),
        }
    }
}
