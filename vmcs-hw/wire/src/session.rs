//! What all cases of a run share: images, lists of fields, volatile pages.
//!
//! As bytes: `images: u16`, per image `fields: u16` and per field `encoding: u64, value: u64`;
//! `observed: u16` and per field `encoding: u64`; `pages: u16` and per page `address: u64`; then the information fields and
//! the state fields like the observed ones. Encodings are as wide as the operands of VMREAD and VMWRITE, so that the probe
//! uses the bytes as they lie.

use crate::codec::{BufferFull, DecodeError, Reader, Writer};

/// Bytes of one field of an image.
pub const ENTRY_BYTES: usize = 16;
/// Counts behind the images: of observed fields, of pages, of information fields and of state fields.
pub const TAIL_COUNTS: usize = 4;
/// Bytes of one field of a list.
pub const OBSERVED_BYTES: usize = 8;
/// Bytes of one volatile page.
pub const PAGE_BYTES: usize = 8;
/// Bytes of each of the counts.
pub const COUNT_BYTES: usize = 2;

/// Writes the number of images of a session. As many [`encode_image`]s follow, then [`encode_tail`].
///
/// # Errors
/// [`BufferFull`], also for more than 65,535 images.
pub fn encode_image_count(writer: &mut Writer<'_>, images: usize) -> Result<(), BufferFull> {
    writer.u16(u16::try_from(images).map_err(|_| BufferFull)?)
}

/// Writes one image: VMCS encodings and values, in the order of the VMWRITEs.
///
/// # Errors
/// [`BufferFull`], also for more than 65,535 fields.
pub fn encode_image(writer: &mut Writer<'_>, image: &[(u32, u64)]) -> Result<(), BufferFull> {
    writer.u16(u16::try_from(image.len()).map_err(|_| BufferFull)?)?;
    image.iter().try_for_each(|&(encoding, value)| {
        writer.u64(encoding.into())?;
        writer.u64(value)
    })
}

/// Writes the observed fields, the volatile pages, the information fields and the state fields, which end a session.
///
/// # Errors
/// [`BufferFull`], also for more than 65,535 of any of them.
pub fn encode_tail(
    writer: &mut Writer<'_>,
    observed: &[u32],
    pages: &[u64],
    information: &[u32],
    state: &[u32],
) -> Result<(), BufferFull> {
    encode_list(writer, observed.iter().copied().map(u64::from))?;
    encode_list(writer, pages.iter().copied())?;
    encode_list(writer, information.iter().copied().map(u64::from))?;
    encode_list(writer, state.iter().copied().map(u64::from))
}

fn encode_list(writer: &mut Writer<'_>, mut list: impl ExactSizeIterator<Item = u64>) -> Result<(), BufferFull> {
    writer.u16(u16::try_from(list.len()).map_err(|_| BufferFull)?)?;
    list.try_for_each(|item| writer.u64(item))
}

/// A session as read by the probe, without copying it.
#[derive(Clone, Copy, Debug)]
pub struct SessionView<'a> {
    images: u16,
    image_bytes: &'a [u8],
    observed: &'a [[u8; OBSERVED_BYTES]],
    pages: &'a [[u8; PAGE_BYTES]],
    information: &'a [[u8; OBSERVED_BYTES]],
    state: &'a [[u8; OBSERVED_BYTES]],
}

impl<'a> SessionView<'a> {
    /// Checks that `bytes` hold a session.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let images = reader.u16()?;
        let image_bytes = reader.rest();
        for _ in 0..images {
            let fields = usize::from(reader.u16()?);
            reader.bytes(fields * ENTRY_BYTES)?;
        }
        let mut list = || -> Result<&'a [[u8; 8]], DecodeError> {
            let count = usize::from(reader.u16()?);
            Ok(reader.bytes(8 * count)?.as_chunks().0)
        };
        let [observed, pages, information, state] = [list()?, list()?, list()?, list()?];
        Ok(Self { images, image_bytes, observed, pages, information, state })
    }

    /// The fields of image number `index`, each an encoding and a value, or `None` when there is no such image.
    #[must_use]
    pub fn image(&self, index: u16) -> Option<&'a [[u8; ENTRY_BYTES]]> {
        if index >= self.images {
            return None;
        }
        let mut reader = Reader::new(self.image_bytes);
        for _ in 0..index {
            let fields = usize::from(reader.u16().ok()?);
            reader.bytes(fields * ENTRY_BYTES).ok()?;
        }
        let fields = usize::from(reader.u16().ok()?);
        Some(reader.bytes(fields * ENTRY_BYTES).ok()?.as_chunks().0)
    }

    /// Encodings of the fields to read after each exit.
    #[must_use]
    pub fn observed(&self) -> &'a [[u8; OBSERVED_BYTES]] {
        self.observed
    }

    /// Encodings of the fields that [`crate::Op::Observe`] always reads.
    #[must_use]
    pub fn information(&self) -> &'a [[u8; OBSERVED_BYTES]] {
        self.information
    }

    /// Encodings of the fields that [`crate::Op::Observe`] reads if it is told to.
    #[must_use]
    pub fn state(&self) -> &'a [[u8; OBSERVED_BYTES]] {
        self.state
    }

    /// Pages that the processor may write to by way of VMCS pointers.
    pub fn volatile_pages(&self) -> impl ExactSizeIterator<Item = u64> + 'a {
        self.pages.iter().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_survives_the_round_trip() {
        let images: [&[(u32, u64)]; 3] = [&[(0x6800, 1), (0x4000, u64::MAX)], &[], &[(0x2800, 7)]];
        let mut buffer = [0; 256];
        let mut writer = Writer::new(&mut buffer);
        encode_image_count(&mut writer, images.len()).expect("room");
        for image in images {
            encode_image(&mut writer, image).expect("room");
        }
        encode_tail(&mut writer, &[0x4402, 0x6400], &[0x1_8000], &[0x4400], &[0x681E, 0x4016]).expect("room");
        let used = writer.len();
        let session = SessionView::decode(&buffer[..used]).expect("decodes");
        for (index, image) in (0..).zip(images) {
            let decoded = session.image(index).expect("exists").iter().map(|entry| {
                let mut reader = Reader::new(entry);
                (reader.u64().expect("encoding"), reader.u64().expect("value"))
            });
            let expected = image.iter().map(|&(encoding, value)| (u64::from(encoding), value));
            assert_eq!(decoded.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        }
        assert!(session.image(3).is_none());
        assert_eq!(session.observed(), [0x4402u64.to_le_bytes(), 0x6400u64.to_le_bytes()]);
        assert_eq!(session.volatile_pages().collect::<Vec<_>>(), [0x1_8000]);
        assert_eq!(session.information(), [0x4400u64.to_le_bytes()]);
        assert_eq!(session.state(), [0x681Eu64.to_le_bytes(), 0x4016u64.to_le_bytes()]);
        for short in 0..used {
            assert!(SessionView::decode(&buffer[..short]).is_err());
        }
    }
}
