//! VMFUNC, with its one function: EPTP switching.

use vmcs_model::VmxOperation;
use vmcs_model::controls::{Secondary, VmFunctions};
use vmcs_model::field;
use vmcs_model::formats::{Eptp, exit_reason};

use crate::{InstructionFailure, LogicalProcessor};

/// The number of the VM function EPTP switching.
const EPTP_SWITCHING: u32 = 0;
/// How many entries an EPTP list has.
const EPTP_LIST_ENTRIES: u32 = 512;

impl LogicalProcessor {
    /// Executes VMFUNC, with which a guest invokes the VM function `eax` without a VM exit. For EPTP switching (0),
    /// `ecx` is the index into the EPTP list. It works at every CPL and changes no flag. SDM 31.3, VMFUNC Invoke VM
    /// Function, and 26.5.6, VM Functions.
    ///
    /// # Errors
    /// `#UD` outside a guest, without “enable VM functions” and for numbers above 63; a VM exit if the function is not
    /// enabled or the EPTP cannot be switched to.
    pub fn vmfunc(&mut self, eax: u32, ecx: u32) -> Result<(), InstructionFailure> {
        self.attempt(|cpu| {
            if cpu.cpu.vmx != VmxOperation::NonRoot
                || !cpu.secondary().contains(Secondary::ENABLE_VM_FUNCTIONS)
                || eax >= u64::BITS
            {
                return Err(InstructionFailure::UNDEFINED_OPCODE);
            }
            let enabled = cpu.current_fields().get(field::VM_FUNCTION_CONTROLS);
            if !enabled.intersects(VmFunctions::from_bits_retain(1 << eax)) || eax != EPTP_SWITCHING {
                return Err(InstructionFailure::Exit { reason: exit_reason::VMFUNC });
            }
            cpu.switch_eptp(ecx)?;
            cpu.end_blocking();
            Ok(())
        })
    }

    /// Makes entry `ecx` of the EPTP list the EPT pointer. SDM 26.5.6.3, EPTP Switching.
    fn switch_eptp(&mut self, ecx: u32) -> Result<(), InstructionFailure> {
        let exit = InstructionFailure::Exit { reason: exit_reason::VMFUNC };
        if ecx >= EPTP_LIST_ENTRIES {
            return Err(exit);
        }
        let fields = self.current_fields();
        let entry = fields.get(field::EPTP_LIST_ADDRESS).wrapping_add(8 * u64::from(ecx));
        let eptp = Eptp::from_bits(self.memory.read_u64(entry));
        let current = fields.get(field::EPT_POINTER);
        if !self.eptp_valid(eptp) || eptp.walk_length_minus_1() != current.walk_length_minus_1() {
            return Err(exit);
        }
        if self.secondary().contains(Secondary::INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES) && self.cpu.trace_enabled {
            return Err(exit);
        }
        let index_exists = self.capabilities.may_have_field(field::EPTP_INDEX.id().info());
        let fields = &mut self.current_mut().fields;
        fields.set(field::EPT_POINTER, eptp);
        if index_exists {
            fields.set_raw(field::EPTP_INDEX.id(), u64::from(ecx));
        }
        Ok(())
    }
}
