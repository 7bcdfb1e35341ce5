//! Frames on a serial line.
//!
//! A frame is a [`FrameKind`], the connection, a sequence number, a payload and a CRC-32 of all that, in COBS, between two zero
//! bytes. Bytes in COBS are never zero, so a receiver finds the next frame at the next zero, whatever happened to the bytes
//! before it. Bytes between frames, such as a line of text, are passed on as they are.

use crate::codec::{BufferFull, DecodeError, Reader, Writer};

/// Most bytes of a payload.
pub const MAX_PAYLOAD: usize = 1024;
/// Most bytes of an encoded frame, with its delimiters.
pub const MAX_FRAME: usize = cobs::max_encoding_length(MAX_DECODED) + 2;

/// Kind, connection and sequence number.
const HEADER: usize = 7;
const CHECKSUM: usize = 4;
const MAX_DECODED: usize = HEADER + MAX_PAYLOAD + CHECKSUM;
const DELIMITER: u8 = 0;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// The host opens the connection whose number is in the header.
    Connect,
    /// The probe's answer, and what it says every now and then while there is no connection: its number is 0 then. The
    /// payload is the greeting.
    Hello,
    /// A part of a message.
    Part,
    /// The last part of a message.
    LastPart,
    /// The part with that sequence number has arrived.
    Acknowledge,
    /// Something has arrived that was no frame: to be sent again.
    Garbled,
}

impl FrameKind {
    const ALL: [Self; 6] = [Self::Connect, Self::Hello, Self::Part, Self::LastPart, Self::Acknowledge, Self::Garbled];

    fn byte(self) -> u8 {
        self as u8
    }
}

/// A frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is for.
    pub kind: FrameKind,
    /// Number of the connection.
    pub connection: u32,
    /// Sequence number of a part, counted in each direction from 0 on.
    pub sequence: u16,
    /// Content.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Writes it, with delimiters, and returns the bytes.
    ///
    /// # Errors
    /// [`BufferFull`] when the payload has more than [`MAX_PAYLOAD`] bytes.
    pub fn encode<'b>(&self, buffer: &'b mut [u8; MAX_FRAME]) -> Result<&'b [u8], BufferFull> {
        let mut plain = [0; MAX_DECODED];
        let mut writer = Writer::new(&mut plain);
        writer.u8(self.kind.byte())?;
        writer.u32(self.connection)?;
        writer.u16(self.sequence)?;
        writer.bytes(self.payload)?;
        let length = writer.len();
        let checksum = crc32fast::hash(&plain[..length]);
        let end = length + CHECKSUM;
        plain.get_mut(length..end).ok_or(BufferFull)?.copy_from_slice(&checksum.to_le_bytes());
        buffer[0] = DELIMITER;
        let encoded = cobs::encode(&plain[..end], &mut buffer[1..]);
        buffer[1 + encoded] = DELIMITER;
        Ok(&buffer[..encoded + 2])
    }

    /// Reads what is left after COBS; `None` if it is no frame.
    fn decode(plain: &'a [u8]) -> Option<Self> {
        let (content, checksum) = plain.split_last_chunk::<CHECKSUM>()?;
        if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let mut reader = Reader::new(content);
        let mut header = || {
            let tag = reader.u8()?;
            let kind = FrameKind::ALL.into_iter().find(|kind| kind.byte() == tag).ok_or(DecodeError::BadTag(tag))?;
            Ok::<_, DecodeError>((kind, reader.u32()?, reader.u16()?))
        };
        let (kind, connection, sequence) = header().ok()?;
        Some(Self { kind, connection, sequence, payload: reader.rest() })
    }
}

/// What stood between two delimiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// Something else; at most as many of its bytes as a frame may have.
    Other(&'a [u8]),
}

/// Finds frames in a stream of bytes.
#[derive(Debug)]
pub struct Deframer {
    bytes: [u8; MAX_FRAME],
    used: usize,
    plain: [u8; MAX_DECODED],
}

impl Default for Deframer {
    fn default() -> Self {
        Self { bytes: [0; MAX_FRAME], used: 0, plain: [0; MAX_DECODED] }
    }
}

impl Deframer {
    /// Takes the next byte. It is a delimiter if something is returned.
    pub fn push(&mut self, byte: u8) -> Option<Received<'_>> {
        if byte != DELIMITER {
            // A frame that is longer than any frame is none: what does not fit is dropped, and the checksum fails.
            if let Some(place) = self.bytes.get_mut(self.used) {
                *place = byte;
                self.used += 1;
            }
            return None;
        }
        let bytes = &self.bytes[..self.used];
        if bytes.is_empty() {
            return None;
        }
        self.used = 0;
        // The report's fields differ from version to version of the crate; the length is all that counts.
        let plain = cobs::decode(bytes, &mut self.plain).ok().map(|report| &self.plain[..report.frame_size()]);
        Some(plain.and_then(Frame::decode).map_or(Received::Other(bytes), Received::Frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(stream: &[u8]) -> Vec<Option<(FrameKind, Vec<u8>)>> {
        let mut deframer = Deframer::default();
        let mut found = Vec::new();
        for byte in stream {
            found.extend(deframer.push(*byte).map(|received| match received {
                Received::Frame(frame) => Some((frame.kind, frame.payload.to_vec())),
                Received::Other(_) => None,
            }));
        }
        found
    }

    #[test]
    fn frames_of_every_size_survive_the_round_trip() {
        for size in [0, 1, 253, 254, 255, 1000, MAX_PAYLOAD] {
            for filling in [0, 1, 0xFF] {
                let payload = vec![filling; size];
                let frame = Frame { kind: FrameKind::LastPart, connection: 7, sequence: u16::MAX, payload: &payload };
                let mut buffer = [0; MAX_FRAME];
                let bytes = frame.encode(&mut buffer).expect("it fits");
                assert_eq!(frames(bytes), [Some((FrameKind::LastPart, payload.clone()))], "{size} bytes of {filling}");
            }
        }
        let payload = [0; MAX_PAYLOAD + 1];
        let frame = Frame { kind: FrameKind::Part, connection: 0, sequence: 0, payload: &payload };
        assert_eq!(frame.encode(&mut [0; MAX_FRAME]), Err(BufferFull));
    }

    #[test]
    fn one_flipped_or_missing_byte_makes_it_something_else() {
        let frame = Frame { kind: FrameKind::Part, connection: 7, sequence: 3, payload: b"some content, \0 in it" };
        let mut buffer = [0; MAX_FRAME];
        let bytes = frame.encode(&mut buffer).expect("it fits").to_vec();
        for place in 1..bytes.len() - 1 {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[place] ^= 1 << bit;
                assert!(frames(&bytes).iter().all(Option::is_none), "bit {bit} of byte {place}");
            }
            let mut bytes = bytes.clone();
            bytes.remove(place);
            assert_eq!(frames(&bytes), [None], "byte {place}");
        }
    }

    #[test]
    fn text_and_endless_noise_do_not_hide_the_next_frame() {
        let frame = Frame { kind: FrameKind::Hello, connection: 0, sequence: 0, payload: b"hello" };
        let mut buffer = [0; MAX_FRAME];
        let mut stream = b"a line of text\r\n".to_vec();
        stream.extend(frame.encode(&mut buffer).expect("it fits"));
        stream.extend([0xA5; 5000]);
        stream.extend(frame.encode(&mut buffer).expect("it fits"));
        let hello = Some((FrameKind::Hello, b"hello".to_vec()));
        assert_eq!(frames(&stream), [None, hello.clone(), None, hello]);
        let mut deframer = Deframer::default();
        let text = b"text\0".iter().find_map(|byte| match deframer.push(*byte)? {
            Received::Other(text) => Some(text.to_vec()),
            Received::Frame(_) => None,
        });
        assert_eq!(text.as_deref(), Some(b"text".as_slice()));
    }
}
