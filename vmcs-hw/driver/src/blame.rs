//! Finds out which case stopped a machine, as far as the machine's unfinished answer shows it.

use std::ops::Range;

use vmcs_wire::StepResult;
use vmcs_wire::codec::{DecodeError, Reader};

/// The encoded results of a case of which no result is known: their number, which is 0.
pub(crate) const NO_RESULTS: &[u8] = &[0, 0];

/// How far the cases of a careful batch came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// The machine stopped between two cases; the first `whole` ones, one at least, have `bytes` of answers.
    Between { whole: usize, bytes: usize },
    /// Behind `whole` cases, which have the bytes before `results`, one stopped the machine when it had those results.
    Culprit { whole: usize, results: Range<usize> },
    /// One of them stopped the machine, or spoilt its memory.
    Unknown,
}

/// What an answer says that may be unfinished or, where a guest went astray, garbled. `steps` are the operations of each case.
pub(crate) fn reached(steps: &[usize], answer: &[u8], fields: usize) -> Reached {
    let Ok(begun) = split_answers(answer, fields) else {
        return Reached::Unknown;
    };
    let is_whole = |(results, steps): &(&Range<usize>, &usize)| answered(&answer[(*results).clone()]) == **steps;
    let whole = begun.iter().zip(steps).take_while(is_whole).count();
    match begun.get(whole) {
        None if (1..steps.len()).contains(&whole) => Reached::Between { whole, bytes: begun[whole - 1].end },
        // The only case has done all that it was to do, and has spoilt the machine.
        None if whole == 1 && steps.len() == 1 => Reached::Culprit { whole: 0, results: begun[0].clone() },
        Some(results) if begun.len() == whole + 1 && whole < steps.len() => {
            Reached::Culprit { whole, results: results.clone() }
        }
        _ => Reached::Unknown,
    }
}

/// The number of results of a case.
pub(crate) fn answered(results: &[u8]) -> usize {
    Reader::new(results).u16().map_or(0, usize::from)
}

/// Divides an answer whose last case may be unfinished into its cases.
pub(crate) fn split_answers(bytes: &[u8], fields: usize) -> Result<Vec<Range<usize>>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut answers = Vec::new();
    while !reader.rest().is_empty() {
        let start = bytes.len() - reader.rest().len();
        for _ in 0..reader.u16()? {
            StepResult::decode(&mut reader, fields)?;
        }
        answers.push(start..bytes.len() - reader.rest().len());
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_culprit_is_the_case_that_was_begun() {
        let judge = |answer: &[u8]| reached(&[2, 1, 2], answer, 0);
        // Two results, one result, two results.
        let all = [2, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0];
        assert_eq!(judge(&all[..7]), Reached::Between { whole: 2, bytes: 7 });
        let begun = [&all[..7], &[1, 0, 0]].concat();
        assert_eq!(judge(&begun), Reached::Culprit { whole: 2, results: 7..10 });
        assert_eq!(judge(NO_RESULTS), Reached::Culprit { whole: 0, results: 0..2 });
        // Nothing begun; all answered, and then the probe finds itself overwritten; garbled.
        assert_eq!(judge(&[]), Reached::Unknown);
        assert_eq!(judge(&all), Reached::Unknown);
        assert_eq!(judge(&[0xFF; 7]), Reached::Unknown);
    }

    #[test]
    fn a_case_by_itself_is_the_culprit_with_whatever_results_it_has() {
        let all = [2, 0, 0, 0];
        assert_eq!(reached(&[2], &all, 0), Reached::Culprit { whole: 0, results: 0..4 });
        assert_eq!(reached(&[2], &[1, 0, 0], 0), Reached::Culprit { whole: 0, results: 0..3 });
    }

    #[test]
    fn answers_are_divided() {
        let answers = [2, 0, 0, 0, 1, 0, 0];
        assert_eq!(split_answers(&answers, 0).expect("it decodes"), [0..4, 4..7]);
        assert!(split_answers(&answers[..6], 0).is_err());
    }
}
