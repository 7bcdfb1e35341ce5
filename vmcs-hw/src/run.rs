//! Runs on any machine: encodes cases, gives them to the machine, and passes its answers on as observations.

use std::ops::{ControlFlow, Range};

use vmcs_case::{Case, End, Observation, Session, TargetError};
use vmcs_driver::{BatchMachine, Chunk, Garbled, Receiver, Stop, drive};
use vmcs_model::field::FIELD_COUNT;
use vmcs_wire::Op;

use crate::answers::{decode_answers, decode_steps};

/// How many cases are taken and executed together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portions {
    /// Cases that are taken from the iterator at once.
    pub(crate) chunk: usize,
    /// Encoded bytes of them, after which no other is taken.
    pub(crate) bytes: usize,
    /// Cases of a batch.
    pub(crate) batch: usize,
}

/// Takes an observation with the number of its case.
pub(crate) type Observe<'a> = &'a mut dyn FnMut(usize, Observation) -> ControlFlow<()>;

/// Has `machine`, which knows `session`, execute all cases, as [`vmcs_case::Target::run`] demands.
///
/// # Errors
/// [`TargetError::CaseTooLarge`] behind the cases before that one; those of the machine, put into words by `failed`.
pub(crate) fn run<M: BatchMachine>(
    machine: &mut M,
    portions: Portions,
    session: &Session,
    cases: &mut dyn Iterator<Item = Case>,
    observe: Observe<'_>,
    failed: impl Fn(M::Error) -> TargetError,
) -> Result<(), TargetError> {
    let fields = session.observed_fields.len();
    let mut first = 0;
    loop {
        let mut chunk = Chunk::default();
        let mut too_large = false;
        while chunk.len() < portions.chunk.max(1) && chunk.bytes() < portions.bytes {
            let Some(case) = cases.next() else { break };
            if !push(&mut chunk, &case, session) {
                too_large = true;
                break;
            }
        }
        let mut observer = Observer { chunk: &chunk, first, fields, observe };
        if drive(machine, &chunk, portions.batch, fields, &mut observer).map_err(&failed)?.is_break() {
            return Ok(());
        }
        first += chunk.len();
        if too_large {
            return Err(TargetError::CaseTooLarge(first));
        }
        if chunk.is_empty() {
            return Ok(());
        }
    }
}

/// Appends a case of `session`. `false`: it is too large for any batch.
pub(crate) fn push(chunk: &mut Chunk, case: &Case, session: &Session) -> bool {
    let instructions = case.ops.iter().map(|op| instructions(op, session)).sum();
    chunk.push(case.start, &case.ops, session.list_lengths(), instructions, case.perilous)
}

/// VMX instructions behind one operation.
fn instructions(op: &Op, session: &Session) -> usize {
    match op {
        Op::WriteImage { image } => session.images.get(usize::from(*image)).map_or(0, Vec::len),
        Op::Vmlaunch { .. } | Op::Vmresume { .. } | Op::Observe { .. } => 1 + op.fields_read(session.list_lengths()),
        // The checks read most fields.
        Op::Diagnose { .. } => FIELD_COUNT,
        // Where KVM executes an entry with long MSR lists, it takes that long.
        Op::Time { rounds, .. } => 1000 * usize::from(*rounds),
        _ => 1,
    }
}

/// Hands on what a machine answers to a chunk.
struct Observer<'a, 'b> {
    chunk: &'a Chunk,
    /// Number of its first case in the run.
    first: usize,
    fields: usize,
    observe: Observe<'b>,
}

impl Receiver for Observer<'_, '_> {
    fn answered(&mut self, cases: Range<usize>, content: &[u8]) -> Result<ControlFlow<()>, Garbled> {
        // All of it before any is reported: a garbled answer counts for nothing.
        let decoded = decode_answers(content, self.chunk, cases.clone(), self.fields);
        let decoded = decoded.map_err(|error| Garbled(error.to_string()))?;
        for (case, observation) in cases.zip(decoded) {
            if (self.observe)(self.first + case, observation).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn stopped(&mut self, case: usize, results: &[u8], stop: &Stop) -> ControlFlow<()> {
        // The driver has made sure that they decode.
        let steps = decode_steps(&mut vmcs_wire::codec::Reader::new(results), self.fields).unwrap_or_default();
        let end = match stop {
            Stop::Crashed(detail) => End::Crashed { detail: detail.clone() },
            Stop::Hung => End::Hung,
        };
        (self.observe)(self.first + case, Observation { steps, end })
    }
}
