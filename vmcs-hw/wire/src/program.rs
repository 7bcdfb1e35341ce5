//! Operations and step results as bytes.
//!
//! An operation is a tag byte and its operands; a VMWRITE whose encoding fits into 16 bits, which is nearly every one,
//! has a short form. A case is `start: u8, ops: u16, op…`; the answer to it is `steps: u16, result…`, where the values of
//! the observed fields follow an exit without a count, because the session fixes it. [`Op::Observe`] answers with a count
//! and packed values, most of which are small; samples have a count, too, and are 32 bits wide.

mod samples;
mod tags;

use crate::codec::{BufferFull, DecodeError, MAX_PACKED_BYTES, Reader, Writer};
use crate::{Ending, Op, Start, StepResult, Timed};

use samples::SAMPLE_BYTES;
pub use samples::SampleWriter;
use tags::{answer, tag};

/// Most bytes that one encoded [`Op`] takes.
pub const MAX_OP_BYTES: usize = 25;
/// Bytes before the operations of a case.
pub const CASE_HEADER_BYTES: usize = 3;
/// Bytes before the results of a case.
pub const ANSWER_HEADER_BYTES: usize = 2;

impl Start {
    /// Writes it as one byte.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn encode(self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        writer.u8(match self {
            Self::OutsideVmx => 0,
            Self::VmxRoot => 1,
        })
    }

    /// Reads what [`Start::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if reader.flag()? { Self::VmxRoot } else { Self::OutsideVmx })
    }
}

impl Op {
    /// Writes it, in at most [`MAX_OP_BYTES`] bytes.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn encode(&self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        let tagged_u64 = |writer: &mut Writer<'_>, tag, value| {
            writer.u8(tag)?;
            writer.u64(value)
        };
        match *self {
            Self::Vmxon { address } => tagged_u64(writer, tag::VMXON, address),
            Self::Vmxoff => writer.u8(tag::VMXOFF),
            Self::Vmclear { address } => tagged_u64(writer, tag::VMCLEAR, address),
            Self::Vmptrld { address } => tagged_u64(writer, tag::VMPTRLD, address),
            Self::Vmptrst => writer.u8(tag::VMPTRST),
            Self::Vmread { encoding } => tagged_u64(writer, tag::VMREAD, encoding),
            Self::Vmwrite { encoding, value } => {
                if let Ok(short) = u16::try_from(encoding) {
                    writer.u8(tag::VMWRITE_SHORT)?;
                    writer.u16(short)?;
                } else {
                    tagged_u64(writer, tag::VMWRITE, encoding)?;
                }
                writer.u64(value)
            }
            Self::Vmlaunch { after_mov_ss } => writer.bytes(&[tag::VMLAUNCH, u8::from(after_mov_ss)]),
            Self::Vmresume { after_mov_ss } => writer.bytes(&[tag::VMRESUME, u8::from(after_mov_ss)]),
            Self::Vmcall => writer.u8(tag::VMCALL),
            Self::Vmfunc { eax, ecx } => {
                writer.u8(tag::VMFUNC)?;
                writer.u32(eax)?;
                writer.u32(ecx)
            }
            Self::Invept { kind, descriptor: [low, high] } => {
                tagged_u64(writer, tag::INVEPT, kind)?;
                writer.u64(low)?;
                writer.u64(high)
            }
            Self::Invvpid { kind, descriptor: [low, high] } => {
                tagged_u64(writer, tag::INVVPID, kind)?;
                writer.u64(low)?;
                writer.u64(high)
            }
            Self::WriteImage { image } => {
                writer.u8(tag::WRITE_IMAGE)?;
                writer.u16(image)
            }
            Self::Store { address, size, value } => {
                tagged_u64(writer, tag::STORE, address)?;
                writer.u8(size)?;
                writer.u64(value)
            }
            Self::Diagnose { resume } => writer.bytes(&[tag::DIAGNOSE, u8::from(resume)]),
            Self::Time { what, rounds } => {
                writer.bytes(&[tag::TIME, what as u8])?;
                writer.u16(rounds)
            }
            Self::Observe { state } => writer.bytes(&[tag::OBSERVE, u8::from(state)]),
        }
    }

    /// Reads what [`Op::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`].
    #[inline(always)]
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            tag::VMXON => Self::Vmxon { address: reader.u64()? },
            tag::VMXOFF => Self::Vmxoff,
            tag::VMCLEAR => Self::Vmclear { address: reader.u64()? },
            tag::VMPTRLD => Self::Vmptrld { address: reader.u64()? },
            tag::VMPTRST => Self::Vmptrst,
            tag::VMREAD => Self::Vmread { encoding: reader.u64()? },
            tag::VMWRITE => Self::Vmwrite { encoding: reader.u64()?, value: reader.u64()? },
            tag::VMWRITE_SHORT => Self::Vmwrite { encoding: reader.u16()?.into(), value: reader.u64()? },
            tag::VMLAUNCH => Self::Vmlaunch { after_mov_ss: reader.flag()? },
            tag::VMRESUME => Self::Vmresume { after_mov_ss: reader.flag()? },
            tag::VMCALL => Self::Vmcall,
            tag::VMFUNC => Self::Vmfunc { eax: reader.u32()?, ecx: reader.u32()? },
            tag::INVEPT => Self::Invept { kind: reader.u64()?, descriptor: [reader.u64()?, reader.u64()?] },
            tag::INVVPID => Self::Invvpid { kind: reader.u64()?, descriptor: [reader.u64()?, reader.u64()?] },
            tag::WRITE_IMAGE => Self::WriteImage { image: reader.u16()? },
            tag::STORE => Self::Store { address: reader.u64()?, size: reader.u8()?, value: reader.u64()? },
            tag::DIAGNOSE => Self::Diagnose { resume: reader.flag()? },
            tag::TIME => Self::Time { what: Timed::decode(reader.u8()?)?, rounds: reader.u16()? },
            tag::OBSERVE => Self::Observe { state: reader.flag()? },
            other => return Err(DecodeError::BadTag(other)),
        })
    }

    /// How many fields the result of this operation holds, if it is one with fields, in a session with such lists.
    #[must_use]
    pub const fn fields_read(&self, lists: ListLengths) -> usize {
        match self {
            Self::Vmlaunch { .. } | Self::Vmresume { .. } => lists.observed,
            Self::Observe { state: false } => lists.information,
            Self::Observe { state: true } => lists.information + lists.state,
            _ => 0,
        }
    }

    /// Most bytes that the encoded result of this operation takes in a session with such lists of fields.
    #[must_use]
    pub const fn max_result_bytes(&self, lists: ListLengths) -> usize {
        let fields = self.fields_read(lists);
        match self {
            Self::Vmlaunch { .. } | Self::Vmresume { .. } => 13 + 8 * fields,
            Self::Time { rounds, .. } => 1 + Ending::MAX_BYTES + size_of::<u16>() + SAMPLE_BYTES * *rounds as usize,
            Self::Observe { .. } => 3 + MAX_PACKED_BYTES * fields,
            _ => 9,
        }
    }
}

/// How many fields the lists of a session name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListLengths {
    /// Fields that are read after each exit.
    pub observed: usize,
    /// Fields that [`Op::Observe`] always reads.
    pub information: usize,
    /// Fields that it reads if it is told to.
    pub state: usize,
}

/// How values lie in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Eight bytes each.
    Wide,
    /// Four bytes each.
    Sample,
    /// See [`Writer::packed`].
    Packed,
}

/// Values of fields, or samples, still as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawFields<'a> {
    form: Form,
    count: usize,
    bytes: &'a [u8],
}

impl<'a> RawFields<'a> {
    /// The values, in the order of the session's list, or of the rounds.
    pub fn iter(self) -> impl ExactSizeIterator<Item = u64> + 'a {
        let mut reader = Reader::new(self.bytes);
        let mut next = move || match self.form {
            Form::Wide => reader.u64(),
            Form::Sample => reader.u32().map(u64::from),
            Form::Packed => reader.packed(),
        };
        // Decoding has gone through them.
        (0..self.count).map(move |_| next().unwrap_or(0))
    }
}

/// Writes what comes before the values of a [`StepResult::Fields`] of `count` fields. As many [`Writer::packed`]s follow.
///
/// # Errors
/// [`BufferFull`], also for more than 65,535 fields.
pub fn encode_fields_header(writer: &mut Writer<'_>, count: usize) -> Result<(), BufferFull> {
    writer.u8(answer::FIELDS)?;
    writer.u16(u16::try_from(count).map_err(|_| BufferFull)?)
}

impl<Fields: ExactSizeIterator<Item = u64>> StepResult<Fields> {
    /// Writes it.
    ///
    /// # Errors
    /// [`BufferFull`].
    #[inline(always)]
    pub fn encode(self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        // Nearly every result.
        if matches!(self, Self::Ok) { writer.u8(answer::OK) } else { self.encode_other(writer) }
    }

    #[inline(never)]
    fn encode_other(self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        match self {
            Self::Ok => writer.u8(answer::OK),
            Self::Value(value) => {
                writer.u8(answer::VALUE)?;
                writer.u64(value)
            }
            Self::FailInvalid => writer.u8(answer::FAIL_INVALID),
            Self::FailValid(number) => {
                writer.u8(answer::FAIL_VALID)?;
                writer.u32(number)
            }
            Self::Fault { vector, error_code: None } => writer.bytes(&[answer::FAULT, vector]),
            Self::Fault { vector, error_code: Some(code) } => {
                writer.bytes(&[answer::FAULT_WITH_CODE, vector])?;
                writer.u32(code)
            }
            Self::Exit { reason, qualification, mut fields } => {
                writer.u8(answer::EXIT)?;
                writer.u32(reason)?;
                writer.u64(qualification)?;
                fields.try_for_each(|value| writer.u64(value))
            }
            Self::Timed { ending, mut samples } => {
                let mut writer = SampleWriter::begin(writer, ending)?;
                samples.try_for_each(|sample| writer.push(sample))
            }
            Self::NotRun => writer.u8(answer::NOT_RUN),
            Self::Fields(mut fields) => {
                encode_fields_header(writer, fields.len())?;
                fields.try_for_each(|value| writer.packed(value))
            }
        }
    }
}

impl<'a> StepResult<RawFields<'a>> {
    /// Reads what [`StepResult::encode`] wrote in a session that observes `fields` fields.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(reader: &mut Reader<'a>, fields: usize) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            answer::OK => Self::Ok,
            answer::VALUE => Self::Value(reader.u64()?),
            answer::FAIL_INVALID => Self::FailInvalid,
            answer::FAIL_VALID => Self::FailValid(reader.u32()?),
            answer::FAULT => Self::Fault { vector: reader.u8()?, error_code: None },
            answer::FAULT_WITH_CODE => Self::Fault { vector: reader.u8()?, error_code: Some(reader.u32()?) },
            answer::EXIT => Self::Exit {
                reason: reader.u32()?,
                qualification: reader.u64()?,
                fields: RawFields { form: Form::Wide, count: fields, bytes: reader.bytes(8 * fields)? },
            },
            answer::TIMED => {
                let ending = Ending::decode(reader)?;
                let count = usize::from(reader.u16()?);
                let bytes = reader.bytes(SAMPLE_BYTES * count)?;
                Self::Timed { ending, samples: RawFields { form: Form::Sample, count, bytes } }
            }
            answer::NOT_RUN => Self::NotRun,
            answer::FIELDS => {
                let count = usize::from(reader.u16()?);
                let from = reader.rest();
                (0..count).try_for_each(|_| reader.packed().map(|_| ()))?;
                let bytes = &from[..from.len() - reader.rest().len()];
                Self::Fields(RawFields { form: Form::Packed, count, bytes })
            }
            other => return Err(DecodeError::BadTag(other)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPS: [Op; 25] = [
        Op::Vmxon { address: 0x1_0000 },
        Op::Vmxoff,
        Op::Vmclear { address: u64::MAX },
        Op::Vmptrld { address: 0x1_1001 },
        Op::Vmptrst,
        Op::Vmread { encoding: 0x1_0000_4402 },
        Op::Vmwrite { encoding: 0x6C16, value: u64::MAX },
        Op::Vmwrite { encoding: 0xFFFF_FFFF_0000_6C16, value: 1 },
        Op::Vmlaunch { after_mov_ss: false },
        Op::Vmlaunch { after_mov_ss: true },
        Op::Vmresume { after_mov_ss: false },
        Op::Vmresume { after_mov_ss: true },
        Op::Vmcall,
        Op::Vmfunc { eax: 1, ecx: u32::MAX },
        Op::Invept { kind: 2, descriptor: [3, 4] },
        Op::Invvpid { kind: u64::MAX, descriptor: [u64::MAX, u64::MAX] },
        Op::WriteImage { image: 0xFFFF },
        Op::Store { address: 0x1_1000, size: 8, value: 0x1234_5678_9ABC_DEF0 },
        Op::Diagnose { resume: false },
        Op::Diagnose { resume: true },
        Op::Time { what: Timed::Nothing, rounds: 0 },
        Op::Time { what: Timed::Vmlaunch, rounds: 1 },
        Op::Time { what: Timed::Vmresume, rounds: u16::MAX },
        Op::Observe { state: false },
        Op::Observe { state: true },
    ];

    #[test]
    fn every_operation_survives_the_round_trip() {
        for op in OPS {
            let mut buffer = [0xA5; MAX_OP_BYTES];
            let mut writer = Writer::new(&mut buffer);
            op.encode(&mut writer).expect("MAX_OP_BYTES holds every operation");
            let used = writer.len();
            let mut reader = Reader::new(&buffer[..used]);
            assert_eq!(Op::decode(&mut reader), Ok(op));
            assert!(reader.rest().is_empty());
            for short in 0..used {
                assert_eq!(Op::decode(&mut Reader::new(&buffer[..short])), Err(DecodeError::Truncated), "{op:?}");
                assert_eq!(op.encode(&mut Writer::new(&mut [0; MAX_OP_BYTES][..short])), Err(BufferFull));
            }
        }
    }

    #[test]
    fn every_result_survives_the_round_trip() {
        let fields = vec![1, u64::MAX, 0x1234];
        let results = [
            StepResult::Ok,
            StepResult::Value(u64::MAX),
            StepResult::FailInvalid,
            StepResult::FailValid(7),
            StepResult::Fault { vector: 6, error_code: None },
            StepResult::Fault { vector: 13, error_code: Some(0x118) },
            StepResult::Exit { reason: 0x8000_0021, qualification: 4, fields: fields.clone() },
            StepResult::NotRun,
            StepResult::Fields(fields),
            StepResult::Fields(vec![]),
        ];
        for result in results {
            let mut buffer = [0; 64];
            let mut writer = Writer::new(&mut buffer);
            result.clone().map_fields(Vec::into_iter).encode(&mut writer).expect("room");
            let used = writer.len();
            let lists = ListLengths { observed: 3, information: 1, state: 2 };
            let op = match result {
                StepResult::Fields(_) => Op::Observe { state: true },
                _ => Op::Vmlaunch { after_mov_ss: false },
            };
            assert!(used <= op.max_result_bytes(lists));
            let decoded = StepResult::decode(&mut Reader::new(&buffer[..used]), 3).expect("decodes");
            assert_eq!(decoded.map_fields(|raw| raw.iter().collect::<Vec<_>>()), result);
            assert_eq!(StepResult::decode(&mut Reader::new(&buffer[..used - 1]), 3), Err(DecodeError::Truncated));
        }
    }

    #[test]
    fn every_measurement_survives_the_round_trip() {
        let endings = [
            Ending::Nothing,
            Ending::FailInvalid,
            Ending::FailValid(8),
            Ending::Exit { reason: 0x8000_0022, qualification: u64::MAX },
        ];
        for ending in endings {
            for samples in [vec![], vec![1, 0, 0x1234_5678]] {
                let mut buffer = [0; 64];
                let mut writer = Writer::new(&mut buffer);
                let result = StepResult::Timed { ending, samples: samples.clone() };
                result.clone().map_fields(Vec::into_iter).encode(&mut writer).expect("room");
                let used = writer.len();
                let op = Op::Time { what: Timed::Vmlaunch, rounds: 3 };
                assert!(used <= op.max_result_bytes(ListLengths { observed: 70, ..ListLengths::default() }));
                // Whatever fields the session observes.
                let decoded = StepResult::decode(&mut Reader::new(&buffer[..used]), 70).expect("decodes");
                assert_eq!(decoded.map_fields(|raw| raw.iter().collect::<Vec<_>>()), result);
                assert_eq!(StepResult::decode(&mut Reader::new(&buffer[..used - 1]), 0), Err(DecodeError::Truncated));
            }
        }
    }

    #[test]
    fn samples_that_do_not_fit_are_as_long_as_can_be_said() {
        let mut buffer = [0; 64];
        let mut writer = Writer::new(&mut buffer);
        let long = StepResult::Timed { ending: Ending::Nothing, samples: [1 << 40, 7].into_iter() };
        long.encode(&mut writer).expect("room");
        let Ok(StepResult::Timed { samples, .. }) = StepResult::decode(&mut Reader::new(&buffer), 0) else {
            panic!("it decodes")
        };
        assert!(samples.iter().eq([u32::MAX.into(), 7]));
    }

    #[test]
    fn unknown_tags_are_reported() {
        assert_eq!(Op::decode(&mut Reader::new(&[0xEE])), Err(DecodeError::BadTag(0xEE)));
        assert_eq!(Op::decode(&mut Reader::new(&[tag::TIME, 3, 0, 0])), Err(DecodeError::BadTag(3)));
        assert_eq!(StepResult::decode(&mut Reader::new(&[answer::TIMED, 9]), 0), Err(DecodeError::BadTag(9)));
        assert_eq!(StepResult::decode(&mut Reader::new(&[0xEE]), 0), Err(DecodeError::BadTag(0xEE)));
        assert_eq!(Start::decode(&mut Reader::new(&[2])), Err(DecodeError::BadTag(2)));
    }
}
