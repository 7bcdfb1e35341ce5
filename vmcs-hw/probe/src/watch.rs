//! Whether an entry can do more than enter a plain guest: what the case has written to the VMCS tells, so that the probe
//! does not have to ask the VMCS around each entry.

use vmcs_model::field;
use vmcs_wire::layout;
use vmcs_wire::session::{ENTRY_BYTES, MAX_AREAS, SessionView};

use crate::msrs;
use crate::rest::{self, encoding};

const HOST_RIP: u64 = encoding(field::HOST_RIP);
/// Encodings that are looked up have this many bits.
const ENCODING_BITS: u32 = 15;
/// Most fields that are watched.
const MOST: usize = 1 + rest::DISTURBING.len() + msrs::COUNTS.len() + MAX_AREAS;
/// Most images that are looked at.
const MOST_IMAGES: u16 = u64::BITS as u16;

/// A field: with the usual value in the bits of the mask it does nothing that the probe has to see to.
#[derive(Clone, Copy)]
struct Watched {
    encoding: u64,
    mask: u64,
    usual: u64,
}

/// What is watched in a session.
pub(crate) struct Watch {
    fields: [Watched; MOST],
    count: usize,
    /// A bit for each encoding, halved, that is among them.
    known: [u64; 1 << (ENCODING_BITS - 1 - 6)],
    /// A bit for each image: it is a whole one, with the usual values.
    usual: u64,
    /// A bit for each image: it holds nothing that is watched.
    neutral: u64,
}

impl Watch {
    /// For the volatile areas and images of a session.
    pub(crate) fn new(session: &SessionView<'_>) -> Self {
        let none = Watched { encoding: 0, mask: 0, usual: 0 };
        let mut watch = Self { fields: [none; MOST], count: 0, known: [0; _], usual: 0, neutral: 0 };
        watch.add(HOST_RIP, u64::MAX, layout::HOST_RIP);
        for (encoding, mask) in rest::DISTURBING.into_iter().chain(msrs::COUNTS) {
            watch.add(encoding, mask, 0);
        }
        for area in session.volatile() {
            watch.add(area.field, area.mask, 0);
        }
        for index in 0..MOST_IMAGES {
            if let Some(image) = session.image(index) {
                watch.look_at(index, image);
            }
        }
        watch
    }

    fn add(&mut self, encoding: u64, mask: u64, usual: u64) {
        self.fields[self.count] = Watched { encoding, mask, usual };
        self.count += 1;
        if encoding >> ENCODING_BITS == 0 {
            self.known[(encoding >> 7) as usize] |= 1 << (encoding >> 1 & 63);
        }
    }

    fn look_at(&mut self, index: u16, image: &[[u8; ENTRY_BYTES]]) {
        let (mut whole, mut unusual, mut neutral) = (false, false, true);
        for entry in image {
            let (words, _) = entry.as_chunks();
            let [encoding, value] = [0, 1].map(|index| u64::from_le_bytes(words[index]));
            if self.is_watched(encoding) {
                whole |= encoding == HOST_RIP;
                unusual |= self.differs(encoding, value);
                neutral = false;
            }
        }
        self.usual |= u64::from(whole && !unusual) << index;
        self.neutral |= u64::from(neutral) << index;
    }

    /// Whether a field, or its upper half, is among those that are watched. An encoding that is none is not.
    #[inline(always)]
    fn is_watched(&self, encoding: u64) -> bool {
        encoding >> ENCODING_BITS == 0 && self.known[(encoding >> 7) as usize] >> (encoding >> 1 & 63) & 1 != 0
    }

    /// Whether a VMWRITE of that value makes an entry unusual.
    #[inline(always)]
    pub(crate) fn is_unusual(&self, encoding: u64, value: u64) -> bool {
        self.is_watched(encoding) && self.differs(encoding, value)
    }

    #[inline(never)]
    fn differs(&self, encoding: u64, value: u64) -> bool {
        // The access type "high" writes bits 63:32.
        let (mask, value) = if encoding & 1 == 1 { (u64::MAX << 32, value << 32) } else { (u64::MAX, value) };
        let fields = self.fields[..self.count].iter().filter(|watched| watched.encoding == encoding & !1);
        fields.into_iter().any(|watched| (watched.usual ^ value) & watched.mask & mask != 0)
    }

    /// Whether an entry is unusual once an image has been written to the current VMCS; `before` says whether it was then.
    #[inline(always)]
    pub(crate) fn with_image(&self, image: u16, before: bool) -> bool {
        let bit = |images: u64| image < MOST_IMAGES && images >> image & 1 != 0;
        if bit(self.neutral) { before } else { !bit(self.usual) }
    }
}
