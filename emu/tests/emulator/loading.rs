//! What VM entries load. SDM 27.3.2, Loading Guest State.

use vmcs_emu::EntryResult;
use vmcs_model::controls::{self, Exit, Primary, Secondary};
use vmcs_model::field::*;
use vmcs_model::formats::{ActivityState, Interruptibility, InterruptionInformation, PendingDebug};
use vmcs_model::registers::{Cr0, Efer};
use vmcs_model::{LaunchState, VmxOperation};

use crate::support::{
    GUEST_RIP_VALUE, PAGE, VMCS, get, guest, guest_with, leave, ready, set, with_entry_control, with_exit_control,
};

#[test]
fn entry_loads_the_guest() {
    let cpu = guest();
    assert_eq!(cpu.cpu().vmx, VmxOperation::NonRoot);
    assert_eq!(cpu.register(GUEST_RIP), GUEST_RIP_VALUE);
    assert_eq!(cpu.register(GUEST_CR3), 0x6000);
    assert_eq!((cpu.cpu().cpl, cpu.cpu().cs_l), (0, true));
    assert_eq!(cpu.cpu().efer & (Efer::LMA | Efer::LME), Efer::LMA | Efer::LME);
    assert_eq!(cpu.region(VMCS).map(|region| region.launch_state), Some(LaunchState::Launched));
}

#[test]
fn load_cr0_keeps_et_nw_cd() {
    let mut cpu = ready();
    cpu.cpu_mut().cr0.insert(Cr0::CD);
    set(&mut cpu, GUEST_CR0, Cr0::from_bits_retain(0x8001_0023) | Cr0::NW | Cr0::CD);
    assert_eq!(cpu.vmlaunch(), Ok(EntryResult::Entered));
    assert_eq!(cpu.cpu().cr0, Cr0::from_bits_retain(0x8001_0033) | Cr0::CD);
    leave(&mut cpu);
    assert_eq!(get(&cpu, GUEST_CR0), Cr0::from_bits_retain(0x8001_0033) | Cr0::CD, "the real bits are saved");
}

#[test]
fn load_dr7_and_debugctl_under_their_control() {
    let mut cpu = guest();
    assert_eq!(cpu.register(GUEST_DR7), 0);
    let mut loaded = guest_with(|vmcs| {
        with_entry_control(vmcs, controls::Entry::LOAD_DEBUG_CONTROLS);
        with_exit_control(vmcs, Exit::SAVE_DEBUG_CONTROLS);
        vmcs.set(GUEST_DR7, 0xD001);
        vmcs.set(GUEST_IA32_DEBUGCTL, 2);
    });
    assert_eq!((loaded.register(GUEST_DR7), loaded.register(GUEST_IA32_DEBUGCTL)), (0x2401 & !0x2000, 2));
    leave(&mut loaded);
    assert_eq!((get(&loaded, GUEST_DR7), get(&loaded, GUEST_IA32_DEBUGCTL)), (0x401, 2));
    assert_eq!((loaded.register(GUEST_DR7), loaded.register(GUEST_IA32_DEBUGCTL)), (0x400, 0));
    leave(&mut cpu);
    assert_eq!(get(&cpu, GUEST_DR7), 0x400, "not saved without the control");
}

#[test]
fn an_injected_event_ends_blocking_and_inactivity() {
    let nmi = InterruptionInformation::new().with_vector(2).with_event_type(2).with_valid(true);
    let mut cpu = guest_with(|vmcs| {
        vmcs.set(VM_ENTRY_INTERRUPTION_INFORMATION, nmi);
        vmcs.set(GUEST_ACTIVITY_STATE, ActivityState::HLT);
    });
    assert_eq!(cpu.register(GUEST_ACTIVITY_STATE), ActivityState::ACTIVE);
    assert_eq!(cpu.register(GUEST_INTERRUPTIBILITY_STATE), Interruptibility::NMI);
    leave(&mut cpu);
    assert_eq!(get(&cpu, GUEST_ACTIVITY_STATE), ActivityState::ACTIVE);
    assert_eq!(get(&cpu, GUEST_INTERRUPTIBILITY_STATE), Interruptibility::NMI);
}

#[test]
fn registers_under_controls_are_loaded_and_saved() {
    const PAT: u64 = 0x0007_0406_0007_0406;
    let mut cpu = guest_with(|vmcs| {
        with_entry_control(vmcs, controls::Entry::LOAD_IA32_PAT);
        with_exit_control(vmcs, Exit::SAVE_IA32_PAT | Exit::LOAD_IA32_PAT);
        vmcs.set(GUEST_IA32_PAT, PAT);
        vmcs.set(HOST_IA32_PAT, 0x06);
    });
    assert_eq!(cpu.register(GUEST_IA32_PAT), PAT);
    cpu.set_register(GUEST_IA32_PAT, 0x04);
    leave(&mut cpu);
    assert_eq!((get(&cpu, GUEST_IA32_PAT), cpu.register(GUEST_IA32_PAT)), (0x04, 0x06));
}

#[test]
fn pdptes_of_a_pae_guest_come_from_the_vmcs_under_ept_and_from_memory_without() {
    for ept in [true, false] {
        let mut cpu = ready();
        cpu.memory_mut().write_u64(0x6008, 0x8001);
        let vmcs = &mut cpu.region_mut(VMCS).fields;
        let entry = vmcs.get(VM_ENTRY_CONTROLS) - controls::Entry::IA_32E_MODE_GUEST;
        vmcs.set(VM_ENTRY_CONTROLS, entry);
        vmcs.set(GUEST_CS_ACCESS_RIGHTS, 0xC09B.into());
        vmcs.set(GUEST_PDPTE1, 0x9001);
        let primary = vmcs.get(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS);
        assert!(primary.contains(Primary::ACTIVATE_SECONDARY_CONTROLS));
        if !ept {
            vmcs.set(SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, Secondary::empty());
        }
        assert_eq!(cpu.vmlaunch(), Ok(EntryResult::Entered));
        assert!(!cpu.cpu().efer.contains(Efer::LMA));
        assert_eq!(cpu.register(GUEST_PDPTE1), if ept { 0x9001 } else { 0x8001 });
        leave(&mut cpu);
        assert_eq!(get(&cpu, GUEST_PDPTE1), 0x9001);
    }
}

#[test]
fn load_vid_virtualizes_the_ppr() {
    for (vtpr, svi, vppr) in [(0x35, 0x30, 0x35), (0x25, 0x3F, 0x30)] {
        let mut cpu = ready();
        cpu.memory_mut().write_u32(PAGE + 0x80, vtpr);
        let vmcs = &mut cpu.region_mut(VMCS).fields;
        let pin = vmcs.get(PIN_BASED_VM_EXECUTION_CONTROLS) | controls::PinBased::EXTERNAL_INTERRUPT_EXITING;
        let primary = vmcs.get(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS) | Primary::USE_TPR_SHADOW;
        let secondary = vmcs.get(SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS);
        vmcs.set(PIN_BASED_VM_EXECUTION_CONTROLS, pin);
        vmcs.set(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, primary);
        vmcs.set(SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, secondary | Secondary::VIRTUAL_INTERRUPT_DELIVERY);
        vmcs.set(VIRTUAL_APIC_ADDRESS, PAGE);
        vmcs.set(GUEST_INTERRUPT_STATUS, svi << 8);
        assert_eq!(cpu.vmlaunch(), Ok(EntryResult::Entered));
        assert_eq!(cpu.memory().read_u32(PAGE + 0xA0), vppr);
    }
}

#[test]
fn an_unusable_ss_is_loaded_with_b_and_without_upper_bits() {
    let cpu = guest_with(|vmcs| {
        vmcs.set(GUEST_SS_SELECTOR, 0.into());
        vmcs.set(GUEST_SS_ACCESS_RIGHTS, 0x1_0000.into());
        vmcs.set(GUEST_SS_BASE, 0x1_0000_001F);
    });
    assert_eq!(cpu.register(GUEST_SS_BASE), 0x10);
    assert_eq!(cpu.register(GUEST_SS_ACCESS_RIGHTS).into_bits(), 0x1_4000);
}

#[test]
fn injecting_drops_pending_debug_exceptions() {
    let nmi = InterruptionInformation::new().with_vector(2).with_event_type(2).with_valid(true);
    let cpu = guest_with(|vmcs| {
        vmcs.set(VM_ENTRY_INTERRUPTION_INFORMATION, nmi);
        vmcs.set(GUEST_PENDING_DEBUG_EXCEPTIONS, PendingDebug::B1);
    });
    assert_eq!(cpu.register(GUEST_PENDING_DEBUG_EXCEPTIONS), PendingDebug::empty());
}
