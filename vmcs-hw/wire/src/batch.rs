//! Batches of cases and their answers, in the form that all ways of transport have in common.
//!
//! A batch is a [`BatchHeader`] and its cases, an answer an [`AnswerHeader`], the bytes, and [`ANSWER_TRAILER`]. Since
//! an answer is written in order, it is complete if its trailer is there.

use crate::codec::{BufferFull, DecodeError, Reader, Writer};

/// Most bytes of an encoded session.
pub const MAX_SESSION_BYTES: usize = 1 << 20;
/// Most bytes of a batch with its header.
pub const MAX_BATCH_BYTES: usize = 256 << 10;
/// Most bytes of an answer with header and trailer.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Last four bytes of an answer, after its content.
pub const ANSWER_TRAILER: u32 = 0x0D0E_0E0D;

const ANSWER_MAGIC: u32 = 0x5753_4E41;

/// What the probe is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Execute the batches.
    Run,
    /// Write a profile report into the slot that is named as the first batch.
    Profile,
}

/// Start of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Number of the batch; its answer repeats it.
    pub number: u32,
    /// Cases that follow.
    pub cases: u32,
    /// Before each step, hand in an answer that holds the results so far.
    pub careful: bool,
}

impl BatchHeader {
    /// Bytes it takes.
    pub const BYTES: usize = 9;

    /// Writes it.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn encode(&self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        writer.u32(self.number)?;
        writer.u32(self.cases)?;
        writer.u8(u8::from(self.careful))
    }

    /// Reads what [`BatchHeader::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { number: reader.u32()?, cases: reader.u32()?, careful: reader.flag()? })
    }
}

/// How a case ended that stopped its machine. A program that outlives the machine, as KVM does, writes this behind the
/// results of the earlier steps. It is there if a case has fewer results than steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaseEnd<'a> {
    /// The machine stopped; the text is its last output.
    Crashed(&'a str),
    /// The machine did not answer.
    Hung,
}

impl<'a> CaseEnd<'a> {
    /// Most bytes it takes.
    pub const MAX_BYTES: usize = 2 + Self::MOST_WORDS;
    const MOST_WORDS: usize = 120;

    /// Writes it; of the last words, the first 120 bytes.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn encode(&self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        match self {
            Self::Hung => writer.u8(0),
            Self::Crashed(words) => {
                let most = words.len().min(Self::MOST_WORDS);
                let end = (0..=most).rev().find(|end| words.is_char_boundary(*end)).unwrap_or(0);
                let words = &words[..end];
                writer.u8(1)?;
                writer.u8(u8::try_from(words.len()).map_err(|_| BufferFull)?)?;
                writer.bytes(words.as_bytes())
            }
        }
    }

    /// Reads what [`CaseEnd::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        if !reader.flag()? {
            return Ok(Self::Hung);
        }
        let length = reader.u8()?;
        let words = reader.bytes(usize::from(length))?;
        core::str::from_utf8(words).map(Self::Crashed).map_err(|_| DecodeError::BadTag(length))
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

pub(crate) fn magic(reader: &mut Reader<'_>, expected: u32) -> Result<(), DecodeError> {
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
        let batch = BatchHeader { number: 9, cases: 64, careful: true };
        let mut buffer = [0; 32];
        let mut writer = Writer::new(&mut buffer);
        batch.encode(&mut writer).expect("room");
        assert_eq!(writer.len(), BatchHeader::BYTES);
        assert_eq!(BatchHeader::decode(&mut Reader::new(&buffer)), Ok(batch));

        let header = AnswerHeader { number: 9, complete: true, bytes: 77 };
        let mut writer = Writer::new(&mut buffer);
        header.encode(&mut writer).expect("room");
        assert_eq!(writer.len(), AnswerHeader::BYTES);
        assert_eq!(AnswerHeader::decode(&mut Reader::new(&buffer)), Ok(header));
    }

    #[test]
    fn ends_survive_the_round_trip() {
        let words = "ä".repeat(100);
        for (end, read) in [
            (CaseEnd::Hung, CaseEnd::Hung),
            (CaseEnd::Crashed("why"), CaseEnd::Crashed("why")),
            (CaseEnd::Crashed(&words), CaseEnd::Crashed(&words[..120])),
        ] {
            let mut buffer = [0; CaseEnd::MAX_BYTES];
            end.encode(&mut Writer::new(&mut buffer)).expect("room");
            assert_eq!(CaseEnd::decode(&mut Reader::new(&buffer)), Ok(read));
        }
    }

    #[test]
    fn blank_memory_is_no_answer() {
        assert_eq!(AnswerHeader::decode(&mut Reader::new(&[0; 32])), Err(DecodeError::BadTag(0)));
    }
}
