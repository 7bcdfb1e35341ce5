//! Runs over a serial line: batches go out, answers come in. A batch that brings the machine down is executed again, one
//! case at a time.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use vmcs_wire::batch::{BatchHeader, Task};
use vmcs_wire::codec::{Reader, Writer};
use vmcs_wire::line::Interrupted;
use vmcs_wire::serial::{AnswerPart, Request};

use super::{MetalTarget, waiting};
use crate::batch::{Batch, Chunk, decode_batch, decode_report, decode_steps, encode_session};
use vmcs_case::ProbeReport;
use vmcs_case::TargetError;
use vmcs_case::{Case, End, Observation, Session};

/// Cases that are taken from the iterator at once.
const CHUNK: usize = 1024;
/// Most encoded bytes of them.
const CHUNK_BYTES: usize = 1 << 20;
/// Lines of the probe start like this.
const PROBE_PREFIX: &str = "vmcs-probe: ";

type Observe<'a> = &'a mut dyn FnMut(usize, Observation) -> ControlFlow<()>;

/// How the machine stopped.
struct Stopped {
    end: End,
    /// What it had sent of its answer.
    partial: Vec<u8>,
}

impl MetalTarget {
    pub(super) fn run_cases(
        &mut self,
        session: &Session,
        cases: &mut dyn Iterator<Item = Case>,
        observe: Observe<'_>,
    ) -> Result<(), TargetError> {
        let session_bytes = encode_session(session)?;
        let fields = session.observed_fields.len();
        let mut first = 0;
        let mut open = false;
        // A case too large for any batch is reported after those before it.
        let mut too_large = false;
        while !too_large {
            let mut chunk = Chunk::default();
            while chunk.len() < CHUNK && chunk.bytes() < CHUNK_BYTES {
                let Some(case) = cases.next() else { break };
                if !chunk.push(&case, session) {
                    too_large = true;
                    break;
                }
            }
            if chunk.len() == 0 {
                break;
            }
            if self.run_chunk(&session_bytes, &mut open, fields, &chunk, first, observe)?.is_break() {
                break;
            }
            first += chunk.len();
        }
        if open {
            // If it gets lost with the machine, there is no session to end.
            let _ = self.send(Request::End);
        }
        if too_large { Err(TargetError::CaseTooLarge(first)) } else { Ok(()) }
    }

    /// Executes a chunk whose cases are numbered from `number` on. `open` says whether the machine knows the session.
    fn run_chunk(
        &mut self,
        session: &[u8],
        open: &mut bool,
        fields: usize,
        chunk: &Chunk,
        number: usize,
        observe: Observe<'_>,
    ) -> Result<ControlFlow<()>, TargetError> {
        let mut next = 0;
        // So many cases from `next` on are executed alone.
        let mut careful: usize = 0;
        while next < chunk.len() {
            let batch = chunk.batches(next, careful, self.options.batch)[0];
            let result = self.run_batch(session, open, chunk, &batch)?;
            let decoded = match result {
                Ok(content) => match decode_batch(&content, chunk, &batch, fields) {
                    // Memory of the probe was overwritten: a guest or an exit path that went astray.
                    Err(error @ TargetError::Garbled(_)) => {
                        Err(Stopped { end: End::Crashed { detail: error.to_string() }, partial: Vec::new() })
                    }
                    decoded => Ok(decoded?),
                },
                Err(stopped) => Err(stopped),
            };
            match decoded {
                Ok(observations) => {
                    for (case, observation) in (batch.first..).zip(observations) {
                        if observe(number + case, observation).is_break() {
                            return Ok(ControlFlow::Break(()));
                        }
                    }
                    next += batch.cases;
                    careful = careful.saturating_sub(batch.cases);
                }
                Err(Stopped { end, partial }) => {
                    *open = false;
                    if batch.cases > 1 {
                        careful = batch.cases;
                        continue;
                    }
                    let steps =
                        if partial.is_empty() { Vec::new() } else { decode_steps(&mut Reader::new(&partial), fields)? };
                    if observe(number + next, Observation { steps, end }).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                    next += 1;
                    careful = careful.saturating_sub(1);
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Sends a batch, with the session before it if that is needed, and returns the content of the answer.
    fn run_batch(
        &mut self,
        session: &[u8],
        open: &mut bool,
        chunk: &Chunk,
        batch: &Batch,
    ) -> Result<Result<Vec<u8>, Stopped>, TargetError> {
        if !*open {
            self.begin(Task::Run, session)?;
            *open = true;
        }
        let number = |value: usize| u32::try_from(value).expect("a chunk is small");
        let header = BatchHeader { number: number(batch.first), cases: number(batch.cases), careful: batch.cases == 1 };
        let cases = chunk.encoded(batch);
        let mut bytes = vec![0; BatchHeader::BYTES];
        header.encode(&mut Writer::new(&mut bytes)).expect("it has the size of a header");
        bytes.extend_from_slice(cases);
        match self.send(Request::Batch(&bytes)) {
            Ok(()) => self.answer(header.number, batch.answer),
            Err(Interrupted::StartedAnew) => Ok(Err(self.restarted(Vec::new())?)),
            Err(interrupted) => Err(self.failure(interrupted)),
        }
    }

    pub(super) fn capture_profile(&mut self) -> Result<ProbeReport, TargetError> {
        let session = encode_session(&Session::default())?;
        self.begin(Task::Profile, &session)?;
        match self.answer(0, 0)? {
            Ok(content) => decode_report(&content),
            Err(Stopped { end: End::Crashed { detail }, .. }) => Err(TargetError::Probe(detail)),
            Err(_) => Err(TargetError::Probe("it hangs while it examines the processor".to_owned())),
        }
    }

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
                        stopped.end = End::Hung;
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
        Ok(Stopped { end: End::Crashed { detail }, partial })
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
