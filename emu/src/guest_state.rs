//! How VM entries load guest state from the VMCS, and how VM exits save it there. SDM 27.3.2, Loading Guest State, and
//! 28.3, Saving Guest State.
//!
//! Some registers are always loaded and saved, others if a control says so, and a third kind is saved by every exit of
//! a processor that has the field. The lists below say which are which. Whoever compares what another processor loads
//! and saves needs the same lists, which is why some are public.

use vmcs_model::controls::{Entry, Exit, PinBased, Secondary, SecondaryExit, Tertiary};
use vmcs_model::field;
use vmcs_model::formats::event_type::{NMI, OTHER_EVENT, SOFTWARE_EXCEPTION, SOFTWARE_INTERRUPT};
use vmcs_model::formats::{ActivityState, Interruptibility, InterruptionInformation, PendingDebug};
use vmcs_model::registers::{Cr0, Cr4, Efer};
use vmcs_model::{FieldId, VmxOperation};

use crate::exit_causes::{saved_rflags, saves_pending_debug_exceptions};
use crate::segments::{SEGMENTS, SegmentName};
use crate::{LogicalProcessor, VmExit};

/// Bits of CR0 that neither VM entries nor VM exits load: ET (4), 15:6, 17, 28:19, NW (29) and CD (30).
pub(crate) const CR0_KEPT: u64 = 1 << 4 | 0xFFC0 | 1 << 17 | 0x1FF8_0000 | 1 << 29 | 1 << 30;
/// Bits of DR7 that a VM entry sets whatever the field holds: 10. Those that it clears are 12, 14 and 15.
const DR7_ONES: u64 = 1 << 10;
const DR7_ZEROS: u64 = 1 << 12 | 1 << 14 | 1 << 15;
/// Bits of the access rights that a VM exit saves: 7:0 and 15:12. It saves bit 16, unusable, by itself, and the others
/// as 0.
const SAVED_ACCESS_RIGHTS: u32 = 0xF0FF;

/// Registers that every entry loads and every exit saves, whatever the controls say, without a change of any bit. CR0,
/// RFLAGS and the segment registers are not listed because some of their bits are treated specially.
const ALWAYS: [FieldId; 11] = [
    field::GUEST_CR3.id(),
    field::GUEST_IA32_SYSENTER_CS.id(),
    field::GUEST_IA32_SYSENTER_ESP.id(),
    field::GUEST_IA32_SYSENTER_EIP.id(),
    field::GUEST_GDTR_BASE.id(),
    field::GUEST_GDTR_LIMIT.id(),
    field::GUEST_IDTR_BASE.id(),
    field::GUEST_IDTR_LIMIT.id(),
    field::GUEST_RIP.id(),
    field::GUEST_RSP.id(),
    field::GUEST_CR4.id(),
];
/// The registers of control-flow enforcement, which the control “load CET state” loads.
const CET: [FieldId; 3] =
    [field::GUEST_IA32_S_CET.id(), field::GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR.id(), field::GUEST_SSP.id()];
/// The registers of FRED transitions, which the controls “load FRED” and “save FRED” load and save. SDM 27.3.2.1, Loading
/// Guest Control Registers, Debug Registers, and MSRs.
pub const FRED_STATE: [FieldId; 8] = [
    field::GUEST_IA32_FRED_CONFIG.id(),
    field::GUEST_IA32_FRED_RSP1.id(),
    field::GUEST_IA32_FRED_RSP2.id(),
    field::GUEST_IA32_FRED_RSP3.id(),
    field::GUEST_IA32_FRED_STKLVLS.id(),
    field::GUEST_IA32_FRED_SSP1.id(),
    field::GUEST_IA32_FRED_SSP2.id(),
    field::GUEST_IA32_FRED_SSP3.id(),
];
/// Registers that a VM entry loads only if a VM-entry control is 1: the control, and the fields that stand for them.
/// The registers of “load debug controls” are not here, because bits of DR7 are treated specially. SDM 27.3.2.1,
/// Loading Guest Control Registers, Debug Registers, and MSRs.
pub const LOADED_BY_CONTROL: &[(Entry, &[FieldId])] = &[
    (Entry::LOAD_IA32_PERF_GLOBAL_CTRL, &[field::GUEST_IA32_PERF_GLOBAL_CTRL.id()]),
    (Entry::LOAD_IA32_PAT, &[field::GUEST_IA32_PAT.id()]),
    (Entry::LOAD_IA32_EFER, &[field::GUEST_IA32_EFER.id()]),
    (Entry::LOAD_IA32_BNDCFGS, &[field::GUEST_IA32_BNDCFGS.id()]),
    (Entry::LOAD_IA32_RTIT_CTL, &[field::GUEST_IA32_RTIT_CTL.id()]),
    (Entry::LOAD_UINV, &[field::GUEST_UINV.id()]),
    (Entry::LOAD_CET_STATE, &CET),
    (Entry::LOAD_GUEST_IA32_LBR_CTL, &[field::GUEST_IA32_LBR_CTL.id()]),
    (Entry::LOAD_PKRS, &[field::GUEST_IA32_PKRS.id()]),
    (Entry::LOAD_FRED, &FRED_STATE),
    (Entry::LOAD_IA32_SPEC_CTRL, &[field::GUEST_IA32_SPEC_CTRL.id()]),
];
/// Registers that a VM exit saves only if a primary VM-exit control is 1. SDM 28.3.1, Saving Control Registers, Debug
/// Registers, and MSRs.
const SAVED: &[(Exit, FieldId)] = &[
    (Exit::SAVE_DEBUG_CONTROLS, field::GUEST_DR7.id()),
    (Exit::SAVE_DEBUG_CONTROLS, field::GUEST_IA32_DEBUGCTL.id()),
    (Exit::SAVE_IA32_PAT, field::GUEST_IA32_PAT.id()),
    (Exit::SAVE_IA32_EFER, field::GUEST_IA32_EFER.id()),
    (Exit::SAVE_IA32_PERF_GLOBAL_CTRL, field::GUEST_IA32_PERF_GLOBAL_CTRL.id()),
];
/// Registers that every exit saves if the processor has the field at all. The field exists if the processor supports a
/// control that loads or clears the register; whether that control is 1 does not matter. SDM 28.3.1, Saving Control
/// Registers, Debug Registers, and MSRs.
pub const SAVED_IF_SUPPORTED: [FieldId; 9] = [
    field::GUEST_IA32_BNDCFGS.id(),
    field::GUEST_IA32_RTIT_CTL.id(),
    field::GUEST_IA32_S_CET.id(),
    field::GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR.id(),
    field::GUEST_SSP.id(),
    field::GUEST_IA32_LBR_CTL.id(),
    field::GUEST_IA32_PKRS.id(),
    field::GUEST_UINV.id(),
    field::GUEST_IA32_SPEC_CTRL.id(),
];
const PDPTES: [FieldId; 4] =
    [field::GUEST_PDPTE0.id(), field::GUEST_PDPTE1.id(), field::GUEST_PDPTE2.id(), field::GUEST_PDPTE3.id()];

impl LogicalProcessor {
    /// Loads the guest state of the current VMCS into the processor.
    pub(crate) fn load_guest_state(&mut self) {
        self.load_control_registers();
        for segment in 0..SEGMENTS.len() {
            self.load_segment(segment);
        }
        self.load_non_register_state();
        let fields = self.current_fields();
        self.cpu.cs_l = fields.get(field::GUEST_CS_ACCESS_RIGHTS).long();
        self.cpu.cpl = self.current_fields().get(field::GUEST_SS_ACCESS_RIGHTS).dpl();
    }

    /// Loads a register from its field, without a change of any bit.
    fn load(&mut self, field: FieldId) {
        self.set_register_raw(field, self.current_fields().raw(field));
    }

    /// Loads all registers but the segment registers. SDM 27.3.2.1, Loading Guest Control Registers,
    /// Debug Registers, and MSRs, and 27.3.2.3, Loading Guest RIP, RSP, RFLAGS, and SSP.
    fn load_control_registers(&mut self) {
        let controls = self.entry_controls();
        let cr0 = self.current_fields().get(field::GUEST_CR0).bits();
        self.cpu.cr0 = Cr0::from_bits_retain(cr0 & !CR0_KEPT | self.cpu.cr0.bits() & CR0_KEPT);
        for field in ALWAYS {
            self.load(field);
        }
        self.load(field::GUEST_RFLAGS.id());
        if controls.contains(Entry::LOAD_DEBUG_CONTROLS) {
            let dr7 = self.current_fields().get(field::GUEST_DR7);
            self.set_register(field::GUEST_DR7, dr7 & !DR7_ZEROS | DR7_ONES);
            self.load(field::GUEST_IA32_DEBUGCTL.id());
        }
        let ia32e = controls.contains(Entry::IA_32E_MODE_GUEST);
        self.cpu.efer.set(Efer::LMA, ia32e);
        if self.cpu.cr0.contains(Cr0::PG) {
            self.cpu.efer.set(Efer::LME, ia32e);
        }
        for (_, registers) in LOADED_BY_CONTROL.iter().filter(|(control, _)| controls.contains(*control)) {
            for field in *registers {
                self.load(*field);
            }
        }
    }

    /// Loads one segment register. Of an unusable one the SDM leaves most undefined after the entry; here it is loaded
    /// from its fields like that of a usable one. SDM 27.3.2.2, Loading Guest Segment Registers and Descriptor-Table
    /// Registers.
    fn load_segment(&mut self, segment: usize) {
        let segment = &SEGMENTS[segment];
        let fields = self.current_fields();
        let selector = fields.get(segment.selector);
        let limit = fields.get(segment.limit);
        let mut base = fields.get(segment.base);
        let mut access_rights = fields.get(segment.access_rights);
        if access_rights.unusable() {
            if matches!(segment.name, SegmentName::Ss | SegmentName::Ds | SegmentName::Es) {
                base &= 0xFFFF_FFFF;
            }
            if segment.name == SegmentName::Ss {
                base &= !0xF;
                access_rights.set_default_big(true);
            }
        }
        self.set_register(segment.selector, selector);
        self.set_register(segment.base, base);
        self.set_register(segment.limit, limit);
        self.set_register(segment.access_rights, access_rights);
    }

    /// Loads the PDPTEs, the timers, virtual-interrupt state, interruptibility, activity state and pending debug
    /// exceptions. An injected event ends blocking by STI and by MOV SS, makes the processor active, and drops most
    /// pending debug exceptions. SDM 27.3.2.4, Loading Page-Directory-Pointer-Table Entries, 27.3.2.5, Updating
    /// Non-Register State, and 27.7, Special Features of VM Entry.
    fn load_non_register_state(&mut self) {
        if self.pae_paging() {
            self.load_pdptes();
        }
        if self.pin().contains(PinBased::ACTIVATE_VMX_PREEMPTION_TIMER) {
            self.load(field::VMX_PREEMPTION_TIMER_VALUE.id());
        }
        if self.secondary().contains(Secondary::VIRTUAL_INTERRUPT_DELIVERY) {
            self.load(field::GUEST_INTERRUPT_STATUS.id());
            self.virtualize_ppr();
        }
        if self.tertiary().contains(Tertiary::APIC_TIMER_VIRTUALIZATION) {
            self.load(field::GUEST_DEADLINE.id());
        }
        let fields = self.current_fields();
        let mut interruptibility = fields.get(field::GUEST_INTERRUPTIBILITY_STATE);
        let mut activity = fields.get(field::GUEST_ACTIVITY_STATE);
        let event = fields.get(field::VM_ENTRY_INTERRUPTION_INFORMATION);
        let mut pending = fields.get(field::GUEST_PENDING_DEBUG_EXCEPTIONS);
        if injects(event) {
            let software = matches!(event.event_type(), SOFTWARE_INTERRUPT | SOFTWARE_EXCEPTION);
            if !(software && interruptibility.contains(Interruptibility::MOV_SS)) {
                pending = PendingDebug::empty();
            }
            activity = ActivityState::ACTIVE;
            interruptibility -= Interruptibility::STI | Interruptibility::MOV_SS;
            if event.event_type() == NMI {
                interruptibility |= Interruptibility::NMI;
            }
        }
        self.cpu.mov_ss_blocking = interruptibility.contains(Interruptibility::MOV_SS);
        self.registers.set(field::GUEST_INTERRUPTIBILITY_STATE, interruptibility);
        self.registers.set(field::GUEST_ACTIVITY_STATE, activity);
        self.registers.set(field::GUEST_PENDING_DEBUG_EXCEPTIONS, pending);
    }

    /// PPR virtualization: the virtual processor priority (VPPR, offset A0H of the virtual-APIC page) becomes the
    /// greater of VTPR and the class of SVI. SDM 30.1.3, PPR Virtualization.
    fn virtualize_ppr(&mut self) {
        const VTPR: u64 = 0x80;
        const VPPR: u64 = 0xA0;
        let page = self.current_fields().get(field::VIRTUAL_APIC_ADDRESS);
        let vtpr = self.memory.read_u32(page.wrapping_add(VTPR)) & 0xFF;
        let svi = u32::from(self.register(field::GUEST_INTERRUPT_STATUS)) >> 8;
        let vppr = if vtpr & 0xF0 >= svi & 0xF0 { vtpr } else { svi & 0xF0 };
        self.memory.write_u32(page.wrapping_add(VPPR), vppr);
    }

    /// Loads the PDPTEs of a guest with PAE paging: with EPT from the VMCS, without from the table that CR3 points to.
    fn load_pdptes(&mut self) {
        if self.secondary().contains(Secondary::ENABLE_EPT) {
            for field in PDPTES {
                self.load(field);
            }
        } else {
            let table = self.register(field::GUEST_CR3) & 0xFFFF_FFE0;
            for (address, field) in (table..).step_by(8).zip(PDPTES) {
                self.registers.set_raw(field, self.memory.read_u64(address));
            }
        }
    }

    /// Whether the processor uses PAE paging: CR0.PG and CR4.PAE are 1, IA32_EFER.LMA is 0.
    pub(crate) fn pae_paging(&self) -> bool {
        self.cpu.cr0.contains(Cr0::PG) && self.cpu.cr4.contains(Cr4::PAE) && !self.cpu.efer.contains(Efer::LMA)
    }

    /// Saves a register in its field, without a change of any bit, if the processor has the field.
    fn save(&mut self, field: FieldId) {
        let value = self.register_raw(field);
        if self.capabilities.may_have_field(field.info()) {
            self.current_mut().fields.set_raw(field, value);
        }
    }

    /// Saves the processor's state in the guest-state area of the current VMCS, as the exit wants it.
    pub(crate) fn save_guest_state(&mut self, exit: &VmExit) {
        debug_assert!(self.cpu.vmx == VmxOperation::NonRoot, "only a guest's state is saved");
        self.save(field::GUEST_CR0.id());
        for field in ALWAYS {
            self.save(field);
        }
        let controls = self.primary_exit();
        for (_, field) in SAVED.iter().filter(|(control, _)| controls.contains(*control)) {
            self.save(*field);
        }
        for field in SAVED_IF_SUPPORTED {
            self.save(field);
        }
        if self.secondary_exit().contains(SecondaryExit::SAVE_FRED) {
            for field in FRED_STATE {
                self.save(field);
            }
        }
        self.save_segments();
        let rflags = saved_rflags(exit, self.cpu.rflags);
        self.current_mut().fields.set(field::GUEST_RFLAGS, rflags);
        self.save_non_register_state(exit);
    }

    /// Saves the segment registers. Of an unusable one the SDM leaves most undefined; here it is saved as the register
    /// holds it. SDM 28.3.2, Saving Segment Registers and Descriptor-Table Registers.
    fn save_segments(&mut self) {
        for segment in &SEGMENTS {
            self.save(segment.selector.id());
            self.save(segment.base.id());
            self.save(segment.limit.id());
            let held = self.register(segment.access_rights);
            let unusable = u32::from(held.unusable()) << 16;
            let saved = (held.into_bits() & SAVED_ACCESS_RIGHTS | unusable).into();
            self.current_mut().fields.set(segment.access_rights, saved);
        }
    }

    /// Saves activity state, interruptibility, pending debug exceptions, timers, PDPTEs and virtual-interrupt state.
    /// SDM 28.3.4, Saving Non-Register State.
    fn save_non_register_state(&mut self, exit: &VmExit) {
        let reason = exit.reason;
        self.save(field::GUEST_ACTIVITY_STATE.id());
        let mut interruptibility = self.register(field::GUEST_INTERRUPTIBILITY_STATE);
        interruptibility.set(Interruptibility::MOV_SS, self.cpu.mov_ss_blocking);
        interruptibility.set(Interruptibility::ENCLAVE, reason.enclave_mode());
        if !self.cpu.smm {
            interruptibility.remove(Interruptibility::SMI);
        }
        self.current_mut().fields.set(field::GUEST_INTERRUPTIBILITY_STATE, interruptibility);
        let pending = if saves_pending_debug_exceptions(exit, self.cpu.mov_ss_blocking) {
            self.register(field::GUEST_PENDING_DEBUG_EXCEPTIONS)
        } else {
            PendingDebug::empty()
        };
        self.current_mut().fields.set(field::GUEST_PENDING_DEBUG_EXCEPTIONS, pending);
        if self.primary_exit().contains(Exit::SAVE_VMX_PREEMPTION_TIMER_VALUE) {
            if reason.basic() == vmcs_model::formats::exit_reason::PREEMPTION_TIMER {
                self.set_register(field::VMX_PREEMPTION_TIMER_VALUE, 0);
            }
            self.save(field::VMX_PREEMPTION_TIMER_VALUE.id());
        }
        if self.secondary().contains(Secondary::ENABLE_EPT) && self.pae_paging() {
            for field in PDPTES {
                self.save(field);
            }
        }
        if self.secondary().contains(Secondary::VIRTUAL_INTERRUPT_DELIVERY) {
            self.save(field::GUEST_INTERRUPT_STATUS.id());
        }
        self.save(field::GUEST_DEADLINE.id());
    }
}

/// Whether the entry injects an event. A pending MTF VM exit (type 7, vector 0) does not count as one; FRED's SYSCALL
/// and SYSENTER, of the same type, do. SDM 27.7, Special Features of VM Entry.
fn injects(event: InterruptionInformation) -> bool {
    event.valid() && !(event.event_type() == OTHER_EVENT && event.vector() == 0)
}
