//! VMCALL.
//!
//! In a guest VMCALL calls the monitor, that is, it causes a VM exit. In VMX root operation VMCALL is the way into the
//! dual-monitor treatment of SMIs and SMM. Most of this file is about that.

use vmcs_model::capabilities::Facts;
use vmcs_model::cpu::NO_POINTER;
use vmcs_model::field::{self, FieldValue};
use vmcs_model::formats::{ExitReason, exit_reason};
use vmcs_model::msr::{CapabilityMsr, Source};
use vmcs_model::registers::Rflags;
use vmcs_model::{LaunchState, VmxOperation};

use crate::{InstructionFailure, LogicalProcessor};

/// IA32_VMX_BASIC\[49\]: the dual-monitor treatment is supported.
const DUAL_MONITOR: u64 = 1 << 49;
/// IA32_SMM_MONITOR_CTL\[0\]: the STM may be invoked.
const MONITOR_VALID: u64 = 1 << 0;
/// IA32_SMM_MONITOR_CTL\[31:12\]: the MSEG base address.
const MSEG_BASE: u64 = 0xFFFF_F000;
/// SMM-monitor features: the monitor runs in IA-32e mode.
const MONITOR_IA32E: u32 = 1 << 0;

impl LogicalProcessor {
    /// Executes VMCALL. It never succeeds: from a guest it is a VM exit to the monitor, from VMX root operation an SMM
    /// VM exit to the SMM-transfer monitor, and otherwise it fails. SDM 31.3, VMCALL Call to VM Monitor, and 32.15.6,
    /// Activating the Dual-Monitor Treatment.
    ///
    /// An SMM VM exit leaves the processor in SMM with the SMM-transfer VMCS current and the exit recorded there. The
    /// state that the SMM-transfer monitor starts with, which comes from its MSEG header, is not modelled.
    ///
    /// # Errors
    /// Always: `#UD`, a VM exit, `#GP(0)`, VMfail(1) if there is no SMM-transfer monitor to call, VMfailInvalid without
    /// a current VMCS, an SMM VM exit, or VMfailValid with 19 (the launch state is not clear), 20 (VM-exit controls),
    /// 22 (MSEG revision identifier) or 24 (SMM-monitor features).
    pub fn vmcall(&mut self) -> Result<(), InstructionFailure> {
        self.execute(|cpu| Err(cpu.execute_vmcall()))
    }

    fn execute_vmcall(&mut self) -> InstructionFailure {
        match self.cpu.vmx {
            VmxOperation::Outside => return InstructionFailure::UNDEFINED_OPCODE,
            // The VM exit comes before every test of mode and CPL.
            VmxOperation::NonRoot => {
                return InstructionFailure::Exit { reason: exit_reason::VMCALL };
            }
            VmxOperation::Root => {}
        }
        if self.cpu.rflags.contains(Rflags::VM) || self.cpu.compatibility_mode() {
            return InstructionFailure::UNDEFINED_OPCODE;
        }
        if self.cpu.cpl > 0 || self.cpu.seam {
            return InstructionFailure::GENERAL_PROTECTION;
        }
        if self.cpu.smm
            || !self.is_unknown(CapabilityMsr::Basic) && self.capabilities.basic & DUAL_MONITOR == 0
            || self.platform.smm_monitor_ctl & MONITOR_VALID == 0
        {
            return InstructionFailure::valid(1);
        }
        if self.platform.dual_monitor_active {
            return self.exit_to_smm_monitor(self.platform.smm_transfer_pointer);
        }
        if let Err(failure) = self.check_activation() {
            return failure;
        }
        self.exit_to_smm_monitor(self.cpu.vmcs_pointer)
    }

    /// Tests what must hold for VMCALL to activate the dual-monitor treatment. SDM 32.15.6.1, Initial Checks, and
    /// 32.15.6.2, Updating the Current-VMCS and Executive-VMCS Pointers.
    fn check_activation(&self) -> Result<(), InstructionFailure> {
        if self.cpu.vmcs_pointer == NO_POINTER {
            return Err(InstructionFailure::Invalid);
        }
        if self.current().is_some_and(|region| region.launch_state != LaunchState::Clear) {
            return Err(InstructionFailure::valid(19));
        }
        if !self.exit_controls_valid() {
            return Err(InstructionFailure::valid(20));
        }
        let mseg = self.platform.smm_monitor_ctl & MSEG_BASE;
        let revision = self.capabilities.misc >> 32;
        if !self.is_unknown(CapabilityMsr::Misc) && u64::from(self.memory.read_u32(mseg)) != revision {
            return Err(InstructionFailure::valid(22));
        }
        let features = self.memory.read_u32(mseg + 4);
        let ia32e = features & MONITOR_IA32E != 0;
        if features & !MONITOR_IA32E != 0
            || (!ia32e && self.in_64_bit_mode())
            || (ia32e && !self.capabilities.may_have_intel_64())
        {
            return Err(InstructionFailure::valid(24));
        }
        Ok(())
    }

    /// Whether the VM-exit controls of the current VMCS have no reserved bit wrong.
    fn exit_controls_valid(&self) -> bool {
        let primary = self.primary_exit().to_raw();
        let secondary = self.secondary_exit().to_raw();
        let unknown = |source| self.capabilities.unknown.intersects(Facts::of(source));
        (unknown(Source::Exit) || self.capabilities.exit.allows(primary))
            && (unknown(Source::SecondaryExit) || self.capabilities.secondary_exit.forbidden(secondary) == 0)
    }

    /// Makes an SMM VM exit from VMX root operation, to the VMCS at `transfer_pointer`. SDM 32.15.2, SMM VM Exits.
    fn exit_to_smm_monitor(&mut self, transfer_pointer: u64) -> InstructionFailure {
        self.platform.dual_monitor_active = true;
        self.platform.smm_transfer_pointer = transfer_pointer;
        self.cpu.vmcs_pointer = transfer_pointer;
        self.cpu.smm = true;
        let reason = ExitReason::new().with_basic(exit_reason::VMCALL).with_from_root(true);
        let vmxon_pointer = self.cpu.vmxon_pointer;
        let fields = &mut self.current_mut().fields;
        fields.set(field::EXECUTIVE_VMCS_POINTER, vmxon_pointer);
        fields.set(field::EXIT_REASON, reason);
        fields.set(field::EXIT_QUALIFICATION, 0);
        InstructionFailure::Exit { reason: exit_reason::VMCALL }
    }
}
