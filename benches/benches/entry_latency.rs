//! A bench of VM entries and the VM exits after them, measured by the probe on a machine. Criterion gets what the time-stamp
//! counter of the machine says, not how long the host waited for the machine.
//!
//! `VMCS_BENCH_TARGET` names the machine (`bochs`, `bochs@2.7`, `kvm`, `kvm@bochs`, `metal:/dev/ttyS0`), `VMCS_BENCH_CPU`
//! a CPU model of Bochs. On `kvm` and `metal` the unit is cycles. Bochs counts the instructions that it emulates, which is
//! not a time, and in a bare Bochs is the same in every round. `vmcs bench` says more about one machine.

use std::process::ExitCode;
use std::time::Duration;

use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter};
use criterion::{Criterion, SamplingMode};
use vmcs_benches::machine;
use vmcs_case::Target;
use vmcs_case::latency::{MAX_ROUNDS, Sampled, Scenario, Unit, sample};
use vmcs_case::profile::NamedProfile;
use vmcs_model::Capabilities;

/// Differences of the time-stamp counter of the machine. Every value comes from the probe.
struct ProbeClock(Unit);

impl Measurement for ProbeClock {
    type Intermediate = ();
    type Value = f64;

    fn start(&self) {}

    fn end(&self, (): ()) -> f64 {
        0.0
    }

    fn add(&self, a: &f64, b: &f64) -> f64 {
        a + b
    }

    fn zero(&self) -> f64 {
        0.0
    }

    fn to_f64(&self, value: &f64) -> f64 {
        *value
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ProbeClock {
    fn unit(&self) -> &'static str {
        match self.0 {
            Unit::Cycles => "cycles",
            Unit::EmulatedInstructions => "emulated instructions (not a time)",
        }
    }
}

impl ValueFormatter for ProbeClock {
    fn scale_values(&self, _: f64, _: &mut [f64]) -> &'static str {
        self.unit()
    }

    fn scale_throughputs(&self, _: f64, _: &Throughput, _: &mut [f64]) -> &'static str {
        self.unit()
    }

    fn scale_for_machines(&self, _: &mut [f64]) -> &'static str {
        self.unit()
    }
}

/// The fewest rounds that are measured for one sample of criterion. The machine has to be started for each sample, which
/// takes longer than the rounds.
const ROUNDS: u16 = 1000;

/// What `iterations` rounds take, from at least [`ROUNDS`].
#[allow(clippy::cast_precision_loss, reason = "criterion computes with floating point")]
fn measure(
    target: &mut dyn Target,
    capabilities: &Capabilities,
    scenario: &Scenario,
    iterations: u64,
) -> Result<f64, String> {
    let (mut sum, mut done) = (0, 0);
    while done < iterations {
        let rounds = u16::try_from(iterations - done).unwrap_or(MAX_ROUNDS).clamp(ROUNDS, MAX_ROUNDS);
        let samples = sample(target, capabilities, &[scenario], rounds).map_err(|error| error.to_string())?;
        match &samples.scenarios[..] {
            [Sampled::Measured(samples)] => sum += samples.iter().sum::<u64>(),
            other => return Err(format!("{other:?}")),
        }
        done += u64::from(rounds);
    }
    Ok(sum as f64 / done as f64 * iterations as f64)
}

fn main() -> ExitCode {
    let mut target = match machine() {
        Ok(target) => target,
        Err(why) => {
            println!("skipped: {why}");
            return ExitCode::SUCCESS;
        }
    };
    let implementation = target.implementation();
    let report = match target.capture() {
        Ok(report) => report,
        Err(error) => {
            eprintln!("{implementation}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let capabilities = Capabilities::new(&NamedProfile::captured(implementation.to_string(), "bench", &report).profile);
    let clock = ProbeClock(Unit::of(&implementation));
    println!("{implementation}: {}", clock.unit());

    let mut criterion = Criterion::default()
        .with_measurement(clock)
        // In a bare Bochs every round takes as many instructions: there is nothing to plot.
        .without_plots()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10)
        .configure_from_args();
    let mut group = criterion.benchmark_group("entry_latency");
    group.sampling_mode(SamplingMode::Flat);
    // A round of each shows what can be measured at all.
    let scenarios: Vec<_> = Scenario::all().iter().collect();
    let first = match sample(target.as_mut(), &capabilities, &scenarios, 1) {
        Ok(first) => first.scenarios,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    for (scenario, first) in scenarios.into_iter().zip(first) {
        match first {
            Sampled::Measured(_) => {}
            Sampled::Skipped(missing) => {
                println!("entry_latency/{}: skipped, {missing}", scenario.name);
                continue;
            }
            Sampled::Failed(how) => {
                println!("entry_latency/{}: failed, {how}", scenario.name);
                continue;
            }
        }
        group.bench_function(scenario.name, |bencher| {
            bencher.iter_custom(|iterations| {
                measure(target.as_mut(), &capabilities, scenario, iterations).expect("it could be measured before")
            });
        });
    }
    group.finish();
    criterion.final_summary();
    ExitCode::SUCCESS
}
