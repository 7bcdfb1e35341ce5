//! Encoded cases, and how they are divided into batches.

use std::ops::Range;

use vmcs_wire::batch::{ANSWER_TRAILER, AnswerHeader, BatchHeader, CaseEnd, MAX_ANSWER_BYTES, MAX_BATCH_BYTES};
use vmcs_wire::codec::{DecodeError, Reader, Writer};
use vmcs_wire::disk::{Link, SECTOR};
use vmcs_wire::program::{ANSWER_HEADER_BYTES, CASE_HEADER_BYTES, ListLengths, MAX_OP_BYTES};
use vmcs_wire::{Op, Start};

/// Encoded cases that await execution, counted from 0.
#[derive(Debug, Default)]
pub struct Chunk {
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

/// Cases that are given to a machine together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// First case, counted in its [`Chunk`].
    pub first: usize,
    /// Number of cases.
    pub cases: usize,
    /// Whether the machine hands in the results so far before each step.
    pub careful: bool,
    /// VMX instructions of all its cases.
    pub instructions: usize,
    /// Most bytes of its answer with header and trailer.
    pub answer: usize,
}

impl Batch {
    /// Bytes before the cases of a batch, however it travels.
    pub const FRAME: usize = Link::BYTES + BatchHeader::BYTES;
    /// Bytes of an answer besides its content.
    pub const ANSWER_FRAME: usize = AnswerHeader::BYTES + size_of_val(&ANSWER_TRAILER);

    /// The numbers of its cases.
    #[must_use]
    pub const fn range(&self) -> Range<usize> {
        self.first..self.first + self.cases
    }
}

impl Chunk {
    /// Number of cases.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Whether there is no case.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Encoded size of all cases, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Number of operations of a case; 0 for a case that is not there.
    #[must_use]
    pub fn steps(&self, case: usize) -> usize {
        self.cases.get(case).map_or(0, |case| case.steps)
    }

    /// Appends a case of a session whose lists of fields have the lengths `lists`. The case executes some `instructions` VMX
    /// instructions; one that is `perilous` never shares a batch with others.
    ///
    /// `false`: it is too large for any batch, and was not appended.
    pub fn push(&mut self, start: Start, ops: &[Op], lists: ListLengths, instructions: usize, perilous: bool) -> bool {
        let first = self.bytes.len();
        let most = CASE_HEADER_BYTES + MAX_OP_BYTES * ops.len();
        let answer = ops.iter().map(|op| op.max_result_bytes(lists)).sum::<usize>();
        let answer = ANSWER_HEADER_BYTES + answer + CaseEnd::MAX_BYTES;
        let Ok(count) = u16::try_from(ops.len()) else {
            return false;
        };
        if most > MAX_BATCH_BYTES - SECTOR || answer > MAX_ANSWER_BYTES - SECTOR {
            return false;
        }
        self.bytes.resize(first + most, 0);
        let mut writer = Writer::new(&mut self.bytes[first..]);
        let written = start
            .encode(&mut writer)
            .and_then(|()| writer.u16(count))
            .and_then(|()| ops.iter().try_for_each(|op| op.encode(&mut writer)));
        if written.is_err() {
            self.bytes.truncate(first);
            return false;
        }
        let end = first + writer.len();
        self.bytes.truncate(end);
        self.cases.push(Encoded { steps: ops.len(), start: first, end, answer, instructions, perilous });
        true
    }

    /// The header of an encoded batch, and its cases.
    ///
    /// # Errors
    /// [`DecodeError`] when it is not one.
    pub fn of_batch(batch: &[u8]) -> Result<(BatchHeader, Self), DecodeError> {
        let mut reader = Reader::new(batch);
        let header = BatchHeader::decode(&mut reader)?;
        let bytes = reader.rest().to_vec();
        let mut reader = Reader::new(&bytes);
        let mut cases = Vec::new();
        for _ in 0..header.cases {
            let start = bytes.len() - reader.rest().len();
            Start::decode(&mut reader)?;
            let steps = reader.u16()?;
            for _ in 0..steps {
                Op::decode(&mut reader)?;
            }
            let end = bytes.len() - reader.rest().len();
            // It came in one batch, so all of it fits into one.
            let steps = usize::from(steps);
            cases.push(Encoded { start, end, answer: 0, steps, instructions: 0, perilous: false });
        }
        Ok((header, Self { bytes, cases }))
    }

    /// Divides the cases from `first` on into batches: the next `alone` cases and perilous ones by themselves, the others by
    /// `size`. A batch of one case is careful.
    #[must_use]
    pub fn batches(&self, first: usize, alone: usize, size: usize) -> Vec<Batch> {
        let mut batches = Vec::new();
        let mut next = first;
        while next < self.cases.len() {
            let most = if next < first + alone { 1 } else { size.max(1) };
            let mut batch = Batch { first: next, cases: 0, careful: false, instructions: 0, answer: 0 };
            let (mut input, mut answer) = (Batch::FRAME, Batch::ANSWER_FRAME);
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
            batch.careful = batch.cases == 1;
            next += batch.cases;
            batches.push(batch);
        }
        batches
    }

    /// The cases of a batch as bytes.
    #[must_use]
    pub fn encoded(&self, batch: &Batch) -> &[u8] {
        let cases = &self.cases[batch.range()];
        match (cases.first(), cases.last()) {
            (Some(first), Some(last)) => &self.bytes[first.start..last.end],
            _ => &[],
        }
    }

    /// Appends a batch to `bytes`: its header, with `number` for the answer to repeat, and its cases.
    ///
    /// # Panics
    /// If there are more than 2^32 cases in it.
    pub fn append(&self, batch: &Batch, number: u32, bytes: &mut Vec<u8>) {
        let cases = u32::try_from(batch.cases).expect("a batch is small");
        let mut header = [0; BatchHeader::BYTES];
        BatchHeader { number, cases, careful: batch.careful }
            .encode(&mut Writer::new(&mut header))
            .expect("the array has its size");
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(self.encoded(batch));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_perilous(cases: usize, perilous: &[usize]) -> Chunk {
        let mut chunk = Chunk::default();
        for number in 0..cases {
            let ops = [Op::Vmptrst, Op::Vmlaunch { after_mov_ss: false }];
            assert!(chunk.push(Start::VmxRoot, &ops, ListLengths::default(), 2, perilous.contains(&number)));
        }
        chunk
    }

    fn sizes(batches: &[Batch]) -> Vec<(usize, usize)> {
        batches.iter().map(|batch| (batch.first, batch.cases)).collect()
    }

    #[test]
    fn cases_alone_are_careful_batches_of_their_own() {
        let batches = with_perilous(10, &[]).batches(1, 2, 4);
        assert_eq!(sizes(&batches), [(1, 1), (2, 1), (3, 4), (7, 3)]);
        assert!(batches.iter().all(|batch| batch.careful == (batch.cases == 1)));
    }

    #[test]
    fn perilous_cases_take_no_others_with_them() {
        let batches = with_perilous(9, &[0, 4, 5, 8]).batches(0, 0, 2);
        assert_eq!(sizes(&batches), [(0, 1), (1, 2), (3, 1), (4, 1), (5, 1), (6, 2), (8, 1)]);
    }

    #[test]
    fn cases_beyond_any_batch_are_refused() {
        let mut chunk = Chunk::default();
        assert!(!chunk.push(Start::VmxRoot, &vec![Op::Vmxoff; 70_000], ListLengths::default(), 0, false));
        assert!(chunk.is_empty() && chunk.bytes() == 0);
    }

    #[test]
    fn an_encoded_batch_is_a_chunk_again() {
        let mut chunk = Chunk::default();
        for ops in [&[Op::Vmptrst, Op::Vmxoff][..], &[], &[Op::Vmcall]] {
            assert!(chunk.push(Start::VmxRoot, ops, ListLengths::default(), 0, false));
        }
        let batch = chunk.batches(0, 0, 3)[0];
        let mut bytes = Vec::new();
        chunk.append(&batch, 7, &mut bytes);
        let (header, read) = Chunk::of_batch(&bytes).expect("it decodes");
        assert_eq!(header, BatchHeader { number: 7, cases: 3, careful: false });
        assert_eq!([0, 1, 2].map(|case| read.steps(case)), [2, 0, 1]);
        assert_eq!(read.encoded(&read.batches(0, 0, 3)[0]), chunk.encoded(&batch));
        assert!(Chunk::of_batch(&bytes[..bytes.len() - 1]).is_err());
    }
}
