//! The disk that carries work to the probe and answers back.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use vmcs_case::TargetError;
use vmcs_driver::{Batch, Chunk};
use vmcs_wire::batch::{ANSWER_TRAILER, AnswerHeader, MAX_ANSWER_BYTES, Task};
use vmcs_wire::codec::{Reader, Writer};
use vmcs_wire::disk::{Control, Extent, Link, SECTOR, sectors};

use super::config::CYLINDER_SECTORS;

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

/// Writes a disk with `batches` of `chunk`, and returns the disk's cylinders and the slots of the answers.
///
/// # Errors
/// [`TargetError::Io`].
pub(super) fn write_run_disk(
    path: &Path,
    session: &[u8],
    chunk: &Chunk,
    batches: &[Batch],
) -> Result<(u64, Vec<Extent>), TargetError> {
    let mut lba = 1;
    let mut extent = |bytes: usize| {
        let extent = Extent { lba, sectors: count(sectors(bytes)) };
        lba += extent.sectors;
        extent
    };
    let session_extent = extent(session.len());
    let inputs: Vec<Extent> = batches.iter().map(|batch| extent(Batch::FRAME + chunk.encoded(batch).len())).collect();
    let answers: Vec<Extent> = batches.iter().map(|batch| extent(batch.answer)).collect();
    let first = inputs.first().copied().unwrap_or_default();
    let mut disk = control_sector(&Control { started: false, task: Task::Run, session: session_extent, first });
    disk.extend_from_slice(session);
    for (number, batch) in batches.iter().enumerate() {
        pad(&mut disk);
        let link = Link { answer: answers[number], next: inputs.get(number + 1).copied().unwrap_or_default() };
        let mut bytes = [0; Link::BYTES];
        link.encode(&mut Writer::new(&mut bytes)).expect("the array has its size");
        disk.extend_from_slice(&bytes);
        chunk.append(batch, count(number), &mut disk);
    }
    Ok((write_disk(path, &disk, lba)?, answers))
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
pub(super) struct SlotAnswer {
    /// Whether the batch has been executed to its end.
    pub(super) complete: bool,
    /// Results.
    pub(super) content: Vec<u8>,
}

/// Reads the answer number `number` from its slot; `None` while it is not there or not whole.
///
/// # Errors
/// [`TargetError::Io`].
pub(super) fn read_answer(disk: &File, number: usize, slot: Extent) -> Result<Option<SlotAnswer>, TargetError> {
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
    if header.number != count(number) || Batch::ANSWER_FRAME + bytes > slot.sectors as usize * SECTOR {
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
    Ok(Some(SlotAnswer { complete: header.complete, content }))
}

#[cfg(test)]
mod tests {
    use vmcs_wire::batch::BatchHeader;
    use vmcs_wire::program::ListLengths;
    use vmcs_wire::{Op, Start};

    use super::*;

    #[test]
    fn a_disk_holds_what_was_asked_for() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("disk");
        let mut chunk = Chunk::default();
        for _ in 0..3 {
            assert!(chunk.push(Start::VmxRoot, &[Op::Vmptrst], ListLengths::default(), 1, false));
        }
        let batches = chunk.batches(0, 0, 2);
        let (cylinders, slots) = write_run_disk(&path, &[7; 600], &chunk, &batches).expect("written");
        let disk = std::fs::read(&path).expect("readable");
        assert_eq!(disk.len() as u64, cylinders * CYLINDER_SECTORS * 512);
        let control = Control::decode(&mut Reader::new(&disk)).expect("a control block");
        assert_eq!((control.session, control.first), (Extent { lba: 1, sectors: 2 }, Extent { lba: 3, sectors: 1 }));
        let mut reader = Reader::new(&disk[3 * 512..]);
        let link = Link::decode(&mut reader).expect("a link");
        let header = BatchHeader::decode(&mut reader).expect("a batch");
        assert_eq!((header.cases, link.answer, link.next.lba), (2, slots[0], 4));
        let file = File::open(&path).expect("readable");
        assert_eq!(read_answer(&file, 0, slots[0]).expect("readable"), None);
    }
}
