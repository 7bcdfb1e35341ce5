//! Failed VM entries, MSR areas and VMX aborts. SDM 27.8, VM-Entry Failures During or After Loading Guest State, and
//! 28.7, VMX Aborts.

use vmcs_emu::{EntryResult, ExitError, InstructionFailure, LogicalProcessor, VmExit, VmxAbort};
use vmcs_model::controls::{self, Exit};
use vmcs_model::field::*;
use vmcs_model::formats::InterruptionInformation;
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::profile::MsrValue;
use vmcs_model::registers::{Cr4, Efer, Rflags};
use vmcs_model::{LaunchState, Vmcs, VmxOperation};

use crate::support::{
    HLT, HOST_RIP_VALUE, PAGE, VMCS, changed, fields, get, guest, guest_with, leave, profile, ready, ready_of, set,
    with_entry_control,
};

/// An entry that fails for a reserved bit of the guest's CR4.
fn failing() -> LogicalProcessor {
    let mut cpu = ready();
    set(&mut cpu, GUEST_CR4, Cr4::empty());
    let event = InterruptionInformation::new().with_vector(2).with_event_type(2).with_valid(true);
    set(&mut cpu, VM_ENTRY_INTERRUPTION_INFORMATION, event);
    cpu
}

#[test]
fn entry_14_a_failed_entry_writes_reason_and_qualification_only() {
    let mut cpu = failing();
    let before = fields(&cpu);
    assert_eq!(cpu.vmlaunch(), Ok(EntryResult::Failed { reason: 33, qualification: 0 }));
    assert_eq!(get(&cpu, EXIT_REASON).into_bits(), 1 << 31 | 33);
    assert!(get(&cpu, VM_ENTRY_INTERRUPTION_INFORMATION).valid());
    assert_eq!(changed(&before, &fields(&cpu)), [EXIT_REASON.id()]);
    assert_eq!(cpu.region(VMCS).map(|region| region.launch_state), Some(LaunchState::Clear));
    assert_eq!((cpu.cpu().vmx, cpu.cpu().rflags), (VmxOperation::Root, Rflags::FIXED1));
    assert_eq!(cpu.register(GUEST_RIP), HOST_RIP_VALUE);
    set(&mut cpu, GUEST_CR4, Cr4::from_bits_retain(0x2620));
    assert_eq!(cpu.vmlaunch(), Ok(EntryResult::Entered), "the launch state is still clear");
}

#[test]
fn entry_14_the_link_pointer_has_qualification_4() {
    let mut cpu = ready();
    set(&mut cpu, VMCS_LINK_POINTER, 1);
    assert_eq!(cpu.vmlaunch(), Ok(EntryResult::Failed { reason: 33, qualification: 4 }));
    assert_eq!(get(&cpu, EXIT_QUALIFICATION), 4);
}

/// Writes an entry of an MSR area.
fn area(cpu: &mut LogicalProcessor, n: u64, index: u64, value: u64) {
    cpu.memory_mut().write_u64(PAGE + 16 * n, index);
    cpu.memory_mut().write_u64(PAGE + 16 * n + 8, value);
}

const KERNEL_GS_BASE: u32 = 0xC000_0102;

const FS_BASE: u64 = 0xC000_0100;

#[test]
fn entry_15_msr_loading_reports_the_entry_that_failed() {
    let mut cpu = ready();
    with_entry_control(&mut cpu.region_mut(VMCS).fields, controls::Entry::LOAD_IA32_PAT);
    set(&mut cpu, GUEST_IA32_PAT, 0x0706);
    set(&mut cpu, VM_ENTRY_MSR_LOAD_COUNT, 2);
    set(&mut cpu, VM_ENTRY_MSR_LOAD_ADDRESS, PAGE);
    area(&mut cpu, 0, KERNEL_GS_BASE.into(), 0x1234);
    area(&mut cpu, 1, FS_BASE, 0);
    let before = fields(&cpu);
    assert_eq!(cpu.vmlaunch(), Ok(EntryResult::Failed { reason: 34, qualification: 2 }));
    assert_eq!(cpu.msr(KERNEL_GS_BASE), 0x1234, "the first entry stays loaded");
    assert_eq!(cpu.register(GUEST_IA32_PAT), 0x0706, "no control of the exit reloads it");
    assert_eq!(cpu.register(GUEST_RIP), HOST_RIP_VALUE);
    assert_eq!(changed(&before, &fields(&cpu)), [EXIT_REASON.id(), EXIT_QUALIFICATION.id()]);
    area(&mut cpu, 1, 0x174, 0x10);
    assert_eq!(cpu.vmlaunch(), Ok(EntryResult::Entered));
    assert_eq!((cpu.msr(KERNEL_GS_BASE), cpu.register(GUEST_IA32_SYSENTER_CS)), (0x1234, 0x10));
}

#[test]
fn exits_store_and_load_msrs() {
    let mut cpu = guest_with(|vmcs| {
        vmcs.set(VM_EXIT_MSR_STORE_COUNT, 2);
        vmcs.set(VM_EXIT_MSR_STORE_ADDRESS, PAGE);
        vmcs.set(VM_EXIT_MSR_LOAD_COUNT, 1);
        vmcs.set(VM_EXIT_MSR_LOAD_ADDRESS, PAGE + 0x20);
    });
    area(&mut cpu, 0, KERNEL_GS_BASE.into(), 0);
    area(&mut cpu, 1, FS_BASE, 0);
    area(&mut cpu, 2, KERNEL_GS_BASE.into(), 0x5678);
    cpu.set_msr(KERNEL_GS_BASE, 0x1234);
    cpu.set_register(GUEST_FS_BASE, 0x9999);
    leave(&mut cpu);
    assert_eq!((cpu.memory().read_u64(PAGE + 8), cpu.memory().read_u64(PAGE + 24)), (0x1234, 0x9999));
    assert_eq!(cpu.msr(KERNEL_GS_BASE), 0x5678);
}

/// The MSRs of a profile hold what it says, IA32_FEATURE_CONTROL besides what VMXON needs, and the notification vector
/// is part of IA32_UINTR_MISC.
#[test]
fn every_register_that_is_an_msr_is_read_and_written_as_one() {
    const FEATURE_CONTROL: u32 = 0x3A;
    const UINTR_MISC: u32 = 0x988;
    let mut profile = profile();
    profile.set_msr(CapabilityMsr::PerfCapabilities, MsrValue::Value(0x33C5));
    profile.set_msr(CapabilityMsr::TmeActivate, MsrValue::Absent);
    profile.set_msr(CapabilityMsr::FeatureControl, MsrValue::Value(0x2_0001));
    let mut cpu = ready_of(&profile);
    for msr in CapabilityMsr::ALL {
        let expected = match (msr, profile.msr(msr)) {
            (CapabilityMsr::FeatureControl, _) => 0x2_0005,
            (_, value) => value.or_zero().expect("the profile has every MSR"),
        };
        assert_eq!(cpu.msr(msr.number()), expected, "{msr:?}");
    }
    cpu.set_msr(FEATURE_CONTROL, 0);
    assert_eq!((cpu.msr(FEATURE_CONTROL), cpu.platform().feature_control), (0, 0));
    cpu.set_msr(UINTR_MISC, 0xAB_1234_5678);
    assert_eq!((cpu.register(GUEST_UINV), cpu.msr(UINTR_MISC)), (0xAB, 0xAB_1234_5678));
    cpu.set_register(GUEST_UINV, 0x21);
    assert_eq!(cpu.msr(UINTR_MISC), 0x21_1234_5678);
}

#[test]
fn vmx_aborts_shut_the_processor_down() {
    type Prepare = fn(&mut Vmcs);
    let cases: [(VmxAbort, Prepare); 2] = [
        (VmxAbort::SavingGuestMsrs, |vmcs| {
            vmcs.set(VM_EXIT_MSR_STORE_COUNT, 1);
            vmcs.set(VM_EXIT_MSR_STORE_ADDRESS, PAGE);
        }),
        (VmxAbort::LoadingHostMsrs, |vmcs| {
            vmcs.set(VM_EXIT_MSR_LOAD_COUNT, 1);
            vmcs.set(VM_EXIT_MSR_LOAD_ADDRESS, PAGE);
        }),
    ];
    for (abort, prepare) in cases {
        let bad: &[u64] = match abort {
            // IA32_SMBASE is read in SMM only, the others never.
            VmxAbort::SavingGuestMsrs => &[0x802, 0x9E, 1 << 32, 0x49, 0x79, 0x10B, 0x4000_0000, 0x4000_00FF],
            _ => &[0x802, 0x9B, 1 << 32],
        };
        for bad in bad.iter().copied() {
            let mut cpu = guest_with(prepare);
            area(&mut cpu, 0, bad, 0);
            assert_eq!(cpu.vm_exit(VmExit::new(HLT, 0)), Err(ExitError::Aborted(abort)), "{bad:#x}");
            assert_eq!(cpu.memory().read_u32(VMCS + 4), abort.indicator());
            assert_eq!(cpu.abort(), Some(abort));
            assert_eq!(cpu.vmptrst(), Err(InstructionFailure::Shutdown));
            assert_eq!(cpu.vm_exit(VmExit::new(HLT, 0)), Err(ExitError::NotInGuest));
        }
    }
}

#[test]
fn abort_6_when_an_ia32e_guest_exits_to_a_32_bit_host() {
    let mut cpu = guest();
    let controls = get(&cpu, PRIMARY_VM_EXIT_CONTROLS) - Exit::HOST_ADDRESS_SPACE_SIZE;
    set(&mut cpu, PRIMARY_VM_EXIT_CONTROLS, controls);
    assert_eq!(cpu.vm_exit(VmExit::new(HLT, 0)), Err(ExitError::Aborted(VmxAbort::HostAddressSpaceSize)));
    assert_eq!(cpu.memory().read_u32(VMCS + 4), 6);
}

#[test]
fn abort_2_for_bad_host_pdptes() {
    for (pdpte, result) in [(1, Ok(())), (0b11, Err(ExitError::Aborted(VmxAbort::HostPdptes)))] {
        let mut cpu = guest();
        let controls = get(&cpu, PRIMARY_VM_EXIT_CONTROLS) - Exit::HOST_ADDRESS_SPACE_SIZE;
        set(&mut cpu, PRIMARY_VM_EXIT_CONTROLS, controls);
        cpu.cpu_mut().efer = Efer::empty();
        cpu.memory_mut().write_u64(0x5000, pdpte);
        assert_eq!(cpu.vm_exit(VmExit::new(HLT, 0)), result);
    }
}
