//! What VM exits record, save and load. SDM 28, VM Exits.

use vmcs_emu::{Entry, ExitError, Failure, VmExit};
use vmcs_model::VmxOperation;
use vmcs_model::controls::{self, Exit};
use vmcs_model::field::*;
use vmcs_model::formats::{ExitReason, Interruptibility, InterruptionInformation, PendingDebug};
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::registers::{Cr4, Efer, Rflags};

use crate::support::{
    HLT, HOST_RIP_VALUE, changed, fields, get, guest, guest_with, leave, profile_with, ready, ready_of,
    with_exit_control,
};

const EXCEPTION: u16 = 0;

const EPT_VIOLATION: u16 = 48;

const PREEMPTION_TIMER: u16 = 52;

const TPR_BELOW_THRESHOLD: u16 = 43;

#[test]
fn an_exit_without_a_change_writes_only_what_it_must() {
    let mut cpu = guest();
    let before = fields(&cpu);
    leave(&mut cpu);
    assert_eq!(changed(&before, &fields(&cpu)), [EXIT_REASON.id()]);
}

#[test]
fn an_exit_loads_the_host() {
    let mut cpu = guest();
    cpu.cpu_mut().rflags |= Rflags::CF | Rflags::IF;
    cpu.cpu_mut().cpl = 3;
    leave(&mut cpu);
    let state = cpu.cpu();
    assert_eq!((state.vmx, state.cpl, state.cs_l, state.rflags), (VmxOperation::Root, 0, true, Rflags::FIXED1));
    assert_eq!(state.cr4, Cr4::from_bits_retain(0x2620));
    assert_eq!(cpu.register(GUEST_RIP), HOST_RIP_VALUE);
    assert_eq!(cpu.register(GUEST_CR3), 0x5000);
    assert_eq!(cpu.register(GUEST_CS_ACCESS_RIGHTS).into_bits(), 0xA09B);
    assert_eq!(cpu.register(GUEST_FS_ACCESS_RIGHTS).into_bits(), 0x1_0000, "a null selector");
    assert_eq!(cpu.register(GUEST_GS_ACCESS_RIGHTS).into_bits(), 0x1_0000, "a null selector");
    assert_eq!(cpu.register(GUEST_DS_ACCESS_RIGHTS).into_bits(), 0xC093);
    assert_eq!(cpu.register(GUEST_FS_BASE), 0x1111_0000);
    assert_eq!(cpu.register(GUEST_TR_LIMIT), 0x67);
    assert_eq!(cpu.register(GUEST_LDTR_ACCESS_RIGHTS).into_bits(), 0x1_0000);
    assert_eq!(cpu.register(GUEST_GDTR_LIMIT), 0xFFFF);
    assert_eq!(cpu.register(GUEST_IA32_SYSENTER_CS), 0x77);
    assert_eq!(get(&cpu, GUEST_RFLAGS), Rflags::FIXED1 | Rflags::CF | Rflags::IF);
}

#[test]
fn an_exit_records_and_clears_information() {
    let event = InterruptionInformation::new().with_vector(14).with_event_type(3).with_deliver_error_code(true);
    let mut cpu = guest_with(|vmcs| {
        vmcs.set(VM_ENTRY_INTERRUPTION_INFORMATION, event.with_valid(true));
        vmcs.set(IDT_VECTORING_INFORMATION, event.with_valid(true));
        vmcs.set(GUEST_LINEAR_ADDRESS, 0x1234);
    });
    let exit = VmExit {
        event: event.with_valid(true),
        event_error_code: Some(7),
        instruction_length: Some(3),
        ..VmExit::new(EXCEPTION, 0xDEAD)
    };
    assert_eq!(cpu.vm_exit(exit), Ok(()));
    assert_eq!(get(&cpu, VM_ENTRY_INTERRUPTION_INFORMATION), event, "only the valid bit is cleared");
    assert_eq!(get(&cpu, EXIT_REASON), ExitReason::new());
    assert_eq!(get(&cpu, EXIT_QUALIFICATION), 0xDEAD);
    assert_eq!(get(&cpu, VM_EXIT_INTERRUPTION_INFORMATION), event.with_valid(true));
    assert_eq!(get(&cpu, VM_EXIT_INTERRUPTION_ERROR_CODE), 7);
    assert!(!get(&cpu, IDT_VECTORING_INFORMATION).valid());
    assert_eq!(get(&cpu, VM_EXIT_INSTRUCTION_LENGTH), 3);
    assert_eq!(get(&cpu, GUEST_LINEAR_ADDRESS), 0x1234, "undefined: left alone");
}

#[test]
fn misc_bit_5_stores_lma_in_the_entry_controls() {
    for (misc_5, stored) in [(true, false), (false, true)] {
        let profile = profile_with(CapabilityMsr::Misc, |misc| misc & !(1 << 5) | u64::from(misc_5) << 5);
        let mut cpu = ready_of(&profile);
        assert_eq!(cpu.vmlaunch(), Ok(Entry::Entered));
        cpu.cpu_mut().efer.remove(Efer::LMA);
        leave(&mut cpu);
        assert_eq!(get(&cpu, VM_ENTRY_CONTROLS).contains(controls::Entry::IA_32E_MODE_GUEST), stored);
    }
}

#[test]
fn mov_ss_blocking_goes_in_and_out() {
    let mut cpu = guest_with(|vmcs| vmcs.set(GUEST_INTERRUPTIBILITY_STATE, Interruptibility::MOV_SS));
    assert!(cpu.cpu().mov_ss_blocking);
    assert_eq!(cpu.vmptrst(), Err(Failure::Exit { reason: 22 }));
    assert_eq!(get(&cpu, GUEST_INTERRUPTIBILITY_STATE), Interruptibility::MOV_SS);
    assert!(!cpu.cpu().mov_ss_blocking);
}

#[test]
fn rf_is_saved_by_the_kind_of_exit() {
    for (reason, before, saved) in [
        (HLT, Rflags::RF, Rflags::empty()),
        (EPT_VIOLATION, Rflags::empty(), Rflags::RF),
        (PREEMPTION_TIMER, Rflags::RF, Rflags::RF),
        (PREEMPTION_TIMER, Rflags::empty(), Rflags::empty()),
    ] {
        let mut cpu = guest();
        cpu.cpu_mut().rflags |= before;
        assert_eq!(cpu.vm_exit(VmExit::new(reason, 0)), Ok(()));
        assert_eq!(get(&cpu, GUEST_RFLAGS), Rflags::FIXED1 | saved, "{reason}");
    }
}

#[test]
fn pending_debug_exceptions_are_cleared_by_most_exits() {
    for (reason, kept) in [(HLT, false), (TPR_BELOW_THRESHOLD, true)] {
        let mut cpu = guest_with(|vmcs| vmcs.set(GUEST_PENDING_DEBUG_EXCEPTIONS, PendingDebug::B0));
        assert_eq!(cpu.vm_exit(VmExit::new(reason, 0)), Ok(()));
        assert_eq!(!get(&cpu, GUEST_PENDING_DEBUG_EXCEPTIONS).is_empty(), kept);
    }
}

#[test]
fn the_timer_is_saved_under_its_control() {
    for (save, reason, value) in [(true, HLT, 55), (true, PREEMPTION_TIMER, 0), (false, PREEMPTION_TIMER, 1000)] {
        let mut cpu = guest_with(|vmcs| {
            let pin = vmcs.get(PIN_BASED_VM_EXECUTION_CONTROLS) | controls::PinBased::ACTIVATE_VMX_PREEMPTION_TIMER;
            vmcs.set(PIN_BASED_VM_EXECUTION_CONTROLS, pin);
            vmcs.set(VMX_PREEMPTION_TIMER_VALUE, 1000);
            if save {
                with_exit_control(vmcs, Exit::SAVE_VMX_PREEMPTION_TIMER_VALUE);
            }
        });
        assert_eq!(cpu.register(VMX_PREEMPTION_TIMER_VALUE), 1000);
        cpu.set_register(VMX_PREEMPTION_TIMER_VALUE, 55);
        assert_eq!(cpu.vm_exit(VmExit::new(reason, 0)), Ok(()));
        assert_eq!(get(&cpu, VMX_PREEMPTION_TIMER_VALUE), value);
    }
}

#[test]
fn registers_are_saved_whenever_the_field_exists() {
    let mut cpu = guest();
    cpu.set_register(GUEST_IA32_PKRS, 0x55);
    cpu.set_register(GUEST_IA32_BNDCFGS, 0x1000);
    leave(&mut cpu);
    assert_eq!(get(&cpu, GUEST_IA32_PKRS), 0x55);
    assert_eq!(get(&cpu, GUEST_IA32_BNDCFGS), 0, "the processor has no such field");
}

#[test]
fn access_rights_are_saved_without_reserved_bits() {
    let mut cpu = guest();
    cpu.set_register(GUEST_DS_ACCESS_RIGHTS, 0xFFFE_FFFF.into());
    cpu.set_register(GUEST_ES_ACCESS_RIGHTS, 0xFFFF_FFFF.into());
    leave(&mut cpu);
    assert_eq!(get(&cpu, GUEST_DS_ACCESS_RIGHTS).into_bits(), 0xF0FF);
    assert_eq!(get(&cpu, GUEST_ES_ACCESS_RIGHTS).into_bits(), 0x1_F0FF);
}

#[test]
fn there_is_no_exit_without_a_guest() {
    let mut cpu = ready();
    let before = fields(&cpu);
    assert_eq!(cpu.vm_exit(VmExit::new(HLT, 0)), Err(ExitError::NotInGuest));
    assert_eq!(before, fields(&cpu));
}

#[test]
fn nmi_blocking_after_an_exit() {
    let nmi = InterruptionInformation::new().with_vector(2).with_event_type(2).with_valid(true);
    let mut cpu = guest();
    assert_eq!(cpu.vm_exit(VmExit { event: nmi, ..VmExit::new(EXCEPTION, 0) }), Ok(()));
    assert_eq!(cpu.register(GUEST_INTERRUPTIBILITY_STATE), Interruptibility::NMI);
    for (virtual_nmis, after) in [(false, Interruptibility::NMI), (true, Interruptibility::empty())] {
        let mut cpu = guest_with(|vmcs| {
            let mut pin = vmcs.get(PIN_BASED_VM_EXECUTION_CONTROLS);
            pin.set(controls::PinBased::VIRTUAL_NMIS, virtual_nmis);
            vmcs.set(PIN_BASED_VM_EXECUTION_CONTROLS, pin);
            vmcs.set(GUEST_INTERRUPTIBILITY_STATE, Interruptibility::NMI);
        });
        leave(&mut cpu);
        assert_eq!(get(&cpu, GUEST_INTERRUPTIBILITY_STATE), Interruptibility::NMI);
        assert_eq!(cpu.register(GUEST_INTERRUPTIBILITY_STATE), after);
    }
}
