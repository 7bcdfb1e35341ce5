//! Executing case programs on the emulator.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use vmcs_case::{
    Case, CpuidReading, End, FieldReport, Implementation, Observation, ProbeReport, Session, Target, TargetError,
};
use vmcs_emu::{EntryResult, InstructionFailure, LogicalProcessor, VmExit};
use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::controls::PinBased;
use vmcs_model::field::{Area, FIELDS, FieldId, FieldInfo};
use vmcs_model::formats::{ExitReason, exit_reason};
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::profile::{CpuidLeaf, MsrValue};
use vmcs_model::{Capabilities, CpuProfile, EntryInstruction, Outcome, Verdict, field};
use vmcs_wire::{NO_VIOLATION, Op, Start, StepResult, layout};

use crate::step::Step;

/// What the probe's paging structures hold.
static PAGING: LazyLock<Vec<u8>> =
    LazyLock::new(|| layout::PAGING.step_by(8).flat_map(|at| layout::paging_entry(at).to_le_bytes()).collect());

/// The emulator in the state in which a case finds the processor, and stepping through it.
#[derive(Clone, Debug)]
pub struct CaseEmulator {
    processor: LogicalProcessor,
}

impl CaseEmulator {
    /// A machine whose case starts in `start`.
    #[must_use]
    pub fn new(profile: &CpuProfile, start: Start) -> Self {
        let mut processor = LogicalProcessor::new(profile);
        let memory = processor.memory_mut();
        memory.set_end(layout::MEMORY_END);
        memory.set_unknown(&layout::UNKNOWN);
        memory.write_bytes(layout::PAGING.start, &PAGING);
        if start == Start::VmxRoot {
            let revision = processor.capabilities().revision();
            processor.memory_mut().write_u32(layout::VMXON_REGION, revision);
            // It can fail only on a processor whose fixed bits contradict the probe's CR0 and CR4: then every step
            // raises #UD, as it would there.
            let _ = processor.vmxon(layout::VMXON_REGION);
        }
        Self { processor }
    }

    /// The processor.
    #[must_use]
    pub fn processor(&self) -> &LogicalProcessor {
        &self.processor
    }

    /// The instruction that asks for a VM entry, if `op` is one.
    #[must_use]
    pub fn entry_instruction(op: &Op) -> Option<EntryInstruction> {
        match op {
            Op::Vmlaunch { .. } => Some(EntryInstruction::Vmlaunch),
            Op::Vmresume { .. } => Some(EntryInstruction::Vmresume),
            _ => None,
        }
    }

    /// What the architecture permits `op`, a VMLAUNCH or VMRESUME, to end in now.
    #[must_use]
    pub fn verdict(&mut self, op: &Op) -> Option<Verdict> {
        let instruction = Self::entry_instruction(op)?;
        self.block_by_mov_ss(op);
        Some(self.processor.verdict(instruction))
    }

    /// As [`Self::verdict`], for a processor that does not make the checks `omitted`.
    #[must_use]
    pub fn verdict_omitting(&self, op: &Op, omitted: &CheckSet) -> Option<Verdict> {
        let instruction = Self::entry_instruction(op)?;
        Some(self.processor.verdict_omitting(instruction, omitted))
    }

    /// Why `op`, a VMLAUNCH or VMRESUME, violates `check` now, for a person.
    #[must_use]
    pub fn explain(&self, op: &Op, check: CheckId) -> Option<String> {
        Some(self.processor.explain(Self::entry_instruction(op)?, check))
    }

    /// Executes `op`. A VM entry takes the first permitted outcome, and its guest exits at once.
    pub fn step(&mut self, session: &Session, op: &Op) -> Step {
        let Some(instruction) = Self::entry_instruction(op) else {
            return self.execute(session, op);
        };
        self.block_by_mov_ss(op);
        let outcome = self.processor.decide(instruction);
        let (reason, qualification) = self.exit_of_plain_guest();
        self.follow(op, outcome, ExitReason::new().with_basic(reason), qualification)
    }

    /// Executes `op`, a VMLAUNCH or VMRESUME, so that it ends in `outcome`. After an entry the guest exits with `reason`
    /// and `qualification`.
    pub fn follow(&mut self, op: &Op, outcome: Outcome, reason: ExitReason, qualification: u64) -> Step {
        let instruction = Self::entry_instruction(op).expect("only entries are followed");
        self.block_by_mov_ss(op);
        match self.processor.enter_as(instruction, outcome) {
            Err(failure) => step_of(Err(failure)),
            Ok(EntryResult::Failed { reason, qualification }) => StepResult::Exit {
                reason: ExitReason::new().with_basic(reason).with_entry_failure(true).into_bits(),
                qualification,
                fields: Vec::new(),
            },
            Ok(EntryResult::Aborted(_)) => StepResult::NotRun,
            Ok(EntryResult::Entered) => {
                // The one instruction that plain guests have.
                let instruction_length = (reason.basic() == exit_reason::VMCALL).then_some(3);
                let exit = VmExit { reason, instruction_length, ..VmExit::new(0, qualification) };
                match self.processor.vm_exit(exit) {
                    Ok(()) => StepResult::Exit { reason: reason.into_bits(), qualification, fields: Vec::new() },
                    Err(_) => StepResult::NotRun,
                }
            }
        }
    }

    /// The exit of a plain guest: before its first instruction if something ends it there, and else by VMCALL, its first
    /// instruction.
    fn exit_of_plain_guest(&self) -> (u16, u64) {
        let timer = self.processor.current().is_some_and(|region| {
            region.fields.get(field::PIN_BASED_VM_EXECUTION_CONTROLS).contains(PinBased::ACTIVATE_VMX_PREEMPTION_TIMER)
                && region.fields.get(field::VMX_PREEMPTION_TIMER_VALUE) == 0
        });
        (if timer { exit_reason::PREEMPTION_TIMER } else { exit_reason::VMCALL }, 0)
    }

    /// Makes a field of the current VMCS hold `value`, if there is one: what the target was seen to have there.
    pub(crate) fn adopt(&mut self, field: FieldId, value: u64) {
        if self.processor.current().is_some() {
            let pointer = self.processor.cpu().vmcs_pointer;
            self.processor.region_mut(pointer).fields.set_raw(field, value);
        }
    }

    /// Writes to memory.
    pub(crate) fn store(&mut self, address: u64, value: u64) {
        self.processor.memory_mut().write_u64(address, value);
    }

    fn block_by_mov_ss(&mut self, op: &Op) {
        if let Op::Vmlaunch { after_mov_ss } | Op::Vmresume { after_mov_ss } = *op {
            self.processor.cpu_mut().mov_ss_blocking = after_mov_ss;
        }
    }

    fn execute(&mut self, session: &Session, op: &Op) -> Step {
        let cpu = &mut self.processor;
        let done = |result: Result<(), InstructionFailure>| step_of(result.map(|()| None));
        match *op {
            Op::Vmxon { address } => done(cpu.vmxon(address)),
            Op::Vmxoff => done(cpu.vmxoff()),
            Op::Vmclear { address } => done(cpu.vmclear(address)),
            Op::Vmptrld { address } => done(cpu.vmptrld(address)),
            Op::Vmptrst => step_of(cpu.vmptrst().map(Some)),
            Op::Vmread { encoding } => step_of(cpu.vmread(encoding).map(Some)),
            Op::Vmwrite { encoding, value } => done(cpu.vmwrite(encoding, value)),
            Op::Vmcall => done(cpu.vmcall()),
            Op::Vmfunc { eax, ecx } => done(cpu.vmfunc(eax, ecx)),
            Op::Invept { kind, descriptor } => done(cpu.invept(kind, descriptor)),
            Op::Invvpid { kind, descriptor } => done(cpu.invvpid(kind, descriptor)),
            Op::WriteImage { image } => {
                let writes = session.images.get(usize::from(image)).map_or(&[][..], Vec::as_slice);
                done(writes.iter().try_for_each(|(encoding, value)| cpu.vmwrite(u64::from(*encoding), *value)))
            }
            Op::Store { address, size, value } => {
                let bytes = value.to_le_bytes();
                cpu.memory_mut().write_bytes(address, &bytes[..usize::from(size).min(bytes.len())]);
                StepResult::Ok
            }
            Op::Diagnose { resume } => {
                let instruction = if resume { EntryInstruction::Vmresume } else { EntryInstruction::Vmlaunch };
                let first = cpu.verdict(instruction).violated.iter().next();
                StepResult::Value(first.map_or(NO_VIOLATION, |check| check.index() as u64))
            }
            // The emulator has no time-stamp counter.
            Op::Time { .. } => StepResult::NotRun,
            Op::Observe { state } => {
                let read = |encoding: u32| cpu.vmread(encoding.into()).unwrap_or(0);
                StepResult::Fields(session.fields_observed(state).map(read).collect())
            }
            Op::Vmlaunch { .. } | Op::Vmresume { .. } => unreachable!("entries are followed, not executed"),
        }
    }
}

/// The result of an instruction as the result of a step.
fn step_of(result: Result<Option<u64>, InstructionFailure>) -> Step {
    match result {
        Ok(None) => StepResult::Ok,
        Ok(Some(value)) => StepResult::Value(value),
        Err(InstructionFailure::Invalid) => StepResult::FailInvalid,
        Err(InstructionFailure::Valid(error)) => StepResult::FailValid(error.0),
        Err(InstructionFailure::Fault(exception)) => {
            StepResult::Fault { vector: exception.vector, error_code: exception.error_code }
        }
        Err(InstructionFailure::Exit { .. } | InstructionFailure::Shutdown) => StepResult::NotRun,
    }
}

/// The emulator as a target.
#[derive(Clone, Debug)]
pub struct EmulatorTarget {
    profile: CpuProfile,
    model: String,
}

impl EmulatorTarget {
    /// What it calls itself.
    pub const NAME: &str = "vmcs-emu";

    /// An emulated processor of that profile, called `model`.
    #[must_use]
    pub fn new(profile: CpuProfile, model: impl Into<String>) -> Self {
        Self { profile, model: model.into() }
    }
}

impl Target for EmulatorTarget {
    fn implementation(&self) -> Implementation {
        Implementation {
            name: Self::NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: self.model.clone(),
            on: None,
        }
    }

    fn capture(&mut self) -> Result<ProbeReport, TargetError> {
        Ok(report_of(&self.profile))
    }

    fn run(
        &mut self,
        session: &Session,
        cases: &mut dyn Iterator<Item = Case>,
        observe: &mut dyn FnMut(usize, Observation) -> ControlFlow<()>,
    ) -> Result<(), TargetError> {
        for (index, case) in cases.enumerate() {
            let mut machine = CaseEmulator::new(&self.profile, case.start);
            let steps = case.ops.iter().map(|op| machine.step(session, op)).collect();
            if observe(index, Observation { steps, end: End::Completed }).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// What the probe would report of a processor that is what its capabilities say.
fn report_of(profile: &CpuProfile) -> ProbeReport {
    let capabilities = Capabilities::new(profile);
    let msr = |msr: CapabilityMsr| match profile.msr(msr) {
        MsrValue::Unknown => None,
        MsrValue::Absent => Some((msr.number(), None)),
        MsrValue::Value(value) => Some((msr.number(), Some(value))),
    };
    let leaf = |leaf: CpuidLeaf| {
        let (number, subleaf) = leaf.query();
        Some(CpuidReading { leaf: number, subleaf, registers: Some(profile.cpuid(leaf)?) })
    };
    let field = |info: &FieldInfo| {
        let read_only = info.area() == Area::ExitInformation && !capabilities.writes_exit_information();
        FieldReport {
            encoding: info.encoding.0,
            read: StepResult::Value(0),
            write: if read_only { StepResult::FailValid(13) } else { StepResult::Ok },
            sticky: if read_only { 0 } else { info.width().mask() },
        }
    };
    ProbeReport {
        msrs: CapabilityMsr::ALL.into_iter().filter_map(msr).collect(),
        cpuid: CpuidLeaf::ALL.into_iter().filter_map(leaf).collect(),
        fields: FIELDS.iter().filter(|info| capabilities.has_field(info)).map(field).collect(),
    }
}
