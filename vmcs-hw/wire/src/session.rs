//! What all cases of a run share: images, lists of fields, volatile areas.
//!
//! As bytes: `images: u16` and per image `end: u32`, the number of fields up to its last one; all their fields, each
//! `encoding: u64, value: u64`; `observed: u16` and per field `encoding: u64`; `areas: u16` and per area
//! `address: u64, bytes: u64, field: u64, mask: u64`; then the information fields and the state fields like the observed ones. Encodings are as
//! wide as the operands of VMREAD and VMWRITE, so that the probe uses the bytes as they lie.

use crate::codec::{BufferFull, DecodeError, Reader, Writer};

/// Bytes of one field of an image.
pub const ENTRY_BYTES: usize = 16;
/// Counts behind the images: of observed fields, of areas, of information fields and of state fields.
pub const TAIL_COUNTS: usize = 4;
/// Bytes of one field of a list.
pub const OBSERVED_BYTES: usize = 8;
/// Bytes of one volatile area.
pub const AREA_BYTES: usize = 32;
/// Most volatile areas of a session.
pub const MAX_AREAS: usize = 64;
/// Bytes of the end of an image.
pub const END_BYTES: usize = 4;
/// Bytes of each of the counts.
pub const COUNT_BYTES: usize = 2;

/// Memory that the processor may write to by way of a VMCS pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolatileArea {
    /// Where it begins, a multiple of 64.
    pub address: u64,
    /// Its size.
    pub bytes: u64,
    /// Encoding of the VMCS field by which a guest's stay or a VM exit may write to it: when one of the bits of `mask` is 1
    /// there.
    pub field: u64,
    /// Those bits.
    pub mask: u64,
}

/// Writes the images of a session, each VMCS encodings and values in the order of the VMWRITEs. [`encode_tail`] follows.
///
/// # Errors
/// [`BufferFull`], also for more than 65,535 images.
pub fn encode_images(writer: &mut Writer<'_>, images: &[impl AsRef<[(u32, u64)]>]) -> Result<(), BufferFull> {
    writer.u16(u16::try_from(images.len()).map_err(|_| BufferFull)?)?;
    let mut end = 0;
    for image in images {
        end += image.as_ref().len();
        writer.u32(u32::try_from(end).map_err(|_| BufferFull)?)?;
    }
    images.iter().flat_map(AsRef::as_ref).try_for_each(|&(encoding, value)| {
        writer.u64(encoding.into())?;
        writer.u64(value)
    })
}

/// Writes the observed fields, the volatile areas, the information fields and the state fields, which end a session.
///
/// # Errors
/// [`BufferFull`], also for more than [`MAX_AREAS`] areas and 65,535 of any of the others.
pub fn encode_tail(
    writer: &mut Writer<'_>,
    observed: &[u32],
    areas: &[VolatileArea],
    information: &[u32],
    state: &[u32],
) -> Result<(), BufferFull> {
    encode_list(writer, observed)?;
    let count = u16::try_from(areas.len()).ok().filter(|_| areas.len() <= MAX_AREAS);
    writer.u16(count.ok_or(BufferFull)?)?;
    areas.iter().try_for_each(|&VolatileArea { address, bytes, field, mask }| {
        [address, bytes, field, mask].into_iter().try_for_each(|word| writer.u64(word))
    })?;
    encode_list(writer, information)?;
    encode_list(writer, state)
}

fn encode_list(writer: &mut Writer<'_>, list: &[u32]) -> Result<(), BufferFull> {
    writer.u16(u16::try_from(list.len()).map_err(|_| BufferFull)?)?;
    list.iter().try_for_each(|&encoding| writer.u64(encoding.into()))
}

/// A session as read by the probe, without copying it.
#[derive(Clone, Copy, Debug)]
pub struct SessionView<'a> {
    ends: &'a [[u8; END_BYTES]],
    entries: &'a [[u8; ENTRY_BYTES]],
    observed: &'a [[u8; OBSERVED_BYTES]],
    areas: &'a [[u8; AREA_BYTES]],
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
        let count = usize::from(reader.u16()?);
        let (ends, _) = reader.bytes(END_BYTES * count)?.as_chunks();
        let count = ends.last().map_or(0, |end| u32::from_le_bytes(*end) as usize);
        let (entries, _) = reader.bytes(ENTRY_BYTES.checked_mul(count).ok_or(DecodeError::Truncated)?)?.as_chunks();
        let observed = list(&mut reader)?;
        let areas: &[_] = list(&mut reader)?;
        if areas.len() > MAX_AREAS {
            return Err(DecodeError::Truncated);
        }
        let (information, state) = (list(&mut reader)?, list(&mut reader)?);
        Ok(Self { ends, entries, observed, areas, information, state })
    }

    /// The fields of image number `index`, each an encoding and a value, or `None` when there is no such image.
    #[must_use]
    pub fn image(&self, index: u16) -> Option<&'a [[u8; ENTRY_BYTES]]> {
        let end = |index: usize| Some(u32::from_le_bytes(*self.ends.get(index)?) as usize);
        let index = usize::from(index);
        let start = index.checked_sub(1).map_or(Some(0), end)?;
        self.entries.get(start..end(index)?)
    }

    /// Encodings of the fields to read after each exit.
    #[must_use]
    pub fn observed(&self) -> &'a [[u8; OBSERVED_BYTES]] {
        self.observed
    }

    /// The volatile areas, at most [`MAX_AREAS`].
    #[inline]
    pub fn volatile(&self) -> impl ExactSizeIterator<Item = VolatileArea> + 'a {
        self.areas.iter().map(|bytes| {
            let (words, _) = bytes.as_chunks();
            let [address, bytes, field, mask] = [0, 1, 2, 3].map(|index| u64::from_le_bytes(words[index]));
            VolatileArea { address, bytes, field, mask }
        })
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
}

/// A count and so many items.
fn list<'a, const BYTES: usize>(reader: &mut Reader<'a>) -> Result<&'a [[u8; BYTES]], DecodeError> {
    let count = usize::from(reader.u16()?);
    Ok(reader.bytes(BYTES * count)?.as_chunks().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_survives_the_round_trip() {
        let images: [&[(u32, u64)]; 3] = [&[(0x6800, 1), (0x4000, u64::MAX)], &[], &[(0x2800, 7)]];
        let area = VolatileArea { address: 0x1_8000, bytes: 64, field: 0x4002, mask: 1 << 21 };
        let mut buffer = [0; 256];
        let mut writer = Writer::new(&mut buffer);
        encode_images(&mut writer, &images).expect("room");
        encode_tail(&mut writer, &[0x4402, 0x6400], &[area], &[0x4400], &[0x681E, 0x4016]).expect("room");
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
        assert_eq!(session.volatile().collect::<Vec<_>>(), [area]);
        assert_eq!(session.information(), [0x4400u64.to_le_bytes()]);
        assert_eq!(session.state(), [0x681Eu64.to_le_bytes(), 0x4016u64.to_le_bytes()]);
        for short in 0..used {
            assert!(SessionView::decode(&buffer[..short]).is_err());
        }
    }

    #[test]
    fn a_session_has_no_more_areas_than_the_probe_can_note() {
        let area = VolatileArea { address: 0x1_8000, bytes: 64, field: 0x4002, mask: 1 };
        let mut buffer = [0; AREA_BYTES * (MAX_AREAS + 1)];
        let mut encode = |areas: &[VolatileArea]| encode_tail(&mut Writer::new(&mut buffer), &[], areas, &[], &[]);
        assert_eq!(encode(&[area; MAX_AREAS]), Ok(()));
        assert_eq!(encode(&[area; MAX_AREAS + 1]), Err(BufferFull));
    }
}
