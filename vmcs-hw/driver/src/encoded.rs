//! Answers encoded batches by encoded answers. This is for a program that gets its work in batches itself and gives it to
//! another machine.

use std::fmt;
use std::ops::{ControlFlow, Range};

use vmcs_wire::batch::CaseEnd;
use vmcs_wire::codec::{DecodeError, Writer};

use crate::blame::{NO_RESULTS, answered, split_answers};
use crate::{BatchMachine, Chunk, Garbled, Receiver, Stop, drive};

/// Why there is no answer to a batch.
#[derive(Debug)]
pub enum Unanswerable<E> {
    /// It is not a batch.
    BadBatch(DecodeError),
    /// The machinery failed.
    Machine(E),
}

impl<E: fmt::Display> fmt::Display for Unanswerable<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadBatch(_) => f.write_str("the batch does not decode"),
            Self::Machine(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Unanswerable<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::BadBatch(error) => Some(error),
            Self::Machine(error) => error.source(),
        }
    }
}

/// Executes a batch, header and cases, and returns the content of its answer. Cases that bring the machine down are answered
/// with the steps before and how they ended ([`CaseEnd`]).
///
/// # Errors
/// [`Unanswerable`].
pub fn answer_batch<M: BatchMachine>(
    machine: &mut M,
    batch: &[u8],
    fields: usize,
) -> Result<Vec<u8>, Unanswerable<M::Error>> {
    let (_, chunk) = Chunk::of_batch(batch).map_err(Unanswerable::BadBatch)?;
    let mut content = Content { chunk: &chunk, fields, bytes: Vec::new() };
    // The receiver never breaks off.
    let _ = drive(machine, &chunk, chunk.len(), fields, &mut content).map_err(Unanswerable::Machine)?;
    Ok(content.bytes)
}

/// An answer under construction.
struct Content<'a> {
    chunk: &'a Chunk,
    fields: usize,
    bytes: Vec<u8>,
}

impl Receiver for Content<'_> {
    fn answered(&mut self, cases: Range<usize>, content: &[u8]) -> Result<ControlFlow<()>, Garbled> {
        let garbled = || Garbled("the probe's answer is garbled".to_owned());
        let answers = split_answers(content, self.fields).map_err(|_| garbled())?;
        let is_whole = |(case, results): (usize, Range<usize>)| answered(&content[results]) == self.chunk.steps(case);
        if answers.len() != cases.len() || !cases.zip(answers).all(is_whole) {
            return Err(garbled());
        }
        self.bytes.extend_from_slice(content);
        Ok(ControlFlow::Continue(()))
    }

    fn stopped(&mut self, case: usize, results: &[u8], stop: &Stop) -> ControlFlow<()> {
        // As many results as there are steps would say that the case was completed.
        let results = if answered(results) < self.chunk.steps(case) { results } else { NO_RESULTS };
        let end = match stop {
            Stop::Crashed(words) => CaseEnd::Crashed(words),
            Stop::Hung => CaseEnd::Hung,
        };
        let mut bytes = [0; CaseEnd::MAX_BYTES];
        let mut writer = Writer::new(&mut bytes);
        end.encode(&mut writer).expect("MAX_BYTES holds every end");
        let used = writer.len();
        self.bytes.extend_from_slice(results);
        self.bytes.extend_from_slice(&bytes[..used]);
        ControlFlow::Continue(())
    }
}
