//! VMCLEAR, VMPTRLD and VMPTRST, which change or store the current-VMCS pointer.

use vmcs_model::LaunchState;
use vmcs_model::cpu::NO_POINTER;
use vmcs_model::formats::{RegionHeader, exit_reason};
use vmcs_model::msr::CapabilityMsr;

use crate::{InstructionFailure, LogicalProcessor};

impl LogicalProcessor {
    /// Executes VMCLEAR, which makes the VMCS at the physical address `address` inactive and its launch state clear. If
    /// it was current, there is no current VMCS afterwards. Its fields keep their values, and its revision identifier
    /// does not matter. SDM 31.3, VMCLEAR Clear Virtual-Machine Control Structure.
    ///
    /// # Errors
    /// `#UD`, a VM exit, `#GP(0)`, VMfail(2) if the address is not aligned or too wide, VMfail(3) if it is that of the
    /// VMXON region.
    pub fn vmclear(&mut self, address: u64) -> Result<(), InstructionFailure> {
        self.execute(|cpu| {
            cpu.require_root(exit_reason::VMCLEAR)?;
            if !cpu.is_region_address(address) {
                return Err(InstructionFailure::valid(2));
            }
            if address == cpu.cpu.vmxon_pointer {
                return Err(InstructionFailure::valid(3));
            }
            let region = cpu.region_mut(address);
            region.launch_state = LaunchState::Clear;
            region.active = false;
            if cpu.cpu.vmcs_pointer == address {
                cpu.cpu.vmcs_pointer = NO_POINTER;
            }
            Ok(())
        })
    }

    /// Executes VMPTRLD, which makes the VMCS at the physical address `address` active and current. If it fails, the
    /// current VMCS stays the same. SDM 31.3, VMPTRLD Load Pointer to Virtual-Machine Control Structure.
    ///
    /// # Errors
    /// `#UD`, a VM exit, `#GP(0)`, VMfail(9) if the address is not aligned or too wide, VMfail(10) if it is that of the
    /// VMXON region, VMfail(11) if the region has another revision identifier or is a shadow VMCS that the processor
    /// does not support.
    pub fn vmptrld(&mut self, address: u64) -> Result<(), InstructionFailure> {
        self.execute(|cpu| {
            cpu.require_root(exit_reason::VMPTRLD)?;
            if !cpu.is_region_address(address) {
                return Err(InstructionFailure::valid(9));
            }
            if address == cpu.cpu.vmxon_pointer {
                return Err(InstructionFailure::valid(10));
            }
            let header = RegionHeader::from_bits(cpu.memory.read_u32(address));
            if header.revision() != cpu.capabilities.revision()
                || (header.shadow() && !cpu.is_unknown(CapabilityMsr::Procbased2) && !cpu.capabilities.vmcs_shadowing())
            {
                return Err(InstructionFailure::valid(11));
            }
            let region = cpu.region_mut(address);
            region.active = true;
            region.shadow = header.shadow();
            cpu.cpu.vmcs_pointer = address;
            Ok(())
        })
    }

    /// Executes VMPTRST, and returns the current-VMCS pointer: FFFFFFFF_FFFFFFFFH if there is no current VMCS. SDM
    /// 31.3, VMPTRST Store Pointer to Virtual-Machine Control Structure.
    ///
    /// # Errors
    /// `#UD`, a VM exit, `#GP(0)`.
    pub fn vmptrst(&mut self) -> Result<u64, InstructionFailure> {
        self.execute(|cpu| {
            cpu.require_root(exit_reason::VMPTRST)?;
            Ok(cpu.cpu.vmcs_pointer)
        })
    }
}
