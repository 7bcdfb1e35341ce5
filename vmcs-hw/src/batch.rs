//! Sessions and cases as batches of bytes, and answers as observations.

use vmcs_model::field::FIELD_COUNT;
use vmcs_wire::batch::{
    ANSWER_TRAILER, AnswerHeader, BatchHeader, CaseEnd, MAX_ANSWER_BYTES, MAX_BATCH_BYTES, MAX_SESSION_BYTES,
};
use vmcs_wire::codec::{DecodeError, Reader, Writer};
use vmcs_wire::disk::{Link, SECTOR};
use vmcs_wire::profile::{FieldReport, decode_leaf, decode_msr};
use vmcs_wire::program::{ANSWER_HEADER_BYTES, CASE_HEADER_BYTES, MAX_OP_BYTES};
use vmcs_wire::session::{self, AREA_BYTES, COUNT_BYTES, END_BYTES, ENTRY_BYTES, OBSERVED_BYTES, TAIL_COUNTS};
use vmcs_wire::{Op, StepResult};

use vmcs_case::TargetError;
use vmcs_case::{Case, End, Observation, Session};
use vmcs_case::{CpuidReading, ProbeReport};

/// Bytes before the cases of a batch, however it travels.
pub(crate) const BATCH_FRAME: usize = Link::BYTES + BatchHeader::BYTES;
/// Bytes of an answer besides its content.
pub(crate) const ANSWER_FRAME: usize = AnswerHeader::BYTES + size_of_val(&ANSWER_TRAILER);

/// Encodes a session.
///
/// # Errors
/// [`TargetError::SessionTooLarge`].
pub(crate) fn encode_session(session: &Session) -> Result<Vec<u8>, TargetError> {
    let entries: usize = session.images.iter().map(Vec::len).sum();
    let lists = session.list_lengths();
    let size = COUNT_BYTES * (1 + TAIL_COUNTS)
        + END_BYTES * session.images.len()
        + ENTRY_BYTES * entries
        + OBSERVED_BYTES * (lists.observed + lists.information + lists.state)
        + AREA_BYTES * session.volatile.len();
    if size > MAX_SESSION_BYTES {
        return Err(TargetError::SessionTooLarge("its images, fields and areas take more than 1 MiB"));
    }
    let mut bytes = vec![0; size];
    let mut writer = Writer::new(&mut bytes);
    session::encode_images(&mut writer, &session.images)
        .and_then(|()| {
            let Session { observed_fields, volatile, information_fields, state_fields, .. } = session;
            session::encode_tail(&mut writer, observed_fields, volatile, information_fields, state_fields)
        })
        .map_err(|_| TargetError::SessionTooLarge("it has more than 65,535 images, fields or areas"))?;
    Ok(bytes)
}

/// Encoded cases that await execution.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    cases: Vec<Encoded>,
}

#[derive(Clone, Copy, Debug)]
struct Encoded {
    start: usize,
    end: usize,
    /// Most bytes of the answer.
    answer: usize,
    /// Operations.
    steps: usize,
    /// VMX instructions that it executes.
    instructions: usize,
    /// It is executed by itself.
    perilous: bool,
}

impl Chunk {
    /// Number of cases.
    pub(crate) fn len(&self) -> usize {
        self.cases.len()
    }

    /// Encoded size of all cases.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Number of operations of a case.
    pub(crate) fn steps(&self, case: usize) -> usize {
        self.cases.get(case).map_or(0, |case| case.steps)
    }

    /// Appends a case of `session`. `false`: it is too large for any batch.
    pub(crate) fn push(&mut self, case: &Case, session: &Session) -> bool {
        let lists = session.list_lengths();
        let start = self.bytes.len();
        let most = CASE_HEADER_BYTES + MAX_OP_BYTES * case.ops.len();
        let answer = case.ops.iter().map(|op| op.max_result_bytes(lists)).sum::<usize>();
        let answer = ANSWER_HEADER_BYTES + answer + CaseEnd::MAX_BYTES;
        let Ok(count) = u16::try_from(case.ops.len()) else {
            return false;
        };
        if most > MAX_BATCH_BYTES - SECTOR || answer > MAX_ANSWER_BYTES - SECTOR {
            return false;
        }
        self.bytes.resize(start + most, 0);
        let mut writer = Writer::new(&mut self.bytes[start..]);
        let written = case
            .start
            .encode(&mut writer)
            .and_then(|()| writer.u16(count))
            .and_then(|()| case.ops.iter().try_for_each(|op| op.encode(&mut writer)));
        let end = start + writer.len();
        self.bytes.truncate(end);
        let instructions = case.ops.iter().map(|op| instructions(op, session)).sum();
        self.cases.push(Encoded { steps: case.ops.len(), start, end, answer, instructions, perilous: case.perilous });
        written.is_ok()
    }

    /// Divides the cases from `first` on into batches: the next `careful` cases and perilous ones alone, the others by
    /// `size`.
    pub(crate) fn batches(&self, first: usize, careful: usize, size: usize) -> Vec<Batch> {
        let mut batches = Vec::new();
        let mut next = first;
        while next < self.cases.len() {
            let most = if next < first + careful { 1 } else { size.max(1) };
            let mut batch = Batch { first: next, cases: 0, instructions: 0, answer: 0 };
            let (mut input, mut answer) = (BATCH_FRAME, ANSWER_FRAME);
            for case in self.cases[next..].iter().take(most) {
                input += case.end - case.start;
                answer += case.answer;
                let full = input > MAX_BATCH_BYTES || answer > MAX_ANSWER_BYTES;
                if batch.cases > 0 && (full || case.perilous) {
                    answer -= case.answer;
                    break;
                }
                batch.cases += 1;
                batch.instructions += case.instructions;
                if case.perilous {
                    break;
                }
            }
            batch.answer = answer;
            next += batch.cases;
            batches.push(batch);
        }
        batches
    }

    /// The cases of a batch as bytes.
    pub(crate) fn encoded(&self, batch: &Batch) -> &[u8] {
        let cases = &self.cases[batch.first..batch.first + batch.cases];
        match (cases.first(), cases.last()) {
            (Some(first), Some(last)) => &self.bytes[first.start..last.end],
            _ => &[],
        }
    }
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

/// Cases that the probe executes before it writes an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// First case, counted in its [`Chunk`].
    pub(crate) first: usize,
    /// Number of cases.
    pub(crate) cases: usize,
    /// VMX instructions of all its cases.
    pub(crate) instructions: usize,
    /// Most bytes of its answer with header and trailer.
    pub(crate) answer: usize,
}

/// Decodes the answers to `chunk`'s cases of a batch.
///
/// # Errors
/// [`TargetError::Garbled`].
pub(crate) fn decode_batch(
    content: &[u8],
    chunk: &Chunk,
    batch: &Batch,
    fields: usize,
) -> Result<Vec<Observation>, TargetError> {
    let mut reader = Reader::new(content);
    let observations = (batch.first..batch.first + batch.cases)
        .map(|case| {
            let steps = decode_steps(&mut reader, fields)?;
            let end = if steps.len() == chunk.steps(case) {
                End::Completed
            } else if steps.len() < chunk.steps(case) {
                decode_end(&mut reader).map_err(|_| TargetError::Garbled("a case has too few steps"))?
            } else {
                return Err(TargetError::Garbled("a case has too many steps"));
            };
            Ok(Observation { steps, end })
        })
        .collect::<Result<Vec<_>, _>>()?;
    if reader.rest().is_empty() { Ok(observations) } else { Err(TargetError::Garbled("it is too long")) }
}

fn decode_end(reader: &mut Reader<'_>) -> Result<End, DecodeError> {
    Ok(match CaseEnd::decode(reader)? {
        CaseEnd::Crashed(words) => End::Crashed { detail: words.to_owned() },
        CaseEnd::Hung => End::Hung,
    })
}

/// Decodes the results of one case.
///
/// # Errors
/// [`TargetError::Garbled`].
pub(crate) fn decode_steps(reader: &mut Reader<'_>, fields: usize) -> Result<Vec<StepResult<Vec<u64>>>, TargetError> {
    let garbled = |_| TargetError::Garbled("a step result does not decode");
    let steps = reader.u16().map_err(garbled)?;
    (0..steps)
        .map(|_| {
            let result = StepResult::decode(reader, fields).map_err(garbled)?;
            Ok(result.map_fields(|raw| raw.iter().collect()))
        })
        .collect()
}

/// Decodes a profile report.
///
/// # Errors
/// [`TargetError::Garbled`].
pub(crate) fn decode_report(content: &[u8]) -> Result<ProbeReport, TargetError> {
    let mut reader = Reader::new(content);
    let mut decode = || {
        let mut report = ProbeReport::default();
        for _ in 0..reader.u16()? {
            report.msrs.push(decode_msr(&mut reader)?);
        }
        for _ in 0..reader.u16()? {
            let ((leaf, subleaf), registers) = decode_leaf(&mut reader)?;
            report.cpuid.push(CpuidReading { leaf, subleaf, registers });
        }
        for _ in 0..reader.u16()? {
            report.fields.push(FieldReport::decode(&mut reader)?);
        }
        Ok::<_, vmcs_wire::codec::DecodeError>(report)
    };
    decode().map_err(|_| TargetError::Garbled("the profile report does not decode"))
}

#[cfg(test)]
mod tests {
    use vmcs_wire::codec::Writer;

    use super::*;

    fn chunk(cases: usize) -> Chunk {
        with_perilous(cases, &[])
    }

    fn with_perilous(cases: usize, perilous: &[usize]) -> Chunk {
        let mut chunk = Chunk::default();
        for number in 0..cases {
            let ops = vec![Op::Vmptrst, Op::Vmlaunch { after_mov_ss: false }];
            let case = Case { ops, perilous: perilous.contains(&number), ..Case::default() };
            assert!(chunk.push(&case, &Session::default()));
        }
        chunk
    }

    #[test]
    fn careful_cases_are_batches_of_their_own() {
        let sizes: Vec<_> = chunk(10).batches(1, 2, 4).iter().map(|batch| (batch.first, batch.cases)).collect();
        assert_eq!(sizes, [(1, 1), (2, 1), (3, 4), (7, 3)]);
    }

    #[test]
    fn perilous_cases_take_no_others_with_them() {
        let chunk = with_perilous(9, &[0, 4, 5, 8]);
        let sizes: Vec<_> = chunk.batches(0, 0, 2).iter().map(|batch| (batch.first, batch.cases)).collect();
        assert_eq!(sizes, [(0, 1), (1, 2), (3, 1), (4, 1), (5, 1), (6, 2), (8, 1)]);
    }

    #[test]
    fn cases_beyond_any_batch_are_refused() {
        let case = Case { ops: vec![Op::Vmxoff; 70_000], ..Case::default() };
        assert!(!Chunk::default().push(&case, &Session::default()));
    }

    #[test]
    fn a_case_with_fewer_results_than_steps_says_how_it_ended() {
        let chunk = chunk(2);
        let batch = chunk.batches(0, 0, 2)[0];
        let mut bytes = [0; 256];
        let mut writer = Writer::new(&mut bytes);
        // The first case ends in its second step; the second one is whole.
        writer.u16(1).and_then(|()| writer.u8(0)).expect("room");
        CaseEnd::Crashed("why").encode(&mut writer).expect("room");
        writer.u16(2).and_then(|()| writer.bytes(&[0, 0])).expect("room");
        let used = writer.len();
        let observations = decode_batch(&bytes[..used], &chunk, &batch, 0).expect("it decodes");
        assert_eq!(observations[0].steps, [StepResult::Ok]);
        assert_eq!(observations[0].end, End::Crashed { detail: "why".to_owned() });
        assert_eq!((observations[1].steps.len(), &observations[1].end), (2, &End::Completed));
        assert!(decode_batch(&bytes[..=used], &chunk, &batch, 0).is_err());
    }
}
