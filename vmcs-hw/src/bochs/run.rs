//! Runs: cases are taken in chunks of one boot each, observations are read while Bochs runs. A case that stops the
//! machine is found by executing its batch again, one case at a time.

use std::fs::File;
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use vmcs_wire::codec::Reader;
use vmcs_wire::disk::Extent;

use super::BochsTarget;
use super::image::{self, Answer};
use super::process::{Process, Status};
use crate::batch::{Batch, Chunk, decode_batch, decode_report, decode_steps, encode_session};
use vmcs_case::ProbeReport;
use vmcs_case::TargetError;
use vmcs_case::{Case, End, Observation, Session};

/// Most encoded bytes of a chunk, so that memory stays bounded.
const CHUNK_BYTES: usize = 16 << 20;
/// Pause between two looks at a running Bochs.
const PAUSE: Duration = Duration::from_millis(2);

/// CPU time that the machine may take until the probe is ready; Linux takes the longest.
const BOOT: Duration = Duration::from_secs(30);

/// CPU time that a batch gets per VMX instruction on top of the patience; five times what they take.
const INSTRUCTION: Duration = Duration::from_micros(1);

type Observe<'a> = &'a mut dyn FnMut(usize, Observation) -> ControlFlow<()>;

/// An answer that is waited for.
#[derive(Clone, Copy)]
struct Slot {
    answer: Extent,
    /// CPU time that may pass after the answer before it.
    patience: Duration,
}

fn saturating(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Takes the content of the answer in the slot with that number.
type Deliver<'a> = &'a mut dyn FnMut(usize, &[u8]) -> Result<ControlFlow<()>, TargetError>;

/// How one boot ended.
enum Boot {
    /// All slots were answered.
    Finished,
    /// The receiver of the answers broke off.
    BrokenOff,
    /// The machine stopped before it answered slot number `slot`.
    Stopped {
        slot: usize,
        end: End,
        /// What a careful batch had written.
        partial: Option<Answer>,
    },
}

impl BochsTarget {
    pub(super) fn run_cases(
        &mut self,
        session: &Session,
        cases: &mut dyn Iterator<Item = Case>,
        observe: Observe<'_>,
    ) -> Result<(), TargetError> {
        let session_bytes = encode_session(session)?;
        let fields = session.observed_fields.len();
        let mut first = 0;
        // A case too large for the chunk's rest or for any batch is reported after those before it.
        let mut too_large = false;
        while !too_large {
            let mut chunk = Chunk::default();
            while chunk.len() < self.options.cases_per_boot.max(1) && chunk.bytes() < CHUNK_BYTES {
                let Some(case) = cases.next() else { break };
                if !chunk.push(&case, session) {
                    too_large = true;
                    break;
                }
            }
            if chunk.len() == 0 {
                break;
            }
            if self.run_chunk(&session_bytes, fields, &chunk, first, observe)?.is_break() {
                return Ok(());
            }
            first += chunk.len();
        }
        if too_large { Err(TargetError::CaseTooLarge(first)) } else { Ok(()) }
    }

    fn run_chunk(
        &self,
        session: &[u8],
        fields: usize,
        chunk: &Chunk,
        number: usize,
        observe: Observe<'_>,
    ) -> Result<ControlFlow<()>, TargetError> {
        let mut next = 0;
        // So many cases from `next` on are executed alone.
        let mut careful = 0;
        while next < chunk.len() {
            let batches = chunk.batches(next, careful, self.options.batch);
            let (cylinders, answers) = image::write_run_disk(&self.files.disk(), session, chunk, &batches)?;
            let slots: Vec<Slot> = batches
                .iter()
                .zip(answers)
                .map(|(batch, answer)| Slot {
                    answer,
                    patience: self.options.patience + INSTRUCTION * saturating(batch.instructions),
                })
                .collect();
            let boot = self.boot(cylinders, &slots, &mut |slot, content| {
                // All of it before any is reported: a garbled answer counts for nothing.
                let decoded = decode_batch(content, chunk, &batches[slot], fields)?;
                for (case, observation) in (batches[slot].first..).zip(decoded) {
                    if observe(number + case, observation).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Ok(ControlFlow::Continue(()))
            })?;
            match boot {
                Boot::Finished => return Ok(ControlFlow::Continue(())),
                Boot::BrokenOff => return Ok(ControlFlow::Break(())),
                Boot::Stopped { slot, end, partial } => {
                    let Batch { first, cases, .. } = batches[slot];
                    let careful_until = next + careful;
                    next = first;
                    if cases == 1 {
                        let steps = match partial {
                            Some(answer) => decode_steps(&mut Reader::new(&answer.content), fields)?,
                            None => Vec::new(),
                        };
                        if observe(number + next, Observation { steps, end }).is_break() {
                            return Ok(ControlFlow::Break(()));
                        }
                        next += 1;
                        careful = careful_until.saturating_sub(next);
                    } else {
                        careful = cases;
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Starts Bochs with the disk that has been written and hands the content of each answer to `deliver`, in order.
    fn boot(&self, cylinders: u64, slots: &[Slot], deliver: Deliver<'_>) -> Result<Boot, TargetError> {
        let disk = File::open(self.files.disk()).map_err(TargetError::io("opening the disk for Bochs"))?;
        let mut process = Process::start(&self.install, &self.wrapper, &self.model, &self.files, cylinders)?;
        let used_before = self.clock.now();
        let mut next = 0;
        let mut ready = false;
        loop {
            if !ready && process.console().ready() {
                ready = true;
                process.progressed();
            }
            let patience = slots.get(next).map_or(self.options.patience, |slot| slot.patience);
            let patience = if ready { patience } else { BOOT };
            // First the process, then the disk: an answer written just before the end is seen.
            let status = process.status(patience)?;
            self.clock.set(used_before + process.used());
            let mut partial = None;
            let before = next;
            while let Some(slot) = slots.get(next) {
                match image::read_answer(&disk, next, slot.answer)? {
                    Some(answer) if answer.complete => {
                        match deliver(next, &answer.content) {
                            Ok(ControlFlow::Continue(())) => next += 1,
                            Ok(ControlFlow::Break(())) => return Ok(Boot::BrokenOff),
                            // Memory of the probe was overwritten: a guest or an exit path that went astray.
                            Err(error @ TargetError::Garbled(_)) => {
                                let end = End::Crashed { detail: error.to_string() };
                                return Ok(Boot::Stopped { slot: next, end, partial: None });
                            }
                            Err(error) => return Err(error),
                        }
                    }
                    unfinished => {
                        partial = unfinished;
                        break;
                    }
                }
            }
            if next == slots.len() {
                return Ok(Boot::Finished);
            }
            if next > before {
                process.progressed();
            }
            let end = match status {
                Status::Running => {
                    thread::sleep(PAUSE);
                    continue;
                }
                Status::Hung if next > before => continue,
                Status::Hung => End::Hung,
                Status::Exited(_) => End::Crashed { detail: process.console().last_words() },
            };
            let console = process.console();
            if !console.ready() {
                return Err(match console.panic() {
                    Some(reason) => TargetError::Probe(reason.to_owned()),
                    None => TargetError::DiedAtStart { output: console.tail() },
                });
            }
            return Ok(Boot::Stopped { slot: next, end, partial });
        }
    }

    pub(super) fn capture_profile(&self) -> Result<ProbeReport, TargetError> {
        let session = encode_session(&Session::default())?;
        let (slot, cylinders) = image::write_profile_disk(&self.files.disk(), &session)?;
        let mut report = ProbeReport::default();
        let slot = Slot { answer: slot, patience: self.options.patience * 4 };
        let boot = self.boot(cylinders, &[slot], &mut |_, content| {
            report = decode_report(content)?;
            Ok(ControlFlow::Continue(()))
        })?;
        match boot {
            Boot::Stopped { end: End::Crashed { detail }, .. } => Err(TargetError::Probe(detail)),
            Boot::Stopped { .. } => Err(TargetError::Probe("it hangs while it examines the processor".to_owned())),
            Boot::Finished | Boot::BrokenOff => Ok(report),
        }
    }
}
