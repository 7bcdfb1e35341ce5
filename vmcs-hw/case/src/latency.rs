//! How long a VM entry and the VM exit after it take. The probe measures each entry with the time-stamp counter.
//!
//! [`Scenario::all`] lists the entries that can be measured, [`sample`] measures them on a [`Target`], and a [`LatencyReport`]
//! holds the results and is their file. The time that the measurement itself takes is measured in the same session, and its
//! median is subtracted from every sample.
//!
//! ```no_run
//! use vmcs_case::latency::{LatencyReport, Scenario, sample};
//! # fn example(target: &mut dyn vmcs_case::Target, capabilities: &vmcs_model::Capabilities) -> Result<(), Box<dyn std::error::Error>> {
//! let scenarios: Vec<_> = Scenario::all().iter().collect();
//! let samples = sample(target, capabilities, &scenarios, 1000)?;
//! println!("{}", LatencyReport::new(target.implementation(), 1000, &scenarios, &samples).to_json());
//! # Ok(())
//! # }
//! ```

mod distribution;
mod feature;
mod report;
mod scenario;

use std::ops::ControlFlow;

use vmcs_model::{Capabilities, Outcome, field};
use vmcs_wire::session::VolatileArea;
use vmcs_wire::{Ending, Op, Start, StepResult, Timed, layout};

use crate::case::{Case, End, Observation, Session};
use crate::error::TargetError;
use crate::program::{entry_outcome, result_text};
use crate::target::Target;

pub use distribution::Distribution;
pub use feature::Missing;
pub use report::{LatencyReport, LatencyReportError, LatencyResult, LatencyRow, Unit};
pub use scenario::Scenario;

/// Rounds that are executed first and not counted: they fill caches and predictors.
pub const WARM_UP: u16 = 16;
/// Most rounds that can be counted.
pub const MAX_ROUNDS: u16 = u16::MAX - WARM_UP;

/// Nothing could be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LatencyError {
    /// The machinery failed.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The target cannot measure anything, not even an empty sequence of instructions.
    #[error("{implementation} does not measure how long an entry takes: {how}")]
    NoClock {
        /// Which machine it is.
        implementation: String,
        /// What it did instead.
        how: String,
    },
}

/// The samples of some scenarios, and of the measurement itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    /// What the measurement itself takes, in each round.
    pub overhead: Vec<u64>,
    /// Each scenario, in their order.
    pub scenarios: Vec<Sampled>,
}

/// The result of measuring a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sampled {
    /// What the entry took in each round, without what the measurement itself takes.
    Measured(Vec<u64>),
    /// The processor lacks something that the scenario needs.
    Skipped(Missing),
    /// The rounds did not end as they should; the text says how they ended.
    Failed(String),
}

/// Measures each of `scenarios` in `rounds` rounds (at most [`MAX_ROUNDS`]) on a target whose processor has those
/// capabilities.
///
/// # Errors
/// [`LatencyError`].
pub fn sample(
    target: &mut dyn Target,
    capabilities: &Capabilities,
    scenarios: &[&Scenario],
    rounds: u16,
) -> Result<Samples, LatencyError> {
    let rounds = rounds.min(MAX_ROUNDS) + WARM_UP;
    let nothing =
        Case { start: Start::VmxRoot, ops: vec![Op::Time { what: Timed::Nothing, rounds }], ..Case::default() };
    let cases: Vec<_> = scenarios.iter().map(|scenario| scenario.case(capabilities, rounds)).collect();
    let mut run = std::iter::once(nothing).chain(cases.iter().flatten().cloned());
    let stores = VolatileArea {
        address: layout::EXIT_MSR_STORE,
        bytes: 4096,
        field: field::VM_EXIT_MSR_STORE_COUNT.encoding().0.into(),
        mask: u64::MAX,
    };
    let session = Session { volatile: vec![stores], ..Session::default() };
    let mut observations = Vec::new();
    target.run(&session, &mut run, &mut |_, observation| {
        observations.push(observation);
        ControlFlow::Continue(())
    })?;

    let mut observations = observations.into_iter();
    let no_clock = |how| LatencyError::NoClock { implementation: target.implementation().to_string(), how };
    let first = observations.next().ok_or_else(|| no_clock("no answer".to_owned()))?;
    let overhead = counted(&first, |ending| ending == Ending::Nothing, rounds).map_err(no_clock)?;
    let taken = Distribution::new(overhead.iter().copied()).median;
    let sampled = |(scenario, case): (&&Scenario, Result<Case, Missing>)| {
        if let Err(missing) = case {
            return Sampled::Skipped(missing);
        }
        let counted = observations
            .next()
            .ok_or_else(|| "no answer".to_owned())
            .and_then(|observation| counted(&observation, |ending| scenario.ends_in(ending), rounds));
        match counted {
            Ok(mut samples) => {
                samples.iter_mut().for_each(|sample| *sample = sample.saturating_sub(taken));
                Sampled::Measured(samples)
            }
            Err(how) => Sampled::Failed(how),
        }
    };
    let scenarios = scenarios.iter().zip(cases).map(sampled).collect();
    Ok(Samples { overhead, scenarios })
}

/// The samples of a case's last step, without those of the first rounds, or what went wrong.
fn counted(observation: &Observation, expected: impl Fn(Ending) -> bool, rounds: u16) -> Result<Vec<u64>, String> {
    match &observation.end {
        End::Completed => {}
        End::Crashed { detail } => return Err(format!("the machine crashed: {detail}")),
        End::Hung => return Err("the machine hung".to_owned()),
    }
    let Some((last, setup)) = observation.steps.split_last() else {
        return Err("no answer".to_owned());
    };
    // Before the measurement there are instructions that succeed and perhaps a VMLAUNCH that enters.
    let is_fine = |step: &StepResult<_>| matches!(step, StepResult::Ok) || is_entry(step);
    if let Some((number, step)) = setup.iter().enumerate().find(|(_, step)| !is_fine(step)) {
        return Err(format!("step {number} before the measurement ends in {}", result_text(step)));
    }
    let StepResult::Timed { ending, samples } = last else {
        return Err(format!("the measurement ends in: {}", result_text(last)));
    };
    if !expected(*ending) {
        return Err(match ending {
            Ending::Exit { reason, .. } => format!("it ends in {} with exit reason {reason:#x}", result_text(last)),
            _ => format!("it ends in {}", result_text(last)),
        });
    }
    if samples.len() != usize::from(rounds) {
        return Err(format!("round {} ends otherwise than those before", samples.len()));
    }
    Ok(samples[usize::from(WARM_UP)..].to_vec())
}

fn is_entry(step: &StepResult<Vec<u64>>) -> bool {
    entry_outcome(step) == Some(Outcome::Entered)
}

#[cfg(test)]
mod tests {
    use vmcs_model::CpuProfile;

    use super::*;
    use crate::target::{Implementation, ProbeReport};

    /// Answers every measurement with the same samples and endings, one case after the other.
    struct Fake(Vec<Observation>);

    impl Target for Fake {
        fn implementation(&self) -> Implementation {
            Implementation { name: "fake".to_owned(), version: "1".to_owned(), model: "x".to_owned(), on: None }
        }

        fn capture(&mut self) -> Result<ProbeReport, TargetError> {
            Ok(ProbeReport::default())
        }

        fn run(
            &mut self,
            _: &Session,
            cases: &mut dyn Iterator<Item = Case>,
            observe: &mut dyn FnMut(usize, Observation) -> ControlFlow<()>,
        ) -> Result<(), TargetError> {
            for ((index, _), answer) in cases.enumerate().zip(&self.0) {
                let _ = observe(index, answer.clone());
            }
            Ok(())
        }
    }

    fn timed(ending: Ending, samples: Vec<u64>) -> Observation {
        Observation { steps: vec![StepResult::Ok, StepResult::Timed { ending, samples }], end: End::Completed }
    }

    /// One sample after those that are not counted.
    fn one(sample: u64) -> Vec<u64> {
        let mut samples = vec![1_000_000; usize::from(WARM_UP)];
        samples.push(sample);
        samples
    }

    fn scenario(name: &str) -> &'static Scenario {
        Scenario::all().iter().find(|scenario| scenario.name == name).expect("it is in the table")
    }

    fn sample_with(answers: Vec<Observation>, names: &[&str]) -> Result<Samples, LatencyError> {
        let scenarios: Vec<_> = names.iter().map(|name| scenario(name)).collect();
        sample(&mut Fake(answers), &Capabilities::new(&CpuProfile::default()), &scenarios, 1)
    }

    #[test]
    fn what_measuring_takes_is_subtracted_and_the_first_rounds_do_not_count() {
        let invalid = Ending::FailInvalid;
        let nothing = || timed(Ending::Nothing, one(30));
        let answers = vec![nothing(), timed(invalid, one(100)), timed(invalid, one(7))];
        let samples = sample_with(answers, &["vmlaunch-no-vmcs", "vmresume-no-vmcs"]).expect("it measures");
        assert_eq!(samples.overhead, [30]);
        assert_eq!(samples.scenarios, [Sampled::Measured(vec![70]), Sampled::Measured(vec![0])]);
    }

    #[test]
    fn what_is_not_as_it_should_be_is_no_measurement() {
        let nothing = || timed(Ending::Nothing, one(30));
        let hung = Observation { steps: vec![StepResult::Ok], end: End::Hung };
        let setup = Observation {
            steps: vec![StepResult::FailValid(12), StepResult::Timed { ending: Ending::FailInvalid, samples: one(1) }],
            end: End::Completed,
        };
        for (answer, words) in [
            (Some(timed(Ending::FailValid(7), one(1))), "it ends in VMfailValid(7)"),
            (Some(timed(Ending::FailInvalid, vec![1; 3])), "round 3 ends otherwise"),
            (Some(setup), "step 0 before the measurement ends in VMfailValid(12)"),
            (Some(hung), "hung"),
            (None, "no answer"),
        ] {
            let answers = std::iter::once(nothing()).chain(answer).collect();
            let samples = sample_with(answers, &["vmlaunch-no-vmcs"]).expect("it measures nothing");
            let [Sampled::Failed(how)] = &samples.scenarios[..] else { panic!("{samples:?}") };
            assert!(how.contains(words), "{how}");
        }
    }

    #[test]
    fn a_guest_has_to_leave_as_it_should() {
        let exit = |reason| timed(Ending::Exit { reason, qualification: 0 }, one(100));
        let answers = vec![timed(Ending::Nothing, one(30)), exit(18), exit(52)];
        let samples = sample_with(answers, &["vmresume", "vmresume"]).expect("it measures");
        let failed = Sampled::Failed("it ends in Entered with exit reason 0x34".to_owned());
        assert_eq!(samples.scenarios, [Sampled::Measured(vec![70]), failed]);
    }

    #[test]
    fn a_target_without_a_clock_is_refused() {
        let answer = Observation { steps: vec![StepResult::NotRun], end: End::Completed };
        let error = sample_with(vec![answer], &["vmlaunch"]).expect_err("there is no clock").to_string();
        assert!(error.contains("fake 1 x") && error.contains("not run"), "{error}");
        assert!(sample_with(vec![], &["vmlaunch"]).is_err());
    }

    #[test]
    fn what_the_processor_lacks_is_said() {
        // A processor without any control: no VMLAUNCH is asked for.
        let answers = vec![timed(Ending::Nothing, one(30))];
        let samples = sample_with(answers, &["vmresume-ept"]).expect("it measures nothing");
        assert!(matches!(samples.scenarios[..], [Sampled::Skipped(Missing("EPT"))]), "{samples:?}");
    }
}
