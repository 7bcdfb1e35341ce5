//! VM entries with the way back, measured by the probe on a machine: criterion gets what the time-stamp counter says, not
//! how long the machine was waited for.
//!
//! `VMCS_BENCH_TARGET` names the machine (`bochs`, `bochs@2.7`, `kvm`, `kvm@bochs`, `metal:/dev/ttyS0`), `VMCS_BENCH_CPU`
//! a CPU model of Bochs. On `kvm` and `metal` the unit is cycles. Bochs counts the instructions that it emulates, which is
//! not a time and in a bare Bochs the same in every round; `vmcs bench` has more to say about one machine.

use std::process::ExitCode;
use std::time::Duration;

use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter};
use criterion::{Criterion, SamplingMode};
use vmcs_benches::machine;
use vmcs_hw::Target;
use vmcs_hw::latency::{MAX_ROUNDS, Sampled, Scenario, Unit, sample};
use vmcs_hw::profile::NamedProfile;
use vmcs_model::Capabilities;

/// Differences of the time-stamp counter of the machine. Every value comes from the probe.
struct ProbeClock(Unit);

impl Measurement for ProbeClock {
    type Intermediate = ();
    type Value = u64;

    fn start(&self) {}

    fn end(&self, (): ()) -> u64 {
        0
    }

    fn add(&self, a: &u64, b: &u64) -> u64 {
        a + b
    }

    fn zero(&self) -> u64 {
        0
    }

    #[allow(clippy::cast_precision_loss, reason = "criterion computes with floating point")]
    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
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

/// The sum of `iterations` rounds.
fn rounds(
    target: &mut dyn Target,
    capabilities: &Capabilities,
    scenario: &Scenario,
    iterations: u64,
) -> Result<u64, String> {
    let mut left = iterations;
    let mut sum = 0;
    while left > 0 {
        let now = u16::try_from(left).unwrap_or(MAX_ROUNDS).min(MAX_ROUNDS);
        let samples = sample(target, capabilities, &[scenario], now).map_err(|error| error.to_string())?;
        match &samples.scenarios[..] {
            [Sampled::Measured(samples)] => sum += samples.iter().sum::<u64>(),
            [Sampled::Skipped(missing)] => return Err(format!("skipped, {missing}")),
            other => return Err(format!("{other:?}")),
        }
        left -= u64::from(now);
    }
    Ok(sum)
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
    for scenario in Scenario::all() {
        // One round shows whether it can be measured at all.
        if let Err(why) = rounds(target.as_mut(), &capabilities, scenario, 1) {
            println!("entry_latency/{}: {why}", scenario.name);
            continue;
        }
        group.bench_function(scenario.name, |bencher| {
            bencher.iter_custom(|iterations| {
                rounds(target.as_mut(), &capabilities, scenario, iterations).expect("it could be measured before")
            });
        });
    }
    group.finish();
    criterion.final_summary();
    ExitCode::SUCCESS
}
