//! A case before it is a program: an image, what is changed of it, and how the processor comes to enter it.

use vmcs_case::Case;
use vmcs_emu::guest_state::SAVED_IF_SUPPORTED;
use vmcs_golden::corpus::Stage;
use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::cpu::NO_POINTER;
use vmcs_model::field::FieldId;
use vmcs_model::{
    CpuState, EntryAttempt, EntryInstruction, LaunchState, Verdict, Vmcs, VmxOperation, field, judge, violations,
};
use vmcs_wire::{Op, Start, layout};

use crate::World;
use crate::memory::CaseMemory;
use crate::world::Base;

/// The VMCS region that image cases use.
pub(crate) const REGION: u64 = layout::VMCS_REGIONS;

/// The state in which the entry finds the processor and the VMCS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Way {
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

/// A case to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Draft {
    /// The image that it starts from: an index of [`World::bases`].
    pub(crate) base: usize,
    /// Fields that are changed, each once.
    pub(crate) changes: Vec<(FieldId, u64)>,
    /// Qwords in memory, in the order of their addresses, which are multiples of 8 in [`layout::ARENA`].
    pub(crate) memory: Vec<(u64, u64)>,
    /// How the processor comes to the entry.
    pub(crate) way: Way,
    /// VMRESUME, not VMLAUNCH.
    pub(crate) resume: bool,
    /// Events are blocked by MOV SS.
    pub(crate) after_mov_ss: bool,
}

impl Draft {
    /// The stage of a golden line that was played with image `base`, if a program can set it up.
    pub(crate) fn of_stage(world: &World, base: usize, stage: &Stage) -> Option<Self> {
        let usual = CpuState {
            executive: stage.cpu.executive,
            mov_ss_blocking: stage.cpu.mov_ss_blocking,
            vmx: stage.cpu.vmx,
            vmcs_pointer: stage.cpu.vmcs_pointer,
            ..CpuState::host_64()
        };
        let has_fields = stage.changed.iter().all(|field| world.capabilities.has_field(field.info()));
        if stage.cpu != usual || !has_fields {
            return None;
        }
        let way = match (stage.cpu.vmx, stage.cpu.vmcs_pointer, stage.shadow, stage.launch_state) {
            (VmxOperation::Outside, ..) => Way::OutsideVmx,
            (VmxOperation::Root, NO_POINTER, ..) => Way::NoCurrent,
            // Elsewhere VMPTRLD refuses it.
            (VmxOperation::Root, REGION, true, LaunchState::Clear) if world.capabilities.vmcs_shadowing() => {
                Way::Shadow
            }
            (VmxOperation::Root, REGION, false, LaunchState::Clear) => Way::Clear,
            (VmxOperation::Root, REGION, false, LaunchState::Launched) => Way::Launched,
            (VmxOperation::Root, REGION, false, LaunchState::LaunchedBeforeVmxoff) => Way::LaunchedBeforeVmxoff,
            _ => return None,
        };
        let mut draft = Self {
            base,
            way,
            resume: stage.instruction == EntryInstruction::Vmresume,
            after_mov_ss: stage.cpu.mov_ss_blocking,
            ..Self::default()
        };
        let before = &world.bases[base].vmcs;
        for field in stage.changed.iter().copied().filter(|field| stage.vmcs.raw(*field) != before.raw(*field)) {
            draft.set(field, stage.vmcs.raw(field));
        }
        for (address, dword) in &stage.memory.0 {
            // Beyond the arena is what the machine has there, and the headers of the regions stand there already.
            if *dword != 0 && layout::ARENA.contains(address) && *address >= REGION + 0x1000 {
                draft.store(address & !7, u64::from(*dword) << (8 * (address & 4)));
            }
        }
        Some(draft)
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
    pub(crate) fn image(&self, world: &World) -> Vmcs {
        let mut vmcs = world.bases[self.base].vmcs.clone();
        for (field, value) in &self.changes {
            vmcs.set_raw(*field, *value);
        }
        vmcs
    }

    /// What memory holds then.
    pub(crate) fn memory<'a>(&'a self, world: &'a World) -> CaseMemory<'a> {
        CaseMemory::new(&world.capabilities, &world.bases[self.base].memory, &self.memory)
    }

    /// Asks the model about the entry.
    fn ask<T>(&self, world: &World, vmcs: &Vmcs, ask: impl FnOnce(EntryAttempt<'_>, &Vmcs, &CaseMemory<'_>) -> T) -> T {
        let mut cpu = CpuState { mov_ss_blocking: self.after_mov_ss, ..CpuState::host_64() };
        match self.way {
            Way::OutsideVmx => {
                cpu.vmx = VmxOperation::Outside;
                cpu.vmcs_pointer = NO_POINTER;
            }
            Way::NoCurrent => cpu.vmcs_pointer = NO_POINTER,
            _ => cpu.vmcs_pointer = REGION,
        }
        let attempt = EntryAttempt {
            instruction: if self.resume { EntryInstruction::Vmresume } else { EntryInstruction::Vmlaunch },
            launch_state: match self.way {
                Way::Launched => LaunchState::Launched,
                Way::LaunchedBeforeVmxoff => LaunchState::LaunchedBeforeVmxoff,
                _ => LaunchState::Clear,
            },
            shadow: self.way == Way::Shadow,
            cpu: &cpu,
            capabilities: &world.capabilities,
        };
        ask(attempt, vmcs, &self.memory(world))
    }

    /// What the model says of the entry; `vmcs` is [`Self::image`].
    pub(crate) fn verdict(&self, world: &World, vmcs: &Vmcs) -> Verdict {
        self.ask(world, vmcs, |attempt, vmcs, memory| judge(attempt, vmcs, memory))
    }

    /// What the entry violates; `vmcs` is [`Self::image`].
    pub(crate) fn violations(&self, world: &World, vmcs: &Vmcs) -> CheckSet {
        self.ask(world, vmcs, |attempt, vmcs, memory| violations(attempt, vmcs, memory))
    }

    /// Whether a check is in force; `vmcs` is [`Self::image`].
    pub(crate) fn puts_in_force(&self, world: &World, vmcs: &Vmcs, check: CheckId) -> bool {
        self.ask(world, vmcs, |attempt, vmcs, memory| check.in_force(attempt, vmcs, memory))
    }

    /// The program.
    pub(crate) fn case(&self, world: &World) -> Case {
        let after_mov_ss = self.after_mov_ss;
        let enter = if self.resume { Op::Vmresume { after_mov_ss } } else { Op::Vmlaunch { after_mov_ss } };
        let start = match self.way {
            Way::OutsideVmx => Start::OutsideVmx,
            _ => Start::VmxRoot,
        };
        if matches!(self.way, Way::OutsideVmx | Way::NoCurrent) {
            return Case { start, ops: vec![enter], ..Case::default() };
        }
        let Base { vmcs, memory, .. } = &world.bases[self.base];
        let revision = u64::from(world.capabilities.revision());
        let mut ops = Vec::with_capacity(9 + memory.len() + self.memory.len() + self.changes.len());
        ops.push(Op::Store { address: REGION, size: 4, value: revision });
        ops.push(Op::Vmclear { address: REGION });
        if self.way == Way::Shadow {
            ops.push(Op::Store { address: REGION, size: 4, value: revision | 1 << 31 });
        }
        ops.push(Op::Vmptrld { address: REGION });
        ops.push(Op::WriteImage { image: u16::try_from(self.base).expect("there are few bases") });
        let stores = memory.iter().chain(&self.memory);
        ops.extend(stores.map(|&(address, value)| Op::Store { address, size: 8, value }));
        let write = |(field, value): (FieldId, u64)| Op::Vmwrite { encoding: field.info().encoding.0.into(), value };
        if matches!(self.way, Way::Launched | Way::LaunchedBeforeVmxoff) {
            ops.push(Op::Vmlaunch { after_mov_ss: false });
            // What they hold now the exit has saved, loaded or not: it may be what an earlier case has left.
            let saved = SAVED_IF_SUPPORTED.into_iter().filter(|field| world.fields.contains(field));
            ops.extend(saved.map(|field| write((field, vmcs.raw(field)))));
        }
        if self.way == Way::LaunchedBeforeVmxoff {
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
