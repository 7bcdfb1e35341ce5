//! VMCLEAR, VMPTRLD and VMPTRST.

use vmcs_model::LaunchState;
use vmcs_model::cpu::NO_POINTER;
use vmcs_model::formats::{RegionHeader, exit_reason};

use crate::{InstructionFailure, LogicalProcessor};

impl LogicalProcessor {
    /// VMCLEAR: make the VMCS at `address` inactive and clear. Its fields keep their values; its revision identifier
    /// does not matter. SDM 31.3, VMCLEAR Clear Virtual-Machine Control Structure.
    ///
    /// # Errors
    /// `#UD`, a VM exit, `#GP(0)`, VMfail(2), VMfail(3).
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

    /// VMPTRLD: make the VMCS at `address` active and current. SDM 31.3, VMPTRLD Load Pointer to Virtual-Machine
    /// Control Structure.
    ///
    /// # Errors
    /// `#UD`, a VM exit, `#GP(0)`, VMfail(9), VMfail(10), VMfail(11). The current VMCS stays the same.
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
                || (header.shadow() && !cpu.capabilities.vmcs_shadowing())
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

    /// VMPTRST: the current-VMCS pointer, FFFFFFFF_FFFFFFFFH if there is no current VMCS. SDM 31.3, VMPTRST Store
    /// Pointer to Virtual-Machine Control Structure.
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
