//! VMLAUNCH and VMRESUME.

use vmcs_emu::{EntryResult, InstructionFailure, LogicalProcessor};
use vmcs_model::controls::{Entry as EntryControls, PinBased};
use vmcs_model::cpu::NO_POINTER;
use vmcs_model::field::{
    EXECUTIVE_VMCS_POINTER, GUEST_INTERRUPTIBILITY_STATE, HOST_CR3, HOST_CS_SELECTOR, PIN_BASED_VM_EXECUTION_CONTROLS,
    VM_ENTRY_CONTROLS, VMCS_LINK_POINTER,
};
use vmcs_model::formats::Interruptibility;
use vmcs_model::{EntryInstruction, LaunchState, VmxOperation};

use crate::rows::{INVALID, Outcome, Row, check, valid, with};
use crate::support::{OTHER, REVISION, SHADOW, VMCS, VMXON_REGION, ready, root, set};

/// Success, or the way in which the instruction fails; failed entries (rows 14 and 15) are in `failures`.
fn vmlaunch(cpu: &mut LogicalProcessor) -> Outcome {
    match cpu.vmlaunch()? {
        EntryResult::Entered => Ok(0),
        other => panic!("{other:?}"),
    }
}

fn vmresume(cpu: &mut LogicalProcessor) -> Outcome {
    match cpu.vmresume()? {
        EntryResult::Entered => Ok(0),
        other => panic!("{other:?}"),
    }
}

fn in_state(state: LaunchState) -> LogicalProcessor {
    with(ready, |cpu| cpu.region_mut(VMCS).launch_state = state)
}

fn launched() -> LogicalProcessor {
    in_state(LaunchState::Launched)
}

fn shadow() -> LogicalProcessor {
    with(ready, |cpu| {
        cpu.memory_mut().write_u32(OTHER, REVISION | SHADOW);
        assert_eq!(cpu.vmptrld(OTHER), Ok(()));
    })
}

fn blocked(mut cpu: LogicalProcessor) -> LogicalProcessor {
    cpu.cpu_mut().mov_ss_blocking = true;
    cpu
}

fn bad_control(mut cpu: LogicalProcessor) -> LogicalProcessor {
    set(&mut cpu, PIN_BASED_VM_EXECUTION_CONTROLS, PinBased::empty());
    cpu
}

fn bad_host(mut cpu: LogicalProcessor) -> LogicalProcessor {
    set(&mut cpu, HOST_CS_SELECTOR, 0.into());
    cpu
}

/// In SMM, about to return to the guest of [`OTHER`], which is launched and has valid controls.
fn in_smm(mut cpu: LogicalProcessor) -> LogicalProcessor {
    let executive = cpu.region(VMCS).expect("the tests' VMCS").fields.clone();
    cpu.region_mut(OTHER).fields = executive;
    cpu.region_mut(OTHER).launch_state = LaunchState::Launched;
    cpu.cpu_mut().smm = true;
    cpu.platform_mut().dual_monitor_active = true;
    set(&mut cpu, EXECUTIVE_VMCS_POINTER, OTHER);
    cpu
}

fn executive(mut cpu: LogicalProcessor, pointer: u64) -> LogicalProcessor {
    set(&mut cpu, EXECUTIVE_VMCS_POINTER, pointer);
    cpu
}

fn deactivating(mut cpu: LogicalProcessor) -> LogicalProcessor {
    let controls = crate::support::get(&cpu, VM_ENTRY_CONTROLS);
    set(&mut cpu, VM_ENTRY_CONTROLS, controls | EntryControls::DEACTIVATE_DUAL_MONITOR_TREATMENT);
    cpu
}

fn with_executive(mut cpu: LogicalProcessor, change: impl FnOnce(&mut vmcs_emu::VmcsRegion)) -> LogicalProcessor {
    change(cpu.region_mut(OTHER));
    cpu
}

fn header(mut cpu: LogicalProcessor, value: u32) -> LogicalProcessor {
    cpu.memory_mut().write_u32(OTHER, value);
    cpu
}

#[test]
fn vmlaunch_rows() {
    let rows: &[Row] = &[
        ("04", root, vmlaunch, INVALID),
        ("05 shadow VMCS", shadow, vmlaunch, INVALID),
        ("06", || blocked(ready()), vmlaunch, valid(26)),
        ("06 before the launch state", || blocked(launched()), vmlaunch, valid(26)),
        ("06 after the shadow VMCS", || blocked(shadow()), vmlaunch, INVALID),
        ("07 launched", launched, vmlaunch, valid(4)),
        ("07 launched before VMXOFF", || in_state(LaunchState::LaunchedBeforeVmxoff), vmlaunch, valid(4)),
        ("07 before controls", || bad_control(launched()), vmlaunch, valid(4)),
        ("08", || bad_control(ready()), vmlaunch, valid(7)),
        ("08 before host state", || bad_host(bad_control(ready())), vmlaunch, valid(7)),
        ("09", || bad_host(ready()), vmlaunch, valid(8)),
        ("09 CR3", || with(ready, |cpu| set(cpu, HOST_CR3, 1 << 52)), vmlaunch, valid(8)),
        ("10 alignment", || executive(in_smm(ready()), OTHER + 1), vmlaunch, valid(16)),
        ("10 width", || executive(in_smm(ready()), 1 << 52), vmlaunch, valid(16)),
        ("10 revision", || header(in_smm(ready()), REVISION + 1), vmlaunch, valid(16)),
        ("11 clear", || with_executive(in_smm(ready()), |r| r.launch_state = LaunchState::Clear), vmlaunch, valid(17)),
        ("11 never used", || header(executive(in_smm(ready()), OTHER), REVISION), smm_unused, valid(17)),
        ("12", || deactivating(in_smm(ready())), vmlaunch, valid(18)),
        ("13", || with_executive(in_smm(ready()), no_pin_controls), vmlaunch, valid(25)),
    ];
    check(rows);
}

#[test]
fn vmresume_rows() {
    let rows: &[Row] = &[
        ("04", root, vmresume, INVALID),
        ("05 shadow VMCS", shadow, vmresume, INVALID),
        ("06", || blocked(launched()), vmresume, valid(26)),
        ("06 before the launch state", || blocked(ready()), vmresume, valid(26)),
        ("07 clear", ready, vmresume, valid(5)),
        ("07 before controls", || bad_control(ready()), vmresume, valid(5)),
        ("08", || in_state(LaunchState::LaunchedBeforeVmxoff), vmresume, valid(6)),
        ("09", || bad_control(launched()), vmresume, valid(7)),
        ("10", || bad_host(launched()), vmresume, valid(8)),
        ("11", || executive(in_smm(launched()), OTHER + 1), vmresume, valid(16)),
        ("12", || with_executive(in_smm(launched()), |r| r.launch_state = LaunchState::Clear), vmresume, valid(17)),
        ("13", || deactivating(in_smm(launched())), vmresume, valid(18)),
        ("14", || with_executive(in_smm(launched()), no_pin_controls), vmresume, valid(25)),
    ];
    check(rows);
}

fn no_pin_controls(region: &mut vmcs_emu::VmcsRegion) {
    region.fields.set(PIN_BASED_VM_EXECUTION_CONTROLS, PinBased::empty());
}

/// The executive-VMCS pointer names a region that no instruction has touched.
fn smm_unused(cpu: &mut LogicalProcessor) -> Outcome {
    const UNTOUCHED: u64 = 0xA000;
    cpu.memory_mut().write_u32(UNTOUCHED, REVISION);
    set(cpu, EXECUTIVE_VMCS_POINTER, UNTOUCHED);
    vmlaunch(cpu)
}

#[test]
fn mov_ss_blocking_lasts_for_one_instruction() {
    let mut cpu = blocked(ready());
    assert_eq!(vmlaunch(&mut cpu), valid(26));
    assert_eq!(vmlaunch(&mut cpu), Ok(0));
    let mut cpu = blocked(ready());
    assert_eq!(cpu.vmptrst(), Ok(VMCS));
    assert_eq!(vmlaunch(&mut cpu), Ok(0));
}

#[test]
fn vmlaunch_17_returns_from_smm_to_a_guest() {
    let mut cpu = in_smm(ready());
    set(&mut cpu, GUEST_INTERRUPTIBILITY_STATE, Interruptibility::empty());
    assert_eq!(vmlaunch(&mut cpu), Ok(0));
    assert_eq!((cpu.cpu().vmx, cpu.cpu().vmcs_pointer, cpu.cpu().smm), (VmxOperation::NonRoot, OTHER, false));
    assert_eq!(cpu.platform().smm_transfer_pointer, VMCS);
    assert!(cpu.platform().dual_monitor_active);
}

#[test]
fn vmlaunch_17_returns_from_smm_to_root_operation() {
    let mut cpu = executive(in_smm(ready()), VMXON_REGION);
    set(&mut cpu, VMCS_LINK_POINTER, NO_POINTER);
    assert_eq!(vmlaunch(&mut cpu), Ok(0));
    assert_eq!((cpu.cpu().vmx, cpu.cpu().vmcs_pointer, cpu.cpu().smm), (VmxOperation::Root, NO_POINTER, false));
}

#[test]
fn vmlaunch_17_deactivates_the_dual_monitor_treatment() {
    let mut cpu = deactivating(executive(in_smm(ready()), VMXON_REGION));
    assert_eq!(vmlaunch(&mut cpu), Ok(0));
    assert!(!cpu.platform().dual_monitor_active);
    assert_eq!(cpu.vmxoff(), Ok(()));
}

#[test]
fn an_entry_can_follow_another_processor() {
    let instruction = EntryInstruction::Vmlaunch;
    let mut cpu = bad_host(bad_control(ready()));
    let [seven, eight] = [7, 8].map(vmcs_model::Outcome::fail_valid);
    let verdict = cpu.verdict(instruction);
    assert!(verdict.permits(&seven) && verdict.permits(&eight));
    assert_eq!(cpu.decide(instruction), seven);
    assert_eq!(cpu.enter_as(instruction, eight), Err(InstructionFailure::valid(8)));
    assert_eq!(cpu.vmread(0x4400), Ok(8));
}
