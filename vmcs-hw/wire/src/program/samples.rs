//! Encodes measurements as bytes: what was measured, how each round ended, and the samples.

use super::tags::answer;
use crate::codec::{BufferFull, DecodeError, Reader, Writer};
use crate::{Ending, Timed};

impl Timed {
    pub(super) fn decode(byte: u8) -> Result<Self, DecodeError> {
        [Self::Nothing, Self::Vmlaunch, Self::Vmresume]
            .into_iter()
            .find(|what| *what as u8 == byte)
            .ok_or(DecodeError::BadTag(byte))
    }
}

/// Bytes of a sample.
pub(super) const SAMPLE_BYTES: usize = size_of::<u32>();

/// Tag bytes of endings.
mod ending {
    pub(super) const NOTHING: u8 = 0;
    pub(super) const FAIL_INVALID: u8 = 1;
    pub(super) const FAIL_VALID: u8 = 2;
    pub(super) const EXIT: u8 = 3;
}

impl Ending {
    pub(super) const MAX_BYTES: usize = 13;

    pub(super) fn encode(self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        match self {
            Self::Nothing => writer.u8(ending::NOTHING),
            Self::FailInvalid => writer.u8(ending::FAIL_INVALID),
            Self::FailValid(number) => {
                writer.u8(ending::FAIL_VALID)?;
                writer.u32(number)
            }
            Self::Exit { reason, qualification } => {
                writer.u8(ending::EXIT)?;
                writer.u32(reason)?;
                writer.u64(qualification)
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            ending::NOTHING => Self::Nothing,
            ending::FAIL_INVALID => Self::FailInvalid,
            ending::FAIL_VALID => Self::FailValid(reader.u32()?),
            ending::EXIT => Self::Exit { reason: reader.u32()?, qualification: reader.u64()? },
            other => return Err(DecodeError::BadTag(other)),
        })
    }
}

/// Writes a [`crate::StepResult::Timed`] whose samples come one by one.
#[derive(Debug)]
pub struct SampleWriter<'w, 'b> {
    writer: &'w mut Writer<'b>,
    count_at: usize,
    count: u16,
}

impl<'w, 'b> SampleWriter<'w, 'b> {
    /// Begins the result, without a sample.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn begin(writer: &'w mut Writer<'b>, ending: Ending) -> Result<Self, BufferFull> {
        writer.u8(answer::TIMED)?;
        ending.encode(writer)?;
        let count_at = writer.len();
        writer.u16(0)?;
        Ok(Self { writer, count_at, count: 0 })
    }

    /// Appends a sample.
    ///
    /// # Errors
    /// [`BufferFull`], also when there are 65,535 of them.
    #[inline]
    pub fn push(&mut self, sample: u64) -> Result<(), BufferFull> {
        self.count = self.count.checked_add(1).ok_or(BufferFull)?;
        self.writer.u32(u32::try_from(sample).unwrap_or(u32::MAX))?;
        self.writer.patch_u16(self.count_at, self.count)
    }
}
