//! Batches in, answers out, over as many machines as it takes.

use std::time::Duration;

use kvm_bindings::CpuId;
use kvm_ioctls::Kvm;
use vmcs_wire::batch::{BatchHeader, CaseEnd, Task};
use vmcs_wire::codec::{DecodeError, Reader, Writer};
use vmcs_wire::{Op, Start, StepResult};

use crate::machine::{Event, Machine, Stop};
use crate::watch::Watch;
use crate::{KvmError, Payload, host};

/// The examination of the processor is one step, longer than any of a case by so much.
const PROFILE_PATIENCE: u32 = 240;

/// Executes the batches of one session.
pub struct Executor {
    kvm: Kvm,
    cpuid: CpuId,
    payload: Payload,
    session: Vec<u8>,
    fields: usize,
    patience: Duration,
    /// A machine that waits for a batch.
    machine: Option<Machine>,
    started: u64,
}

impl Executor {
    /// For batches of `session`, which observes `fields` fields after each exit. A step that takes longer than `patience`
    /// counts as hung.
    ///
    /// # Errors
    /// [`KvmError::Refused`] on a host that cannot do it.
    pub fn new(payload: Payload, session: Vec<u8>, fields: usize, patience: Duration) -> Result<Self, KvmError> {
        let (kvm, cpuid) = host::open()?;
        Ok(Self { kvm, cpuid, payload, session, fields, patience, machine: None, started: 0 })
    }

    /// Virtual machines that were started so far.
    #[must_use]
    pub fn machines_started(&self) -> u64 {
        self.started
    }

    /// The profile report.
    ///
    /// # Errors
    /// [`KvmError`].
    pub fn profile(&mut self) -> Result<Vec<u8>, KvmError> {
        let mut machine = self.start(Task::Profile)?;
        let mut watch = self.watch(self.patience * PROFILE_PATIENCE)?;
        match machine.run(&mut watch) {
            Event::Answered => machine.answer(0).ok_or_else(|| dead("its profile is garbled")),
            Event::WantsBatch => Err(dead("it did not examine the processor")),
            Event::Stopped(Stop::Crashed(detail)) => Err(dead(&detail)),
            Event::Stopped(Stop::Hung) => Err(dead("it hangs while it examines the processor")),
        }
    }

    /// Executes a batch, header and cases, and returns the content of its answer. Cases that bring the machine down are
    /// answered with the steps before and how they ended ([`CaseEnd`]).
    ///
    /// # Errors
    /// [`KvmError`].
    pub fn batch(&mut self, batch: &[u8]) -> Result<Vec<u8>, KvmError> {
        let mut reader = Reader::new(batch);
        let header = BatchHeader::decode(&mut reader).map_err(|_| KvmError::BadBatch)?;
        let cases = split(reader.rest(), header.cases).map_err(|_| KvmError::BadBatch)?;
        let mut content = Vec::new();
        let mut done = 0;
        while done < cases.len() {
            done += self.part(&cases[done..], header.number, &mut content)?;
        }
        Ok(content)
    }

    /// Executes cases until one brings the machine down; returns how many are answered in `content` then.
    fn part(&mut self, cases: &[&[u8]], number: u32, content: &mut Vec<u8>) -> Result<usize, KvmError> {
        let mut watch = self.watch(self.patience + measuring(cases))?;
        let mut machine = match self.machine.take() {
            Some(machine) => machine,
            None => self.ready(&mut watch)?,
        };
        let header = BatchHeader { number, cases: u32::try_from(cases.len()).unwrap_or(u32::MAX), careful: true };
        let mut batch = vec![0; BatchHeader::BYTES];
        header.encode(&mut Writer::new(&mut batch)).expect("the vector has its size");
        cases.iter().for_each(|case| batch.extend_from_slice(case));
        machine.give(&batch)?;
        watch.progressed();
        let stop = match machine.run(&mut watch) {
            Event::Answered => None,
            Event::WantsBatch => Some(Stop::Crashed("the probe lost its place".to_owned())),
            Event::Stopped(stop) => Some(stop),
        };
        let answer = machine.answer(number).unwrap_or_default();
        match verdict(cases, &answer, self.fields, stop) {
            Verdict::Done => {
                content.extend_from_slice(&answer);
                watch.progressed();
                if machine.run(&mut watch) == Event::WantsBatch {
                    self.machine = Some(machine);
                }
                Ok(cases.len())
            }
            Verdict::Between { whole, bytes } => {
                content.extend_from_slice(&answer[..bytes]);
                Ok(whole)
            }
            Verdict::Culprit { whole, bytes, stop } => {
                content.extend_from_slice(&answer[..bytes]);
                blame(&stop, content);
                Ok(whole + 1)
            }
            Verdict::Unknown(stop) if cases.len() == 1 => {
                // No steps.
                content.extend_from_slice(&[0, 0]);
                blame(&stop, content);
                Ok(1)
            }
            Verdict::Unknown(_) => {
                for case in cases {
                    self.part(&[case], number, content)?;
                }
                Ok(cases.len())
            }
        }
    }

    /// A machine that waits for its first batch.
    fn ready(&mut self, watch: &mut Watch) -> Result<Machine, KvmError> {
        let mut machine = self.start(Task::Run)?;
        watch.progressed();
        match machine.run(watch) {
            Event::WantsBatch => Ok(machine),
            Event::Answered => Err(dead("it answered before it was asked")),
            Event::Stopped(Stop::Crashed(detail)) => Err(dead(&detail)),
            Event::Stopped(Stop::Hung) => Err(dead("it hangs")),
        }
    }

    fn start(&mut self, task: Task) -> Result<Machine, KvmError> {
        self.started += 1;
        Machine::new(&self.kvm, &self.cpuid, &self.payload, task, &self.session)
    }

    fn watch(&self, patience: Duration) -> Result<Watch, KvmError> {
        Watch::start(patience).map_err(|error| KvmError::Request { action: "setting a timer", source: error.into() })
    }
}

fn dead(detail: &str) -> KvmError {
    KvmError::DiedAtStart(detail.to_owned())
}

/// Writes how the case ended whose steps were written last.
fn blame(stop: &Stop, content: &mut Vec<u8>) {
    let end = match stop {
        Stop::Crashed(detail) => CaseEnd::Crashed(detail),
        Stop::Hung => CaseEnd::Hung,
    };
    let mut bytes = [0; CaseEnd::MAX_BYTES];
    let mut writer = Writer::new(&mut bytes);
    end.encode(&mut writer).expect("MAX_BYTES holds every end");
    let used = writer.len();
    content.extend_from_slice(&bytes[..used]);
}

/// How far cases came.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// All are answered.
    Done,
    /// The machine stopped between two cases; the first `whole` ones have `bytes` of answers.
    Between { whole: usize, bytes: usize },
    /// Behind `whole` cases one stopped the machine; with its results so far there are `bytes` of answers.
    Culprit { whole: usize, bytes: usize, stop: Stop },
    /// One of them stopped the machine, or spoilt its memory.
    Unknown(Stop),
}

/// What an answer says that may be unfinished or, where a guest went astray, garbled.
fn verdict(cases: &[&[u8]], answer: &[u8], fields: usize, stop: Option<Stop>) -> Verdict {
    let garbled = || Stop::Crashed("the probe's answer is garbled".to_owned());
    let Ok(begun) = split_answers(answer, fields) else {
        return Verdict::Unknown(stop.unwrap_or_else(garbled));
    };
    let is_whole = |(answer, case): &(&&[u8], &&[u8])| steps_answered(answer) == steps_asked(case);
    let whole = begun.iter().zip(cases).take_while(is_whole).count();
    let bytes = begun.iter().take(whole).map(|answer| answer.len()).sum();
    match (begun.get(whole), stop) {
        (None, None) if whole == cases.len() => Verdict::Done,
        (None, Some(_)) if (1..cases.len()).contains(&whole) => Verdict::Between { whole, bytes },
        (Some(last), Some(stop)) if begun.len() == whole + 1 && whole < cases.len() => {
            Verdict::Culprit { whole, bytes: bytes + last.len(), stop }
        }
        (_, stop) => Verdict::Unknown(stop.unwrap_or_else(garbled)),
    }
}

fn steps_asked(case: &[u8]) -> Option<u16> {
    let mut reader = Reader::new(case);
    Start::decode(&mut reader).and_then(|_| reader.u16()).ok()
}

fn steps_answered(answer: &[u8]) -> Option<u16> {
    Reader::new(answer).u16().ok()
}

/// How long the longest measurement among those cases may take. Nothing shows that it goes on.
fn measuring(cases: &[&[u8]]) -> Duration {
    /// Many times what a round takes; inside Bochs it may be 10,000 times as long as on a processor.
    const ROUND: Duration = Duration::from_millis(10);
    let mut longest = 0;
    for case in cases {
        let mut reader = Reader::new(case);
        let ops = Start::decode(&mut reader).and_then(|_| reader.u16()).unwrap_or(0);
        for _ in 0..ops {
            match Op::decode(&mut reader) {
                Ok(Op::Time { rounds, .. }) => longest = longest.max(rounds),
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
    ROUND * u32::from(longest)
}

/// Divides the cases of a batch.
fn split(bytes: &[u8], cases: u32) -> Result<Vec<&[u8]>, DecodeError> {
    let mut reader = Reader::new(bytes);
    (0..cases)
        .map(|_| {
            let rest = reader.rest();
            Start::decode(&mut reader)?;
            for _ in 0..reader.u16()? {
                Op::decode(&mut reader)?;
            }
            Ok(&rest[..rest.len() - reader.rest().len()])
        })
        .collect()
}

/// Divides an answer whose last case may be unfinished.
fn split_answers(bytes: &[u8], fields: usize) -> Result<Vec<&[u8]>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut answers = Vec::new();
    while !reader.rest().is_empty() {
        let rest = reader.rest();
        for _ in 0..reader.u16()? {
            StepResult::decode(&mut reader, fields)?;
        }
        answers.push(&rest[..rest.len() - reader.rest().len()]);
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` VMXOFFs in one case.
    fn case(count: u16) -> Vec<u8> {
        let mut bytes = [0; 64];
        let mut writer = Writer::new(&mut bytes);
        Start::VmxRoot.encode(&mut writer).expect("room");
        writer.u16(count).expect("room");
        (0..count).for_each(|_| Op::Vmxoff.encode(&mut writer).expect("room"));
        let used = writer.len();
        bytes[..used].to_vec()
    }

    #[test]
    fn the_culprit_is_the_case_that_was_begun() {
        let (one, two) = (case(1), case(2));
        let cases: [&[u8]; 3] = [&two, &one, &two];
        let judge = |answer: &[u8], stop: Option<Stop>| verdict(&cases, answer, 0, stop);
        // Two results, one result, two results.
        let all = [2, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0];
        assert_eq!(judge(&all, None), Verdict::Done);
        let hung = || Some(Stop::Hung);
        assert_eq!(judge(&all[..7], hung()), Verdict::Between { whole: 2, bytes: 7 });
        let begun = [&all[..7], &[1, 0, 0]].concat();
        assert_eq!(judge(&begun, hung()), Verdict::Culprit { whole: 2, bytes: 10, stop: Stop::Hung });
        assert_eq!(judge(&[0, 0], hung()), Verdict::Culprit { whole: 0, bytes: 2, stop: Stop::Hung });
        // Nothing begun; all answered, and then the probe finds itself overwritten; a machine that says it is done and is not.
        assert_eq!(judge(&[], hung()), Verdict::Unknown(Stop::Hung));
        assert_eq!(judge(&all, hung()), Verdict::Unknown(Stop::Hung));
        assert!(matches!(judge(&all[..7], None), Verdict::Unknown(Stop::Crashed(_))));
        assert!(matches!(judge(&[0xFF; 7], None), Verdict::Unknown(Stop::Crashed(_))));
    }

    #[test]
    fn measurements_are_waited_for() {
        let mut bytes = [0; 64];
        let mut writer = Writer::new(&mut bytes);
        Start::VmxRoot.encode(&mut writer).expect("room");
        let time = |rounds| Op::Time { what: vmcs_wire::Timed::Vmresume, rounds };
        writer.u16(3).expect("room");
        [Op::Vmxoff, time(1000), time(5)].iter().for_each(|op| op.encode(&mut writer).expect("room"));
        let used = writer.len();
        assert_eq!(measuring(&[&case(3), &bytes[..used]]), Duration::from_secs(10));
        assert_eq!(measuring(&[&case(3), &[1]]), Duration::ZERO);
    }

    #[test]
    fn cases_and_answers_are_divided() {
        let mut bytes = [0; 64];
        let mut writer = Writer::new(&mut bytes);
        for ops in [&[Op::Vmptrst, Op::Vmxoff][..], &[], &[Op::Vmcall]] {
            Start::VmxRoot.encode(&mut writer).expect("room");
            writer.u16(u16::try_from(ops.len()).expect("few")).expect("room");
            ops.iter().for_each(|op| op.encode(&mut writer).expect("room"));
        }
        let used = writer.len();
        let lengths: Vec<_> = split(&bytes[..used], 3).expect("it decodes").iter().map(|case| case.len()).collect();
        assert_eq!(lengths.iter().sum::<usize>(), used);
        assert_eq!(lengths[1], 3);
        assert!(split(&bytes[..used - 1], 3).is_err());

        let answers = [2, 0, 0, 0, 1, 0, 0];
        assert_eq!(split_answers(&answers, 0).expect("it decodes"), [&answers[..4], &answers[4..]]);
        assert!(split_answers(&answers[..6], 0).is_err());
    }
}
