//! VMXON and VMXOFF, the ways into VMX operation and out of it.

use vmcs_model::VmxOperation;
use vmcs_model::cpu::NO_POINTER;
use vmcs_model::field;
use vmcs_model::formats::exit_reason;
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::registers::{Cr0, Cr4, Rflags};

use crate::{InstructionFailure, LogicalProcessor};

/// IA32_VMX_MISC\[14\]: Intel Processor Trace can be used in VMX operation.
const TRACES_IN_VMX: u64 = 1 << 14;
/// IA32_RTIT_CTL.TraceEn.
const TRACE_ENABLE: u64 = 1 << 0;

impl LogicalProcessor {
    /// Executes VMXON, which enters VMX operation with the VMXON region at the physical address `address`. There is no
    /// current VMCS then. SDM 31.3, VMXON Enter VMX Operation.
    ///
    /// # Errors
    /// Outside VMX operation: `#UD` in a wrong mode, `#GP(0)` for CR0, CR4, CPL, A20M mode or IA32_FEATURE_CONTROL,
    /// VMfailInvalid for the region's address or revision identifier. In VMX root operation: `#GP(0)`, VMfail(15). In a
    /// guest: a VM exit.
    pub fn vmxon(&mut self, address: u64) -> Result<(), InstructionFailure> {
        self.execute(|cpu| cpu.execute_vmxon(address))
    }

    fn execute_vmxon(&mut self, address: u64) -> Result<(), InstructionFailure> {
        let cpu = &self.cpu;
        if !cpu.cr0.contains(Cr0::PE)
            || !cpu.cr4.contains(Cr4::VMXE)
            || cpu.rflags.contains(Rflags::VM)
            || cpu.compatibility_mode()
        {
            return Err(InstructionFailure::UNDEFINED_OPCODE);
        }
        match cpu.vmx {
            VmxOperation::NonRoot => {
                return Err(InstructionFailure::Exit { reason: exit_reason::VMXON });
            }
            VmxOperation::Root => {
                self.require_cpl_0()?;
                return Err(InstructionFailure::valid(15));
            }
            VmxOperation::Outside => {}
        }
        self.require_cpl_0()?;
        if self.platform.a20m || !self.fixed_bits_hold() || !self.feature_control_allows() {
            return Err(InstructionFailure::GENERAL_PROTECTION);
        }
        // Bit 31 of the region's first dword must be 0 too: a VMXON region is never a shadow VMCS.
        if !self.is_region_address(address) || self.memory.read_u32(address) != self.capabilities.revision() {
            return Err(InstructionFailure::Invalid);
        }
        if !self.is_unknown(CapabilityMsr::Misc) && self.capabilities.misc & TRACES_IN_VMX == 0 {
            let traced = self.register(field::GUEST_IA32_RTIT_CTL);
            self.set_register(field::GUEST_IA32_RTIT_CTL, traced & !TRACE_ENABLE);
        }
        self.cpu.vmx = VmxOperation::Root;
        self.cpu.vmxon_pointer = address;
        self.cpu.vmcs_pointer = NO_POINTER;
        Ok(())
    }

    /// Whether CR0 and CR4 hold what VMX operation demands. PE and PG must be 1 here, also on a processor that supports
    /// “unrestricted guest”. SDM 24.8, Restrictions on VMX Operation.
    fn fixed_bits_hold(&self) -> bool {
        let (cr0, cr4) = (self.cpu.cr0.bits(), self.cpu.cr4.bits());
        self.capabilities.cr0.missing(cr0) == 0
            && self.capabilities.cr0.forbidden(cr0) == 0
            && self.capabilities.cr4.missing(cr4) == 0
            && self.capabilities.cr4.forbidden(cr4) == 0
    }

    /// Whether IA32_FEATURE_CONTROL is locked and allows VMXON, by bit 1 in SMX operation and by bit 2 outside. SDM
    /// 24.7, Enabling and Entering VMX Operation.
    fn feature_control_allows(&self) -> bool {
        let enabled = if self.platform.smx { 1 << 1 } else { 1 << 2 };
        let needed = 1 << 0 | enabled;
        self.platform.feature_control & needed == needed
    }

    /// Executes VMXOFF, which leaves VMX operation. A VMCS that is launched becomes
    /// [`LaunchedBeforeVmxoff`](vmcs_model::LaunchState::LaunchedBeforeVmxoff), because a VMRESUME of it after another
    /// VMXON fails with an error of its own. SDM 31.3, VMXOFF Leave VMX Operation.
    ///
    /// # Errors
    /// `#UD`, a VM exit, `#GP(0)`, VMfail(23) while the dual-monitor treatment of SMIs and SMM is active.
    pub fn vmxoff(&mut self) -> Result<(), InstructionFailure> {
        self.execute(|cpu| {
            cpu.require_root(exit_reason::VMXOFF)?;
            if cpu.cpu.seam {
                return Err(InstructionFailure::GENERAL_PROTECTION);
            }
            if cpu.platform.dual_monitor_active {
                return Err(InstructionFailure::valid(23));
            }
            cpu.deactivate_all();
            cpu.cpu.vmx = VmxOperation::Outside;
            cpu.cpu.vmxon_pointer = NO_POINTER;
            cpu.cpu.vmcs_pointer = NO_POINTER;
            Ok(())
        })
    }
}
