//! Runs on Bochs. One boot executes a whole chunk of cases from its disk, and the answers are read from the disk while it
//! runs.

use std::fs::File;
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use vmcs_case::{Case, CpuClock, Implementation, Observation, ProbeReport, Session, Target, TargetError};
use vmcs_driver::{Batch, BatchMachine, Chunk, Deliver, Stop, Stopped};
use vmcs_wire::disk::Extent;

use super::image;
use super::process::{Process, ProcessStatus};
use super::target::{BochsOptions, BochsTarget};
use crate::answers::{encode_session, examined};
use crate::run::{Portions, run};

/// Most encoded bytes of a chunk, so that memory stays bounded.
const CHUNK_BYTES: usize = 16 << 20;
/// Pause between two looks at a running Bochs.
const PAUSE: Duration = Duration::from_millis(2);

/// CPU time that the machine may take until the probe is ready; Linux takes the longest.
const BOOT: Duration = Duration::from_secs(30);

/// CPU time that a batch gets per VMX instruction on top of the patience; five times what they take.
const INSTRUCTION: Duration = Duration::from_micros(1);

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

/// A target with a session.
struct BochsSession<'a> {
    target: &'a BochsTarget,
    /// The encoded session.
    session: Vec<u8>,
}

impl BatchMachine for BochsSession<'_> {
    type Error = TargetError;

    fn execute(
        &mut self,
        chunk: &Chunk,
        batches: &[Batch],
        deliver: Deliver<'_>,
    ) -> Result<Option<Stopped>, TargetError> {
        let target = self.target;
        let (cylinders, answers) = image::write_run_disk(&target.files.disk(), &self.session, chunk, batches)?;
        let slot = |(batch, answer): (&Batch, Extent)| {
            let patience = target.options.patience + INSTRUCTION * saturating(batch.instructions);
            Slot { answer, patience }
        };
        let slots: Vec<Slot> = batches.iter().zip(answers).map(slot).collect();
        target.boot(cylinders, &slots, deliver)
    }

    fn discard(&mut self) {
        // Each boot is a machine of its own.
    }
}

impl BochsTarget {
    /// Starts Bochs with the disk that has been written and hands the content of each answer to `deliver`, in order. How it
    /// stopped before the first that is missing, if any is and `deliver` did not break off.
    fn boot(&self, cylinders: u64, slots: &[Slot], deliver: Deliver<'_>) -> Result<Option<Stopped>, TargetError> {
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
            let mut partial = Vec::new();
            let before = next;
            while let Some(slot) = slots.get(next) {
                let Some(answer) = image::read_answer(&disk, next, slot.answer)? else { break };
                if !answer.complete {
                    partial = answer.content;
                    break;
                }
                if deliver(&answer.content).is_break() {
                    return Ok(None);
                }
                next += 1;
            }
            if next == slots.len() {
                return Ok(None);
            }
            if next > before {
                process.progressed();
            }
            let stop = match status {
                ProcessStatus::Running => {
                    thread::sleep(PAUSE);
                    continue;
                }
                ProcessStatus::Hung if next > before => continue,
                ProcessStatus::Hung => Stop::Hung,
                ProcessStatus::Exited(_) => Stop::Crashed(process.console().last_words()),
            };
            let console = process.console();
            if !console.ready() {
                return Err(match console.panic() {
                    Some(reason) => TargetError::Probe(reason.to_owned()),
                    None => TargetError::DiedAtStart { output: console.tail() },
                });
            }
            return Ok(Some(Stopped { stop, partial }));
        }
    }
}

impl Target for BochsTarget {
    fn implementation(&self) -> Implementation {
        Implementation {
            name: "Bochs".to_owned(),
            version: self.install.version.to_string(),
            model: self.model.clone(),
            on: None,
        }
    }

    fn capture(&mut self) -> Result<ProbeReport, TargetError> {
        let session = encode_session(&Session::default())?;
        let (slot, cylinders) = image::write_profile_disk(&self.files.disk(), &session)?;
        let slot = Slot { answer: slot, patience: self.options.patience * 4 };
        let mut content = Vec::new();
        let stopped = self.boot(cylinders, &[slot], &mut |answer| {
            content = answer.to_vec();
            ControlFlow::Continue(())
        })?;
        examined(stopped.map_or(Ok(content), |stopped| Err(stopped.stop)))
    }

    fn cpu_clock(&self) -> Option<CpuClock> {
        Some(self.clock.clone())
    }

    fn run(
        &mut self,
        session: &Session,
        cases: &mut dyn Iterator<Item = Case>,
        observe: &mut dyn FnMut(usize, Observation) -> ControlFlow<()>,
    ) -> Result<(), TargetError> {
        let mut machine = BochsSession { session: encode_session(session)?, target: self };
        let BochsOptions { batch, cases_per_boot, .. } = self.options;
        let portions = Portions { chunk: cases_per_boot, bytes: CHUNK_BYTES, batch };
        run(&mut machine, portions, session, cases, observe, |error| error)
    }
}
