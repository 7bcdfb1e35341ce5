//! Executes batches in virtual machines. When a case stops one, the next batch gets a new one.

use std::time::Duration;

use kvm_bindings::CpuId;
use kvm_ioctls::Kvm;
use vmcs_driver::{Batch, BatchMachine, Chunk, Deliver, Stop, Stopped, Unanswerable, answer_batch};
use vmcs_wire::batch::Task;
use vmcs_wire::codec::Reader;
use vmcs_wire::{Op, Start};

use crate::machine::{MachineEvent, VirtualMachine};
use crate::watch::StepWatch;
use crate::{KvmError, Payload, host};

/// The examination of the processor is one step. It may take so many times as long as a step of a case.
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
    machine: Option<VirtualMachine>,
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
            MachineEvent::Answered => machine.answer(0).ok_or_else(|| dead("its profile is garbled")),
            MachineEvent::WantsBatch => Err(dead("it did not examine the processor")),
            MachineEvent::Stopped(Stop::Crashed(detail)) => Err(dead(&detail)),
            MachineEvent::Stopped(Stop::Hung) => Err(dead("it hangs while it examines the processor")),
        }
    }

    /// Executes a batch, header and cases, and returns the content of its answer: [`answer_batch`].
    ///
    /// # Errors
    /// [`KvmError`].
    pub fn batch(&mut self, batch: &[u8]) -> Result<Vec<u8>, KvmError> {
        let fields = self.fields;
        answer_batch(self, batch, fields).map_err(|error| match error {
            Unanswerable::BadBatch(error) => KvmError::BadBatch(error),
            Unanswerable::Machine(error) => error,
        })
    }

    /// A machine that waits for its first batch.
    fn ready(&mut self, watch: &mut StepWatch) -> Result<VirtualMachine, KvmError> {
        let mut machine = self.start(Task::Run)?;
        watch.progressed();
        match machine.run(watch) {
            MachineEvent::WantsBatch => Ok(machine),
            MachineEvent::Answered => Err(dead("it answered before it was asked")),
            MachineEvent::Stopped(Stop::Crashed(detail)) => Err(dead(&detail)),
            MachineEvent::Stopped(Stop::Hung) => Err(dead("it hangs")),
        }
    }

    fn start(&mut self, task: Task) -> Result<VirtualMachine, KvmError> {
        self.started += 1;
        VirtualMachine::new(&self.kvm, &self.cpuid, &self.payload, task, &self.session)
    }

    fn watch(&self, patience: Duration) -> Result<StepWatch, KvmError> {
        StepWatch::start(patience)
            .map_err(|error| KvmError::Request { action: "setting a timer", source: error.into() })
    }
}

impl BatchMachine for Executor {
    type Error = KvmError;

    /// Every batch is careful: the answer lies in memory as far as it has got, so that this takes the probe no time.
    const ALWAYS_CAREFUL: bool = true;

    /// Executes one batch.
    fn execute(&mut self, chunk: &Chunk, batches: &[Batch], deliver: Deliver<'_>) -> Result<Option<Stopped>, KvmError> {
        /// Number of a batch, for its answer to repeat.
        const NUMBER: u32 = 1;
        let Some(batch) = batches.first() else { return Ok(None) };
        let mut watch = self.watch(self.patience + measuring(chunk.encoded(batch), batch.cases))?;
        let mut machine = match self.machine.take() {
            Some(machine) => machine,
            None => self.ready(&mut watch)?,
        };
        let mut bytes = Vec::new();
        chunk.append(batch, NUMBER, &mut bytes);
        machine.give(&bytes)?;
        watch.progressed();
        let stop = match machine.run(&mut watch) {
            MachineEvent::Answered => None,
            MachineEvent::WantsBatch => Some(Stop::Crashed("the probe lost its place".to_owned())),
            MachineEvent::Stopped(stop) => Some(stop),
        };
        let answer = machine.answer(NUMBER).unwrap_or_default();
        if let Some(stop) = stop {
            return Ok(Some(Stopped { stop, partial: answer }));
        }
        if deliver(&answer).is_continue() {
            watch.progressed();
            if machine.run(&mut watch) == MachineEvent::WantsBatch {
                self.machine = Some(machine);
            }
        }
        Ok(None)
    }

    fn discard(&mut self) {
        self.machine = None;
    }
}

fn dead(detail: &str) -> KvmError {
    KvmError::DiedAtStart(detail.to_owned())
}

/// How long the longest measurement among those cases may take. Nothing shows that it goes on.
fn measuring(encoded: &[u8], cases: usize) -> Duration {
    /// Many times what a round takes; inside Bochs it may be 10,000 times as long as on a processor.
    const ROUND: Duration = Duration::from_millis(10);
    let mut longest = 0;
    let mut reader = Reader::new(encoded);
    for _ in 0..cases {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_are_waited_for() {
        let time = |rounds| Op::Time { what: vmcs_wire::Timed::Vmresume, rounds };
        let mut chunk = Chunk::default();
        for ops in [&[Op::Vmxoff; 3][..], &[Op::Vmxoff, time(1000), time(5)]] {
            assert!(chunk.push(Start::VmxRoot, ops, vmcs_wire::program::ListLengths::default(), 0, false));
        }
        let batch = chunk.batches(0, 0, 2)[0];
        assert_eq!(measuring(chunk.encoded(&batch), batch.cases), Duration::from_secs(10));
        assert_eq!(measuring(&[1], 1), Duration::ZERO);
    }
}
