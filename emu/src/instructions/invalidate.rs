//! INVEPT and INVVPID.
//!
//! The emulator caches no translations, so that an invalidation that succeeds changes nothing; only its failures
//! matter.

use vmcs_model::controls::Secondary;
use vmcs_model::formats::{Eptp, exit_reason};
use vmcs_model::msr::CapabilityMsr;

use crate::{InstructionFailure, LogicalProcessor};

impl LogicalProcessor {
    /// Executes INVEPT of type `kind`: 1 single-context, 2 all-context. `descriptor` holds the EPTP and a reserved
    /// qword, which no processor checks. SDM 31.3, INVEPT Invalidate Translations Derived from EPT.
    ///
    /// # Errors
    /// `#UD`, a VM exit, `#GP(0)`, VMfail(28) if the processor does not support the type or the EPTP.
    pub fn invept(&mut self, kind: u64, descriptor: [u64; 2]) -> Result<(), InstructionFailure> {
        self.execute(|cpu| {
            cpu.require_vmx_mode()?;
            cpu.require_invalidation(Secondary::ENABLE_EPT, 20)?;
            cpu.require_root(exit_reason::INVEPT)?;
            let [eptp, _] = descriptor;
            let valid = match cpu.register_operand(kind) {
                1 => cpu.has_ept_vpid(25) && cpu.eptp_valid(Eptp::from_bits(eptp)),
                2 => cpu.has_ept_vpid(26),
                _ => false,
            };
            if valid { Ok(()) } else { Err(InstructionFailure::valid(28)) }
        })
    }

    /// Executes INVVPID of type `kind`: 0 individual-address, 1 single-context, 2 all-context, 3 single-context
    /// retaining globals. `descriptor` holds the VPID, with bits 63:16 reserved, and a linear address, which type 0
    /// alone looks at. It has to be canonical for the widest linear address that the processor supports, whatever
    /// CR4.LA57. SDM 31.3, INVVPID Invalidate Translations Based on VPID.
    ///
    /// # Errors
    /// `#UD`, a VM exit, `#GP(0)`, VMfail(28) if the processor does not support the type, or the descriptor is not
    /// valid.
    pub fn invvpid(&mut self, kind: u64, descriptor: [u64; 2]) -> Result<(), InstructionFailure> {
        self.execute(|cpu| {
            cpu.require_vmx_mode()?;
            cpu.require_invalidation(Secondary::ENABLE_VPID, 32)?;
            cpu.require_root(exit_reason::INVVPID)?;
            let kind = cpu.register_operand(kind);
            let [vpid, linear_address] = descriptor;
            let valid = match kind {
                0 => cpu.has_ept_vpid(40) && vpid != 0 && cpu.capabilities.canonical(linear_address),
                1 => cpu.has_ept_vpid(41) && vpid != 0,
                2 => cpu.has_ept_vpid(42),
                3 => cpu.has_ept_vpid(43) && vpid != 0,
                _ => false,
            };
            if valid && vpid >> 16 == 0 { Ok(()) } else { Err(InstructionFailure::valid(28)) }
        })
    }

    /// `#UD` unless the processor supports the control that the instruction belongs to, and IA32_VMX_EPT_VPID_CAP has
    /// the instruction's bit.
    fn require_invalidation(&self, control: Secondary, instruction: u32) -> Result<(), InstructionFailure> {
        let supported = self.is_unknown(CapabilityMsr::Procbased2)
            || self.capabilities.secondary.may() & u64::from(control.bits()) != 0;
        if supported && self.has_ept_vpid(instruction) { Ok(()) } else { Err(InstructionFailure::UNDEFINED_OPCODE) }
    }

    /// Whether INVEPT and EPTP switching accept the EPTP.
    pub(super) fn eptp_valid(&self, eptp: Eptp) -> bool {
        self.is_unknown(CapabilityMsr::EptVpidCap) || self.capabilities.eptp_valid(eptp)
    }

    /// Whether that bit of IA32_VMX_EPT_VPID_CAP is 1.
    fn has_ept_vpid(&self, bit: u32) -> bool {
        self.is_unknown(CapabilityMsr::EptVpidCap) || self.capabilities.ept_vpid >> bit & 1 != 0
    }
}
