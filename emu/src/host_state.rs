//! How VM exits, and VM entries that fail late, load host state from the VMCS. SDM 28.5, Loading Host State.
//!
//! The host-state area holds little more than control registers, selectors and a few bases. Limits, access rights, DR7
//! and RFLAGS get fixed values, which are the constants below.

use vmcs_model::controls::{Exit, PinBased, SecondaryExit};
use vmcs_model::field;
use vmcs_model::formats::{AccessRights, ActivityState, Interruptibility, PendingDebug, Selector};
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::registers::{Cr0, Cr4, Efer, Rflags};
use vmcs_model::{FieldId, VmxOperation};

use crate::guest_state::CR0_KEPT;
use crate::segments::{SEGMENTS, SegmentName};
use crate::{LogicalProcessor, VmxAbort};

/// Access rights of CS in a 64-bit host: execute/read accessed code, DPL 0, L = 1, G = 1.
const CODE_64: AccessRights = AccessRights::from_bits(0xA09B);
/// Access rights of CS in a 32-bit host: execute/read accessed code, DPL 0, D = 1, G = 1.
const CODE_32: AccessRights = AccessRights::from_bits(0xC09B);
/// Access rights of usable SS, DS, ES, FS and GS: read/write accessed data, DPL 0, B = 1, G = 1.
const DATA: AccessRights = AccessRights::from_bits(0xC093);
/// Access rights of TR: a busy TSS.
const BUSY_TSS: AccessRights = AccessRights::from_bits(0x8B);
/// Access rights of an unusable register.
const UNUSABLE: AccessRights = AccessRights::from_bits(1 << 16);
/// Access rights of an unusable SS, which still has DPL 0 and B = 1.
const UNUSABLE_SS: AccessRights = AccessRights::from_bits(1 << 16 | 1 << 14);
/// DR7 after every VM exit: no breakpoint is enabled.
const DR7_AFTER_EXIT: u64 = 0x400;
/// Limit of TR.
const TSS_LIMIT: u32 = 0x67;
/// Limit of GDTR and IDTR.
const TABLE_LIMIT: u32 = 0xFFFF;
/// Bits that have to be 1 in VMX operation on every processor so far: PE, NE and PG of CR0, and VMXE of CR4. They stand in
/// for a capability MSR that is not known. SDM 24.8, Restrictions on VMX Operation.
const CR0_IN_VMX: Cr0 = Cr0::PE.union(Cr0::NE).union(Cr0::PG);
const CR4_IN_VMX: Cr4 = Cr4::VMXE;
/// Bits of CR0 that VM exits do not load, in addition to [`CR0_KEPT`]: 63:32.
const CR0_UPPER: u64 = 0xFFFF_FFFF << 32;
/// Bit 0 of a PDPTE says that it is present; bits 2:1 and 8:5 must then be 0, and those beyond the physical-address
/// width.
const PDPTE_PRESENT: u64 = 1 << 0;
const PDPTE_RESERVED: u64 = 0x1E6;

/// Registers that an exit loads only if a primary VM-exit control is 1: the control, the guest-state field that stands
/// for the register, and the host-state field that its value comes from.
const LOADED: &[(Exit, FieldId, FieldId)] = &[
    (Exit::LOAD_IA32_PERF_GLOBAL_CTRL, field::GUEST_IA32_PERF_GLOBAL_CTRL.id(), field::HOST_IA32_PERF_GLOBAL_CTRL.id()),
    (Exit::LOAD_IA32_PAT, field::GUEST_IA32_PAT.id(), field::HOST_IA32_PAT.id()),
    (Exit::LOAD_IA32_EFER, field::GUEST_IA32_EFER.id(), field::HOST_IA32_EFER.id()),
    (Exit::LOAD_CET_STATE, field::GUEST_IA32_S_CET.id(), field::HOST_IA32_S_CET.id()),
    (Exit::LOAD_CET_STATE, field::GUEST_SSP.id(), field::HOST_SSP.id()),
    (
        Exit::LOAD_CET_STATE,
        field::GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR.id(),
        field::HOST_IA32_INTERRUPT_SSP_TABLE_ADDR.id(),
    ),
    (Exit::LOAD_PKRS, field::GUEST_IA32_PKRS.id(), field::HOST_IA32_PKRS.id()),
];
/// Registers that an exit loads only if a secondary VM-exit control is 1: the same columns as in [`LOADED`].
const LOADED_SECONDARY: &[(SecondaryExit, FieldId, FieldId)] = &[
    (SecondaryExit::LOAD_FRED, field::GUEST_IA32_FRED_CONFIG.id(), field::HOST_IA32_FRED_CONFIG.id()),
    (SecondaryExit::LOAD_FRED, field::GUEST_IA32_FRED_RSP1.id(), field::HOST_IA32_FRED_RSP1.id()),
    (SecondaryExit::LOAD_FRED, field::GUEST_IA32_FRED_RSP2.id(), field::HOST_IA32_FRED_RSP2.id()),
    (SecondaryExit::LOAD_FRED, field::GUEST_IA32_FRED_RSP3.id(), field::HOST_IA32_FRED_RSP3.id()),
    (SecondaryExit::LOAD_FRED, field::GUEST_IA32_FRED_STKLVLS.id(), field::HOST_IA32_FRED_STKLVLS.id()),
    (SecondaryExit::LOAD_FRED, field::GUEST_IA32_FRED_SSP1.id(), field::HOST_IA32_FRED_SSP1.id()),
    (SecondaryExit::LOAD_FRED, field::GUEST_IA32_FRED_SSP2.id(), field::HOST_IA32_FRED_SSP2.id()),
    (SecondaryExit::LOAD_FRED, field::GUEST_IA32_FRED_SSP3.id(), field::HOST_IA32_FRED_SSP3.id()),
    (SecondaryExit::LOAD_IA32_SPEC_CTRL, field::GUEST_IA32_SPEC_CTRL.id(), field::HOST_IA32_SPEC_CTRL.id()),
];
/// Registers that an exit sets to 0 if a primary VM-exit control is 1.
const CLEARED: &[(Exit, FieldId)] = &[
    (Exit::CLEAR_UINV, field::GUEST_UINV.id()),
    (Exit::CLEAR_IA32_BNDCFGS, field::GUEST_IA32_BNDCFGS.id()),
    (Exit::CLEAR_IA32_RTIT_CTL, field::GUEST_IA32_RTIT_CTL.id()),
    (Exit::CLEAR_IA32_LBR_CTL, field::GUEST_IA32_LBR_CTL.id()),
];

impl LogicalProcessor {
    /// Loads the host state of the current VMCS into the processor, which is then in VMX root operation, and then the MSRs
    /// of the VM-exit MSR-load area.
    pub(crate) fn load_host(&mut self) -> Result<(), VmxAbort> {
        let host_64 = self.primary_exit().contains(Exit::HOST_ADDRESS_SPACE_SIZE);
        if self.cpu.efer.contains(Efer::LMA) && !host_64 {
            return Err(self.shut_down(VmxAbort::HostAddressSpaceSize));
        }
        self.load_host_registers(host_64);
        self.load_host_segments(host_64);
        if self.pae_paging() && !self.load_host_pdptes() {
            return Err(self.shut_down(VmxAbort::HostPdptes));
        }
        // With virtual NMIs, bit 3 was about those of the guest.
        let virtual_nmis = self.cpu.vmx == VmxOperation::NonRoot && self.pin().contains(PinBased::VIRTUAL_NMIS);
        let kept = if virtual_nmis { Interruptibility::SMI } else { Interruptibility::NMI | Interruptibility::SMI };
        let blocking = self.register(field::GUEST_INTERRUPTIBILITY_STATE);
        self.set_register(field::GUEST_INTERRUPTIBILITY_STATE, blocking & kept);
        self.cpu.vmx = VmxOperation::Root;
        self.cpu.cpl = 0;
        self.cpu.cs_l = host_64;
        self.cpu.mov_ss_blocking = false;
        self.set_register(field::GUEST_ACTIVITY_STATE, ActivityState::ACTIVE);
        self.set_register(field::GUEST_PENDING_DEBUG_EXCEPTIONS, PendingDebug::empty());
        self.set_register(field::GUEST_DEADLINE, 0);
        if self.load_host_msrs() { Ok(()) } else { Err(self.shut_down(VmxAbort::LoadingHostMsrs)) }
    }

    /// Loads all registers but the segment and descriptor-table registers. SDM 28.5.1, Loading Host Control Registers,
    /// Debug Registers, MSRs, and 28.5.3, Loading Host RIP, RSP, RFLAGS, and SSP.
    fn load_host_registers(&mut self, host_64: bool) {
        let fields = self.current_fields().clone();
        let fixed = |ones: u64, msr: CapabilityMsr, in_vmx: u64| {
            if self.is_unknown(msr) { ones | in_vmx } else { ones }
        };
        let cr0_ones = fixed(self.capabilities.cr0.ones, CapabilityMsr::Cr0Fixed0, CR0_IN_VMX.bits());
        let cr4_ones = fixed(self.capabilities.cr4.ones, CapabilityMsr::Cr4Fixed0, CR4_IN_VMX.bits());
        let kept = CR0_KEPT | CR0_UPPER;
        let cr0 = fields.get(field::HOST_CR0).bits() & !kept | self.cpu.cr0.bits() & kept;
        let mut cr4 = Cr4::from_bits_retain(fields.get(field::HOST_CR4).bits() | cr4_ones);
        if host_64 {
            cr4.insert(Cr4::PAE);
        } else {
            cr4.remove(Cr4::PCIDE | Cr4::FRED);
        }
        self.cpu.cr0 = Cr0::from_bits_retain(cr0 | cr0_ones);
        self.cpu.cr4 = cr4;
        let beyond = self.capabilities.physical_reserved;
        let cr3 = fields.get(field::HOST_CR3) & !beyond | self.register(field::GUEST_CR3) & beyond;
        self.set_register(field::GUEST_CR3, cr3);
        self.set_register(field::GUEST_DR7, DR7_AFTER_EXIT);
        self.set_register(field::GUEST_IA32_DEBUGCTL, 0);
        self.set_register(field::GUEST_IA32_SYSENTER_CS, fields.get(field::HOST_IA32_SYSENTER_CS));
        let esp = self.sign_extend(fields.get(field::HOST_IA32_SYSENTER_ESP));
        let eip = self.sign_extend(fields.get(field::HOST_IA32_SYSENTER_EIP));
        self.set_register(field::GUEST_IA32_SYSENTER_ESP, esp);
        self.set_register(field::GUEST_IA32_SYSENTER_EIP, eip);
        self.cpu.efer.set(Efer::LMA, host_64);
        self.cpu.efer.set(Efer::LME, host_64);
        let (primary, secondary) = (self.primary_exit(), self.secondary_exit());
        for (_, register, field) in LOADED.iter().filter(|(control, ..)| primary.contains(*control)) {
            self.set_register_raw(*register, fields.raw(*field));
        }
        for (_, register, field) in LOADED_SECONDARY.iter().filter(|(control, ..)| secondary.contains(*control)) {
            self.set_register_raw(*register, fields.raw(*field));
        }
        for (_, register) in CLEARED.iter().filter(|(control, _)| primary.contains(*control)) {
            self.set_register_raw(*register, 0);
        }
        self.set_register(field::GUEST_RIP, fields.get(field::HOST_RIP));
        self.set_register(field::GUEST_RSP, fields.get(field::HOST_RSP));
        self.cpu.rflags = Rflags::FIXED1;
    }

    /// Loads the segment registers, GDTR and IDTR. A register with a null selector becomes unusable; its base is that
    /// of the host-state area where there is one, else 0. SDM 28.5.2, Loading Host Segment and Descriptor-Table
    /// Registers.
    fn load_host_segments(&mut self, host_64: bool) {
        let fields = self.current_fields().clone();
        for segment in &SEGMENTS {
            let selector = segment.host_selector.map_or(Selector::new(), |field| fields.get(field));
            let base = segment.host_base.map_or(0, |field| self.sign_extend(fields.get(field)));
            let null = selector == Selector::new();
            let (limit, access_rights) = match segment.name {
                SegmentName::Cs => (u32::MAX, if host_64 { CODE_64 } else { CODE_32 }),
                SegmentName::Tr => (TSS_LIMIT, BUSY_TSS),
                SegmentName::Ldtr => (0, UNUSABLE),
                SegmentName::Ss if null && host_64 => (u32::MAX, UNUSABLE_SS),
                SegmentName::Es | SegmentName::Ds | SegmentName::Fs | SegmentName::Gs if null => (u32::MAX, UNUSABLE),
                _ => (u32::MAX, DATA),
            };
            self.set_register(segment.selector, selector);
            self.set_register(segment.base, base);
            self.set_register(segment.limit, limit);
            self.set_register(segment.access_rights, access_rights);
        }
        let gdtr = self.sign_extend(fields.get(field::HOST_GDTR_BASE));
        let idtr = self.sign_extend(fields.get(field::HOST_IDTR_BASE));
        self.set_register(field::GUEST_GDTR_BASE, gdtr);
        self.set_register(field::GUEST_IDTR_BASE, idtr);
        self.set_register(field::GUEST_GDTR_LIMIT, TABLE_LIMIT);
        self.set_register(field::GUEST_IDTR_LIMIT, TABLE_LIMIT);
    }

    /// Loads the PDPTEs of a host with PAE paging if they are valid, and says whether they are. SDM 28.5.4, Checking
    /// and Loading Host Page-Directory-Pointer-Table Entries.
    fn load_host_pdptes(&mut self) -> bool {
        let table = self.register(field::GUEST_CR3) & 0xFFFF_FFE0;
        let reserved = PDPTE_RESERVED | self.capabilities.physical_reserved;
        let entries = [0, 8, 16, 24].map(|offset| self.memory.read_u64(table + offset));
        if entries.iter().any(|entry| entry & PDPTE_PRESENT != 0 && entry & reserved != 0) {
            return false;
        }
        let registers = [field::GUEST_PDPTE0, field::GUEST_PDPTE1, field::GUEST_PDPTE2, field::GUEST_PDPTE3];
        for (register, entry) in registers.into_iter().zip(entries) {
            self.set_register(register, entry);
        }
        true
    }

    /// The address with the bits above the linear-address width made copies of the highest bit within it, as exits load
    /// it.
    fn sign_extend(&self, address: u64) -> u64 {
        let unused = 64 - self.capabilities.linear_bits;
        if self.capabilities.may_have_intel_64() {
            ((address << unused).cast_signed() >> unused).cast_unsigned()
        } else {
            address
        }
    }

    /// Shuts the processor down after a VMX abort, and writes the abort indicator to byte 4 of the VMCS region. SDM
    /// 28.7, VMX Aborts.
    pub(crate) fn shut_down(&mut self, abort: VmxAbort) -> VmxAbort {
        const INDICATOR: u64 = 4;
        self.memory.write_u32(self.cpu.vmcs_pointer.wrapping_add(INDICATOR), abort.indicator());
        self.abort = Some(abort);
        abort
    }
}
