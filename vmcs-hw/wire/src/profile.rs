//! What the probe reports about its processor: MSRs, CPUID, VMCS fields.
//!
//! As bytes: `msrs: u16` and that many MSRs ([`encode_msr`]), `leaves: u16` and that many CPUID leaves ([`encode_leaf`]),
//! `fields: u16` and that many [`FieldReport`]s. The probe decides which MSRs and leaves it reports: those that
//! the model uses.

use crate::StepResult;
use crate::codec::{BufferFull, DecodeError, Reader, Writer};
use crate::program::RawFields;

/// EAX, EBX, ECX and EDX of CPUID.
type Registers = [u32; 4];

/// Writes an MSR: its number, a flag, and where that is 1 the value. `None` means that RDMSR raises #GP.
///
/// # Errors
/// [`BufferFull`].
pub fn encode_msr(writer: &mut Writer<'_>, number: u32, value: Option<u64>) -> Result<(), BufferFull> {
    writer.u32(number)?;
    writer.u8(value.is_some().into())?;
    value.map_or(Ok(()), |value| writer.u64(value))
}

/// Reads what [`encode_msr`] wrote.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_msr(reader: &mut Reader<'_>) -> Result<(u32, Option<u64>), DecodeError> {
    let number = reader.u32()?;
    Ok((number, if reader.flag()? { Some(reader.u64()?) } else { None }))
}

/// Writes a CPUID leaf: EAX and ECX of the query, a flag, and where that is 1 the registers. `None` means that the leaf
/// lies above the highest one.
///
/// # Errors
/// [`BufferFull`].
pub fn encode_leaf(
    writer: &mut Writer<'_>,
    (leaf, subleaf): (u32, u32),
    registers: Option<Registers>,
) -> Result<(), BufferFull> {
    writer.u32(leaf)?;
    writer.u32(subleaf)?;
    writer.u8(registers.is_some().into())?;
    registers.into_iter().flatten().try_for_each(|register| writer.u32(register))
}

/// Reads what [`encode_leaf`] wrote.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_leaf(reader: &mut Reader<'_>) -> Result<((u32, u32), Option<Registers>), DecodeError> {
    let query = (reader.u32()?, reader.u32()?);
    let registers =
        if reader.flag()? { Some([reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?]) } else { None };
    Ok((query, registers))
}

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
    fn msrs_and_leaves_survive_the_round_trip() {
        let mut buffer = [0; 128];
        let mut writer = Writer::new(&mut buffer);
        encode_msr(&mut writer, 0x480, Some(7)).expect("room");
        encode_msr(&mut writer, 0x982, None).expect("room");
        encode_leaf(&mut writer, (7, 1), Some([1, 2, 3, 4])).expect("room");
        encode_leaf(&mut writer, (0x23, 0), None).expect("room");
        let mut reader = Reader::new(&buffer);
        assert_eq!(decode_msr(&mut reader), Ok((0x480, Some(7))));
        assert_eq!(decode_msr(&mut reader), Ok((0x982, None)));
        assert_eq!(decode_leaf(&mut reader), Ok(((7, 1), Some([1, 2, 3, 4]))));
        assert_eq!(decode_leaf(&mut reader), Ok(((0x23, 0), None)));
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
