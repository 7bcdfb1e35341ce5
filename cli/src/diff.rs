//! `vmcs diff`: the differential campaign.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use vmcs_fuzz::campaign::{self, Cases, Report, Setting};
use vmcs_fuzz::deviations::Deviations;
use vmcs_fuzz::{Generator, Stream, World, minimise};
use vmcs_hw::Target;
use vmcs_hw::bochs::{self, BochsInstall};
use vmcs_hw::recording::{Header, Recorder, Recording};

use crate::error::{CliError, Status};
use crate::target::{self, TargetArgs, TargetSpec};
use crate::{minimize, output};

/// Compare the model with a machine that executes the real VMX instructions
///
/// Cases are generated, executed by the target, and what each step ended in is compared with what the architecture
/// permits. What the target is known to do otherwise (vmcs-hw/deviations) is counted apart.
#[derive(clap::Args)]
#[command(after_help = "Without --target the best target there is is taken: a Bochs, or else the recordings of real \
                        Bochs runs that come with this program.\n\nExamples:\n  vmcs diff\n  vmcs diff --target \
                        bochs@2.7 --cpu corei7_skylake_x --cases 100000 --seed 7\n  vmcs diff --generator programs \
                        --cases 2000")]
pub(crate) struct Args {
    #[command(flatten)]
    target: TargetArgs,
    /// What the cases are: `controls` changes one or two control fields of a valid VMCS and launches it, `state` does that with guest-state and host-state
    /// fields, `images` with up to four of any kind, `programs` are
    /// sequences of VMX instructions
    #[arg(long, value_enum, default_value_t = GeneratorName::Controls)]
    generator: GeneratorName,
    /// How many cases
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    cases: u64,
    /// The same seed gives the same cases
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Write the observations to this file, for `--target replay:FILE`
    #[arg(long, value_name = "FILE")]
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
}

/// The generators, as the command line calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum GeneratorName {
    /// One or two control fields of a valid VMCS changed, launched.
    Controls,
    /// One or two guest-state or host-state fields of a valid VMCS changed, launched.
    State,
    /// Up to four fields of a valid VMCS changed, wherever they are, launched.
    Images,
    /// Sequences of VMX instructions.
    Programs,
}

impl From<GeneratorName> for Generator {
    fn from(name: GeneratorName) -> Self {
        match name {
            GeneratorName::Controls => Self::Controls,
            GeneratorName::State => Self::State,
            GeneratorName::Images => Self::Images,
            GeneratorName::Programs => Self::Programs,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let deviations = match &args.deviations {
        Some(file) => Deviations::read(file)?,
        None => Deviations::embedded()?,
    };
    let stop = stop_on_ctrl_c();
    let target = args.target.target.clone().map_or_else(|| best(args), Ok)?;
    let reports = match target {
        TargetSpec::Replay(file) => {
            if args.record.is_some() {
                return Err(CliError::Usage("a recording cannot be recorded again".to_owned()));
            }
            let recordings = target::recordings(file.as_deref())?;
            replay(recordings, &deviations, &stop)?
        }
        other => vec![live(args, other, &deviations, &stop)?],
    };
    if args.json {
        output::json_pretty(&reports)?;
    } else {
        for report in &reports {
            print(report)?;
        }
    }
    Ok(Status::found(reports.iter().any(|report| report.disagreed > 0)))
}

/// The best target there is; says on standard error which, why, and what would be better.
fn best(args: &Args) -> Result<TargetSpec, CliError> {
    let newest: Option<BochsInstall> = bochs::installs()?.pop();
    let (spec, why) = match newest {
        Some(install) => {
            let version = install.version;
            let better = if version.major < 3 {
                "; a newer Bochs knows more of VMX: `vmcs targets install bochs --suite sid`"
            } else {
                ""
            };
            (TargetSpec::Bochs(None), format!("Bochs {version}, the newest one here{better}"))
        }
        None if args.record.is_some() || args.target.cpu.is_some() => {
            return Err(vmcs_hw::TargetError::BochsMissing.into());
        }
        None => (
            TargetSpec::Replay(None),
            "recordings of real Bochs runs, because there is no Bochs here; for a live one: `apt-get install bochs \
             bochs-term`, or without root rights `vmcs targets install bochs --suite sid`"
                .to_owned(),
        ),
    };
    eprintln!("target: {spec} ({why})");
    Ok(spec)
}

/// A campaign on a machine.
fn live(args: &Args, spec: TargetSpec, deviations: &Deviations, stop: &AtomicBool) -> Result<Report, CliError> {
    let mut opened = target::open(&TargetArgs { target: Some(spec), cpu: args.target.cpu.clone() })?;
    let captured = opened.capture()?;
    let world = World::new(&captured.profile.profile);
    let session = world.session();
    let setting = Setting { world: &world, session: &session, deviations };
    let mut recorder = match &args.record {
        None => None,
        Some(file) => {
            let implementation = opened.target.implementation();
            let generator = Generator::from(args.generator).name();
            let header = Header::new(implementation, generator, args.seed, captured.profile.clone(), &session);
            Some(Recorder::create(file, &header).map_err(|error| CliError::file(file, &error))?)
        }
    };
    let mut stream = Stream::new(args.generator.into(), args.seed);
    let cases = Cases::Generated { stream: &mut stream, count: args.cases };
    let report = campaign(opened.target.as_mut(), setting, cases, args.cases, recorder.as_mut(), stop)?;
    if let (Some(recorder), Some(file)) = (recorder, &args.record) {
        recorder.finish().map_err(|error| CliError::file(file, &error))?;
    }
    if let Some(directory) = &args.findings {
        let findings = minimise::findings(opened.target.as_mut(), setting, &report)?;
        minimize::write_findings(directory, &findings)?;
    }
    Ok(report)
}

/// The comparison of the model with recorded runs.
fn replay(recordings: Vec<Recording>, deviations: &Deviations, stop: &AtomicBool) -> Result<Vec<Report>, CliError> {
    let mut reports = Vec::new();
    for mut recording in recordings {
        let world = World::new(&recording.header.profile.profile);
        let session = recording.session();
        let setting = Setting { world: &world, session: &session, deviations };
        let cases: Vec<_> = recording.cases.iter().map(|(case, _)| case.clone()).collect();
        let count = cases.len() as u64;
        let mut list = cases.into_iter();
        let Header { generator, seed, .. } = recording.header.clone();
        let cases = Cases::Listed { generator, seed, cases: &mut list };
        reports.push(campaign(&mut recording, setting, cases, count, None, stop)?);
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(reports)
}

/// A campaign with a progress bar.
fn campaign(
    target: &mut dyn Target,
    setting: Setting<'_>,
    cases: Cases<'_>,
    count: u64,
    recorder: Option<&mut Recorder>,
    stop: &AtomicBool,
) -> Result<Report, CliError> {
    let bar = if io::stderr().is_terminal() { ProgressBar::new(count) } else { ProgressBar::hidden() };
    let style = "{prefix} {wide_bar} {human_pos}/{human_len} cases, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
    bar.set_prefix(target.implementation().to_string());
    let before = children_cpu_seconds();
    let report = campaign::run(target, setting, cases, recorder, &mut |done| {
        bar.set_position(done);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    let report = report?;
    if let (Some(before), Some(after)) = (before, children_cpu_seconds())
        && after > before
    {
        let seconds = after - before;
        let rate = report.cases as f64 / seconds;
        eprintln!("{} used {seconds:.2} CPU-seconds: {rate:.0} cases per CPU-second", report.implementation);
    }
    Ok(report)
}

/// CPU time of this program's processes that have ended, as Linux counts it.
fn children_cpu_seconds() -> Option<f64> {
    /// Linux reports times to user space in hundredths of a second.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name, in parentheses, may hold spaces. cutime and cstime are fields 16 and 17.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(13);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

/// A flag that Ctrl-C sets.
pub(crate) fn stop_on_ctrl_c() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    // It fails only if a handler is set already; then Ctrl-C ends the program as usual.
    let _ = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed));
    stop
}

/// The report for people.
fn print(report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let interrupted = if report.interrupted { ", interrupted" } else { "" };
    let Report { implementation, cases, generator, seed, .. } = report;
    writeln!(out, "{implementation}: {cases} cases of the generator {generator} with seed {seed}{interrupted}")?;
    writeln!(out, "  {:>9}  agreed", report.agreed)?;
    for (id, count) in &report.deviations {
        writeln!(out, "  {count:>9}  deviate as known: {id}")?;
    }
    for (why, count) in &report.unspecified {
        writeln!(out, "  {count:>9}  left open by the architecture: {why}")?;
    }
    writeln!(out, "  {:>9}  disagreed", report.disagreed)?;
    if report.crashed + report.hung > 0 {
        writeln!(out, "  ({} cases crashed the machine, {} hung it)", report.crashed, report.hung)?;
    }
    writeln!(out, "  {} checks were violated at least once", report.checks.len())?;
    for finding in report.findings.iter().take(10) {
        let disagreement = &finding.disagreement;
        writeln!(
            out,
            "\n{}: step {} ended in {}, permitted: {}",
            finding.program.id,
            disagreement.step,
            disagreement.observed,
            disagreement.permitted.join(", ")
        )?;
        if !disagreement.violated.is_empty() {
            writeln!(out, "  violated: {}", disagreement.violated.join(", "))?;
        }
        writeln!(out, "  {}", serde_json::to_string(&finding.program)?)?;
    }
    if report.disagreed > 10 {
        writeln!(out, "\n… and {} more", report.disagreed - 10)?;
    }
    Ok(())
}
