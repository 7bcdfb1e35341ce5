//! The logical processor: its state, ways to look at it and to set it up, and what all instructions have in common.
//!
//! Registers that the checks of a VM entry look at are in [`CpuState`]; the others are kept in a [`Vmcs`], each under
//! the guest-state field that stands for it, so that entries and exits move values between fields of the same name.

use alloc::collections::BTreeMap;

use vmcs_model::capabilities::Facts;
use vmcs_model::cpu::NO_POINTER;
use vmcs_model::field::{self, FieldId, FieldValue};
use vmcs_model::formats::Interruptibility;
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::registers::{Cr0, Cr4, Efer, Rflags};
use vmcs_model::{Capabilities, CpuProfile, CpuState, Field, LaunchState, Vmcs, VmxOperation};

use crate::exit::VmExit;
use crate::memory::PhysicalMemory;
use crate::outcome::{InstructionFailure, VmxAbort};
use crate::region::VmcsRegion;

/// What VMX instructions depend on besides the processor's registers: two MSRs that firmware sets, the dual-monitor
/// treatment of SMIs and SMM, and modes that are no part of VMX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// IA32_FEATURE_CONTROL (3AH): bit 0 locks the MSR, bit 1 allows VMXON in SMX operation, bit 2 outside SMX
    /// operation.
    pub feature_control: u64,
    /// IA32_SMM_MONITOR_CTL (9BH): bit 0 says that there is an SMM-transfer monitor, bits 31:12 are the address of its
    /// MSEG. SDM 32.15.5, Enabling the Dual-Monitor Treatment.
    pub smm_monitor_ctl: u64,
    /// Whether the dual-monitor treatment of SMIs and SMM is active.
    pub dual_monitor_active: bool,
    /// The SMM-transfer VMCS pointer, meaningful while the dual-monitor treatment is active.
    pub smm_transfer_pointer: u64,
    /// Whether the processor is in SMX operation.
    pub smx: bool,
    /// Whether the processor is in A20M mode, in which VMXON fails.
    pub a20m: bool,
}

impl Default for Platform {
    /// As firmware leaves a machine that allows VMX: IA32_FEATURE_CONTROL locked, VMXON allowed outside SMX operation.
    fn default() -> Self {
        Self {
            feature_control: 0b101,
            smm_monitor_ctl: 0,
            dual_monitor_active: false,
            smm_transfer_pointer: NO_POINTER,
            smx: false,
            a20m: false,
        }
    }
}

/// A logical processor with its physical memory. The VMX instructions are its methods. The crate's documentation has an
/// example, and lists what the processor does where the SDM leaves something open.
#[derive(Clone, Debug)]
pub struct LogicalProcessor {
    pub(crate) capabilities: Capabilities,
    /// The values of the MSRs that a profile has, above all the VMX capability MSRs; 0 where they are not known.
    pub(crate) profile_msrs: [u64; CapabilityMsr::ALL.len()],
    pub(crate) cpu: CpuState,
    pub(crate) platform: Platform,
    pub(crate) memory: PhysicalMemory,
    pub(crate) regions: BTreeMap<u64, VmcsRegion>,
    /// Registers that [`CpuState`] does not hold, each under the guest-state field that stands for it in a VMCS.
    pub(crate) registers: Vmcs,
    pub(crate) msrs: BTreeMap<u32, u64>,
    pub(crate) abort: Option<VmxAbort>,
}

impl LogicalProcessor {
    /// A processor of that profile, ready for VMXON: outside VMX operation, in 64-bit mode at CPL 0, with CR4.VMXE 1.
    /// IA32_FEATURE_CONTROL is as the profile says, but locked so that VMXON is allowed outside SMX operation.
    #[must_use]
    pub fn new(profile: &CpuProfile) -> Self {
        let capabilities = Capabilities::new(profile);
        let profile_msrs = CapabilityMsr::ALL.map(|msr| profile.msr(msr).or_zero().unwrap_or(0));
        let mut platform = Platform::default();
        platform.feature_control |= profile_msrs[CapabilityMsr::FeatureControl as usize];
        let cpu = CpuState {
            vmx: VmxOperation::Outside,
            vmxon_pointer: NO_POINTER,
            vmcs_pointer: NO_POINTER,
            ..CpuState::host_64()
        };
        Self {
            memory: PhysicalMemory::new(capabilities.physical_reserved),
            capabilities,
            profile_msrs,
            cpu,
            platform,
            regions: BTreeMap::new(),
            registers: Vmcs::new(),
            msrs: BTreeMap::new(),
            abort: None,
        }
    }

    /// What the processor can do, as its profile says.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The registers and modes that the checks of a VM entry look at. [`CpuState::executive`] means nothing here: for an
    /// entry that returns from SMM the emulator looks at the executive VMCS itself.
    #[must_use]
    pub fn cpu(&self) -> &CpuState {
        &self.cpu
    }

    /// The registers and modes that the checks of a VM entry look at, to be set to any value.
    pub fn cpu_mut(&mut self) -> &mut CpuState {
        &mut self.cpu
    }

    /// What VMX instructions depend on besides the registers.
    #[must_use]
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// What VMX instructions depend on besides the registers, to be set to any value.
    pub fn platform_mut(&mut self) -> &mut Platform {
        &mut self.platform
    }

    /// Physical memory.
    #[must_use]
    pub fn memory(&self) -> &PhysicalMemory {
        &self.memory
    }

    /// Physical memory, to be written at will.
    pub fn memory_mut(&mut self) -> &mut PhysicalMemory {
        &mut self.memory
    }

    /// The VMCS whose region is at the physical address `address`; `None` if no instruction has used it yet.
    #[must_use]
    pub fn region(&self, address: u64) -> Option<&VmcsRegion> {
        self.regions.get(&address)
    }

    /// The VMCS whose region is at the physical address `address`, to be set to any value. This is a way to write many
    /// fields without a VMWRITE for each.
    pub fn region_mut(&mut self, address: u64) -> &mut VmcsRegion {
        self.regions.entry(address).or_default()
    }

    /// The current VMCS, if there is one.
    #[must_use]
    pub fn current(&self) -> Option<&VmcsRegion> {
        self.region(self.cpu.vmcs_pointer)
    }

    /// The present value of the register that a guest-state field stands for, such as RIP for `GUEST_RIP`. It is the
    /// guest's value while a guest runs, and the host's otherwise. The field of the VMCS may hold another value.
    #[must_use]
    pub fn register<T: FieldValue>(&self, field: Field<T>) -> T {
        T::from_raw(self.register_raw(field.id()))
    }

    /// Sets the register that a guest-state field stands for. Since no guest is executed, this is how a guest changes
    /// its state before it exits.
    pub fn set_register<T: FieldValue>(&mut self, field: Field<T>, value: T) {
        self.set_register_raw(field.id(), value.to_raw());
    }

    /// The VMX abort that has shut the processor down; `None` if the processor runs.
    #[must_use]
    pub fn abort(&self) -> Option<VmxAbort> {
        self.abort
    }

    pub(crate) fn register_raw(&self, field: FieldId) -> u64 {
        if field == field::GUEST_CR0.id() {
            self.cpu.cr0.bits()
        } else if field == field::GUEST_CR4.id() {
            self.cpu.cr4.bits()
        } else if field == field::GUEST_IA32_EFER.id() {
            self.cpu.efer.bits()
        } else if field == field::GUEST_RFLAGS.id() {
            self.cpu.rflags.bits()
        } else {
            self.registers.raw(field)
        }
    }

    pub(crate) fn set_register_raw(&mut self, field: FieldId, value: u64) {
        if field == field::GUEST_CR0.id() {
            self.cpu.cr0 = Cr0::from_bits_retain(value);
        } else if field == field::GUEST_CR4.id() {
            self.cpu.cr4 = Cr4::from_bits_retain(value);
        } else if field == field::GUEST_IA32_EFER.id() {
            self.cpu.efer = Efer::from_bits_retain(value);
        } else if field == field::GUEST_RFLAGS.id() {
            self.cpu.rflags = Rflags::from_bits_retain(value);
        } else {
            self.registers.set_raw(field, value);
            if field == field::GUEST_IA32_RTIT_CTL.id() {
                self.cpu.trace_enabled = value & 1 != 0;
            }
        }
    }

    /// Whether the processor is in 64-bit mode: IA32_EFER.LMA and CS.L are 1.
    pub(crate) fn in_64_bit_mode(&self) -> bool {
        self.cpu.efer.contains(Efer::LMA) && self.cpu.cs_l
    }

    /// A register operand as an instruction sees it: 64 bits in 64-bit mode, and 32 outside it.
    pub(crate) fn register_operand(&self, value: u64) -> u64 {
        if self.in_64_bit_mode() { value } else { value & 0xFFFF_FFFF }
    }

    /// The fields of the current VMCS, all 0 without one.
    pub(crate) fn current_fields(&self) -> &Vmcs {
        static NONE: Vmcs = Vmcs::new();
        self.current().map_or(&NONE, |region| &region.fields)
    }

    /// The current VMCS. Instructions call this only if there is one.
    pub(crate) fn current_mut(&mut self) -> &mut VmcsRegion {
        self.regions.entry(self.cpu.vmcs_pointer).or_default()
    }

    /// Whether the profile leaves that MSR out. The feature that the MSR would report then counts as supported.
    pub(crate) fn is_unknown(&self, msr: CapabilityMsr) -> bool {
        self.capabilities.unknown.intersects(Facts::msr(msr))
    }

    /// Whether a VMXON or VMCS region can lie at the address: it is 4-KByte aligned and within the physical-address width.
    pub(crate) fn is_region_address(&self, address: u64) -> bool {
        address & 0xFFF == 0 && self.capabilities.address_fits(address)
    }

    /// Executes an instruction that reports success by VMsucceed, that is, clears the status flags. SDM 31.2,
    /// Conventions.
    pub(crate) fn execute<T>(
        &mut self,
        instruction: impl FnOnce(&mut Self) -> Result<T, InstructionFailure>,
    ) -> Result<T, InstructionFailure> {
        self.attempt(|cpu| {
            let value = instruction(cpu)?;
            cpu.set_status_flags(Rflags::empty());
            cpu.end_blocking();
            Ok(value)
        })
    }

    /// Executes an instruction that leaves the flags alone when it succeeds, and reports its failure. A processor that
    /// is shut down executes nothing.
    pub(crate) fn attempt<T>(
        &mut self,
        instruction: impl FnOnce(&mut Self) -> Result<T, InstructionFailure>,
    ) -> Result<T, InstructionFailure> {
        if self.abort.is_some() {
            return Err(InstructionFailure::Shutdown);
        }
        instruction(self).map_err(|failure| self.fail(failure))
    }

    /// Carries a failure out and returns it: VMfail sets the flags and the VM-instruction error field, and a VM exit is
    /// made. VMfailValid becomes VMfailInvalid if there is no current VMCS.
    fn fail(&mut self, failure: InstructionFailure) -> InstructionFailure {
        match failure {
            InstructionFailure::Valid(error) if self.cpu.vmcs_pointer != NO_POINTER => {
                self.set_status_flags(Rflags::ZF);
                self.current_mut().fields.set(field::VM_INSTRUCTION_ERROR, error);
            }
            InstructionFailure::Valid(_) | InstructionFailure::Invalid => {
                self.set_status_flags(Rflags::CF);
                self.end_blocking();
                return InstructionFailure::Invalid;
            }
            InstructionFailure::Exit { reason } if self.cpu.vmx == VmxOperation::NonRoot => {
                if self.vm_exit(VmExit::instruction(reason)).is_err() {
                    return InstructionFailure::Shutdown;
                }
            }
            InstructionFailure::Fault(_) | InstructionFailure::Exit { .. } | InstructionFailure::Shutdown => {}
        }
        self.end_blocking();
        failure
    }

    /// Ends blocking by STI and by MOV SS, which lasts for one instruction.
    pub(crate) fn end_blocking(&mut self) {
        self.cpu.mov_ss_blocking = false;
        let blocking = self.registers.get(field::GUEST_INTERRUPTIBILITY_STATE);
        let ended = Interruptibility::STI | Interruptibility::MOV_SS;
        self.registers.set(field::GUEST_INTERRUPTIBILITY_STATE, blocking - ended);
    }

    /// Clears CF, PF, AF, ZF, SF and OF except for those in `set`, which become 1.
    fn set_status_flags(&mut self, set: Rflags) {
        let status = Rflags::CF | Rflags::PF | Rflags::AF | Rflags::ZF | Rflags::SF | Rflags::OF;
        self.cpu.rflags = (self.cpu.rflags - status) | set;
    }

    /// `#UD` unless the processor is in VMX operation and in a mode in which VMX instructions are defined. VMXON,
    /// VMCALL and VMFUNC have other rules.
    pub(crate) fn require_vmx_mode(&self) -> Result<(), InstructionFailure> {
        if self.cpu.vmx == VmxOperation::Outside
            || !self.cpu.cr0.contains(Cr0::PE)
            || self.cpu.rflags.contains(Rflags::VM)
            || self.cpu.compatibility_mode()
        {
            return Err(InstructionFailure::UNDEFINED_OPCODE);
        }
        Ok(())
    }

    /// The tests that most instructions begin with: `#UD`, then a VM exit in VMX non-root operation, then `#GP(0)`.
    pub(crate) fn require_root(&self, exit_reason: u16) -> Result<(), InstructionFailure> {
        self.require_vmx_mode()?;
        if self.cpu.vmx == VmxOperation::NonRoot {
            return Err(InstructionFailure::Exit { reason: exit_reason });
        }
        self.require_cpl_0()
    }

    /// `#GP(0)` unless CPL is 0.
    pub(crate) fn require_cpl_0(&self) -> Result<(), InstructionFailure> {
        if self.cpu.cpl > 0 { Err(InstructionFailure::GENERAL_PROTECTION) } else { Ok(()) }
    }

    /// Makes every VMCS inactive, as VMXOFF does. Those that are launched are marked, for a VMRESUME after another
    /// VMXON.
    pub(crate) fn deactivate_all(&mut self) {
        for region in self.regions.values_mut() {
            region.active = false;
            if region.launch_state == LaunchState::Launched {
                region.launch_state = LaunchState::LaunchedBeforeVmxoff;
            }
        }
    }
}
