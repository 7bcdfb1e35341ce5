//! VMXON and VMXOFF.

use vmcs_emu::LogicalProcessor;
use vmcs_model::cpu::NO_POINTER;
use vmcs_model::field::GUEST_IA32_RTIT_CTL;
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::registers::{Cr0, Cr4, Rflags};
use vmcs_model::{CpuState, LaunchState, VmxOperation};

use crate::rows::{GP, INVALID, Outcome, Row, SUCCEEDS, UD, check, done, exits, valid, with};
use crate::support::{REVISION, SHADOW, VMCS, VMXON_REGION, guest, outside, outside_of, profile_with, ready, root};

fn vmxon(cpu: &mut LogicalProcessor) -> Outcome {
    done(cpu.vmxon(VMXON_REGION))
}

fn off(change: impl FnOnce(&mut CpuState)) -> LogicalProcessor {
    with(outside, |cpu| change(cpu.cpu_mut()))
}

#[test]
fn vmxon_rows() {
    let rows: &[Row] = &[
        ("02 CR0.PE = 0", || off(|s| s.cr0.remove(Cr0::PE)), vmxon, UD),
        ("02 CR4.VMXE = 0", || off(|s| s.cr4.remove(Cr4::VMXE)), vmxon, UD),
        ("02 RFLAGS.VM = 1", || off(|s| s.rflags.insert(Rflags::VM)), vmxon, UD),
        ("02 compatibility mode", || off(|s| s.cs_l = false), vmxon, UD),
        ("02 in a guest, before the exit", || with(guest, |cpu| cpu.cpu_mut().cs_l = false), vmxon, UD),
        ("03 guest", guest, vmxon, exits(27)),
        ("03 guest at CPL 3", || with(guest, |cpu| cpu.cpu_mut().cpl = 3), vmxon, exits(27)),
        ("04 CPL 1", || off(|s| s.cpl = 1), vmxon, GP),
        ("05 A20M", || with(outside, |cpu| cpu.platform_mut().a20m = true), vmxon, GP),
        ("06 CR0.NE = 0", || off(|s| s.cr0.remove(Cr0::NE)), vmxon, GP),
        ("06 CR0.PG = 0, unrestricted guest or not", || off(|s| s.cr0.remove(Cr0::PG)), vmxon, GP),
        ("06 CR0 bit 32", || off(|s| s.cr0 |= Cr0::from_bits_retain(1 << 32)), vmxon, GP),
        ("07 CR4.FRED unsupported", || off(|s| s.cr4.insert(Cr4::FRED)), vmxon, GP),
        ("08 not locked", || with(outside, |cpu| cpu.platform_mut().feature_control = 0b110), vmxon, GP),
        ("09 SMX", || with(outside, |cpu| cpu.platform_mut().smx = true), vmxon, GP),
        ("10 not outside SMX", || with(outside, |cpu| cpu.platform_mut().feature_control = 0b011), vmxon, GP),
        ("12 alignment", outside, |cpu| done(cpu.vmxon(VMXON_REGION + 0x800)), INVALID),
        ("12 width", outside, |cpu| done(cpu.vmxon(1 << 52)), INVALID),
        ("12 width 32", vmx_width_32, |cpu| done(cpu.vmxon(1 << 32)), INVALID),
        ("13 revision", || header(REVISION + 1), vmxon, INVALID),
        ("13 bit 31", || header(REVISION | SHADOW), vmxon, INVALID),
        ("14", outside, vmxon, SUCCEEDS),
        ("14 SMX", smx_allowed, vmxon, SUCCEEDS),
        ("15", || with(ready, |cpu| cpu.cpu_mut().cpl = 3), vmxon, GP),
        ("16 with a VMCS", ready, vmxon, valid(15)),
        ("16 without, bad operand", root, |cpu| done(cpu.vmxon(1)), INVALID),
    ];
    check(rows);
}

fn vmx_width_32() -> LogicalProcessor {
    let mut cpu = outside_of(&profile_with(CapabilityMsr::Basic, |basic| basic | 1 << 48));
    cpu.memory_mut().write_u32(1 << 32, REVISION);
    cpu
}

fn header(value: u32) -> LogicalProcessor {
    with(outside, |cpu| {
        cpu.memory_mut().write_u32(VMXON_REGION, value);
    })
}

fn smx_allowed() -> LogicalProcessor {
    with(outside, |cpu| {
        cpu.platform_mut().smx = true;
        cpu.platform_mut().feature_control = 0b011;
    })
}

#[test]
fn vmxon_14_sets_the_pointers() {
    let mut cpu = outside();
    cpu.cpu_mut().vmcs_pointer = 0;
    assert_eq!(cpu.vmxon(VMXON_REGION), Ok(()));
    assert_eq!(cpu.cpu().vmx, VmxOperation::Root);
    assert_eq!((cpu.cpu().vmxon_pointer, cpu.cpu().vmcs_pointer), (VMXON_REGION, NO_POINTER));
}

#[test]
fn vmxon_16_keeps_the_pointers() {
    let mut cpu = ready();
    assert!(cpu.vmxon(0x4000).is_err());
    assert_eq!((cpu.cpu().vmxon_pointer, cpu.cpu().vmcs_pointer), (VMXON_REGION, VMCS));
}

#[test]
fn vmxoff_rows() {
    let vmxoff = |cpu: &mut LogicalProcessor| done(cpu.vmxoff());
    let rows: &[Row] = &[
        ("03 SEAM", || with(ready, |cpu| cpu.cpu_mut().seam = true), vmxoff, GP),
        ("04 with a VMCS", || with(ready, |cpu| cpu.platform_mut().dual_monitor_active = true), vmxoff, valid(23)),
        ("04 without", || with(root, |cpu| cpu.platform_mut().dual_monitor_active = true), vmxoff, INVALID),
        ("05", ready, vmxoff, SUCCEEDS),
    ];
    check(rows);
}

#[test]
fn vmxoff_05_loses_the_pointers_and_the_active_vmcss() {
    let mut cpu = guest();
    cpu.vm_exit(vmcs_emu::VmExit::new(12, 0)).expect("the guest leaves");
    assert_eq!(cpu.vmxoff(), Ok(()));
    let state = cpu.cpu();
    assert_eq!((state.vmx, state.vmxon_pointer, state.vmcs_pointer), (VmxOperation::Outside, NO_POINTER, NO_POINTER));
    let region = cpu.region(VMCS).expect("it was used");
    assert_eq!((region.launch_state, region.active), (LaunchState::LaunchedBeforeVmxoff, false));
    assert_eq!(cpu.vmxon(VMXON_REGION), Ok(()));
    assert_eq!(cpu.vmptrst(), Ok(NO_POINTER));
}

#[test]
fn vmxon_14_stops_tracing_where_it_is_not_possible() {
    for (supported, after) in [(true, 1), (false, 0)] {
        let profile = profile_with(CapabilityMsr::Misc, |misc| misc & !(1 << 14) | u64::from(supported) << 14);
        let mut cpu = outside_of(&profile);
        cpu.set_register(GUEST_IA32_RTIT_CTL, 1);
        assert_eq!(cpu.vmxon(VMXON_REGION), Ok(()));
        assert_eq!((cpu.register(GUEST_IA32_RTIT_CTL), cpu.cpu().trace_enabled), (after, supported));
    }
}
