//! The disk that carries work to the probe and answers back.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use vmcs_model::field::FIELD_COUNT;
use vmcs_wire::Op;
use vmcs_wire::batch::{
    ANSWER_TRAILER, AnswerHeader, BatchHeader, MAX_ANSWER_BYTES, MAX_BATCH_BYTES, MAX_SESSION_BYTES, Task,
};
use vmcs_wire::codec::{Reader, Writer};
use vmcs_wire::disk::{Control, Extent, Link, SECTOR, sectors};
use vmcs_wire::program::{ANSWER_HEADER_BYTES, CASE_HEADER_BYTES, MAX_OP_BYTES};
use vmcs_wire::session::{self, COUNT_BYTES, ENTRY_BYTES, OBSERVED_BYTES, PAGE_BYTES};

use super::config::CYLINDER_SECTORS;
use crate::case::{Case, Session};
use crate::error::TargetError;

/// Bytes before the cases of a batch.
const BATCH_FRAME: usize = Link::BYTES + BatchHeader::BYTES;
/// Bytes of an answer besides its content.
const ANSWER_FRAME: usize = AnswerHeader::BYTES + size_of::<u32>();

/// Encodes a session.
///
/// # Errors
/// [`TargetError::SessionTooLarge`].
pub(super) fn encode_session(session: &Session) -> Result<Vec<u8>, TargetError> {
    let entries: usize = session.images.iter().map(Vec::len).sum();
    let size = COUNT_BYTES * (3 + session.images.len())
        + ENTRY_BYTES * entries
        + OBSERVED_BYTES * session.observed_fields.len()
        + PAGE_BYTES * session.volatile_pages.len();
    if size > MAX_SESSION_BYTES {
        return Err(TargetError::SessionTooLarge("its images, fields and pages take more than 1 MiB"));
    }
    let mut bytes = vec![0; size];
    let mut writer = Writer::new(&mut bytes);
    session::encode_image_count(&mut writer, session.images.len())
        .and_then(|()| session.images.iter().try_for_each(|image| session::encode_image(&mut writer, image)))
        .and_then(|()| session::encode_tail(&mut writer, &session.observed_fields, &session.volatile_pages))
        .map_err(|_| TargetError::SessionTooLarge("it has more than 65,535 images, fields or pages"))?;
    Ok(bytes)
}

/// Encoded cases that await execution.
#[derive(Debug, Default)]
pub(super) struct Chunk {
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
}

impl Chunk {
    /// Number of cases.
    pub(super) fn len(&self) -> usize {
        self.cases.len()
    }

    /// Encoded size of all cases.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Number of operations of a case.
    pub(super) fn steps(&self, case: usize) -> usize {
        self.cases.get(case).map_or(0, |case| case.steps)
    }

    /// Appends a case of `session`. `false`: it is too large for any batch.
    pub(super) fn push(&mut self, case: &Case, session: &Session) -> bool {
        let fields = session.observed_fields.len();
        let start = self.bytes.len();
        let most = CASE_HEADER_BYTES + MAX_OP_BYTES * case.ops.len();
        let answer = case.ops.iter().map(|op| op.max_result_bytes(fields)).sum::<usize>() + ANSWER_HEADER_BYTES;
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
        self.cases.push(Encoded { steps: case.ops.len(), start, end, answer, instructions });
        written.is_ok()
    }

    /// Divides the cases from `first` on into batches: the next `careful` cases alone, the others by `size`.
    pub(super) fn batches(&self, first: usize, careful: usize, size: usize) -> Vec<Batch> {
        let mut batches = Vec::new();
        let mut next = first;
        while next < self.cases.len() {
            let most = if next < first + careful { 1 } else { size.max(1) };
            let mut batch = Batch { first: next, cases: 0, instructions: 0, answer: Extent::default() };
            let (mut input, mut answer) = (BATCH_FRAME, ANSWER_FRAME);
            for case in self.cases[next..].iter().take(most) {
                input += case.end - case.start;
                answer += case.answer;
                if batch.cases > 0 && (input > MAX_BATCH_BYTES || answer > MAX_ANSWER_BYTES) {
                    answer -= case.answer;
                    break;
                }
                batch.cases += 1;
                batch.instructions += case.instructions;
            }
            batch.answer.sectors = count(sectors(answer));
            next += batch.cases;
            batches.push(batch);
        }
        batches
    }

    fn encoded(&self, batch: &Batch) -> &[u8] {
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
        Op::Vmlaunch { .. } | Op::Vmresume { .. } => 1 + session.observed_fields.len(),
        // The checks read most fields.
        Op::Diagnose { .. } => FIELD_COUNT,
        _ => 1,
    }
}

/// Cases that the probe executes before it writes an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// First case, counted in its [`Chunk`].
    pub(super) first: usize,
    /// Number of cases.
    pub(super) cases: usize,
    /// VMX instructions of all its cases.
    pub(super) instructions: usize,
    /// Slot of the answer.
    pub(super) answer: Extent,
}

/// Sizes on the disk stay far below 2^32 sectors.
fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Writes a disk that asks for a profile report into one slot. Returns the slot and the disk's cylinders.
///
/// # Errors
/// [`TargetError::Io`].
pub(super) fn write_profile_disk(path: &Path, session: &[u8]) -> Result<(Extent, u64), TargetError> {
    let session_extent = Extent { lba: 1, sectors: count(sectors(session.len())) };
    let slot = Extent { lba: 1 + session_extent.sectors, sectors: count(sectors(MAX_ANSWER_BYTES)) };
    let mut disk =
        control_sector(&Control { started: false, task: Task::Profile, session: session_extent, first: slot });
    disk.extend_from_slice(session);
    let cylinders = write_disk(path, &disk, slot.lba + slot.sectors)?;
    Ok((slot, cylinders))
}

/// Writes a disk with `batches` of `chunk`, sets their answer slots, and returns the disk's cylinders.
///
/// # Errors
/// [`TargetError::Io`].
pub(super) fn write_run_disk(
    path: &Path,
    session: &[u8],
    chunk: &Chunk,
    batches: &mut [Batch],
) -> Result<u64, TargetError> {
    let mut lba = 1;
    let mut extent = |bytes: usize| {
        let extent = Extent { lba, sectors: count(sectors(bytes)) };
        lba += extent.sectors;
        extent
    };
    let session_extent = extent(session.len());
    let inputs: Vec<Extent> = batches.iter().map(|batch| extent(BATCH_FRAME + chunk.encoded(batch).len())).collect();
    for batch in &mut *batches {
        batch.answer.lba = lba;
        lba += batch.answer.sectors;
    }
    let first = inputs.first().copied().unwrap_or_default();
    let mut disk = control_sector(&Control { started: false, task: Task::Run, session: session_extent, first });
    disk.extend_from_slice(session);
    for (number, batch) in batches.iter().enumerate() {
        pad(&mut disk);
        let link = Link { answer: batch.answer, next: inputs.get(number + 1).copied().unwrap_or_default() };
        let header = BatchHeader { number: count(number), cases: count(batch.cases), careful: batch.cases == 1 };
        let mut bytes = [0; BATCH_FRAME];
        let mut writer = Writer::new(&mut bytes);
        // The array has the size of both.
        let _ = link.encode(&mut writer).and_then(|()| header.encode(&mut writer));
        disk.extend_from_slice(&bytes);
        disk.extend_from_slice(chunk.encoded(batch));
    }
    write_disk(path, &disk, lba)
}

fn control_sector(control: &Control) -> Vec<u8> {
    let mut sector = vec![0; SECTOR];
    // A sector has room for it.
    let _ = control.encode(&mut Writer::new(&mut sector));
    sector
}

fn pad(disk: &mut Vec<u8>) {
    disk.resize(disk.len().next_multiple_of(SECTOR), 0);
}

/// Replaces the disk at `path`; what lies behind `content` is zero. Returns its cylinders.
fn write_disk(path: &Path, content: &[u8], sectors: u32) -> Result<u64, TargetError> {
    let cylinders = u64::from(sectors).div_ceil(CYLINDER_SECTORS).max(1);
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(content)?;
        file.set_len(cylinders * CYLINDER_SECTORS * SECTOR as u64)?;
        file.seek(SeekFrom::Start(0))
    };
    write().map_err(TargetError::io("writing the disk for Bochs"))?;
    Ok(cylinders)
}

/// An answer that is whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Whether the batch has been executed to its end.
    pub(super) complete: bool,
    /// Results.
    pub(super) content: Vec<u8>,
}

/// Reads the answer number `number` from its slot; `None` while it is not there or not whole.
///
/// # Errors
/// [`TargetError::Io`].
pub(super) fn read_answer(disk: &File, number: usize, slot: Extent) -> Result<Option<Answer>, TargetError> {
    let start = u64::from(slot.lba) * SECTOR as u64;
    let read = |buffer: &mut [u8], offset| {
        disk.read_exact_at(buffer, offset).map_err(TargetError::io("reading answers from the disk of Bochs"))
    };
    let mut header = [0; AnswerHeader::BYTES];
    read(&mut header, start)?;
    let Ok(header) = AnswerHeader::decode(&mut Reader::new(&header)) else {
        return Ok(None);
    };
    let bytes = header.bytes as usize;
    if header.number != count(number) || ANSWER_FRAME + bytes > slot.sectors as usize * SECTOR {
        return Ok(None);
    }
    let content_start = start + AnswerHeader::BYTES as u64;
    // The trailer first: Bochs may be writing meanwhile, and what it wrote before the trailer is there then.
    let mut trailer = [0; 4];
    read(&mut trailer, content_start + u64::from(header.bytes))?;
    if trailer != ANSWER_TRAILER.to_le_bytes() {
        return Ok(None);
    }
    let mut content = vec![0; bytes];
    read(&mut content, content_start)?;
    Ok(Some(Answer { complete: header.complete, content }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(cases: usize) -> Chunk {
        let mut chunk = Chunk::default();
        for _ in 0..cases {
            assert!(chunk.push(
                &Case { ops: vec![Op::Vmptrst, Op::Vmlaunch { after_mov_ss: false }], ..Case::default() },
                &Session::default()
            ));
        }
        chunk
    }

    #[test]
    fn careful_cases_are_batches_of_their_own() {
        let sizes: Vec<_> = chunk(10).batches(1, 2, 4).iter().map(|batch| (batch.first, batch.cases)).collect();
        assert_eq!(sizes, [(1, 1), (2, 1), (3, 4), (7, 3)]);
    }

    #[test]
    fn a_disk_holds_what_was_asked_for() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("disk");
        let chunk = chunk(3);
        let mut batches = chunk.batches(0, 0, 2);
        let cylinders = write_run_disk(&path, &[7; 600], &chunk, &mut batches).expect("written");
        let disk = std::fs::read(&path).expect("readable");
        assert_eq!(disk.len() as u64, cylinders * CYLINDER_SECTORS * 512);
        let control = Control::decode(&mut Reader::new(&disk)).expect("a control block");
        assert_eq!((control.session, control.first), (Extent { lba: 1, sectors: 2 }, Extent { lba: 3, sectors: 1 }));
        let mut reader = Reader::new(&disk[3 * 512..]);
        let link = Link::decode(&mut reader).expect("a link");
        let header = BatchHeader::decode(&mut reader).expect("a batch");
        assert_eq!((header.cases, link.answer, link.next.lba), (2, batches[0].answer, 4));
        let file = File::open(&path).expect("readable");
        assert_eq!(read_answer(&file, 0, batches[0].answer).expect("readable"), None);
    }

    #[test]
    fn cases_beyond_any_batch_are_refused() {
        let case = Case { ops: vec![Op::Vmxoff; 70_000], ..Case::default() };
        assert!(!Chunk::default().push(&case, &Session::default()));
    }
}
