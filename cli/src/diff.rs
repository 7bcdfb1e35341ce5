//! `vmcs diff` runs a differential campaign: it compares the model with machines.

use std::io;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use vmcs_case::recording::{Recorder, Recording, RecordingHeader};
use vmcs_case::{Target, TargetError};
use vmcs_fuzz::campaign::timeline::{Sample, Timeline};
use vmcs_fuzz::campaign::{
    self, Broken, Budget, Campaign, CampaignOutcome, CampaignProcessor, CampaignReport, CampaignSetting, Cases, Shard,
    StateDirectory,
};
use vmcs_fuzz::deviations::Deviations;
use vmcs_fuzz::findings::case_file::CaseFile;
use vmcs_fuzz::findings::minimise;
use vmcs_fuzz::{Generator, Stream, TestProcessor};
use vmcs_hw::bochs::{self, BochsError, BochsInstall};
use vmcs_hw::targets::{BochsChoice, TargetName};
use vmcs_machines::CapturedMachine;
use vmcs_report::{Run, terminal};

use crate::corpus;
use crate::error::{CliError, Status};
use crate::generator_name::GeneratorName;
use crate::interrupt::stop_on_ctrl_c;
use crate::progress::{self, Bars};
use crate::report;
use crate::target;
use crate::{known_case, output};

/// Cases on each processor unless something else is said.
const DEFAULT_CASES: u64 = 10_000;

/// Compare the model with machines that execute the real VMX instructions
///
/// The command generates cases, lets the targets execute them, and compares how each step ended with what the architecture
/// permits. Cases in which a target does what it is known to do otherwise (fuzz/deviations) are counted apart. The same
/// seed and number of cases give the same report, whatever the number of jobs.
#[derive(clap::Args)]
#[command(
    after_help = "Without --target the command takes the best target that it finds: an installed Bochs, or else \
                        the recordings of Bochs runs that come with this program. `vmcs targets` lists the targets of \
                        this computer.\n\nExamples:\n  vmcs diff\n  vmcs diff --target \
                        bochs@2.7,bochs@3.1 --cpu all --time 10m --state campaign\n  vmcs diff --target bochs@2.7 --cpu \
                        corei7_skylake_x --cases 100000 --seed 7\n  vmcs diff --generator programs --cases 2000"
)]
pub(crate) struct Args {
    /// The machines: `bochs` (the newest there is), `bochs@2.7`, `bochs@all`, `kvm` (that of this host), `kvm@bochs` (a KVM
    /// inside Bochs), `kvm@bochs:6.1`, `metal:/dev/ttyS0` (a machine that was started from the image of `vmcs metal iso`, at
    /// a serial line), `emu`; or, alone, `replay` (the recordings that come with this program) or `replay:FILE`
    #[arg(long = "target", value_name = "TARGET,...", value_delimiter = ',')]
    targets: Vec<TargetName>,
    /// The processors: CPU models of Bochs (see `vmcs targets`), for `emu` profiles' names or files; `all` for every one
    /// with VMX
    #[arg(long = "cpu", value_name = "MODEL,...", alias = "profile", value_delimiter = ',')]
    cpus: Vec<String>,
    /// What the cases are: `boundary` launches images that just keep and images that just break each check, beginning with
    /// the checks that have had the fewest cases; `controls` changes one or two control fields of a valid VMCS and launches
    /// it, `state` does that with guest-state and host-state fields, `images` with up to four of any kind; `programs` are
    /// sequences of VMX instructions
    #[arg(long, value_enum, default_value_t = GeneratorName::Boundary)]
    generator: GeneratorName,
    /// How many cases on each processor [default: 10000, or as many as --time allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    cases: Option<u64>,
    /// How long the campaign runs, such as 90s, 10m or 8h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    /// Stop on each processor when so many of its cases have disagreed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_findings: Option<u64>,
    /// The same seed gives the same cases
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Machines that run at the same time [default: the number of CPUs]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Run one part of the campaign, such as 2/8; every part has cases of its own, and `vmcs merge` puts their reports
    /// together
    #[arg(long, value_name = "PART/PARTS", default_value_t)]
    shard: Shard,
    /// Keep the state of the campaign in this directory. If there is one already, go on where it stopped
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Take the cases from a fuzzer's corpus: the generator makes a case of the bytes of each file in this directory
    #[arg(long, value_name = "DIR", conflicts_with_all = ["cases", "time", "max_findings", "seed", "shard", "state"])]
    corpus: Option<PathBuf>,
    /// Write the observations to this file, for `--target replay:FILE`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["time", "max_findings", "jobs", "shard", "state", "corpus"])]
    record: Option<PathBuf>,
    /// Use the deviations of this file instead of the reviewed ones that come with this program
    #[arg(long, value_name = "FILE")]
    deviations: Option<PathBuf>,
    /// Make the findings as small as they get and write a case file of each cause to this directory, for `vmcs replay`
    #[arg(long, value_name = "DIR")]
    findings: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Write the report to this file as well: a page for a browser if its name ends in .html, else JSON for `vmcs report`
    /// and `vmcs validation`
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let deviations = Deviations::read_or_embedded(args.deviations.as_deref())?;
    let stop = stop_on_ctrl_c();
    let targets = if args.targets.is_empty() { vec![best(args)?] } else { args.targets.clone() };
    let Ended { mut runs, failure } = match (&targets[..], &args.corpus, &args.record) {
        ([TargetName::Replay(file)], ..) => {
            if args.is_for_a_machine() {
                return Err(CliError::Usage(
                    "a recording has its own cases and processor: only --deviations, --json and --report go with it"
                        .to_owned(),
                ));
            }
            replay(target::recordings(file.as_deref())?, &deviations, &stop)
        }
        (_, Some(directory), _) => feed(args, &targets, directory, &deviations, &stop)?,
        (_, _, Some(file)) => record(args, &targets, file, &deviations, &stop)?,
        _ => drive(args, &targets, &deviations, &stop)?,
    };
    for run in &mut runs {
        run.not_seen = deviations.not_seen(&run.report.implementation, run.report.deviations.keys());
    }
    let write = || {
        if let Some(file) = &args.report {
            report::write(file, &runs, &deviations)?;
        }
        if let Some(directory) = &args.findings {
            let causes: Vec<_> = runs.iter().flat_map(|run| &run.causes).collect();
            known_case::write_findings(directory, &causes)?;
        }
        Ok(())
    };
    // The findings are printed even if they cannot be written to a file.
    let written: Result<(), CliError> = write();
    if !args.json {
        terminal::write(&mut io::stdout().lock(), &runs)?;
    }
    for Run { report, timeline, .. } in &mut runs {
        // The time that a run took goes to standard error, because the report is the same every time.
        let seconds = timeline.take().map_or(0.0, |timeline| timeline.end().cpu_seconds);
        if seconds > 0.0 {
            let rate = report.cases as f64 / seconds;
            eprintln!("{} used {seconds:.2} CPU-seconds: {rate:.0} cases per CPU-second", report.implementation);
        }
    }
    if args.json {
        output::json_pretty(&runs)?;
    }
    match failure.or(written.err()) {
        Some(error) => Err(error),
        None => Ok(Status::found(runs.iter().any(|run| run.report.disagreed > 0))),
    }
}

/// The results of campaigns, and the error that ended them early, if one did.
#[derive(Default)]
struct Ended {
    runs: Vec<Run>,
    failure: Option<CliError>,
}

impl Ended {
    /// Adds the result of one campaign, and, if the campaign was completed, the causes of its findings.
    fn add(
        &mut self,
        mut run: Run,
        ended: Result<(), CliError>,
        causes: impl FnOnce(&CampaignReport) -> Result<Vec<CaseFile>, CliError>,
    ) {
        match ended.and_then(|()| causes(&run.report)) {
            Ok(causes) => run.causes = causes,
            Err(error) => self.failure = Some(error),
        }
        self.runs.push(run);
    }
}

impl Args {
    /// Whether there are arguments that make no sense for a recording, which has its own cases and processor.
    fn is_for_a_machine(&self) -> bool {
        let paths = [&self.record, &self.corpus, &self.state];
        let numbers = [self.cases, self.max_findings];
        !self.cpus.is_empty()
            || paths.into_iter().any(Option::is_some)
            || numbers.into_iter().any(|number| number.is_some())
            || self.time.is_some()
            || self.shard != Shard::WHOLE
    }

    fn jobs(&self) -> NonZeroUsize {
        // Only one machine is at a serial line.
        if self.targets.iter().any(|target| matches!(target, TargetName::Metal(_))) {
            return NonZeroUsize::MIN;
        }
        self.jobs.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
    }
}

/// The best target there is; says on standard error which, why, and what would be better.
fn best(args: &Args) -> Result<TargetName, CliError> {
    let newest: Option<BochsInstall> = bochs::installs()?.pop();
    let (name, why) = match newest {
        Some(install) => {
            let version = install.version;
            let better = if version.major < 3 {
                "; a newer Bochs knows more of VMX: `vmcs targets install bochs --suite sid`"
            } else {
                ""
            };
            (TargetName::Bochs(BochsChoice::Newest), format!("Bochs {version}, the newest one here{better}"))
        }
        None if args.is_for_a_machine() => {
            return Err(TargetError::from(BochsError::Missing).into());
        }
        None => (
            TargetName::Replay(None),
            "recordings of real Bochs runs, because there is no Bochs here; for a live one: `apt-get install bochs \
             bochs-term`, or without root rights `vmcs targets install bochs --suite sid`"
                .to_owned(),
        ),
    };
    eprintln!("target: {name} ({why})");
    Ok(name)
}

/// A campaign on several processors, of which several are at work at the same time.
fn drive(args: &Args, targets: &[TargetName], deviations: &Deviations, stop: &AtomicBool) -> Result<Ended, CliError> {
    let state = args.state.as_deref().map(StateDirectory::open).transpose()?;
    let machines = target::capture(targets, &args.cpus, args.jobs())?;
    let cases = args.cases.or_else(|| (args.time.is_none() && args.max_findings.is_none()).then_some(DEFAULT_CASES));
    let mut about = Vec::new();
    for CapturedMachine { implementation, processor, session, .. } in &machines {
        let setting = CampaignSetting { processor, session, deviations };
        about.push(CampaignProcessor { implementation: implementation.clone(), setting });
    }
    let bars = Bars::new(machines.iter().map(|machine| machine.implementation.to_string()), cases);
    let outcome = campaign::drive(&Campaign {
        processors: &about,
        open: &|index| target::open_choice(&machines[index].choice),
        generator: args.generator.into(),
        seed: args.seed,
        shard: args.shard,
        budget: Budget { cases, time: args.time, findings: args.max_findings },
        jobs: args.jobs(),
        state: state.as_ref(),
        stop,
        watch: &|index, cases| bars.add(index, cases),
    });
    bars.clear();
    let CampaignOutcome { reports, failure } = outcome?;
    let mut ended = Ended { runs: Vec::new(), failure: failure.map(CliError::from) };
    for (index, (report, timeline)) in reports.into_iter().enumerate() {
        let run = Run::of_command(env::args().skip(1), report, timeline, &machines[index].processor);
        let minimised = run.report.disagreed > 0 && ended.failure.is_none();
        ended.add(run, Ok(()), |report| {
            if !minimised {
                return Ok(Vec::new());
            }
            let mut target = target::open_choice(&machines[index].choice)?;
            Ok(minimise::findings(target.as_mut(), about[index].setting, report)?)
        });
    }
    Ok(ended)
}

/// The one machine of a campaign that is recorded.
fn one_machine(args: &Args, targets: &[TargetName]) -> Result<CapturedMachine, CliError> {
    let mut machines = target::capture(targets, &args.cpus, args.jobs())?;
    match (machines.pop(), machines.is_empty()) {
        (Some(machine), true) => Ok(machine),
        _ => Err(CliError::Usage("a recording is of one processor: name one target and one CPU model".to_owned())),
    }
}

/// A campaign that is recorded.
fn record(
    args: &Args,
    targets: &[TargetName],
    file: &Path,
    deviations: &Deviations,
    stop: &AtomicBool,
) -> Result<Ended, CliError> {
    let machine = one_machine(args, targets)?;
    let CapturedMachine { implementation, profile, processor, session, .. } = &machine;
    let generator = Generator::from(args.generator);
    let header = RecordingHeader::new(implementation.clone(), generator.name(), args.seed, profile.clone(), session);
    let mut recorder = Recorder::create(file, &header).map_err(|error| CliError::file(file, &error))?;
    let count = args.cases.unwrap_or(DEFAULT_CASES);
    let mut stream = Stream::new(generator, args.seed);
    let cases = Cases::Generated { stream: &mut stream, count };
    let setting = CampaignSetting { processor, session, deviations };
    let mut target = target::open_choice(&machine.choice)?;
    let (run, result) = one(target.as_mut(), setting, cases, count, Some(&mut recorder), Instant::now(), stop);
    let result = result.and_then(|()| recorder.finish().map_err(|error| CliError::file(file, &error)));
    let mut ended = Ended::default();
    ended.add(run, result, |report| Ok(minimise::findings(target.as_mut(), setting, report)?));
    Ok(ended)
}

/// The corpus of a fuzzer on each processor.
fn feed(
    args: &Args,
    targets: &[TargetName],
    directory: &Path,
    deviations: &Deviations,
    stop: &AtomicBool,
) -> Result<Ended, CliError> {
    let files = corpus::read(directory)?;
    let generator = Generator::from(args.generator);
    let began = Instant::now();
    let mut ended = Ended::default();
    for machine in target::capture(targets, &args.cpus, args.jobs())? {
        let CapturedMachine { choice, processor, session, .. } = &machine;
        let mut all = files.iter().map(|(name, bytes)| (name.clone(), generator.from_bytes(processor, bytes)));
        let cases = Cases::Named { generator: generator.name().to_owned(), cases: &mut all };
        let setting = CampaignSetting { processor, session, deviations };
        let mut target = target::open_choice(choice)?;
        let (run, result) = one(target.as_mut(), setting, cases, files.len() as u64, None, began, stop);
        ended.add(run, result, |report| Ok(minimise::findings(target.as_mut(), setting, report)?));
        if stop.load(Ordering::Relaxed) || ended.failure.is_some() {
            break;
        }
    }
    Ok(ended)
}

/// The comparison of the model with recorded runs.
fn replay(recordings: Vec<Recording>, deviations: &Deviations, stop: &AtomicBool) -> Ended {
    let began = Instant::now();
    let mut ended = Ended::default();
    // Several recordings may be of one processor, and it takes a while to work out what a campaign can reach on it.
    let mut processors: Vec<TestProcessor> = Vec::new();
    for mut recording in recordings {
        let profile = &recording.header.profile.profile;
        let known = processors.iter().position(|processor| processor.profile == *profile).unwrap_or(processors.len());
        if known == processors.len() {
            processors.push(TestProcessor::new(profile));
        }
        let session = recording.session();
        let setting = CampaignSetting { processor: &processors[known], session: &session, deviations };
        let cases: Vec<_> = recording.cases.iter().map(|(case, _)| case.clone()).collect();
        let count = cases.len() as u64;
        let mut list = cases.into_iter();
        let RecordingHeader { generator, seed, .. } = recording.header.clone();
        let cases = Cases::Listed { generator, seed, cases: &mut list };
        let (run, result) = one(&mut recording, setting, cases, count, None, began, stop);
        // A recording answers its own cases only.
        ended.add(run, result, |_| Ok(Vec::new()));
        if stop.load(Ordering::Relaxed) || ended.failure.is_some() {
            break;
        }
    }
    ended
}

/// A campaign on one machine, in the order of the cases, and how it ended. Its time counts from when the command `began`.
fn one(
    target: &mut dyn Target,
    setting: CampaignSetting<'_>,
    cases: Cases<'_>,
    count: u64,
    recorder: Option<&mut Recorder>,
    began: Instant,
    stop: &AtomicBool,
) -> (Run, Result<(), CliError>) {
    let bar = progress::bar(Some(count), &target.implementation().to_string());
    let start = began.elapsed().as_secs_f64();
    let report = campaign::run(target, setting, cases, recorder, &mut |done| {
        bar.set_position(done);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    let (report, result) = match report {
        Ok(report) => (report, Ok(())),
        Err(Broken { report, source }) => (*report, Err(source.into())),
    };
    let mut timeline = Timeline::default();
    timeline.add(Sample { seconds: start, ..Sample::default() });
    timeline.add(Sample {
        seconds: began.elapsed().as_secs_f64(),
        cases: report.cases,
        cpu_seconds: target.cpu_clock().unwrap_or_default().now().as_secs_f64(),
    });
    (Run::of_command(env::args().skip(1), report, timeline, setting.processor), result)
}
