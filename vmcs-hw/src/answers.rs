//! Encodes sessions as bytes, and decodes the probe's answers to observations and reports.

use std::ops::Range;

use vmcs_case::{CpuidReading, End, Observation, ProbeReport, Session, TargetError};
use vmcs_driver::{Chunk, Stop};
use vmcs_wire::StepResult;
use vmcs_wire::batch::{CaseEnd, MAX_SESSION_BYTES};
use vmcs_wire::codec::{DecodeError, Reader, Writer};
use vmcs_wire::profile::{FieldReport, decode_leaf, decode_msr};
use vmcs_wire::session::{self, AREA_BYTES, COUNT_BYTES, END_BYTES, ENTRY_BYTES, OBSERVED_BYTES, TAIL_COUNTS};

/// Encodes a session.
///
/// # Errors
/// [`TargetError::SessionTooLarge`].
pub(crate) fn encode_session(session: &Session) -> Result<Vec<u8>, TargetError> {
    let entries: usize = session.images.iter().map(Vec::len).sum();
    let lists = session.list_lengths();
    let size = COUNT_BYTES * (1 + TAIL_COUNTS)
        + END_BYTES * session.images.len()
        + ENTRY_BYTES * entries
        + OBSERVED_BYTES * (lists.observed + lists.information + lists.state)
        + AREA_BYTES * session.volatile.len();
    if size > MAX_SESSION_BYTES {
        return Err(TargetError::SessionTooLarge("its images, fields and areas take more than 1 MiB"));
    }
    let mut bytes = vec![0; size];
    let mut writer = Writer::new(&mut bytes);
    session::encode_images(&mut writer, &session.images)
        .and_then(|()| {
            let Session { observed_fields, volatile, information_fields, state_fields, .. } = session;
            session::encode_tail(&mut writer, observed_fields, volatile, information_fields, state_fields)
        })
        .map_err(|_| TargetError::SessionTooLarge("it has more than 65,535 images, fields or areas"))?;
    Ok(bytes)
}

/// Decodes the answers to some of `chunk`'s cases.
///
/// # Errors
/// [`TargetError::Garbled`].
pub(crate) fn decode_answers(
    content: &[u8],
    chunk: &Chunk,
    cases: Range<usize>,
    fields: usize,
) -> Result<Vec<Observation>, TargetError> {
    let mut reader = Reader::new(content);
    let observations = cases
        .map(|case| {
            let steps = decode_steps(&mut reader, fields)?;
            let end = if steps.len() == chunk.steps(case) {
                End::Completed
            } else if steps.len() < chunk.steps(case) {
                decode_end(&mut reader).map_err(|_| TargetError::Garbled("a case has too few steps"))?
            } else {
                return Err(TargetError::Garbled("a case has too many steps"));
            };
            Ok(Observation { steps, end })
        })
        .collect::<Result<Vec<_>, _>>()?;
    if reader.rest().is_empty() { Ok(observations) } else { Err(TargetError::Garbled("it is too long")) }
}

fn decode_end(reader: &mut Reader<'_>) -> Result<End, DecodeError> {
    Ok(match CaseEnd::decode(reader)? {
        CaseEnd::Crashed(words) => End::Crashed { detail: words.to_owned() },
        CaseEnd::Hung => End::Hung,
    })
}

/// Decodes the results of one case.
///
/// # Errors
/// [`TargetError::Garbled`].
pub(crate) fn decode_steps(reader: &mut Reader<'_>, fields: usize) -> Result<Vec<StepResult<Vec<u64>>>, TargetError> {
    let garbled = |_| TargetError::Garbled("a step result does not decode");
    let steps = reader.u16().map_err(garbled)?;
    (0..steps)
        .map(|_| {
            let result = StepResult::decode(reader, fields).map_err(garbled)?;
            Ok(result.map_fields(|raw| raw.iter().collect()))
        })
        .collect()
}

/// The profile report, or what came in its place.
///
/// # Errors
/// [`TargetError::Garbled`], [`TargetError::Probe`].
pub(crate) fn examined(answer: Result<Vec<u8>, Stop>) -> Result<ProbeReport, TargetError> {
    match answer {
        Ok(content) => decode_report(&content),
        Err(Stop::Crashed(detail)) => Err(TargetError::Probe(detail)),
        Err(Stop::Hung) => Err(TargetError::Probe("it hangs while it examines the processor".to_owned())),
    }
}

/// Decodes a profile report.
///
/// # Errors
/// [`TargetError::Garbled`].
pub(crate) fn decode_report(content: &[u8]) -> Result<ProbeReport, TargetError> {
    let mut reader = Reader::new(content);
    let mut decode = || {
        let mut report = ProbeReport::default();
        for _ in 0..reader.u16()? {
            report.msrs.push(decode_msr(&mut reader)?);
        }
        for _ in 0..reader.u16()? {
            let ((leaf, subleaf), registers) = decode_leaf(&mut reader)?;
            report.cpuid.push(CpuidReading { leaf, subleaf, registers });
        }
        for _ in 0..reader.u16()? {
            report.fields.push(FieldReport::decode(&mut reader)?);
        }
        Ok::<_, vmcs_wire::codec::DecodeError>(report)
    };
    decode().map_err(|_| TargetError::Garbled("the profile report does not decode"))
}

#[cfg(test)]
mod tests {
    use vmcs_wire::program::ListLengths;
    use vmcs_wire::{Op, Start};

    use super::*;

    #[test]
    fn a_case_with_fewer_results_than_steps_says_how_it_ended() {
        let mut chunk = Chunk::default();
        for _ in 0..2 {
            assert!(chunk.push(Start::VmxRoot, &[Op::Vmptrst; 2], ListLengths::default(), 2, false));
        }
        let mut bytes = [0; 256];
        let mut writer = Writer::new(&mut bytes);
        // The first case ends in its second step; the second one is whole.
        writer.u16(1).and_then(|()| writer.u8(0)).expect("room");
        CaseEnd::Crashed("why").encode(&mut writer).expect("room");
        writer.u16(2).and_then(|()| writer.bytes(&[0, 0])).expect("room");
        let used = writer.len();
        let observations = decode_answers(&bytes[..used], &chunk, 0..2, 0).expect("it decodes");
        assert_eq!(observations[0].steps, [StepResult::Ok]);
        assert_eq!(observations[0].end, End::Crashed { detail: "why".to_owned() });
        assert_eq!((observations[1].steps.len(), &observations[1].end), (2, &End::Completed));
        assert!(decode_answers(&bytes[..=used], &chunk, 0..2, 0).is_err());
    }
}
