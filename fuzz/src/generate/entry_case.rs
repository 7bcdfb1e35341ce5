//! A case that tries one VM entry, before a program is made of it: an image, the changes of it, and the state in which the
//! entry finds the processor.

use vmcs_case::Case;
use vmcs_case::probe_host;
use vmcs_emu::guest_state::SAVED_IF_SUPPORTED;
use vmcs_golden::corpus::Stage;
use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::cpu::NO_POINTER;
use vmcs_model::field::FieldId;
use vmcs_model::{CpuState, EntryAttempt, EntryInstruction, LaunchState, Verdict, Vmcs, VmxOperation, field};
use vmcs_wire::{Op, Start, layout};

use crate::processor::BaseImage;
use crate::processor::Processor;
use crate::processor::memory::{CaseMemory, REGION};

/// The state in which the entry finds the processor and the VMCS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum StateBefore {
    /// A clear VMCS is current.
    #[default]
    Clear,
    /// Outside VMX operation.
    OutsideVmx,
    /// No VMCS is current.
    NoCurrent,
    /// The current VMCS is a shadow VMCS.
    Shadow,
    /// The current VMCS has been launched.
    Launched,
    /// The current VMCS was launched before VMXOFF and VMXON.
    LaunchedBeforeVmxoff,
}

/// An entry to be tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryCase {
    /// The image that it starts from: an index of [`Processor::bases`].
    pub(crate) base: usize,
    /// Fields that are changed, each once.
    pub(crate) changes: Vec<(FieldId, u64)>,
    /// Qwords in memory, in the order of their addresses, which are multiples of 8 in [`layout::ARENA`].
    pub(crate) memory: Vec<(u64, u64)>,
    /// The state in which the entry finds the processor and the VMCS.
    pub(crate) before: StateBefore,
    /// VMRESUME, not VMLAUNCH.
    pub(crate) resume: bool,
    /// Events are blocked by MOV SS.
    pub(crate) after_mov_ss: bool,
}

impl EntryCase {
    /// The stage of a golden line that was played with image `base`, if a program can set it up.
    pub(crate) fn of_stage(processor: &Processor, base: usize, stage: &Stage) -> Option<Self> {
        let usual = CpuState {
            executive: stage.cpu.executive,
            mov_ss_blocking: stage.cpu.mov_ss_blocking,
            vmx: stage.cpu.vmx,
            vmcs_pointer: stage.cpu.vmcs_pointer,
            ..probe_host()
        };
        let has_fields = stage.changed.iter().all(|field| processor.capabilities.has_field(field.info()));
        if stage.cpu != usual || !has_fields {
            return None;
        }
        let before = match (stage.cpu.vmx, stage.cpu.vmcs_pointer, stage.shadow, stage.launch_state) {
            (VmxOperation::Outside, ..) => StateBefore::OutsideVmx,
            (VmxOperation::Root, NO_POINTER, ..) => StateBefore::NoCurrent,
            // Elsewhere VMPTRLD refuses it.
            (VmxOperation::Root, REGION, true, LaunchState::Clear) if processor.capabilities.vmcs_shadowing() => {
                StateBefore::Shadow
            }
            (VmxOperation::Root, REGION, false, LaunchState::Clear) => StateBefore::Clear,
            (VmxOperation::Root, REGION, false, LaunchState::Launched) => StateBefore::Launched,
            (VmxOperation::Root, REGION, false, LaunchState::LaunchedBeforeVmxoff) => StateBefore::LaunchedBeforeVmxoff,
            _ => return None,
        };
        let mut entry = Self {
            base,
            before,
            resume: stage.instruction == EntryInstruction::Vmresume,
            after_mov_ss: stage.cpu.mov_ss_blocking,
            ..Self::default()
        };
        let unchanged = &processor.bases[base].vmcs;
        for field in stage.changed.iter().copied().filter(|field| stage.vmcs.raw(*field) != unchanged.raw(*field)) {
            entry.set(field, stage.vmcs.raw(field));
        }
        for (address, dword) in &stage.memory.0 {
            // Beyond the arena is what the machine has there, and the headers of the regions stand there already.
            if *dword != 0 && layout::ARENA.contains(address) && *address >= REGION + 0x1000 {
                entry.store(address & !7, u64::from(*dword) << (8 * (address & 4)));
            }
        }
        Some(entry)
    }

    /// Changes a field.
    pub(crate) fn set(&mut self, field: FieldId, value: u64) {
        let value = value & field.info().width().mask();
        match self.changes.iter_mut().find(|(changed, _)| *changed == field) {
            Some(change) => change.1 = value,
            None => self.changes.push((field, value)),
        }
    }

    /// Sets bits of a qword in memory.
    pub(crate) fn store(&mut self, address: u64, bits: u64) {
        match self.memory.binary_search_by_key(&address, |(at, _)| *at) {
            Ok(index) => self.memory[index].1 |= bits,
            Err(index) => self.memory.insert(index, (address, bits)),
        }
    }

    /// The VMCS that is entered.
    pub(crate) fn image(&self, processor: &Processor) -> Vmcs {
        let mut vmcs = processor.bases[self.base].vmcs.clone();
        for (field, value) in &self.changes {
            vmcs.set_raw(*field, *value);
        }
        vmcs
    }

    /// What memory holds then.
    pub(crate) fn memory<'a>(&'a self, processor: &'a Processor) -> CaseMemory<'a> {
        CaseMemory::new(&processor.capabilities, &processor.bases[self.base].memory, &self.memory)
    }

    /// Asks the model about the entry.
    fn ask<T>(
        &self,
        processor: &Processor,
        vmcs: &Vmcs,
        ask: impl FnOnce(EntryAttempt<'_>, &Vmcs, &CaseMemory<'_>) -> T,
    ) -> T {
        let mut cpu = CpuState { mov_ss_blocking: self.after_mov_ss, ..probe_host() };
        match self.before {
            StateBefore::OutsideVmx => {
                cpu.vmx = VmxOperation::Outside;
                cpu.vmcs_pointer = NO_POINTER;
            }
            StateBefore::NoCurrent => cpu.vmcs_pointer = NO_POINTER,
            _ => cpu.vmcs_pointer = REGION,
        }
        let instruction = if self.resume { EntryInstruction::Vmresume } else { EntryInstruction::Vmlaunch };
        let launch_state = match self.before {
            StateBefore::Launched => LaunchState::Launched,
            StateBefore::LaunchedBeforeVmxoff => LaunchState::LaunchedBeforeVmxoff,
            _ => LaunchState::Clear,
        };
        let attempt = EntryAttempt::by(instruction, &cpu, &processor.capabilities)
            .with_launch_state(launch_state)
            .with_shadow(self.before == StateBefore::Shadow);
        ask(attempt, vmcs, &self.memory(processor))
    }

    /// What the model says of the entry; `vmcs` is [`Self::image`].
    pub(crate) fn verdict(&self, processor: &Processor, vmcs: &Vmcs) -> Verdict {
        self.ask(processor, vmcs, |attempt, vmcs, memory| attempt.on(vmcs, memory).verdict())
    }

    /// What the entry violates; `vmcs` is [`Self::image`].
    pub(crate) fn violations(&self, processor: &Processor, vmcs: &Vmcs) -> CheckSet {
        self.ask(processor, vmcs, |attempt, vmcs, memory| attempt.on(vmcs, memory).violations())
    }

    /// Whether a check is in force; `vmcs` is [`Self::image`].
    pub(crate) fn puts_in_force(&self, processor: &Processor, vmcs: &Vmcs, check: CheckId) -> bool {
        self.ask(processor, vmcs, |attempt, vmcs, memory| attempt.on(vmcs, memory).in_force(check))
    }

    /// The program.
    pub(crate) fn case(&self, processor: &Processor) -> Case {
        let after_mov_ss = self.after_mov_ss;
        let enter = if self.resume { Op::Vmresume { after_mov_ss } } else { Op::Vmlaunch { after_mov_ss } };
        let start = match self.before {
            StateBefore::OutsideVmx => Start::OutsideVmx,
            _ => Start::VmxRoot,
        };
        if matches!(self.before, StateBefore::OutsideVmx | StateBefore::NoCurrent) {
            return Case { start, ops: vec![enter], ..Case::default() };
        }
        let BaseImage { vmcs, memory, .. } = &processor.bases[self.base];
        let revision = u64::from(processor.capabilities.revision());
        let mut ops = Vec::with_capacity(9 + memory.len() + self.memory.len() + self.changes.len());
        ops.push(Op::Store { address: REGION, size: 4, value: revision });
        ops.push(Op::Vmclear { address: REGION });
        if self.before == StateBefore::Shadow {
            ops.push(Op::Store { address: REGION, size: 4, value: revision | 1 << 31 });
        }
        ops.push(Op::Vmptrld { address: REGION });
        ops.push(Op::WriteImage { image: u16::try_from(self.base).expect("there are few bases") });
        let stores = memory.iter().chain(&self.memory);
        ops.extend(stores.map(|&(address, value)| Op::Store { address, size: 8, value }));
        let write = |(field, value): (FieldId, u64)| Op::Vmwrite { encoding: field.info().encoding.0.into(), value };
        if matches!(self.before, StateBefore::Launched | StateBefore::LaunchedBeforeVmxoff) {
            ops.push(Op::Vmlaunch { after_mov_ss: false });
            // The exit has saved these registers even if the entry did not load them, so that the fields may hold what an earlier
            // case has left.
            let saved = SAVED_IF_SUPPORTED.into_iter().filter(|field| processor.fields.contains(field));
            ops.extend(saved.map(|field| write((field, vmcs.raw(field)))));
        }
        if self.before == StateBefore::LaunchedBeforeVmxoff {
            let again = [Op::Vmxoff, Op::Vmxon { address: layout::VMXON_REGION }, Op::Vmptrld { address: REGION }];
            ops.extend(again);
        }
        ops.extend(self.changes.iter().copied().map(write));
        ops.push(enter);
        Case { start, ops, ..Case::default() }
    }
}

/// Fields that make no sense in an image: exit information.
pub(crate) fn is_input(field: FieldId) -> bool {
    field.info().area() != field::Area::ExitInformation
}
