//! Campaigns on several machines: the same report whatever happens to them.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use vmcs_case::profile::NamedProfile;
use vmcs_case::{Case, Implementation, Observation, ProbeReport, Session, StepResult, Target, TargetError};
use vmcs_fuzz::campaign::{
    self, Budget, Campaign, CampaignOutcome, CampaignProcessor, CampaignReport, CampaignSetting, Cases, Shard,
    StateDirectory, drive,
};
use vmcs_fuzz::deviations::Deviations;
use vmcs_fuzz::emulator::EmulatorTarget;
use vmcs_fuzz::{Generator, Stream, TestProcessor};

/// More than two chunks, and not a multiple of one.
const CASES: u64 = 2 * 1024 + 300;

/// Two processors.
fn worlds() -> Vec<(String, TestProcessor)> {
    let names = ["sapphire-rapids", "penryn-yorkfield"];
    names.map(|name| (name.to_owned(), TestProcessor::new(&NamedProfile::by_name(name).unwrap().profile))).into()
}

/// The emulator with a fault: it says 8 where it should say 7. After so many cases it dies.
struct MortalMachine {
    emulator: EmulatorTarget,
    lives: Arc<AtomicU64>,
}

impl Target for MortalMachine {
    fn implementation(&self) -> Implementation {
        self.emulator.implementation()
    }

    fn capture(&mut self) -> Result<ProbeReport, TargetError> {
        self.emulator.capture()
    }

    fn run(
        &mut self,
        session: &Session,
        cases: &mut dyn Iterator<Item = Case>,
        observe: &mut dyn FnMut(usize, Observation) -> ControlFlow<()>,
    ) -> Result<(), TargetError> {
        let mut dead = false;
        self.emulator.run(session, cases, &mut |index, mut observation| {
            dead = self.lives.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |lives| lives.checked_sub(1)).is_err();
            if dead {
                return ControlFlow::Break(());
            }
            if let Some(last @ StepResult::FailValid(7)) = observation.steps.last_mut() {
                *last = StepResult::FailValid(8);
            }
            observe(index, observation)
        })?;
        if dead { Err(TargetError::Probe("it is tired".to_owned())) } else { Ok(()) }
    }
}

/// How a campaign is run.
struct Run<'a> {
    jobs: usize,
    budget: Budget,
    shard: Shard,
    seed: u64,
    state: Option<&'a Path>,
    /// Cases until all machines are dead.
    lives: u64,
    /// Cases until it is stopped.
    stop_after: u64,
}

impl Default for Run<'_> {
    fn default() -> Self {
        let budget = Budget { cases: Some(CASES), ..Budget::default() };
        Self { jobs: 2, budget, shard: Shard::WHOLE, seed: 5, state: None, lives: u64::MAX, stop_after: u64::MAX }
    }
}

impl Run<'_> {
    fn go(&self) -> Result<CampaignOutcome, String> {
        let worlds = worlds();
        let sessions: Vec<_> = worlds.iter().map(|(_, processor)| processor.session()).collect();
        let deviations = Deviations::default();
        let lives = Arc::new(AtomicU64::new(self.lives));
        let open = |index: usize| -> Result<Box<dyn Target>, TargetError> {
            let (name, processor): &(String, TestProcessor) = &worlds[index];
            Ok(Box::new(MortalMachine {
                emulator: EmulatorTarget::new(processor.profile.clone(), name.clone()),
                lives: Arc::clone(&lives),
            }))
        };
        let mut processors = Vec::new();
        for ((name, processor), session) in worlds.iter().zip(&sessions) {
            let implementation = EmulatorTarget::new(processor.profile.clone(), name.clone()).implementation();
            processors.push(CampaignProcessor {
                implementation,
                setting: CampaignSetting { processor, session, deviations: &deviations },
            });
        }
        let state = self.state.map(|path| StateDirectory::open(path).map_err(|error| error.to_string())).transpose()?;
        let (stop, seen) = (AtomicBool::new(false), AtomicU64::new(0));
        let watch = |_, cases| {
            if seen.fetch_add(cases, Ordering::Relaxed) >= self.stop_after {
                stop.store(true, Ordering::Relaxed);
            }
        };
        let campaign = Campaign {
            processors: &processors,
            open: &open,
            generator: Generator::Controls,
            seed: self.seed,
            shard: self.shard,
            budget: self.budget,
            jobs: NonZeroUsize::new(self.jobs).unwrap(),
            state: state.as_ref(),
            stop: &stop,
            watch: &watch,
        };
        drive(&campaign).map_err(|error| error.to_string())
    }

    fn reports(&self) -> Vec<CampaignReport> {
        let outcome = self.go().unwrap();
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
        outcome.reports.into_iter().map(|(report, _)| report).collect()
    }
}

/// The reports of a run that nothing happened to.
fn whole() -> &'static [CampaignReport] {
    static WHOLE: OnceLock<Vec<CampaignReport>> = OnceLock::new();
    WHOLE.get_or_init(|| Run::default().reports())
}

fn text(reports: &[CampaignReport]) -> String {
    serde_json::to_string(reports).unwrap()
}

#[test]
fn the_report_does_not_depend_on_the_number_of_jobs() {
    for jobs in [1, 5] {
        assert_eq!(text(&Run { jobs, ..Run::default() }.reports()), text(whole()), "{jobs} jobs");
    }
    for report in whole() {
        assert_eq!(report.cases, CASES);
        assert!(report.disagreed > 100 && report.agreed > 300, "{report:?}");
        assert!(
            report
                .findings
                .is_sorted_by_key(|finding| { finding.program.id.trim_start_matches("case-").parse::<u64>().unwrap() })
        );
    }
}

#[test]
fn a_campaign_goes_on_where_it_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let mut stops = 0;
    // The beginning of a run counts what is done as observed.
    let mut stop_after = 0;
    loop {
        stop_after += 1000;
        let reports = Run { state: Some(directory.path()), stop_after, ..Run::default() }.reports();
        if !reports.iter().any(|report| report.interrupted) {
            assert_eq!(text(&reports), text(whole()));
            break;
        }
        assert!(reports.iter().map(|report| report.cases).sum::<u64>() < 2 * CASES);
        stops += 1;
    }
    assert!(stops >= 3, "{stops}");

    // More of it can be asked for, and less changes nothing.
    let budget = Budget { cases: Some(CASES + 1000), ..Budget::default() };
    let more = Run { state: Some(directory.path()), budget, ..Run::default() }.reports();
    assert_eq!(text(&more), text(&Run { budget, ..Run::default() }.reports()));
    for cases in [0, 1, CASES, CASES + 1000] {
        let budget = Budget { cases: Some(cases), ..Budget::default() };
        assert_eq!(text(&Run { state: Some(directory.path()), budget, ..Run::default() }.reports()), text(&more));
    }
}

#[test]
fn a_target_that_dies_is_given_up_and_what_it_did_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let run = Run { state: Some(directory.path()), lives: 1500, ..Run::default() };
    let outcome = run.go().unwrap();
    let failure = outcome.failure.expect("it died").to_string();
    assert!(failure.contains("was given up"), "{failure}");
    let cases: u64 = outcome.reports.iter().map(|(report, _)| report.cases).sum();
    assert_eq!(cases, 1500);
    assert!(outcome.reports.iter().all(|(report, _)| report.interrupted));
    assert_eq!(text(&Run { state: Some(directory.path()), ..Run::default() }.reports()), text(whole()));
}

#[test]
fn also_in_a_campaign_on_one_target_alone() {
    let (name, processor) = worlds().remove(0);
    let mut target = MortalMachine {
        emulator: EmulatorTarget::new(processor.profile.clone(), name),
        lives: Arc::new(AtomicU64::new(100)),
    };
    let (session, deviations) = (processor.session(), Deviations::default());
    let setting = CampaignSetting { processor: &processor, session: &session, deviations: &deviations };
    let cases = Cases::Generated { stream: &mut Stream::new(Generator::Controls, 5), count: CASES };
    let broken = campaign::run(&mut target, setting, cases, None, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(broken.to_string(), "the probe gave up: it is tired");
    assert_eq!((broken.report.cases, broken.report.interrupted), (100, true));
}

#[test]
fn enough_findings_end_it_with_their_chunk() {
    let budget = Budget { findings: Some(1), ..Budget::default() };
    let directory = tempfile::tempdir().unwrap();
    let one = Run { jobs: 1, budget, ..Run::default() }.reports();
    let three = Run { jobs: 3, budget, state: Some(directory.path()), ..Run::default() }.reports();
    assert_eq!(text(&one), text(&three));
    for report in &one {
        assert_eq!(report.cases, 1024);
        assert!(!report.interrupted && report.disagreed > 0);
    }
    // What was observed beyond it was given up, not lost.
    let all = Run { state: Some(directory.path()), ..Run::default() }.reports();
    assert_eq!(text(&all), text(whole()));
}

#[test]
fn shards_have_cases_of_their_own_and_add_up() {
    let part = |shard: &str| Run { shard: shard.parse().unwrap(), ..Run::default() }.reports();
    let (first, second) = (part("1/2"), part("2/2"));
    assert_ne!(first[0].findings[0].program.ops, second[0].findings[0].program.ops);
    let merged = CampaignReport::merge(second.iter().chain(&first).cloned()).unwrap();
    assert_eq!(merged.len(), 2);
    for ((first, second), merged) in first.iter().zip(&second).zip(&merged) {
        assert_eq!(merged.cases, 2 * CASES);
        assert_eq!(merged.disagreed, first.disagreed + second.disagreed);
        assert_eq!(merged.agreed, first.agreed + second.agreed);
        assert_eq!(merged.findings[0], first.findings[0]);
        assert_eq!(merged.missing_shards().count(), 0);
        for (check, sides) in &merged.coverage.0 {
            let sum = |report: &CampaignReport| report.coverage.0.get(check).copied().unwrap_or_default().alone;
            assert_eq!(sides.alone, sum(first) + sum(second));
        }
    }
    let refused = |reports: [&CampaignReport; 2]| {
        CampaignReport::merge(reports.map(CampaignReport::clone)).unwrap_err().to_string()
    };
    assert!(refused([&first[0], &first[0]]).contains("part 1/2"), "{}", refused([&first[0], &first[0]]));
    assert!(refused([&first[0], &merged[0]]).contains("twice"));
    assert!(refused([&first[0], &part("1/3")[0]]).contains("number of parts 2, another 3"));
    let other = CampaignReport { seed: 6, ..second[0].clone() };
    assert!(refused([&first[0], &other]).contains("seed 5, another 6"));
    let other = CampaignReport { basis: second[1].basis.clone(), ..second[0].clone() };
    assert!(refused([&first[0], &other]).contains("another profile"));
}

#[test]
fn the_time_ends_it() {
    let budget = Budget { time: Some(std::time::Duration::from_millis(300)), ..Budget::default() };
    let reports = Run { budget, ..Run::default() }.reports();
    assert!(reports.iter().all(|report| !report.interrupted));
}
