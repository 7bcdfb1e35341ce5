//! On a real machine, too, the same seed gives the same report: no case shows what another one has left.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use vmcs_case::profile::NamedProfile;
use vmcs_case::{Case, Observation, Session, Target, TargetError};
use vmcs_fuzz::campaign::{Budget, Campaign, CampaignProcessor, CampaignReport, CampaignSetting, Shard, drive};
use vmcs_fuzz::deviations::Deviations;
use vmcs_fuzz::{Generator, Stream, TestProcessor};
use vmcs_hw::bochs::{self, BochsInstall, BochsOptions, BochsTarget};

/// A CPU model of a Bochs.
struct Machine {
    install: BochsInstall,
    model: &'static str,
    processor: TestProcessor,
}

/// The oldest Bochs that is here, and the newest with the model that has most features.
fn machines() -> Vec<Machine> {
    let installs = bochs::installs().expect("an installed Bochs is usable");
    if installs.is_empty() {
        println!("skipped: there is no Bochs here");
    }
    let has =
        |install: &BochsInstall, model: &str| install.models().is_ok_and(|models| models.iter().any(|m| m == model));
    let oldest = installs.first().map(|install| (install, "corei7_skylake_x"));
    let newest =
        installs.last().map(|install| (install, "wildcat_lake")).filter(|(install, model)| has(install, model));
    let open = |(install, model): (&BochsInstall, &'static str)| {
        let mut target = BochsTarget::new(install.clone(), model).expect("the model exists");
        let report = target.capture().expect("the probe reports");
        let processor = TestProcessor::new(&NamedProfile::captured("Bochs", "test", &report).profile);
        Machine { install: install.clone(), model, processor }
    };
    oldest.into_iter().chain(newest).map(open).collect()
}

impl Machine {
    fn open(&self, options: &BochsOptions) -> BochsTarget {
        BochsTarget::with_options(self.install.clone(), self.model, options.clone()).expect("the model exists")
    }

    /// Observations of cases, one after the other.
    fn observe<'a>(
        &self,
        session: &Session,
        cases: impl Iterator<Item = &'a Case>,
        options: &BochsOptions,
    ) -> Vec<Observation> {
        let mut observed = Vec::new();
        let mut target = self.open(options);
        let ran = target.run(session, &mut cases.cloned(), &mut |_, observation| {
            observed.push(observation);
            ControlFlow::Continue(())
        });
        ran.expect("the target answers");
        observed
    }
}

#[test]
fn an_observation_does_not_depend_on_the_cases_around_it() {
    const CASES: usize = 2000;
    for machine in machines() {
        let session = machine.processor.session();
        for generator in [Generator::Boundary, Generator::Controls, Generator::Images, Generator::Programs] {
            let mut stream = Stream::new(generator, 5);
            let cases: Vec<_> = (0..CASES).map(|_| stream.next(&machine.processor).case).collect();
            let usual = BochsOptions::default();
            let forwards = machine.observe(&session, cases.iter(), &usual);
            let mut backwards = machine.observe(&session, cases.iter().rev(), &usual);
            backwards.reverse();
            // From another case on, and in small batches.
            let few = BochsOptions { batch: 7, ..usual };
            let later = machine.observe(&session, cases.iter().skip(100), &few);
            for (index, case) in cases.iter().enumerate() {
                let place = format!("{} {generator:?}, case {index}", machine.model);
                assert_eq!(forwards[index], backwards[index], "{place}: {case:x?}");
                let shifted = index.checked_sub(100).map(|index| &later[index]);
                assert!(shifted.is_none_or(|later| *later == forwards[index]), "{place}, later: {case:x?}");
            }
        }
    }
}

/// How a campaign is run.
#[derive(Clone, Copy)]
struct Way {
    generator: Generator,
    cases: u64,
    shard: Shard,
    jobs: usize,
    batch: usize,
    cases_per_boot: usize,
}

impl Way {
    fn report(self, machine: &Machine, deviations: &Deviations) -> CampaignReport {
        let session = machine.processor.session();
        let options = BochsOptions { batch: self.batch, cases_per_boot: self.cases_per_boot, ..Default::default() };
        let setting = CampaignSetting { processor: &machine.processor, session: &session, deviations };
        let processor = CampaignProcessor { implementation: machine.open(&options).implementation(), setting };
        let open = |_| -> Result<Box<dyn Target>, TargetError> { Ok(Box::new(machine.open(&options))) };
        let campaign = Campaign {
            processors: &[processor],
            open: &open,
            generator: self.generator,
            seed: 5,
            shard: self.shard,
            budget: Budget { cases: Some(self.cases), ..Budget::default() },
            jobs: NonZeroUsize::new(self.jobs).expect("there is a job"),
            state: None,
            stop: &AtomicBool::new(false),
            watch: &|_, _| {},
        };
        let mut outcome = drive(&campaign).expect("there is no state to be wrong");
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
        outcome.reports.remove(0).0
    }
}

fn text(report: &CampaignReport) -> String {
    serde_json::to_string_pretty(report).expect("it is JSON")
}

#[test]
fn the_report_does_not_depend_on_jobs_batches_and_boots() {
    let deviations = Deviations::embedded().expect("they are valid");
    for machine in machines() {
        let usual = Way {
            generator: Generator::Boundary,
            cases: 1024 + 300,
            shard: Shard::WHOLE,
            jobs: 1,
            batch: 256,
            cases_per_boot: 50_000,
        };
        let report = usual.report(&machine, &deviations);
        assert!(report.disagreed == 0 && !report.deviations.is_empty(), "{:#?}", report.findings.first());
        for way in [Way { jobs: 2, ..usual }, Way { jobs: 3, batch: 10, cases_per_boot: 25, ..usual }] {
            assert_eq!(text(&way.report(&machine, &deviations)), text(&report), "{}", machine.model);
        }
    }
}

/// The parts of a generator that does not go by what it has made have together the cases of the whole.
#[test]
fn the_report_on_all_parts_is_that_on_the_whole() {
    let deviations = Deviations::embedded().expect("they are valid");
    for machine in machines() {
        let whole = Way {
            generator: Generator::Controls,
            cases: 3 * 1024,
            shard: Shard::WHOLE,
            jobs: 2,
            batch: 256,
            cases_per_boot: 50_000,
        };
        let parts = ["1/3", "2/3", "3/3"].map(|part| {
            let way = Way { shard: part.parse().expect("a part"), cases: whole.cases / 3, ..whole };
            way.report(&machine, &deviations)
        });
        let merged = CampaignReport::merge(parts).expect("they are parts of one campaign").remove(0);
        let whole = whole.report(&machine, &deviations);
        // The order of the cases is another, and with it which ones are shown.
        let merged = CampaignReport {
            shards: whole.shards.clone(),
            shard_count: whole.shard_count,
            unspecified_examples: whole.unspecified_examples.clone(),
            ..merged
        };
        assert_eq!(text(&merged), text(&whole), "{}", machine.model);
    }
}
