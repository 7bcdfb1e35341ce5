//! The components of the VMCS: encodings, names, widths, areas, and when each exists.
//!
//! SDM Vol. 3C, 25.11.2 (VMREAD, VMWRITE, and Encodings of VMCS Fields) and Appendix B (Field Encoding in VMCS).

mod names;
mod table;

use core::fmt;
use core::marker::PhantomData;
use core::str::FromStr;

use crate::msr::CapabilityBit;
pub use table::*;

/// The width of a field, bits 14:13 of its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Width {
    /// 16 bits.
    Bits16 = 0,
    /// 64 bits; the odd encoding names bits 63:32.
    Bits64 = 1,
    /// 32 bits.
    Bits32 = 2,
    /// 64 bits on processors that support Intel 64, else 32.
    Natural = 3,
}

impl Width {
    /// Bits of the field on a processor that supports Intel 64.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Bits16 => 16,
            Self::Bits32 => 32,
            Self::Bits64 | Self::Natural => 64,
        }
    }

    /// Mask of the field's bits.
    #[must_use]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }
}

/// The area of the VMCS that a field belongs to, bits 11:10 of its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Area {
    /// VM-execution, VM-exit and VM-entry control fields.
    Control = 0,
    /// VM-exit information fields, read-only unless IA32_VMX_MISC\[29\] is 1.
    ExitInformation = 1,
    /// Guest-state area.
    GuestState = 2,
    /// Host-state area.
    HostState = 3,
}

/// The 32-bit encoding of a VMCS component, as VMREAD and VMWRITE take it. Any bit pattern is representable.
///
/// Bit 0 access type (1: high), bits 9:1 index, bits 11:10 [`Area`], bit 12 reserved, bits 14:13 [`Width`],
/// bits 31:15 reserved.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Encoding(pub u32);

impl Encoding {
    const RESERVED: u32 = !0x6FFF;
    const INDEX_BITS: u32 = 6;

    /// Whether bit 0 asks for bits 63:32 of a 64-bit field.
    #[must_use]
    pub const fn is_high(self) -> bool {
        self.0 & 1 != 0
    }

    /// The encoding of the full access to the same component: this encoding with bit 0 as 0.
    #[must_use]
    pub const fn full(self) -> Self {
        Self(self.0 & !1)
    }

    /// The width, bits 14:13.
    #[must_use]
    pub const fn width(self) -> Width {
        match self.0 >> 13 & 3 {
            0 => Width::Bits16,
            1 => Width::Bits64,
            2 => Width::Bits32,
            _ => Width::Natural,
        }
    }

    /// The area, bits 11:10.
    #[must_use]
    pub const fn area(self) -> Area {
        match self.0 >> 10 & 3 {
            0 => Area::Control,
            1 => Area::ExitInformation,
            2 => Area::GuestState,
            _ => Area::HostState,
        }
    }

    /// The index, bits 9:1.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0 >> 1 & 0x1FF
    }

    /// The component this encoding names, full or high, if the SDM defines it.
    #[must_use]
    pub const fn field(self) -> Option<FieldId> {
        if self.0 & Self::RESERVED != 0 || self.index() >> Self::INDEX_BITS != 0 {
            return None;
        }
        if self.is_high() && !matches!(self.width(), Width::Bits64) {
            return None;
        }
        match BY_ENCODING[self.slot()] {
            0 => None,
            n => Some(FieldId(n - 1)),
        }
    }

    /// Width, area and index as one number below [`SLOTS`]; the index must fit its bits.
    const fn slot(self) -> usize {
        (((self.0 >> 13 & 3) << 2 | (self.0 >> 10 & 3)) << Self::INDEX_BITS | self.index()) as usize
    }
}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}H", self.0)
    }
}

/// One number for each defined component, below [`FIELD_COUNT`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldId(u8);

impl FieldId {
    pub(crate) const fn new(index: u8) -> Self {
        Self(index)
    }

    /// All components, in the order of Appendix B.
    pub fn all() -> impl ExactSizeIterator<Item = Self> + Clone {
        FIELDS.iter().map(|info| info.id)
    }

    /// The number of the component in the order of [`FieldId::all`], below [`FIELD_COUNT`].
    #[must_use]
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// What the SDM says about the component.
    #[must_use]
    pub const fn info(self) -> &'static FieldInfo {
        &FIELDS[self.0 as usize]
    }
}

impl fmt::Display for FieldId {
    /// Writes the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}

/// The error of a text that is not the name of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownField;

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no such field")
    }
}

impl core::error::Error for UnknownField {}

impl FromStr for FieldId {
    type Err = UnknownField;

    /// As [`FieldId::by_name`].
    fn from_str(name: &str) -> Result<Self, UnknownField> {
        Self::by_name(name).ok_or(UnknownField)
    }
}

impl fmt::Debug for FieldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}

/// A set of components.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FieldSet([u64; 4]);

impl FieldSet {
    /// No component.
    pub const EMPTY: Self = Self([0; 4]);

    /// Adds a component.
    pub const fn insert(&mut self, field: FieldId) {
        self.0[field.index() / 64] |= 1 << (field.index() % 64);
    }

    /// Whether the component is in the set.
    #[must_use]
    pub const fn contains(&self, field: FieldId) -> bool {
        self.0[field.index() / 64] >> (field.index() % 64) & 1 != 0
    }

    /// The components, in the order of Appendix B.
    pub fn iter(&self) -> impl Iterator<Item = FieldId> + '_ {
        self.0
            .iter()
            .zip((0..=u8::MAX).step_by(64))
            .flat_map(|(word, first)| ones(*word).map(move |bit| FieldId(first | bit)))
    }
}

/// The positions of the bits that are 1, from the lowest.
pub(crate) fn ones(mut bits: u64) -> impl Iterator<Item = u8> {
    core::iter::from_fn(move || {
        let lowest = u8::try_from(bits.trailing_zeros()).ok().filter(|lowest| *lowest < 64)?;
        bits &= bits - 1;
        Some(lowest)
    })
}

impl FromIterator<FieldId> for FieldSet {
    fn from_iter<I: IntoIterator<Item = FieldId>>(fields: I) -> Self {
        let mut set = Self::default();
        for field in fields {
            set.insert(field);
        }
        set
    }
}

impl fmt::Debug for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// One row of the field table.
#[derive(Clone, Copy, Debug)]
pub struct FieldInfo {
    /// The component.
    pub id: FieldId,
    /// Canonical name: the SDM's name in snake_case.
    pub name: &'static str,
    /// Other names of the component that are in use, such as those of Linux.
    pub aliases: &'static [&'static str],
    /// Encoding of the full access.
    pub encoding: Encoding,
    /// The SDM's name of the component and what there is to know about it, on one line.
    pub doc: &'static str,
    /// The capability bits of which at least one is 1 if the component exists. If there are none here, every processor has
    /// the component.
    pub exists_if: &'static [CapabilityBit],
}

impl FieldInfo {
    /// The width.
    #[must_use]
    pub const fn width(&self) -> Width {
        self.encoding.width()
    }

    /// The area.
    #[must_use]
    pub const fn area(&self) -> Area {
        self.encoding.area()
    }
}

/// A type as which the value of a field can be read and written. No bit of the field is lost on the way.
pub trait FieldValue: Copy {
    /// Width in bits: 16, 32 or 64.
    const BITS: u32;
    /// The value of a field whose bits are `raw`, in which the bits above the width are 0.
    fn from_raw(raw: u64) -> Self;
    /// The bits of the field, zero-extended to 64.
    fn to_raw(self) -> u64;
}

macro_rules! unsigned_field_value {
    ($($int:ty)*) => {$(
        impl FieldValue for $int {
            const BITS: u32 = <$int>::BITS;
            #[inline]
            #[allow(clippy::cast_possible_truncation, reason = "the upper bits of a field's image are 0")]
            fn from_raw(raw: u64) -> Self {
                raw as $int
            }
            #[inline]
            fn to_raw(self) -> u64 {
                #[allow(clippy::useless_conversion, reason = "one of the types is u64 itself")]
                u64::from(self)
            }
        }
    )*};
}
unsigned_field_value!(u16 u32 u64);

/// The key of a component whose value is a `T`: with it [`Vmcs::get`](crate::Vmcs::get) returns a `T`.
pub struct Field<T> {
    id: FieldId,
    value: PhantomData<fn() -> T>,
}

impl<T: FieldValue> Field<T> {
    /// # Panics
    /// At compile time, if the width of `T` is not that of the encoding.
    const fn new(id: FieldId, encoding: u32) -> Self {
        assert!(Encoding(encoding).width().bits() == T::BITS, "the field's type has another width than its encoding");
        Self { id, value: PhantomData }
    }
}

impl<T> Field<T> {
    /// The component.
    #[must_use]
    #[inline]
    pub const fn id(self) -> FieldId {
        self.id
    }

    /// Its encoding.
    #[must_use]
    pub const fn encoding(self) -> Encoding {
        self.id.info().encoding
    }
}

impl<T> Clone for Field<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Field<T> {}

impl<T> From<Field<T>> for FieldId {
    fn from(field: Field<T>) -> Self {
        field.id
    }
}

/// Possible values of [`Encoding::slot`].
const SLOTS: usize = 1 << (4 + Encoding::INDEX_BITS);

/// Encoding to component: 0 for none, else its index + 1.
static BY_ENCODING: [u8; SLOTS] = {
    let mut slots = [0; SLOTS];
    let mut i: u8 = 0;
    while (i as usize) < FIELD_COUNT {
        let slot = FIELDS[i as usize].encoding.slot();
        assert!(slots[slot] == 0, "two fields have one encoding");
        slots[slot] = i + 1;
        i += 1;
    }
    slots
};

/// Declares the field table: a typed key per component and the table of all of them.
macro_rules! fields {
    ($($(#[doc = $doc:literal])+ $name:ident: $value:ty = $encoding:literal, [$($alias:literal),*], [$($source:ident: $bit:literal),*];)+) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "numbers the rows of the table")]
        #[repr(u8)]
        enum Row { $($name),+ }

        /// How many components there are.
        pub const FIELD_COUNT: usize = [$(Row::$name as u8),+].len();

        /// Every component, in the order of Appendix B.
        pub static FIELDS: [FieldInfo; FIELD_COUNT] = [$(FieldInfo {
            id: FieldId::new(Row::$name as u8),
            name: {
                const UPPER: &str = stringify!($name);
                const LOWER: [u8; UPPER.len()] = super::lowercase(UPPER);
                match core::str::from_utf8(&LOWER) {
                    Ok(name) => name,
                    Err(_) => panic!("field names are ASCII"),
                }
            },
            aliases: &[$($alias),*],
            encoding: Encoding($encoding),
            doc: concat!($($doc),+).trim_ascii(),
            exists_if: &[$(CapabilityBit::new(Source::$source, $bit)),*],
        }),+];

        $(
            $(#[doc = $doc])+
            #[doc = concat!("\n\nEncoding ", stringify!($encoding), ".")]
            pub const $name: Field<$value> = Field::new(FieldId::new(Row::$name as u8), $encoding);
        )+
    };
}
use fields;

/// `name` in lower case, at compile time.
const fn lowercase<const N: usize>(name: &str) -> [u8; N] {
    let mut lower = [0; N];
    let mut i = 0;
    while i < N {
        lower[i] = name.as_bytes()[i].to_ascii_lowercase();
        i += 1;
    }
    lower
}
