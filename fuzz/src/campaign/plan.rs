//! Which cases go to which machine next.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::done::{CHUNK, Done};
use crate::{Generated, Stream, TestProcessor};

/// Most cases of a turn: Bochs executes them in one boot, which costs as much as some hundred cases.
const TURN: u64 = 32 * CHUNK;

/// Cases of one processor for one machine.
pub(super) struct Turn {
    /// Number of the processor.
    pub(super) processor_index: usize,
    /// Number and case, in the order of the stream.
    pub(super) cases: Vec<(u64, Generated)>,
}

/// The streams of all processors. Each is generated in its order, by one thread at a time.
pub(super) struct Plan<'a> {
    lanes: Mutex<Vec<Lane>>,
    processors: Vec<&'a TestProcessor>,
    /// By processor: nothing more is wanted.
    ended: Vec<AtomicBool>,
    /// Nothing more is wanted at all.
    halted: AtomicBool,
    jobs: u64,
}

/// The stream of one processor.
struct Lane {
    /// The stream, while nobody generates from it.
    stream: Option<Stream>,
    /// Number of the next case.
    position: u64,
    /// Number of the case that is not generated any more.
    end: u64,
    done: Runs,
    /// The stream at the beginnings of chunks, by position.
    marks: BTreeMap<u64, Stream>,
}

impl Lane {
    /// Cases that are left, some of which may be done.
    fn left(&self) -> u64 {
        self.end.saturating_sub(self.position.max(self.done.start))
    }
}

/// Cases that were done when the campaign went on.
#[derive(Clone)]
struct Runs {
    /// All cases before this one were done.
    start: u64,
    /// Further runs of cases that were done: the first case, and the one after the last.
    later: Vec<(u64, u64)>,
}

impl Runs {
    fn contain(&self, case: u64) -> bool {
        case < self.start || self.later.iter().any(|&(first, end)| (first..end).contains(&case))
    }
}

impl<'a> Plan<'a> {
    /// `begun` has each processor with what is done of its cases and a stream that is not behind that; `cases` are wanted of
    /// each.
    pub(super) fn new(begun: Vec<(&'a TestProcessor, &Done, Stream)>, cases: Option<u64>, jobs: usize) -> Self {
        let processors = begun.iter().map(|(processor, ..)| *processor).collect();
        let ended = begun.iter().map(|(_, done, _)| AtomicBool::new(done.enough())).collect();
        let lane = |(_, done, stream): (&TestProcessor, &Done, Stream)| Lane {
            position: stream.position(),
            end: cases.unwrap_or(u64::MAX),
            done: Runs { start: done.start(), later: done.later() },
            marks: BTreeMap::from([(stream.position(), stream.clone())]),
            stream: Some(stream),
        };
        let lanes = Mutex::new(begun.into_iter().map(lane).collect());
        Self { lanes, processors, ended, halted: AtomicBool::new(false), jobs: jobs as u64 }
    }

    /// The next turn, of the processor whose stream has got least far. `None` when one more thread would find nothing to
    /// generate.
    pub(super) fn next(&self) -> Option<Turn> {
        let mut lanes = self.lock();
        let open = |(index, lane): &(usize, &Lane)| lane.stream.is_some() && lane.left() > 0 && !self.has_ended(*index);
        let processor_index = lanes.iter().enumerate().filter(open).min_by_key(|(_, lane)| lane.position)?.0;
        // A small campaign is divided, too.
        let share = lanes.iter().map(Lane::left).fold(0, u64::saturating_add).div_ceil(self.jobs);
        let most = share.min(TURN).next_multiple_of(CHUNK);
        let lane = &mut lanes[processor_index];
        let mut stream = lane.stream.take()?;
        let (end, done) = (lane.end, lane.done.clone());
        drop(lanes);

        let mut cases = Vec::new();
        let mut marks = Vec::new();
        while stream.position() < end && !self.has_ended(processor_index) {
            let number = stream.position();
            if number.is_multiple_of(CHUNK) {
                if cases.len() as u64 >= most {
                    break;
                }
                marks.push((number, stream.clone()));
            }
            let generated = stream.next(self.processors[processor_index]);
            if !done.contain(number) {
                cases.push((number, generated));
            }
        }
        let mut lanes = self.lock();
        let lane = &mut lanes[processor_index];
        lane.position = stream.position();
        lane.marks.extend(marks);
        lane.stream = Some(stream);
        Some(Turn { processor_index, cases })
    }

    /// The stream of a processor, not behind the case number `start`, before which everything is done.
    pub(super) fn mark(&self, processor_index: usize, start: u64) -> Stream {
        let marks = &mut self.lock()[processor_index].marks;
        let at = *marks.range(..=start).next_back().expect("the stream began before").0;
        *marks = marks.split_off(&at);
        marks[&at].clone()
    }

    /// Nothing more of one processor is wanted.
    pub(super) fn end(&self, processor_index: usize) {
        self.ended[processor_index].store(true, Ordering::Relaxed);
    }

    /// Nothing more is wanted.
    pub(super) fn halt(&self) {
        self.halted.store(true, Ordering::Relaxed);
    }

    /// Whether nothing more of that processor is wanted.
    pub(super) fn has_ended(&self, processor_index: usize) -> bool {
        self.halted.load(Ordering::Relaxed) || self.ended[processor_index].load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Lane>> {
        self.lanes.lock().expect("nobody panics with the lock")
    }
}
