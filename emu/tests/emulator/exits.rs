//! What VM exits record, save and load. SDM 28, VM Exits.

use vmcs_emu::{EntryResult, ExitError, InstructionFailure, VmExit};
use vmcs_model::VmxOperation;
use vmcs_model::controls::{self, Exit};
use vmcs_model::field::*;
use vmcs_model::formats::event_type::{EXTERNAL_INTERRUPT, HARDWARE_EXCEPTION, NMI, SOFTWARE_EXCEPTION};
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
        assert_eq!(cpu.vmlaunch(), Ok(EntryResult::Entered));
        cpu.cpu_mut().efer.remove(Efer::LMA);
        leave(&mut cpu);
        assert_eq!(get(&cpu, VM_ENTRY_CONTROLS).contains(controls::Entry::IA_32E_MODE_GUEST), stored);
    }
}

#[test]
fn mov_ss_blocking_goes_in_and_out() {
    let mut cpu = guest_with(|vmcs| vmcs.set(GUEST_INTERRUPTIBILITY_STATE, Interruptibility::MOV_SS));
    assert!(cpu.cpu().mov_ss_blocking);
    assert_eq!(cpu.vmptrst(), Err(InstructionFailure::Exit { reason: 22 }));
    assert_eq!(get(&cpu, GUEST_INTERRUPTIBILITY_STATE), Interruptibility::MOV_SS);
    assert!(!cpu.cpu().mov_ss_blocking);
}

/// The guest leaves with RF as `rf` says; whether RF is saved as 1.
fn saves_rf(exit: VmExit, rf: bool) -> bool {
    let mut cpu = guest();
    cpu.cpu_mut().rflags.set(Rflags::RF, rf);
    assert_eq!(cpu.vm_exit(exit), Ok(()));
    let saved = get(&cpu, GUEST_RFLAGS);
    assert_eq!(saved - Rflags::RF, Rflags::FIXED1);
    saved.contains(Rflags::RF)
}

/// Every instruction of Appendix C, and those that only some editions list: 70, 80, 81, 84, 85.
#[test]
fn exits_by_instructions_save_rf_as_0() {
    let instructions = [
        10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 36, 39, 40, 46, 47,
        50, 51, 53, 54, 55, 57, 58, 59, 60, 61, 63, 64, 65, 67, 68, 69, 70, 72, 73, 76, 77, 78, 79, 80, 81, 84, 85,
    ];
    for reason in 1..90 {
        let accesses = [44, 48, 49, 62, 66].contains(&reason);
        assert_eq!(saves_rf(VmExit::new(reason, 0), false), accesses, "{reason}");
        assert_eq!(saves_rf(VmExit::new(reason, 0), true), !instructions.contains(&reason), "{reason}");
    }
}

fn event(event_type: u8, vector: u8) -> InterruptionInformation {
    InterruptionInformation::new().with_vector(vector).with_event_type(event_type).with_valid(true)
}

/// As the delivery of the event would have pushed it.
#[test]
fn exits_by_faults_save_rf_as_1() {
    const GENERAL_DETECT: u64 = 1 << 13;
    for (information, qualification, saved) in [
        (event(HARDWARE_EXCEPTION, 6), 0, true),
        (event(HARDWARE_EXCEPTION, 14), 0x1234, true),
        (event(HARDWARE_EXCEPTION, 21), 0, true),
        (event(HARDWARE_EXCEPTION, 1), 1, false),
        (event(HARDWARE_EXCEPTION, 1), GENERAL_DETECT, true),
        (event(HARDWARE_EXCEPTION, 18), 0, false),
        (event(SOFTWARE_EXCEPTION, 3), 0, false),
        (event(NMI, 2), 0, false),
    ] {
        let exit = VmExit { event: information, ..VmExit::new(EXCEPTION, qualification) };
        assert_eq!(saves_rf(exit, false), saved, "{information:?}");
        assert!(saves_rf(exit, true), "{information:?}");
    }
    for (original, saved) in [(event(HARDWARE_EXCEPTION, 13), true), (event(EXTERNAL_INTERRUPT, 13), false)] {
        let exit = VmExit { original_event: original, ..VmExit::new(EPT_VIOLATION, 0) };
        assert_eq!(saves_rf(exit, false), saved, "during the delivery of {original:?}");
    }
}

#[test]
fn pending_debug_exceptions_are_cleared_by_most_exits() {
    const ASYNCHRONOUS: u64 = 1 << 16;
    let by = |information| VmExit { event: information, ..VmExit::new(EXCEPTION, 0) };
    let saved = |exit, blocking| {
        let mut cpu = guest_with(|vmcs| {
            vmcs.set(GUEST_PENDING_DEBUG_EXCEPTIONS, PendingDebug::B0);
            vmcs.set(GUEST_INTERRUPTIBILITY_STATE, blocking);
        });
        assert_eq!(cpu.vm_exit(exit), Ok(()));
        !get(&cpu, GUEST_PENDING_DEBUG_EXCEPTIONS).is_empty()
    };
    let (open, mov_ss) = (Interruptibility::empty(), Interruptibility::MOV_SS);
    for reason in 1..90 {
        let kept = [3, 5, 6, 37, 43, 45, 56, 74].contains(&reason);
        assert_eq!(saved(VmExit::new(reason, 0), open), kept, "{reason}");
        assert!(saved(VmExit::new(reason, 0), mov_ss), "{reason}");
        let access = [44, 48, 62, 66].contains(&reason);
        assert_eq!(saved(VmExit::new(reason, ASYNCHRONOUS), open), kept || access, "{reason}");
    }
    for (vector, kept, kept_under_mov_ss) in [(18, true, true), (1, false, false), (14, false, true)] {
        let exit = by(event(HARDWARE_EXCEPTION, vector));
        assert_eq!((saved(exit, open), saved(exit, mov_ss)), (kept, kept_under_mov_ss), "vector {vector}");
    }
    assert!(!saved(by(event(NMI, 2)), open));
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
