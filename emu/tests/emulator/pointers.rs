//! VMCLEAR, VMPTRLD and VMPTRST.

use vmcs_emu::LogicalProcessor;
use vmcs_model::LaunchState;
use vmcs_model::cpu::NO_POINTER;
use vmcs_model::field::GUEST_RIP;
use vmcs_model::msr::CapabilityMsr;

use crate::rows::{INVALID, Row, SUCCEEDS, check, done, profile_and, valid, with};
use crate::support::{
    GUEST_RIP_VALUE, OTHER, REVISION, SHADOW, VMCS, VMXON_REGION, get, guest, profile_with, ready, ready_of, root,
};

#[test]
fn vmclear_rows() {
    let rows: &[Row] = &[
        ("05 alignment, with a VMCS", ready, |cpu| done(cpu.vmclear(VMCS + 1)), valid(2)),
        ("05 alignment, without", root, |cpu| done(cpu.vmclear(VMCS + 0x800)), INVALID),
        ("05 width", ready, |cpu| done(cpu.vmclear(1 << 52)), valid(2)),
        ("05 width 32", width_32, |cpu| done(cpu.vmclear(1 << 32)), valid(2)),
        ("05 width under TME", width_48, |cpu| done(cpu.vmclear(1 << 48)), valid(2)),
        ("06 with a VMCS", ready, |cpu| done(cpu.vmclear(VMXON_REGION)), valid(3)),
        ("06 without", root, |cpu| done(cpu.vmclear(VMXON_REGION)), INVALID),
        ("07 current", ready, |cpu| done(cpu.vmclear(VMCS)), SUCCEEDS),
        ("07 never used, no revision identifier", ready, |cpu| done(cpu.vmclear(0x9000)), SUCCEEDS),
        ("07 shadow", || header(SHADOW), |cpu| done(cpu.vmclear(OTHER)), SUCCEEDS),
    ];
    check(rows);
}

fn width_32() -> LogicalProcessor {
    ready_of(&profile_with(CapabilityMsr::Basic, |basic| basic | 1 << 48))
}

fn width_48() -> LogicalProcessor {
    ready_of(&profile_and(|profile| {
        profile.set_msr(CapabilityMsr::TmeActivate, vmcs_model::profile::MsrValue::Value(1 | 4 << 36));
    }))
}

fn header(value: u32) -> LogicalProcessor {
    with(ready, |cpu| cpu.memory_mut().write_u32(OTHER, value))
}

#[test]
fn vmclear_07_clears_the_launch_state_and_keeps_the_fields() {
    let mut cpu = guest();
    cpu.vm_exit(vmcs_emu::VmExit::new(12, 0)).expect("the guest leaves");
    assert_eq!(cpu.vmclear(VMCS), Ok(()));
    let region = cpu.region(VMCS).expect("it was used");
    assert_eq!((region.launch_state, region.active), (LaunchState::Clear, false));
    assert_eq!(get(&cpu, GUEST_RIP), GUEST_RIP_VALUE);
    assert_eq!(cpu.vmptrst(), Ok(NO_POINTER));
}

#[test]
fn vmclear_07_of_another_vmcs_leaves_the_current_one() {
    let mut cpu = ready();
    assert_eq!(cpu.vmclear(OTHER), Ok(()));
    assert_eq!(cpu.vmptrst(), Ok(VMCS));
}

#[test]
fn vmptrld_rows() {
    let rows: &[Row] = &[
        ("05 alignment, with a VMCS", ready, |cpu| done(cpu.vmptrld(OTHER + 8)), valid(9)),
        ("05 alignment, without", root, |cpu| done(cpu.vmptrld(OTHER + 8)), INVALID),
        ("05 width", ready, |cpu| done(cpu.vmptrld(1 << 63)), valid(9)),
        ("05 width 32", width_32, |cpu| done(cpu.vmptrld(1 << 32)), valid(9)),
        ("06 with a VMCS", ready, |cpu| done(cpu.vmptrld(VMXON_REGION)), valid(10)),
        ("06 without", root, |cpu| done(cpu.vmptrld(VMXON_REGION)), INVALID),
        ("07 revision", || header(REVISION ^ 1), |cpu| done(cpu.vmptrld(OTHER)), valid(11)),
        ("07 revision, shadow", || header(SHADOW), |cpu| done(cpu.vmptrld(OTHER)), valid(11)),
        ("08 no shadowing", no_shadowing, |cpu| done(cpu.vmptrld(OTHER)), valid(11)),
        ("09", ready, |cpu| done(cpu.vmptrld(OTHER)), SUCCEEDS),
        ("09 current already", ready, |cpu| done(cpu.vmptrld(VMCS)), SUCCEEDS),
        ("09 shadow", || header(REVISION | SHADOW), |cpu| done(cpu.vmptrld(OTHER)), SUCCEEDS),
    ];
    check(rows);
}

fn no_shadowing() -> LogicalProcessor {
    let mut cpu = ready_of(&profile_with(CapabilityMsr::Procbased2, |value| value & !(1 << 46)));
    cpu.memory_mut().write_u32(OTHER, REVISION | SHADOW);
    cpu
}

#[test]
fn vmptrld_failures_leave_the_current_vmcs() {
    for (address, header) in [(OTHER + 8, REVISION), (VMXON_REGION, REVISION), (OTHER, 0)] {
        let mut cpu = ready();
        cpu.memory_mut().write_u32(OTHER, header);
        assert!(cpu.vmptrld(address).is_err());
        assert_eq!(cpu.vmptrst(), Ok(VMCS));
    }
}

#[test]
fn vmptrst_rows() {
    let rows: &[Row] = &[
        ("05", ready, LogicalProcessor::vmptrst, Ok(VMCS)),
        ("05 no current VMCS", root, LogicalProcessor::vmptrst, Ok(NO_POINTER)),
    ];
    check(rows);
}
