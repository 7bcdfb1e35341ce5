//! The messages that host and probe exchange over a [`line`](mod@crate::line), and the file of requests that can be given to
//! the probe together with it.

use crate::batch::Task;
use crate::codec::{BufferFull, DecodeError, Reader, Writer};

/// Version of frames and messages; first byte of the greeting.
pub const VERSION: u8 = 3;

/// What the probe says when a connection is opened: version, whether it can work, and a line of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting<'a> {
    /// [`VERSION`] of the probe.
    pub version: u8,
    /// Whether it can execute cases. If not, the text says why.
    pub ready: bool,
    /// The processor's name, or a diagnosis.
    pub text: &'a [u8],
}

impl<'a> Greeting<'a> {
    /// Writes it.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn encode(&self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        writer.u8(self.version)?;
        writer.u8(u8::from(self.ready))?;
        writer.bytes(self.text)
    }

    /// Reads what [`Greeting::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        Ok(Self { version: reader.u8()?, ready: reader.flag()?, text: reader.rest() })
    }
}

/// What the host asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// A session begins: batches follow, or the profile is reported.
    Open {
        /// What will be asked for.
        task: Task,
        /// The encoded session.
        session: &'a [u8],
    },
    /// A [`crate::batch::BatchHeader`] and its cases.
    Batch(&'a [u8]),
    /// There are no more batches.
    End,
}

impl<'a> Request<'a> {
    /// Bytes besides the session or the batch.
    pub const OVERHEAD: usize = 1;

    const PROFILE: u8 = 1;
    const RUN: u8 = 2;
    const BATCH: u8 = 3;
    const END: u8 = 4;

    /// Writes it.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn encode(&self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        let (tag, bytes) = match *self {
            Self::Open { task: Task::Profile, session } => (Self::PROFILE, session),
            Self::Open { task: Task::Run, session } => (Self::RUN, session),
            Self::Batch(bytes) => (Self::BATCH, bytes),
            Self::End => (Self::END, &[][..]),
        };
        writer.u8(tag)?;
        writer.bytes(bytes)
    }

    /// Reads what [`Request::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let tag = reader.u8()?;
        let rest = reader.rest();
        match tag {
            Self::PROFILE => Ok(Self::Open { task: Task::Profile, session: rest }),
            Self::RUN => Ok(Self::Open { task: Task::Run, session: rest }),
            Self::BATCH => Ok(Self::Batch(rest)),
            Self::END => Ok(Self::End),
            other => Err(DecodeError::BadTag(other)),
        }
    }
}

/// An answer, or what has been added to an unfinished one since the host got it last.
///
/// An unfinished answer is sent before each step of a careful batch; all of it each time would take minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerPart<'a> {
    /// Number of the batch.
    pub number: u32,
    /// Whether the batch has been executed to its end.
    pub complete: bool,
    /// So many bytes of the content are as they were, but for the first two.
    pub kept: u32,
    /// First two bytes of the content, the number of steps.
    pub steps: u16,
    /// The bytes behind those that are kept.
    pub added: &'a [u8],
}

impl<'a> AnswerPart<'a> {
    /// Bytes besides `added`.
    pub const OVERHEAD: usize = 11;

    /// Writes what stands before `added`.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn encode_head(&self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        writer.u32(self.number)?;
        writer.u8(u8::from(self.complete))?;
        writer.u32(self.kept)?;
        writer.u16(self.steps)
    }

    /// Reads what [`AnswerPart::encode_head`] and the added bytes make.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        Ok(Self {
            number: reader.u32()?,
            complete: reader.flag()?,
            kept: reader.u32()?,
            steps: reader.u16()?,
            added: reader.rest(),
        })
    }
}

/// The requests in a file that is given to the probe: each is its length, four bytes, and the request.
///
/// # Errors
/// The iterator yields [`DecodeError`] where the file ends too early or says something else, and nothing after it.
pub fn requests(file: &[u8]) -> impl Iterator<Item = Result<Request<'_>, DecodeError>> {
    let mut reader = Reader::new(file);
    let mut broken = false;
    core::iter::from_fn(move || {
        if broken || reader.rest().is_empty() {
            return None;
        }
        let mut next = || {
            let length = reader.u32()? as usize;
            Request::decode(reader.bytes(length)?)
        };
        let request = next();
        broken = request.is_err();
        Some(request)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUESTS: [Request<'_>; 4] = [
        Request::Open { task: Task::Profile, session: &[] },
        Request::Open { task: Task::Run, session: &[1, 2, 3] },
        Request::Batch(&[4, 5]),
        Request::End,
    ];

    #[test]
    fn messages_survive_the_round_trip() {
        let mut buffer = [0; 64];
        for request in REQUESTS {
            let mut writer = Writer::new(&mut buffer);
            request.encode(&mut writer).expect("room");
            let used = writer.len();
            assert_eq!(Request::decode(&buffer[..used]), Ok(request));
        }
        assert_eq!(Request::decode(&[9]), Err(DecodeError::BadTag(9)));

        let greeting = Greeting { version: VERSION, ready: true, text: b"a processor" };
        let mut writer = Writer::new(&mut buffer);
        greeting.encode(&mut writer).expect("room");
        let used = writer.len();
        assert_eq!(Greeting::decode(&buffer[..used]), Ok(greeting));

        let part = AnswerPart { number: 3, complete: true, kept: 9, steps: 7, added: &[1, 2] };
        let mut writer = Writer::new(&mut buffer);
        part.encode_head(&mut writer).expect("room");
        assert_eq!(writer.len(), AnswerPart::OVERHEAD);
        writer.bytes(part.added).expect("room");
        let used = writer.len();
        assert_eq!(AnswerPart::decode(&buffer[..used]), Ok(part));
    }

    #[test]
    fn a_file_of_requests_ends_where_it_is_cut_off() {
        let mut file = Vec::new();
        for request in REQUESTS {
            let mut buffer = [0; 16];
            let mut writer = Writer::new(&mut buffer);
            request.encode(&mut writer).expect("room");
            let length = writer.len();
            file.extend(u32::try_from(length).expect("small").to_le_bytes());
            file.extend(&buffer[..length]);
        }
        assert!(requests(&file).eq(REQUESTS.map(Ok)));
        let cut: Vec<_> = requests(&file[..file.len() - 1]).collect();
        assert_eq!(cut[..3], REQUESTS.map(Ok)[..3]);
        assert_eq!(cut[3..], [Err(DecodeError::Truncated)]);
    }
}
