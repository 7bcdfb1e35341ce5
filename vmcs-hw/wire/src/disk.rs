//! How a run lies on a raw disk.
//!
//! Sector 0 holds the [`Control`] block, from which the session and the first batch are found. A batch starts with a
//! [`BatchHeader`] that names the place of its answers and the next batch. Answers lie in a slot of their own: an
//! [`AnswerHeader`], the bytes, and [`ANSWER_TRAILER`]. As a disk writes sectors in order, an answer whose
//! trailer is there is whole, and the first batch without one names the case that stopped the machine.

use crate::codec::{BufferFull, DecodeError, Reader, Writer};

/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// Most bytes of an encoded session.
pub const MAX_SESSION_BYTES: usize = 1 << 20;
/// Most bytes of a batch with its header.
pub const MAX_BATCH_BYTES: usize = 256 << 10;
/// Most bytes of an answer slot.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Last four bytes of an answer, after its content.
pub const ANSWER_TRAILER: u32 = 0x0D0E_0E0D;

const CONTROL_MAGIC: u32 = 0x5643_4D56;
const ANSWER_MAGIC: u32 = 0x5753_4E41;

/// Sectors that hold `bytes` bytes.
#[must_use]
pub const fn sectors(bytes: usize) -> usize {
    bytes.div_ceil(SECTOR)
}

/// A run of sectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// First sector (LBA).
    pub lba: u32,
    /// Number of sectors.
    pub sectors: u32,
}

impl Extent {
    fn encode(self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        writer.u32(self.lba)?;
        writer.u32(self.sectors)
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { lba: reader.u32()?, sectors: reader.u32()? })
    }
}

/// What the probe is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Execute the batches.
    Run,
    /// Write a profile report into the slot that is named as the first batch.
    Profile,
}

/// Sector 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// Set on the disk by the probe when it starts: if it finds it set, a case has reset the machine.
    pub started: bool,
    /// What to do.
    pub task: Task,
    /// Where the session lies.
    pub session: Extent,
    /// Where the first batch lies ([`Task::Run`]), or the answer slot ([`Task::Profile`]).
    pub first: Extent,
}

impl Control {
    /// Writes it.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn encode(&self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        writer.u32(CONTROL_MAGIC)?;
        writer.u8(u8::from(self.started))?;
        writer.u8(u8::from(self.task == Task::Profile))?;
        self.session.encode(writer)?;
        self.first.encode(writer)
    }

    /// Reads what [`Control::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`]; a disk without the magic number gives [`DecodeError::BadTag`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        magic(reader, CONTROL_MAGIC)?;
        let started = reader.flag()?;
        let task = if reader.flag()? { Task::Profile } else { Task::Run };
        Ok(Self { started, task, session: Extent::decode(reader)?, first: Extent::decode(reader)? })
    }
}

/// Start of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Number of the batch; its answer repeats it.
    pub number: u32,
    /// Cases that follow.
    pub cases: u32,
    /// Before each step, write an answer that holds the results so far; the batch has one case then.
    pub careful: bool,
    /// Slot of the answer.
    pub answer: Extent,
    /// The next batch; no sectors after the last one.
    pub next: Extent,
}

impl BatchHeader {
    /// Bytes it takes.
    pub const BYTES: usize = 25;

    /// Writes it.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn encode(&self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        writer.u32(self.number)?;
        writer.u32(self.cases)?;
        writer.u8(u8::from(self.careful))?;
        self.answer.encode(writer)?;
        self.next.encode(writer)
    }

    /// Reads what [`BatchHeader::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            number: reader.u32()?,
            cases: reader.u32()?,
            careful: reader.flag()?,
            answer: Extent::decode(reader)?,
            next: Extent::decode(reader)?,
        })
    }
}

/// Start of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerHeader {
    /// Number of the batch.
    pub number: u32,
    /// Whether the batch has been executed to its end; a careful batch also writes unfinished answers.
    pub complete: bool,
    /// Bytes between this header and [`ANSWER_TRAILER`].
    pub bytes: u32,
}

impl AnswerHeader {
    /// Bytes it takes.
    pub const BYTES: usize = 13;

    /// Writes it.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn encode(&self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        writer.u32(ANSWER_MAGIC)?;
        writer.u32(self.number)?;
        writer.u8(u8::from(self.complete))?;
        writer.u32(self.bytes)
    }

    /// Reads what [`AnswerHeader::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`]; a slot that has not been written gives [`DecodeError::BadTag`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        magic(reader, ANSWER_MAGIC)?;
        Ok(Self { number: reader.u32()?, complete: reader.flag()?, bytes: reader.u32()? })
    }
}

fn magic(reader: &mut Reader<'_>, expected: u32) -> Result<(), DecodeError> {
    let [first, ..] = reader.rest() else {
        return Err(DecodeError::Truncated);
    };
    if reader.u32()? == expected { Ok(()) } else { Err(DecodeError::BadTag(*first)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_round_trip() {
        let (answer, next) = (Extent { lba: 1, sectors: 2 }, Extent { lba: 3, sectors: 4 });
        let batch = BatchHeader { number: 9, cases: 64, careful: true, answer, next };
        let mut buffer = [0; SECTOR];
        let mut writer = Writer::new(&mut buffer);
        batch.encode(&mut writer).expect("room");
        assert_eq!(writer.len(), BatchHeader::BYTES);
        assert_eq!(BatchHeader::decode(&mut Reader::new(&buffer)), Ok(batch));

        let control = Control { started: true, task: Task::Profile, session: answer, first: next };
        control.encode(&mut Writer::new(&mut buffer)).expect("room");
        assert_eq!(Control::decode(&mut Reader::new(&buffer)), Ok(control));

        let header = AnswerHeader { number: 9, complete: true, bytes: 77 };
        let mut writer = Writer::new(&mut buffer);
        header.encode(&mut writer).expect("room");
        assert_eq!(writer.len(), AnswerHeader::BYTES);
        assert_eq!(AnswerHeader::decode(&mut Reader::new(&buffer)), Ok(header));
    }

    #[test]
    fn a_blank_sector_is_no_answer() {
        assert_eq!(AnswerHeader::decode(&mut Reader::new(&[0; SECTOR])), Err(DecodeError::BadTag(0)));
    }
}
