//! Encodes values as bytes and decodes them, little-endian, without allocation.

use core::fmt;

/// Bytes that do not say what they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end within a value.
    Truncated,
    /// A tag or flag byte that means nothing.
    BadTag(u8),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the bytes end within a value"),
            Self::BadTag(tag) => write!(f, "{tag:#04x} is not a known tag"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// The buffer has no room for what was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferFull;

impl fmt::Display for BufferFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the buffer is full")
    }
}

impl core::error::Error for BufferFull {}

/// Most bytes of a packed value.
pub const MAX_PACKED_BYTES: usize = 9;

/// Appends values to a buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    used: usize,
}

impl<'a> Writer<'a> {
    /// A writer that starts at the beginning of `buffer`.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, used: 0 }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Appends `bytes` as they are.
    ///
    /// # Errors
    /// [`BufferFull`], and then nothing is written.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), BufferFull> {
        self.reserve(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Appends `count` bytes, which the caller fills in.
    ///
    /// # Errors
    /// [`BufferFull`], and then nothing is appended.
    #[inline]
    pub fn reserve(&mut self, count: usize) -> Result<&mut [u8], BufferFull> {
        let room = self.buffer.get_mut(self.used..).and_then(|rest| rest.get_mut(..count)).ok_or(BufferFull)?;
        self.used += count;
        Ok(room)
    }

    /// Replaces the two bytes at `position`, which must have been written before.
    ///
    /// # Errors
    /// [`BufferFull`] when they have not been.
    pub fn patch_u16(&mut self, position: usize, value: u16) -> Result<(), BufferFull> {
        let place = self.buffer[..self.used].get_mut(position..).and_then(|rest| rest.get_mut(..2));
        place.ok_or(BufferFull)?.copy_from_slice(&value.to_le_bytes());
        Ok(())
    }

    /// Appends one byte.
    ///
    /// # Errors
    /// [`BufferFull`].
    #[inline]
    pub fn u8(&mut self, value: u8) -> Result<(), BufferFull> {
        self.bytes(&[value])
    }

    /// Appends two bytes.
    ///
    /// # Errors
    /// [`BufferFull`].
    #[inline]
    pub fn u16(&mut self, value: u16) -> Result<(), BufferFull> {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends four bytes.
    ///
    /// # Errors
    /// [`BufferFull`].
    #[inline]
    pub fn u32(&mut self, value: u32) -> Result<(), BufferFull> {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends eight bytes.
    ///
    /// # Errors
    /// [`BufferFull`].
    #[inline]
    pub fn u64(&mut self, value: u64) -> Result<(), BufferFull> {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends a value in as few bytes as it takes, behind their number: a 0 takes one byte altogether.
    ///
    /// # Errors
    /// [`BufferFull`].
    #[inline]
    pub fn packed(&mut self, value: u64) -> Result<(), BufferFull> {
        // At most 8: the lowest byte is all of it.
        let [bytes, ..] = (8 - value.leading_zeros() / 8).to_le_bytes();
        let used = 1 + usize::from(bytes);
        let room = self.buffer.get_mut(self.used..).ok_or(BufferFull)?;
        if let Some([count, value_bytes @ ..]) = room.first_chunk_mut::<MAX_PACKED_BYTES>() {
            // Eight bytes at once, whatever is needed of them.
            *count = bytes;
            *value_bytes = value.to_le_bytes();
        } else {
            let room = room.get_mut(..used).ok_or(BufferFull)?;
            room[0] = bytes;
            room[1..].copy_from_slice(&value.to_le_bytes()[..used - 1]);
        }
        self.used += used;
        Ok(())
    }
}

/// Takes values from the front of a byte slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader that starts at the beginning of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes `count` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when fewer are left.
    #[inline]
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_le_bytes)
    }

    /// Takes two bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    /// Takes four bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Takes eight bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    #[inline]
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Takes what [`Writer::packed`] wrote.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::BadTag`] for a number of bytes that no value takes.
    #[inline]
    pub fn packed(&mut self) -> Result<u64, DecodeError> {
        let count = self.u8()?;
        if count > 8 {
            return Err(DecodeError::BadTag(count));
        }
        let mut bytes = [0; 8];
        bytes[..usize::from(count)].copy_from_slice(self.bytes(count.into())?);
        Ok(u64::from_le_bytes(bytes))
    }

    /// Takes a byte that is 0 or 1.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::BadTag`] for any other byte.
    #[inline]
    pub fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::BadTag(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_values_take_as_few_bytes_as_they_need() {
        for (value, bytes) in [(0, 1), (1, 2), (0xFF, 2), (0x100, 3), (0xFFFF_FFFF, 5), (1 << 56, 9), (u64::MAX, 9)] {
            for room in [bytes, 9, 40] {
                let mut buffer = [0xA5; 40];
                let mut writer = Writer::new(&mut buffer[..room]);
                writer.packed(value).expect("room");
                assert_eq!(writer.len(), bytes, "{value:#x}");
                let mut reader = Reader::new(&buffer[..bytes]);
                assert_eq!(reader.packed(), Ok(value));
                assert!(reader.rest().is_empty());
            }
            let mut short = [0; 8];
            assert_eq!(Writer::new(&mut short[..bytes - 1]).packed(value), Err(BufferFull));
        }
        assert_eq!(Reader::new(&[9; 10]).packed(), Err(DecodeError::BadTag(9)));
        assert_eq!(Reader::new(&[2, 1]).packed(), Err(DecodeError::Truncated));
    }
}
