//! Runs over a serial line: the host sends a batch and receives its answer.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use vmcs_case::{Case, Implementation, Observation, ProbeReport, Session, Target, TargetError};
use vmcs_driver::{Batch, BatchMachine, Chunk, Deliver, Stop, Stopped};
use vmcs_wire::batch::Task;
use vmcs_wire::codec::Writer;
use vmcs_wire::line::Interrupted;
use vmcs_wire::serial::{AnswerPart, Request};

use super::connection::{MetalTarget, waiting};
use crate::answers::{encode_session, examined};
use crate::run::{Portions, run};

/// Cases that are taken from the iterator at once.
const CHUNK: usize = 1024;
/// Most encoded bytes of them.
const CHUNK_BYTES: usize = 1 << 20;
/// Lines of the probe start like this.
const PROBE_PREFIX: &str = "vmcs-probe: ";

/// A target with a session.
struct LineSession<'a> {
    target: &'a mut MetalTarget,
    /// The encoded session.
    session: Vec<u8>,
    /// Whether the machine knows the session.
    open: bool,
}

impl BatchMachine for LineSession<'_> {
    type Error = TargetError;

    /// Executes one batch.
    fn execute(
        &mut self,
        chunk: &Chunk,
        batches: &[Batch],
        deliver: Deliver<'_>,
    ) -> Result<Option<Stopped>, TargetError> {
        let Some(batch) = batches.first() else { return Ok(None) };
        if !self.open {
            self.target.begin(Task::Run, &self.session)?;
            self.open = true;
        }
        let number = u32::try_from(batch.first).expect("a chunk is small");
        let mut bytes = Vec::new();
        chunk.append(batch, number, &mut bytes);
        let answer = match self.target.send(Request::Batch(&bytes)) {
            Ok(()) => self.target.answer(number, batch.answer)?,
            Err(Interrupted::StartedAnew) => Err(self.target.restarted(Vec::new())?),
            Err(interrupted) => return Err(self.target.failure(interrupted)),
        };
        match answer {
            Ok(content) => {
                // One batch is all that is executed, whatever the receiver says.
                let _ = deliver(&content);
                Ok(None)
            }
            Err(stopped) => {
                self.open = false;
                Ok(Some(stopped))
            }
        }
    }

    fn discard(&mut self) {
        self.open = false;
    }
}

impl MetalTarget {
    /// Opens a session; once more on a machine that has just started.
    fn begin(&mut self, task: Task, session: &[u8]) -> Result<(), TargetError> {
        for _ in 0..2 {
            match self.send(Request::Open { task, session }) {
                Ok(()) => return Ok(()),
                Err(Interrupted::StartedAnew) => self.connect()?,
                Err(interrupted) => return Err(self.failure(interrupted)),
            }
        }
        Err(TargetError::Probe("the machine starts anew and anew without being asked for anything".to_owned()))
    }

    fn send(&mut self, request: Request<'_>) -> Result<(), Interrupted<std::io::Error>> {
        let mut writer = Writer::new(&mut self.buffer);
        request.encode(&mut writer).map_err(|_| Interrupted::TooLong)?;
        let length = writer.len();
        let deadline = Instant::now() + self.options.boot;
        self.line.send(&self.buffer[..length], &mut waiting(&self.options, deadline))
    }

    /// Waits for the answer to batch `number`, of at most so many bytes.
    fn answer(&mut self, number: u32, bytes: usize) -> Result<Result<Vec<u8>, Stopped>, TargetError> {
        let mut content = Vec::new();
        let mut hangs = false;
        // A byte takes ten bits on the line.
        let seconds = bytes.saturating_mul(10) as u64 / u64::from(self.name.baud.max(1));
        let patience = self.options.patience + Duration::from_secs(seconds);
        let mut deadline = Instant::now() + patience;
        loop {
            let received = self.line.receive(&mut self.buffer, &mut waiting(&self.options, deadline));
            let part = match received {
                Ok(length) => AnswerPart::decode(&self.buffer[..length])
                    .map_err(|_| TargetError::Garbled("a part of an answer does not decode"))?,
                Err(Interrupted::StartedAnew) => {
                    let mut stopped = self.restarted(content)?;
                    if hangs {
                        stopped.stop = Stop::Hung;
                    }
                    return Ok(Err(stopped));
                }
                Err(Interrupted::BrokenOff) if !hangs && !self.options.stopped() => {
                    hangs = true;
                    deadline = Instant::now() + self.options.boot;
                    (self.options.notice)("the machine does not answer: reset it, and the run goes on");
                    continue;
                }
                Err(interrupted) => return Err(self.failure(interrupted)),
            };
            let kept = part.kept as usize;
            if part.number != number || kept > content.len() {
                return Err(TargetError::Garbled("an answer is not the one that was asked for"));
            }
            content.truncate(kept);
            content.extend_from_slice(part.added);
            if let Some(steps) = content.first_chunk_mut() {
                *steps = part.steps.to_le_bytes();
            }
            if part.complete {
                return Ok(Ok(content));
            }
            deadline = Instant::now() + patience;
        }
    }

    /// Greets a machine that has started again.
    fn restarted(&mut self, partial: Vec<u8>) -> Result<Stopped, TargetError> {
        self.connect()?;
        let text = self.line.port().take_text();
        let mut panics = text.lines().filter_map(|line| line.split_once(PROBE_PREFIX)?.1.strip_prefix("panic: "));
        let detail = match panics.next_back() {
            Some(reason) => format!("the probe gave up: {reason}"),
            None => "the processor was reset (a triple fault outside of a guest)".to_owned(),
        };
        Ok(Stopped { stop: Stop::Crashed(detail), partial })
    }

    /// What ends a run.
    fn failure(&self, interrupted: Interrupted<std::io::Error>) -> TargetError {
        match interrupted {
            Interrupted::Port(error) => self.broken(error),
            Interrupted::TooLong => TargetError::Garbled("a message is too long"),
            Interrupted::BrokenOff if self.options.stopped() => TargetError::Stopped,
            Interrupted::BrokenOff | Interrupted::StartedAnew => TargetError::Stalled(self.options.boot),
        }
    }
}

impl Target for MetalTarget {
    fn implementation(&self) -> Implementation {
        let (model, signature) = match self.processor.split_once(" (signature ") {
            Some((model, signature)) => (model, signature.trim_end_matches(')')),
            None => (self.processor.as_str(), "unknown"),
        };
        Implementation { name: "metal".to_owned(), version: signature.to_owned(), model: model.to_owned(), on: None }
    }

    fn capture(&mut self) -> Result<ProbeReport, TargetError> {
        let session = encode_session(&Session::default())?;
        self.begin(Task::Profile, &session)?;
        examined(self.answer(0, 0)?.map_err(|stopped| stopped.stop))
    }

    fn run(
        &mut self,
        session: &Session,
        cases: &mut dyn Iterator<Item = Case>,
        observe: &mut dyn FnMut(usize, Observation) -> ControlFlow<()>,
    ) -> Result<(), TargetError> {
        let portions = Portions { chunk: CHUNK, bytes: CHUNK_BYTES, batch: self.options.batch };
        let mut connected = LineSession { session: encode_session(session)?, target: self, open: false };
        let result = run(&mut connected, portions, session, cases, observe, |error| error);
        if connected.open && matches!(result, Ok(()) | Err(TargetError::CaseTooLarge(_))) {
            // If it gets lost with the machine, there is no session to end.
            let _ = self.send(Request::End);
        }
        result
    }
}
