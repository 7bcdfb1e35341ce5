//! What the probe reports about its processor: MSRs, CPUID, VMCS fields.
//!
//! As bytes: per MSR of [`MSRS`] a flag and, when it is 1, the value; per leaf of [`CPUID_LEAVES`] a flag and, when it
//! is 1, EAX, EBX, ECX, EDX; `fields: u16` and that many [`FieldReport`]s.

use crate::StepResult;
use crate::codec::{BufferFull, DecodeError, Reader, Writer};
use crate::program::RawFields;

/// The reported MSRs: IA32_FEATURE_CONTROL, the capability MSRs 480H-493H, and 982H (IA32_TME_ACTIVATE).
pub const MSRS: [u32; 22] = [
    0x3A, 0x480, 0x481, 0x482, 0x483, 0x484, 0x485, 0x486, 0x487, 0x488, 0x489, 0x48A, 0x48B, 0x48C, 0x48D, 0x48E,
    0x48F, 0x490, 0x491, 0x492, 0x493, 0x982,
];

/// The reported CPUID leaves and subleaves.
pub const CPUID_LEAVES: [(u32, u32); 17] = [
    (0, 0),
    (1, 0),
    (7, 0),
    (7, 1),
    (7, 2),
    (0xA, 0),
    (0xD, 0),
    (0xD, 1),
    (0x12, 0),
    (0x14, 0),
    (0x14, 1),
    (0x19, 0),
    (0x1C, 0),
    (0x23, 0),
    (0x8000_0000, 0),
    (0x8000_0001, 0),
    (0x8000_0008, 0),
];

/// Every VMCS encoding of 4 widths, 4 types, 512 indexes, full and high access, with the reserved bits 0.
pub fn encodings() -> impl Iterator<Item = u32> {
    (0..0x8000).filter(|encoding| encoding & (1 << 12) == 0)
}

/// How the processor answers for one VMCS encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldReport {
    /// The encoding.
    pub encoding: u32,
    /// VMREAD of it: [`StepResult::Value`], or how it failed.
    pub read: StepResult<()>,
    /// VMWRITE of all ones: [`StepResult::Ok`], or how it failed.
    pub write: StepResult<()>,
    /// What VMREAD returned after the VMWRITE of all ones: the bits that the field holds.
    pub sticky: u64,
}

impl FieldReport {
    /// Writes it.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn encode(&self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        writer.u32(self.encoding)?;
        self.read.map_fields(|()| core::iter::empty()).encode(writer)?;
        self.write.map_fields(|()| core::iter::empty()).encode(writer)?;
        writer.u64(self.sticky)
    }

    /// Reads what [`FieldReport::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let drop_fields = |result: StepResult<RawFields<'_>>| result.map_fields(drop);
        Ok(Self {
            encoding: reader.u32()?,
            read: StepResult::decode(reader, 0).map(drop_fields)?,
            write: StepResult::decode(reader, 0).map(drop_fields)?,
            sticky: reader.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_encoding_space_is_probed() {
        assert_eq!(encodings().count(), 4 * 4 * 512 * 2);
        assert!(encodings().all(|encoding| encoding & !0x6FFF == 0));
    }

    #[test]
    fn a_field_report_survives_the_round_trip() {
        let report = FieldReport {
            encoding: 0x6800,
            read: StepResult::Value(5),
            write: StepResult::FailValid(13),
            sticky: u64::MAX,
        };
        let mut buffer = [0; 64];
        report.encode(&mut Writer::new(&mut buffer)).expect("room");
        assert_eq!(FieldReport::decode(&mut Reader::new(&buffer)), Ok(report));
    }
}
