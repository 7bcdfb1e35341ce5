//! VMREAD and VMWRITE.
//!
//! In VMX root operation the two instructions access the current VMCS. In a guest they cause a VM exit, unless VMCS
//! shadowing lets them access the shadow VMCS to which the VMCS link pointer of the current VMCS points.

use vmcs_model::controls::Secondary;
use vmcs_model::cpu::NO_POINTER;
use vmcs_model::field::{self, Area, Encoding, FieldInfo, Width};
use vmcs_model::formats::exit_reason;
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::{Field, FieldId, VmxOperation};

use crate::{InstructionFailure, LogicalProcessor};

/// Bits of the guest access-rights fields that some processors do not have: 11:8 and 31:17.
const RESERVED_ACCESS_RIGHTS: u64 = 0xFFFE_0F00;

impl LogicalProcessor {
    /// Executes VMREAD into a register, and returns the value of the field that `encoding` names, zero-extended. An odd
    /// encoding names bits 63:32 of a 64-bit field. Outside 64-bit mode, encoding and value have 32 bits. SDM 31.3,
    /// VMREAD Read Field from Virtual-Machine Control Structure.
    ///
    /// # Errors
    /// `#UD`, a VM exit, `#GP(0)`, VMfailInvalid without a current VMCS, VMfailValid(12) if the processor has no such
    /// field.
    pub fn vmread(&mut self, encoding: u64) -> Result<u64, InstructionFailure> {
        self.execute(|cpu| {
            let encoding = cpu.register_operand(encoding);
            let address = cpu.accessed_vmcs(encoding, exit_reason::VMREAD, field::VMREAD_BITMAP_ADDRESS)?;
            let (field, high) = cpu.supported_field(encoding)?;
            let value = cpu.region_mut(address).fields.raw(field);
            Ok(cpu.register_operand(if high { value >> 32 } else { value }))
        })
    }

    /// Executes VMWRITE from a register: the field that `encoding` names becomes `value`. A field that is narrower
    /// takes the lower bits; an odd encoding changes bits 63:32 of a 64-bit field alone. Outside 64-bit mode, encoding
    /// and value have 32 bits. SDM 31.3, VMWRITE Write Field to Virtual-Machine Control Structure.
    ///
    /// # Errors
    /// `#UD`, a VM exit, `#GP(0)`, VMfailInvalid without a current VMCS, VMfailValid(12) if the processor has no such
    /// field, VMfailValid(13) if the field is read-only.
    pub fn vmwrite(&mut self, encoding: u64, value: u64) -> Result<(), InstructionFailure> {
        self.execute(|cpu| {
            let (encoding, value) = (cpu.register_operand(encoding), cpu.register_operand(value));
            let address = cpu.accessed_vmcs(encoding, exit_reason::VMWRITE, field::VMWRITE_BITMAP_ADDRESS)?;
            let (field, high) = cpu.supported_field(encoding)?;
            let writes_all = cpu.is_unknown(CapabilityMsr::Misc) || cpu.capabilities.writes_exit_information();
            if field.info().area() == Area::ExitInformation && !writes_all {
                return Err(InstructionFailure::valid(13));
            }
            let value = value & cpu.writable_bits(field.info());
            let fields = &mut cpu.region_mut(address).fields;
            if high {
                fields.set_raw(field, fields.raw(field) & 0xFFFF_FFFF | value << 32);
            } else {
                fields.set_raw(field, value);
            }
            Ok(())
        })
    }

    /// The address of the VMCS that VMREAD or VMWRITE accesses, or the failure that comes before any access.
    fn accessed_vmcs(
        &self,
        encoding: u64,
        exit_reason: u16,
        bitmap_address: Field<u64>,
    ) -> Result<u64, InstructionFailure> {
        self.require_vmx_mode()?;
        let guest = self.cpu.vmx == VmxOperation::NonRoot;
        if guest && self.access_exits(encoding, bitmap_address) {
            return Err(InstructionFailure::Exit { reason: exit_reason });
        }
        self.require_cpl_0()?;
        let address = if guest { self.current_fields().get(field::VMCS_LINK_POINTER) } else { self.cpu.vmcs_pointer };
        if address == NO_POINTER { Err(InstructionFailure::Invalid) } else { Ok(address) }
    }

    /// Whether the access causes a VM exit in VMX non-root operation: without VMCS shadowing always, with it if the
    /// bitmap has the bit of the encoding, or no bit for it. SDM 26.1.3, Instructions That Cause VM Exits
    /// Conditionally, and 25.6.15, VMCS Shadowing Bitmap Addresses.
    fn access_exits(&self, encoding: u64, bitmap_address: Field<u64>) -> bool {
        if !self.secondary().contains(Secondary::VMCS_SHADOWING) || encoding >> 15 != 0 {
            return true;
        }
        let byte = self.current_fields().get(bitmap_address).wrapping_add(encoding >> 3);
        self.memory.read_u8(byte) >> (encoding & 7) & 1 != 0
    }

    /// The field that the encoding names, and whether it names its upper half; VMfailValid(12) if there is no such
    /// field.
    fn supported_field(&self, encoding: u64) -> Result<(FieldId, bool), InstructionFailure> {
        let unsupported = InstructionFailure::valid(12);
        let encoding = Encoding(u32::try_from(encoding).map_err(|_| unsupported)?);
        let field = encoding.field().ok_or(unsupported)?;
        if !self.capabilities.may_have_field(field.info()) {
            return Err(unsupported);
        }
        Ok((field, encoding.is_high()))
    }

    /// The bits of a field that VMWRITE can set. Some processors drop reserved bits of access rights, and without Intel
    /// 64 natural-width fields have 32 bits.
    fn writable_bits(&self, field: &FieldInfo) -> u64 {
        let access_rights = field::GUEST_ES_ACCESS_RIGHTS.encoding()..=field::GUEST_TR_ACCESS_RIGHTS.encoding();
        if self.capabilities.quirks.access_rights_drop_reserved && access_rights.contains(&field.encoding) {
            !RESERVED_ACCESS_RIGHTS
        } else if field.width() == Width::Natural && !self.capabilities.may_have_intel_64() {
            0xFFFF_FFFF
        } else {
            u64::MAX
        }
    }
}
