//! VMCALL and VMFUNC.

use vmcs_emu::LogicalProcessor;
use vmcs_model::controls::{Exit, Secondary, VmFunctions};
use vmcs_model::field::{
    EPT_POINTER, EPTP_INDEX, EXECUTIVE_VMCS_POINTER, EXIT_REASON, PRIMARY_VM_EXIT_CONTROLS,
    SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, VM_EXIT_INSTRUCTION_LENGTH, VM_FUNCTION_CONTROLS,
};
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::registers::{Cr0, Efer, Rflags};
use vmcs_model::{CpuProfile, LaunchState, VmxOperation};

use crate::rows::{GP, INVALID, Outcome, Row, UD, check, done, exits, valid, with};
use crate::support::{
    EPTP, EPTP_LIST, MSEG, PAGE, VMCS, VMXON_REGION, get, guest, guest_with, outside, profile, profile_with, ready,
    ready_of, root_of, set,
};

const MSEG_REVISION: u32 = 0x77;

fn vmcall(cpu: &mut LogicalProcessor) -> Outcome {
    done(cpu.vmcall())
}

fn monitor_profile() -> CpuProfile {
    profile_with(CapabilityMsr::Misc, |misc| misc | u64::from(MSEG_REVISION) << 32)
}

/// With a good MSEG header.
fn monitor(profile: &CpuProfile, setup: fn(&CpuProfile) -> LogicalProcessor) -> LogicalProcessor {
    let mut cpu = setup(profile);
    cpu.platform_mut().smm_monitor_ctl = MSEG | 1;
    cpu.memory_mut().write_u32(MSEG, MSEG_REVISION);
    cpu.memory_mut().write_u32(MSEG + 4, 1);
    cpu
}

fn monitor_ready() -> LogicalProcessor {
    monitor(&monitor_profile(), ready_of)
}

fn features(value: u32) -> LogicalProcessor {
    with(monitor_ready, |cpu| {
        cpu.memory_mut().write_u32(MSEG + 4, value);
    })
}

#[test]
fn vmcall_rows() {
    let rows: &[Row] = &[
        ("01", outside, vmcall, UD),
        ("02 guest", guest, vmcall, exits(18)),
        ("02 guest at CPL 3", || with(guest, |cpu| cpu.cpu_mut().cpl = 3), vmcall, exits(18)),
        ("02 guest in virtual-8086 mode", || with(guest, |cpu| cpu.cpu_mut().rflags |= Rflags::VM), vmcall, exits(18)),
        ("02 guest in real mode", || with(guest, |cpu| cpu.cpu_mut().cr0 -= Cr0::PE), vmcall, exits(18)),
        ("03 virtual-8086 mode", || with(ready, |cpu| cpu.cpu_mut().rflags |= Rflags::VM), vmcall, UD),
        ("03 compatibility mode", || with(ready, |cpu| cpu.cpu_mut().cs_l = false), vmcall, UD),
        ("04 CPL 3", || with(ready, |cpu| cpu.cpu_mut().cpl = 3), vmcall, GP),
        ("04 SEAM", || with(ready, |cpu| cpu.cpu_mut().seam = true), vmcall, GP),
        ("05 in SMM", || with(monitor_ready, |cpu| cpu.cpu_mut().smm = true), vmcall, valid(1)),
        ("05 unsupported", || monitor(&unsupported(), ready_of), vmcall, valid(1)),
        (
            "05 not valid",
            || {
                with(monitor_ready, |cpu| {
                    cpu.platform_mut().smm_monitor_ctl = MSEG;
                })
            },
            vmcall,
            valid(1),
        ),
        ("05 no current VMCS", || root_of(&profile()), vmcall, INVALID),
        ("06", || with(monitor_ready, activate), vmcall, exits(18)),
        ("07", || monitor(&monitor_profile(), root_of), vmcall, INVALID),
        (
            "08",
            || {
                with(monitor_ready, |cpu| {
                    cpu.region_mut(VMCS).launch_state = LaunchState::Launched;
                })
            },
            vmcall,
            valid(19),
        ),
        (
            "09 a must-be-1 is 0",
            || {
                with(monitor_ready, |cpu| {
                    set(cpu, PRIMARY_VM_EXIT_CONTROLS, Exit::empty());
                })
            },
            vmcall,
            valid(20),
        ),
        ("09 a must-be-0 is 1", reserved_exit_control, vmcall, valid(20)),
        (
            "10",
            || {
                with(monitor_ready, |cpu| {
                    cpu.memory_mut().write_u32(MSEG, MSEG_REVISION + 1);
                })
            },
            vmcall,
            valid(22),
        ),
        ("11 bit 1", || features(0b11), vmcall, valid(24)),
        ("11 bit 0 clear in 64-bit mode", || features(0), vmcall, valid(24)),
        ("12", monitor_ready, vmcall, exits(18)),
        ("12 bit 0 clear outside 64-bit mode", monitor_32, vmcall, exits(18)),
    ];
    check(rows);
}

fn unsupported() -> CpuProfile {
    let mut profile = monitor_profile();
    profile.set_msr(CapabilityMsr::Basic, vmcs_model::profile::MsrValue::Value(0x03d8_0500_0000_0013));
    profile
}

fn activate(cpu: &mut LogicalProcessor) {
    cpu.platform_mut().dual_monitor_active = true;
    cpu.platform_mut().smm_transfer_pointer = VMCS;
}

fn reserved_exit_control() -> LogicalProcessor {
    with(monitor_ready, |cpu| {
        let controls = get(cpu, PRIMARY_VM_EXIT_CONTROLS);
        set(cpu, PRIMARY_VM_EXIT_CONTROLS, controls | Exit::CLEAR_IA32_BNDCFGS);
    })
}

fn monitor_32() -> LogicalProcessor {
    let mut cpu = features(0);
    cpu.cpu_mut().efer = Efer::empty();
    cpu
}

#[test]
fn vmcall_12_activates_the_dual_monitor_treatment() {
    let mut cpu = monitor_ready();
    assert!(cpu.vmcall().is_err());
    assert!(cpu.cpu().smm && cpu.platform().dual_monitor_active);
    assert_eq!(cpu.platform().smm_transfer_pointer, VMCS);
    assert_eq!(get(&cpu, EXIT_REASON).into_bits(), 1 << 29 | 18);
    assert_eq!(get(&cpu, EXECUTIVE_VMCS_POINTER), VMXON_REGION);
    assert_eq!(cpu.vmxoff(), Err(vmcs_emu::InstructionFailure::valid(23)));
}

fn listed(entries: &[u64]) -> LogicalProcessor {
    let mut cpu = guest_with(|_| {});
    for (address, entry) in (EPTP_LIST..).step_by(8).zip(entries) {
        cpu.memory_mut().write_u64(address, *entry);
    }
    cpu
}

fn without_vm_functions() -> LogicalProcessor {
    guest_with(|vmcs| {
        let controls = vmcs.get(SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS) - Secondary::ENABLE_VM_FUNCTIONS;
        vmcs.set(SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, controls);
    })
}

fn without_eptp_switching() -> LogicalProcessor {
    guest_with(|vmcs| vmcs.set(VM_FUNCTION_CONTROLS, VmFunctions::empty()))
}

#[test]
fn vmfunc_rows() {
    let vmfunc: fn(&mut LogicalProcessor) -> Outcome = |cpu| done(cpu.vmfunc(0, 0));
    let rows: &[Row] = &[
        ("01 outside VMX operation", outside, vmfunc, UD),
        ("01 root", ready, vmfunc, UD),
        ("01 VM functions off", without_vm_functions, vmfunc, UD),
        ("02 EAX 64", guest, |cpu| done(cpu.vmfunc(64, 0)), UD),
        ("03 function off", without_eptp_switching, vmfunc, exits(59)),
        ("03 function 63", guest, |cpu| done(cpu.vmfunc(63, 0)), exits(59)),
        ("03 at CPL 3", || with(without_eptp_switching, |cpu| cpu.cpu_mut().cpl = 3), vmfunc, exits(59)),
        ("04", || listed(&[EPTP]), |cpu| done(cpu.vmfunc(0, 512)), exits(59)),
        ("05 memory type", || listed(&[EPTP | 7]), vmfunc, exits(59)),
        ("05 width", || listed(&[EPTP | 1 << 52]), vmfunc, exits(59)),
        ("05 reserved bits", || listed(&[EPTP | 1 << 8]), vmfunc, exits(59)),
        ("05 another walk length", || listed(&[EPTP & !0x38 | 4 << 3]), vmfunc, exits(59)),
    ];
    check(rows);
}

#[test]
fn vmfunc_06_trace_that_uses_guest_physical_addresses() {
    let mut cpu = listed(&[EPTP]);
    let controls = get(&cpu, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS);
    let traced = controls | Secondary::INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES;
    set(&mut cpu, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, traced);
    assert_eq!(cpu.vmfunc(0, 0), Ok(()), "tracing is off");
    cpu.cpu_mut().trace_enabled = true;
    assert_eq!(done(cpu.vmfunc(0, 0)), exits(59));
    assert_eq!(get(&cpu, VM_EXIT_INSTRUCTION_LENGTH), 3);
}

#[test]
fn vmfunc_07_switches_the_eptp_and_no_flag() {
    let other = (PAGE + 0x5000) | 0x1E;
    let mut cpu = listed(&[EPTP, other]);
    cpu.cpu_mut().cpl = 3;
    cpu.cpu_mut().rflags |= Rflags::CF | Rflags::ZF;
    let before = cpu.cpu().clone();
    assert_eq!(cpu.vmfunc(0, 1), Ok(()));
    assert_eq!(get(&cpu, EPT_POINTER).into_bits(), other);
    assert_eq!(get(&cpu, EPTP_INDEX), 1);
    assert_eq!(cpu.cpu(), &before);
    assert_eq!(cpu.cpu().vmx, VmxOperation::NonRoot);
}
