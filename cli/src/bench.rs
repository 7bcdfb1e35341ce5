//! `vmcs bench` measures how long VM entries take on a target.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, Table};
use vmcs_case::latency::{self, Distribution, LatencyReport, LatencyResult, LatencyRow, Scenario};
use vmcs_hw::targets::TargetName;
use vmcs_model::Capabilities;

use crate::error::{CliError, Status, one_line};
use crate::output::{json_line, print_table, table};
use crate::target::{self, TargetArgs};

/// Measure how long a VM entry and the VM exit after it take on a target: median, 99th percentile and histogram
///
/// The time runs from VMLAUNCH or VMRESUME to the first instruction of the host after the VM exit, or to the next
/// instruction if the entry fails. It is read from the time-stamp counter, between LFENCEs. The time that the measurement
/// itself takes is measured too, and subtracted. On `kvm` and `metal` the numbers are cycles of that counter. Bochs, and
/// KVM inside Bochs, count emulated instructions, which is not a time. The histogram shows the samples between the minimum
/// and the 99th percentile. `emu` and `replay` cannot be measured. docs/latency.md says more.
///
/// The exit status is 1 if an entry ends otherwise than it should.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  vmcs bench --target kvm -o here.json\n  vmcs bench --target metal:/dev/ttyUSB0 \
                        --only vmresume-ept-vpid --rounds 10000\n  vmcs bench --from here.json --compare there.json")]
pub(crate) struct Args {
    #[command(flatten)]
    target: TargetArgs,
    /// How often each entry is measured
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=i64::from(latency::MAX_ROUNDS)))]
    rounds: u16,
    /// Measure only the entries that have NAME in their names; --list shows the names
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// List what is measured, and measure nothing
    #[arg(long, conflicts_with_all = ["target", "cpu", "from", "compare", "output", "json"])]
    list: bool,
    /// Print the measurement as JSON
    #[arg(long)]
    json: bool,
    /// Write the measurement to a file, as JSON
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Take a measurement from a file that -o has written instead of measuring
    #[arg(long, value_name = "FILE", conflicts_with_all = ["target", "cpu", "rounds"])]
    from: Option<PathBuf>,
    /// Show the measurement in that file beside this one, and how many times as long each entry takes there
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    compare: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let scenarios = match &args.only {
        None => Scenario::all().iter().collect(),
        Some(name) => Scenario::named(name),
    };
    if scenarios.is_empty() {
        let name = args.only.as_deref().unwrap_or_default();
        return Err(CliError::Usage(format!(
            "no entry that is measured has {name:?} in its name: see `vmcs bench --list`"
        )));
    }
    if args.list {
        let mut list = table(&["NAME", "ENDS IN", "WHAT IT SHOWS"]);
        for scenario in scenarios {
            list.add_row([scenario.name, &scenario.outcome().to_string(), scenario.shows]);
        }
        print_table(&list)?;
        return Ok(Status::Clean);
    }
    // Measuring takes a while, so errors in the file are reported before it.
    let other = args.compare.as_deref().map(load).transpose()?;
    let report = match &args.from {
        Some(file) => {
            let mut report = load(file)?;
            report.rows.retain(|row| scenarios.iter().any(|scenario| scenario.name == row.name));
            report
        }
        None => measure(&args.target, &scenarios, args.rounds)?,
    };
    if let Some(file) = &args.output {
        fs::write(file, report.to_json() + "\n").map_err(|error| CliError::file(file, &error))?;
    }
    match (&other, &args.compare) {
        (Some(other), Some(file)) => compare(&report, other, file)?,
        _ if args.json => json_line(&report)?,
        _ => print(&report)?,
    }
    let failed = |report: &LatencyReport| report.rows.iter().any(|row| matches!(row.result, LatencyResult::Failed(_)));
    Ok(Status::found(failed(&report)))
}

fn load(file: &Path) -> Result<LatencyReport, CliError> {
    let text = fs::read_to_string(file).map_err(|error| CliError::file(file, &error))?;
    LatencyReport::from_json(&text).map_err(|error| CliError::file(file, &one_line(&error)))
}

fn measure(args: &TargetArgs, scenarios: &[&Scenario], rounds: u16) -> Result<LatencyReport, CliError> {
    if args.target == Some(TargetName::Emulator) {
        return Err(CliError::Usage(
            "the emulator has no time-stamp counter, and how long it takes says nothing about a processor: \
             `cargo bench -p vmcs-benches --bench emulator` measures the emulator itself"
                .to_owned(),
        ));
    }
    let mut opened = target::open(args)?;
    let captured = opened.capture()?;
    let capabilities = Capabilities::new(&captured.profile.profile);
    let samples = latency::sample(opened.target.as_mut(), &capabilities, scenarios, rounds)?;
    Ok(LatencyReport::new(opened.target.implementation(), rounds, scenarios, &samples))
}

/// Prints a measurement.
fn print(report: &LatencyReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}: {}", report.implementation, report.unit)?;
    writeln!(
        out,
        "{} rounds each; the {} that the measurement itself takes are subtracted\n",
        report.rounds, report.overhead.median
    )?;
    let mut rows = table(&["ENTRY", "ENDS IN", "MIN", "MEDIAN", "P99", "MEDIAN TO SCALE", "HISTOGRAM"]);
    align_right(&mut rows, &[2, 3, 4]);
    let longest = report.rows.iter().filter_map(measured).map(|distribution| distribution.median).max().unwrap_or(0);
    for row in &report.rows {
        let name = [row.name.clone(), row.outcome.clone()];
        if let LatencyResult::Measured(distribution) = &row.result {
            let Distribution { min, median, p99, .. } = distribution;
            let numbers = [min, median, p99].map(u64::to_string);
            let plots = [bar(*median, longest), sparkline(&distribution.bins(SPARKS))];
            rows.add_row(name.into_iter().chain(numbers).chain(plots));
        } else {
            rows.add_row(name);
        }
    }
    print_table(&rows)?;
    notes(&mut out, &[report])
}

/// Prints two measurements side by side.
fn compare(report: &LatencyReport, other: &LatencyReport, file: &Path) -> Result<(), CliError> {
    if report.unit != other.unit {
        let message = format!("it has {} and the other measurement {}: these do not compare", other.unit, report.unit);
        return Err(CliError::File { file: file.to_owned(), message });
    }
    let mut out = io::stdout().lock();
    writeln!(out, "A: {}\nB: {}\n{}\n", report.implementation, other.implementation, report.unit)?;
    let mut rows = table(&["ENTRY", "MEDIAN A", "MEDIAN B", "B/A", "P99 A", "P99 B", "B/A"]);
    align_right(&mut rows, &[1, 2, 3, 4, 5, 6]);
    for row in &report.rows {
        let there = other.rows.iter().find(|there| there.name == row.name).and_then(measured);
        let pair = |of: fn(&Distribution) -> u64| {
            let (here, there) = (measured(row).map(of), there.map(of));
            let text = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
            [text(here), text(there), here.zip(there).map_or_else(|| "-".to_owned(), ratio)]
        };
        let numbers = pair(|distribution| distribution.median).into_iter().chain(pair(|distribution| distribution.p99));
        rows.add_row(std::iter::once(row.name.clone()).chain(numbers));
    }
    print_table(&rows)?;
    Ok(notes(&mut out, &[report, other])?)
}

/// Writes why entries were not measured, one line for each reason.
fn notes(out: &mut impl Write, reports: &[&LatencyReport]) -> io::Result<()> {
    for report in reports {
        let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
        for row in &report.rows {
            let reason = match &row.result {
                LatencyResult::Measured(_) => continue,
                LatencyResult::Skipped(why) => format!("skipped, {why}"),
                LatencyResult::Failed(how) => format!("failed, {how}"),
            };
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, names)) => names.push(&row.name),
                None => reasons.push((reason, vec![&row.name])),
            }
        }
        for (reason, names) in reasons {
            let place = if reports.len() > 1 { format!("{}: ", report.implementation) } else { String::new() };
            writeln!(out, "\n{place}{reason}: {}", names.join(", "))?;
        }
    }
    Ok(())
}

fn measured(row: &LatencyRow) -> Option<&Distribution> {
    match &row.result {
        LatencyResult::Measured(distribution) => Some(distribution),
        LatencyResult::Skipped(_) | LatencyResult::Failed(_) => None,
    }
}

fn ratio((here, there): (u64, u64)) -> String {
    #[allow(clippy::cast_precision_loss, reason = "two digits are printed")]
    let ratio = there as f64 / here as f64;
    if ratio.is_finite() { format!("{ratio:.2}") } else { "-".to_owned() }
}

fn align_right(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// Width of the histograms.
const SPARKS: usize = 16;
/// Width of the longest bar.
const BAR: u64 = 12;

/// A bar as long as `value`, if the longest is as long as `longest`.
fn bar(value: u64, longest: u64) -> String {
    const EIGHTHS: [char; 8] = ['▏', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = u128::from(value) * u128::from(8 * BAR) / u128::from(longest.max(1));
    let (whole, rest) = (usize::try_from(eighths / 8).unwrap_or(0), usize::try_from(eighths % 8).unwrap_or(0));
    let mut bar = "█".repeat(whole);
    if rest > 0 || whole == 0 {
        bar.push(EIGHTHS[rest]);
    }
    bar
}

/// The counts as columns. A count that is not 0 shows, however small it is.
fn sparkline(counts: &[u64]) -> String {
    const COLUMNS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = u128::from(counts.iter().copied().max().unwrap_or(0).max(1));
    let column = |count: &u64| match count {
        0 => ' ',
        count => COLUMNS[usize::try_from(u128::from(*count) * 7 / highest).unwrap_or(7)],
    };
    counts.iter().map(column).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots_are_as_long_as_what_they_show() {
        assert_eq!(bar(0, 0), "▏");
        assert_eq!(bar(100, 100), "█".repeat(12));
        assert_eq!(bar(50, 100), "█".repeat(6));
        assert_eq!(bar(1, 96), "▏");
        assert_eq!(bar(4, 96), "▌");
        assert_eq!(bar(u64::MAX, u64::MAX), "█".repeat(12));
        assert_eq!(sparkline(&[7, 0, 1, 70, 0]), "▁ ▁█");
        assert_eq!(sparkline(&[u64::MAX, 1]), "█▁");
        assert_eq!(sparkline(&[0, 0]), "");
    }

    #[test]
    fn ratios_have_two_digits() {
        assert_eq!(ratio((100, 150)), "1.50");
        assert_eq!(ratio((0, 150)), "-");
    }
}
