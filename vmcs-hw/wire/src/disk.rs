//! The layout of a run on a raw disk.
//!
//! Sector 0 holds the [`Control`] block, from which the session and the first batch are found. Before each batch (see
//! [`crate::batch`]) stands a [`Link`] that names the place of its answer and the next batch. Answers lie in a slot of their
//! own. As a disk writes sectors in order, an answer whose trailer is there is complete. The first batch without a
//! complete answer has the case that stopped the machine.

use crate::batch::{Task, magic};
use crate::codec::{BufferFull, DecodeError, Reader, Writer};

/// Bytes of a sector.
pub const SECTOR: usize = 512;

const CONTROL_MAGIC: u32 = 0x5643_4D56;

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

/// Before a batch: where things lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Slot of the answer.
    pub answer: Extent,
    /// The next batch; no sectors after the last one.
    pub next: Extent,
}

impl Link {
    /// Bytes it takes.
    pub const BYTES: usize = 16;

    /// Writes it.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn encode(&self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        self.answer.encode(writer)?;
        self.next.encode(writer)
    }

    /// Reads what [`Link::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { answer: Extent::decode(reader)?, next: Extent::decode(reader)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_survive_the_round_trip() {
        let (answer, next) = (Extent { lba: 1, sectors: 2 }, Extent { lba: 3, sectors: 4 });
        let mut buffer = [0; SECTOR];
        let mut writer = Writer::new(&mut buffer);
        let link = Link { answer, next };
        link.encode(&mut writer).expect("room");
        assert_eq!(writer.len(), Link::BYTES);
        assert_eq!(Link::decode(&mut Reader::new(&buffer)), Ok(link));

        let control = Control { started: true, task: Task::Profile, session: answer, first: next };
        control.encode(&mut Writer::new(&mut buffer)).expect("room");
        assert_eq!(Control::decode(&mut Reader::new(&buffer)), Ok(control));
    }

    #[test]
    fn a_blank_sector_is_no_control_block() {
        assert_eq!(Control::decode(&mut Reader::new(&[0; SECTOR])), Err(DecodeError::BadTag(0)));
    }
}
