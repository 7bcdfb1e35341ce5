//! Gives batches to a machine and its answers to a receiver, and finds the case that stopped the machine.

use std::ops::{ControlFlow, Range};

use crate::blame::{NO_RESULTS, Reached, reached};
use crate::{Batch, Chunk};

/// What brought a machine down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The machine ended; the text is its last output.
    Crashed(String),
    /// The machine did not end and did not answer.
    Hung,
}

/// A machine that stopped before it had answered a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// How it ended.
    pub stop: Stop,
    /// What it had handed in of the batch's answer, if the batch is careful.
    pub partial: Vec<u8>,
}

/// An answer that does not decode; why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbled(pub String);

/// Takes the content of an answer.
pub type Deliver<'a> = &'a mut dyn FnMut(&[u8]) -> ControlFlow<()>;

/// Something that executes batches.
pub trait BatchMachine {
    /// What ends a run. What a case does to the machine is not an error.
    type Error;

    /// Whether every batch is careful, not only one of a single case: for a machine that is asked nothing for it.
    const ALWAYS_CAREFUL: bool = false;

    /// Executes the first of `batches`, which are those of `chunk` and at least one, and as many of the others as it can take
    /// at once, in their order. The content of each answer that is complete goes to `deliver`; when that breaks off, so does
    /// the machine.
    ///
    /// Returns how the machine stopped before it had answered the batch behind those that were delivered; `None` if it did
    /// not stop.
    ///
    /// # Errors
    /// When the machinery fails.
    fn execute(
        &mut self,
        chunk: &Chunk,
        batches: &[Batch],
        deliver: Deliver<'_>,
    ) -> Result<Option<Stopped>, Self::Error>;

    /// Called when an answer of the machine made no sense. A case has overwritten its memory, so the machine must not
    /// execute any other case.
    fn discard(&mut self);
}

/// Something that receives the answers to cases.
pub trait Receiver {
    /// Takes the answers to cases that were completed, or the reason why they do not decode, in which case it has taken none
    /// of them.
    ///
    /// # Errors
    /// [`Garbled`].
    fn answered(&mut self, cases: Range<usize>, content: &[u8]) -> Result<ControlFlow<()>, Garbled>;

    /// Takes what is known of the case that stopped the machine: the results of the steps before, encoded as in an answer, and
    /// how it ended.
    fn stopped(&mut self, case: usize, results: &[u8], stop: &Stop) -> ControlFlow<()>;
}

/// Has `machine` execute all cases of `chunk`, `size` at a time; what is observed of an exit has `fields` fields. Every case is
/// answered once, in order, unless `receiver` breaks off.
///
/// # Errors
/// Those of the machine.
///
/// # Panics
/// If the machine neither executes a batch nor stops.
pub fn drive<M: BatchMachine>(
    machine: &mut M,
    chunk: &Chunk,
    size: usize,
    fields: usize,
    receiver: &mut dyn Receiver,
) -> Result<ControlFlow<()>, M::Error> {
    let mut next = 0;
    // The cases before that one are executed each by itself.
    let mut alone_until: usize = 0;
    while next < chunk.len() {
        let mut batches = chunk.batches(next, alone_until.saturating_sub(next), size);
        if M::ALWAYS_CAREFUL {
            batches.iter_mut().for_each(|batch| batch.careful = true);
        }
        let Round { answered, enough, stopped } = offer(machine, chunk, &batches, receiver)?;
        if enough {
            return Ok(ControlFlow::Break(()));
        }
        let Some(batch) = batches.get(answered) else { break };
        next = batch.first;
        let Some(stopped) = stopped else {
            assert!(answered > 0, "the machine executes a batch or stops");
            continue;
        };
        match blame(chunk, batch, &stopped, fields, receiver) {
            ControlFlow::Continue(Some(answered)) => next += answered,
            ControlFlow::Continue(None) => alone_until = batch.range().end,
            ControlFlow::Break(()) => return Ok(ControlFlow::Break(())),
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// What came of giving batches to a machine.
struct Round {
    /// So many of them were answered.
    answered: usize,
    /// The receiver broke off.
    enough: bool,
    /// How the machine stopped in the batch after those.
    stopped: Option<Stopped>,
}

/// Gives `batches` to the machine and its answers to `receiver`.
fn offer<M: BatchMachine>(
    machine: &mut M,
    chunk: &Chunk,
    batches: &[Batch],
    receiver: &mut dyn Receiver,
) -> Result<Round, M::Error> {
    let (mut answered, mut enough, mut garbled) = (0, false, None);
    let mut stopped = machine.execute(chunk, batches, &mut |content| {
        let Some(batch) = batches.get(answered) else { return ControlFlow::Break(()) };
        match receiver.answered(batch.range(), content) {
            Ok(ControlFlow::Continue(())) => {
                answered += 1;
                return ControlFlow::Continue(());
            }
            Ok(ControlFlow::Break(())) => enough = true,
            Err(why) => garbled = Some(why),
        }
        ControlFlow::Break(())
    })?;
    // Memory of the probe was overwritten: a guest or an exit path that went astray.
    if let Some(Garbled(why)) = garbled {
        machine.discard();
        stopped = Some(Stopped { stop: Stop::Crashed(why), partial: Vec::new() });
    }
    Ok(Round { answered, enough, stopped })
}

/// Says which case of `batch` stopped the machine. So many cases are answered then; `None` if each has to be executed by itself.
fn blame(
    chunk: &Chunk,
    batch: &Batch,
    Stopped { stop, partial }: &Stopped,
    fields: usize,
    receiver: &mut dyn Receiver,
) -> ControlFlow<(), Option<usize>> {
    let steps: Vec<_> = batch.range().map(|case| chunk.steps(case)).collect();
    let reached = if batch.careful { reached(&steps, partial, fields) } else { Reached::Unknown };
    let (whole, bytes, culprit) = match reached {
        Reached::Between { whole, bytes } => (whole, bytes, None),
        Reached::Culprit { whole, results } => (whole, results.start, Some(&partial[results])),
        Reached::Unknown if batch.cases == 1 => (0, 0, Some(NO_RESULTS)),
        Reached::Unknown => return ControlFlow::Continue(None),
    };
    let next = batch.first + whole;
    if whole > 0 {
        match receiver.answered(batch.first..next, &partial[..bytes]) {
            Ok(go_on) => go_on?,
            Err(Garbled(_)) => return ControlFlow::Continue(None),
        }
    }
    match culprit {
        None => ControlFlow::Continue(Some(whole)),
        Some(results) => {
            receiver.stopped(next, results, stop)?;
            ControlFlow::Continue(Some(whole + 1))
        }
    }
}

#[cfg(test)]
mod tests;
