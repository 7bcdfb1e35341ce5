//! Campaigns on several machines at once.
//!
//! A turn is a number of cases of one stream. Producers generate turns: each of them takes the stream that has got least
//! far, and continues it. Each worker has a machine. It executes turns, and judges the observations while the machine
//! executes the next cases. The thread that called [`drive`] puts together what the workers found, in the order of the
//! streams, and saves it from time to time.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use vmcs_case::{Implementation, Target, TargetError};

use super::done::{CHUNK, Done, ObservedCases};
use super::plan::{Plan, Turn};
use super::state::StateHeader;
use super::{Basis, CampaignError, CampaignReport, CampaignSetting, Shard, StateDirectory};
use crate::campaign::timeline::{Sample, Timeline};
use crate::oracle::Oracle;
use crate::{Generated, Generator, Stream};

/// Time between two savings of the state.
const SAVE: Duration = Duration::from_millis(250);
/// Time between two looks at the clock and the flag that stops.
const TICK: Duration = Duration::from_millis(50);
/// Failures of a target in a row, without a case in between, after which it is given up.
const ATTEMPTS: u32 = 3;
/// Cases between two reports of progress.
const STEP: u64 = 64;

/// A campaign on the processors of several targets, with the same generator and seed.
pub struct Campaign<'a> {
    /// The processors.
    pub processors: &'a [CampaignProcessor<'a>],
    /// Opens a machine with the processor of that number; called once for each job and whenever a machine failed.
    pub open: &'a (dyn Fn(usize) -> Result<Box<dyn Target>, TargetError> + Sync),
    /// What makes the cases.
    pub generator: Generator,
    /// The campaign's seed.
    pub seed: u64,
    /// The part of the campaign that this is.
    pub shard: Shard,
    /// When it ends.
    pub budget: Budget,
    /// Machines that run at the same time.
    pub jobs: NonZeroUsize,
    /// Where the state is kept, and what it begins with.
    pub state: Option<&'a StateDirectory>,
    /// Ends the campaign when it becomes true. The reports then hold what was observed until then.
    pub stop: &'a AtomicBool,
    /// Told the number of a processor and of cases that were observed there.
    pub watch: &'a (dyn Fn(usize, u64) + Sync),
}

/// A processor of a target.
#[derive(Clone, Debug)]
pub struct CampaignProcessor<'a> {
    /// The implementation that the target reports.
    pub implementation: Implementation,
    /// The setting in which its cases are executed and judged.
    pub setting: CampaignSetting<'a>,
}

/// When a campaign ends: with the first of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Cases on each processor.
    pub cases: Option<u64>,
    /// Wall time.
    pub time: Option<Duration>,
    /// Disagreements on each processor; the chunk of cases with the last of them is the last one there.
    pub findings: Option<u64>,
}

/// The result of a campaign.
#[derive(Debug)]
pub struct CampaignOutcome {
    /// The report on each processor, and how many cases were executed there over time.
    pub reports: Vec<(CampaignReport, Timeline)>,
    /// Why it ended before its time. The reports hold what was observed until then.
    pub failure: Option<CampaignError>,
}

/// What all threads of a campaign share.
#[derive(Clone, Copy)]
struct Shared<'a> {
    campaign: &'a Campaign<'a>,
    plan: &'a Plan<'a>,
    /// The report of no cases on each processor.
    empty: &'a [CampaignReport],
}

/// What a worker tells.
enum Message {
    /// Cases were observed, with so much CPU time of the target.
    Piece(usize, Box<ObservedCases>, Duration),
    /// A target was given up.
    GivenUp(usize, TargetError),
}

/// What is known of one processor.
struct ProcessorProgress {
    done: Done,
    timeline: Timeline,
    /// Where the timeline began when this run of the campaign did.
    before: Sample,
    cpu: Duration,
    /// There is something to be saved.
    changed: bool,
}

/// Runs a campaign, or goes on with it where its state ends.
///
/// The reports are the same for the same generator, seed, shard and number of cases, whatever the number of jobs and
/// however often the campaign was interrupted.
///
/// # Errors
/// [`CampaignError::State`] when the state is another campaign's or cannot be read or written. What fails later is in
/// [`CampaignOutcome::failure`].
pub fn drive(campaign: &Campaign<'_>) -> Result<CampaignOutcome, CampaignError> {
    let Campaign { processors, generator, seed, shard, budget, .. } = *campaign;
    let stream = Stream::part(generator, seed, shard);
    let fresh = |processor: &CampaignProcessor<'_>| {
        // The parts of a campaign have one basis.
        let basis = Basis::new(&processor.implementation, processor.setting, Some(Stream::new(generator, seed)));
        CampaignReport::new(processor.implementation.clone(), generator.name().to_owned(), seed, shard, basis)
    };
    let fresh: Vec<CampaignReport> = processors.iter().map(fresh).collect();
    let mut saved = match campaign.state {
        Some(state) => state.begin(&StateHeader::new(generator, seed, shard, fresh.iter()))?,
        None => Vec::new(),
    };
    saved.resize_with(processors.len(), || None);
    let mut streams = Vec::new();
    let mut progress = Vec::new();
    for (saved, fresh) in saved.into_iter().zip(&fresh) {
        let (mut done, at, timeline) = match saved {
            Some(saved) => (saved.done, saved.stream, saved.timeline),
            None => {
                (Done::new(fresh.clone(), Vec::new()).expect("nothing overlaps"), stream.clone(), Timeline::default())
            }
        };
        done.end_after(budget.findings);
        let before = timeline.end();
        streams.push(at);
        progress.push(ProcessorProgress { done, timeline, before, cpu: Duration::ZERO, changed: true });
    }
    for (index, progress) in progress.iter().enumerate() {
        (campaign.watch)(index, progress.done.cases());
    }

    let planned = processors.iter().zip(&progress).zip(streams);
    let planned = planned.map(|((processor, progress), stream)| (processor.setting.processor, &progress.done, stream));
    let jobs = campaign.jobs.get();
    let plan = Plan::new(planned.collect(), budget.cases, jobs);
    let shared = Shared { campaign, plan: &plan, empty: &fresh };
    let failure = thread::scope(|scope| {
        let (send, messages) = mpsc::channel();
        // The channel holds no turn: each producer waits with its turn until a worker takes it.
        let (hand_over, turns) = mpsc::sync_channel(0);
        let turns = Arc::new(Mutex::new(turns));
        // One producer generates about as fast as eight machines execute.
        for _ in 0..jobs.div_ceil(4).min(processors.len()) {
            let hand_over = hand_over.clone();
            scope.spawn(move || produce(shared.plan, &hand_over));
        }
        for _ in 0..jobs {
            let (turns, send) = (Arc::clone(&turns), send.clone());
            scope.spawn(move || work(shared, &turns, &send));
        }
        // Now only the threads hold the ends of the channels, so that each side notices when the other is gone.
        drop((hand_over, turns, send));
        collect(shared, &mut progress, &messages)
    });

    let stopped = campaign.stop.load(Ordering::Relaxed) || failure.is_some();
    let reports = progress.into_iter().map(|progress| {
        let mut report = progress.done.report();
        let complete = progress.done.enough() || budget.cases.is_some_and(|cases| report.cases >= cases);
        report.interrupted = stopped && !complete;
        (report, progress.timeline)
    });
    Ok(CampaignOutcome { reports: reports.collect(), failure })
}

/// Generates turns until nothing more is wanted.
fn produce(plan: &Plan<'_>, hand_over: &SyncSender<Turn>) {
    while let Some(turn) = plan.next() {
        if hand_over.send(turn).is_err() {
            break;
        }
    }
}

/// Executes turns until there are no more.
fn work(shared: Shared<'_>, turns: &Mutex<Receiver<Turn>>, send: &Sender<Message>) {
    let Shared { campaign, plan, .. } = shared;
    let mut machine: Option<(usize, Box<dyn Target>)> = None;
    loop {
        let turn = turns.lock().expect("nobody panics with the lock").recv();
        let Ok(Turn { processor_index, cases }) = turn else { break };
        let mut rest = &cases[..];
        let mut attempts = 0;
        while !rest.is_empty() && !plan.has_ended(processor_index) {
            let opened = match machine.take() {
                Some((of, target)) if of == processor_index => Ok(target),
                // The old machine ends before a new one starts.
                old => {
                    drop(old);
                    (campaign.open)(processor_index)
                }
            };
            let (observed, result) = match opened {
                Err(error) => (0, Err(error)),
                Ok(mut target) => {
                    let turned = execute(shared, target.as_mut(), processor_index, rest, send);
                    if turned.1.is_ok() {
                        machine = Some((processor_index, target));
                    }
                    turned
                }
            };
            rest = &rest[observed..];
            attempts = if observed > 0 { 0 } else { attempts + 1 };
            if let Err(error) = result
                && attempts == ATTEMPTS
            {
                plan.end(processor_index);
                let _ = send.send(Message::GivenUp(processor_index, error));
            }
        }
    }
}

/// Executes cases and judges them. How many were observed, and how the target ended.
fn execute(
    shared: Shared<'_>,
    target: &mut dyn Target,
    processor_index: usize,
    cases: &[(u64, Generated)],
    send: &Sender<Message>,
) -> (usize, Result<(), TargetError>) {
    let Shared { campaign, plan, empty } = shared;
    let CampaignProcessor { implementation, setting } = &campaign.processors[processor_index];
    let CampaignSetting { processor, session, deviations } = *setting;
    let oracle = Oracle::new(processor, session, deviations.of(implementation));
    let clock = target.cpu_clock().unwrap_or_default();
    let mut before = clock.now();
    let mut tell = |piece: ObservedCases| {
        let now = clock.now();
        let used = now.saturating_sub(std::mem::replace(&mut before, now));
        // A collector that is gone wants nothing more.
        let _ = send.send(Message::Piece(processor_index, Box::new(piece), used));
    };
    let mut piece: Option<ObservedCases> = None;
    let mut observed = 0;
    let mut told = 0;
    let mut all = cases.iter().map(|(_, generated)| generated.case.clone());
    let result = target.run(session, &mut all, &mut |index, observation| {
        let (number, generated) = &cases[index];
        let current =
            piece.get_or_insert_with(|| ObservedCases { first: *number, report: empty[processor_index].clone() });
        current.report.add(|| campaign.shard.case(*number), &oracle, generated, &observation);
        observed = index + 1;
        told += 1;
        if told == STEP {
            (campaign.watch)(processor_index, std::mem::take(&mut told));
        }
        // A piece ends with its chunk, and before a gap.
        let follows = cases.get(observed).is_some_and(|(next, _)| *next == number + 1);
        if !follows || (number + 1).is_multiple_of(CHUNK) {
            tell(piece.take().expect("there is one"));
        }
        if plan.has_ended(processor_index) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    (campaign.watch)(processor_index, told);
    if let Some(piece) = piece {
        tell(piece);
    }
    (observed, result)
}

/// Puts together what the workers tell until all of them have ended. Why the campaign ended before its time, if it did.
fn collect(
    shared: Shared<'_>,
    progress: &mut [ProcessorProgress],
    messages: &Receiver<Message>,
) -> Option<CampaignError> {
    let Shared { campaign, plan, .. } = shared;
    let began = Instant::now();
    let mut saved = began;
    let mut failure = None;
    loop {
        match messages.recv_timeout(TICK) {
            Ok(Message::Piece(processor_index, piece, used)) => {
                let progress = &mut progress[processor_index];
                progress.cpu += used;
                progress.done.add(*piece);
                progress.note(began.elapsed());
                if progress.done.enough() {
                    plan.end(processor_index);
                }
            }
            Ok(Message::GivenUp(processor_index, source)) => {
                let implementation = campaign.processors[processor_index].implementation.clone();
                failure.get_or_insert(CampaignError::GivenUp { implementation, source: Box::new(source) });
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if campaign.stop.load(Ordering::Relaxed) || campaign.budget.time.is_some_and(|time| began.elapsed() >= time) {
            plan.halt();
        }
        if saved.elapsed() >= SAVE {
            if let Err(error) = save(shared, progress) {
                plan.halt();
                failure.get_or_insert(error);
            }
            saved = Instant::now();
        }
    }
    let unsaved = save(shared, progress).err();
    failure.or(unsaved)
}

/// Saves what has changed.
fn save(shared: Shared<'_>, progress: &mut [ProcessorProgress]) -> Result<(), CampaignError> {
    let Shared { campaign, plan, .. } = shared;
    for (processor_index, progress) in progress.iter_mut().enumerate() {
        if progress.changed {
            let stream = plan.mark(processor_index, progress.done.start());
            if let Some(state) = campaign.state {
                state.save(processor_index, &progress.done, &stream, &progress.timeline)?;
            }
            progress.changed = false;
        }
    }
    Ok(())
}

impl ProcessorProgress {
    /// Notes how many cases were observed, `elapsed` after this run of the campaign began.
    fn note(&mut self, elapsed: Duration) {
        self.changed = true;
        self.timeline.add(Sample {
            seconds: self.before.seconds + elapsed.as_secs_f64(),
            cases: self.done.cases(),
            cpu_seconds: self.before.cpu_seconds + self.cpu.as_secs_f64(),
        });
    }
}
