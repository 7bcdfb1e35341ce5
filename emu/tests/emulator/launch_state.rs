//! The launch-state rules, in the terms of the C intrinsics. SDM 25.1, Overview.

use crate::support::{HLT, OTHER, VMCS, VMXON_REGION, get, outside, ready, set};
use vmcs_emu::intrinsics::{
    __vmx_off, __vmx_on, __vmx_vmclear, __vmx_vmlaunch, __vmx_vmptrld, __vmx_vmptrst, __vmx_vmread, __vmx_vmresume,
    __vmx_vmwrite,
};
use vmcs_emu::{LogicalProcessor, VmExit};
use vmcs_model::LaunchState;
use vmcs_model::field::{GUEST_CR4, GUEST_RIP, HOST_RIP, VM_INSTRUCTION_ERROR};
use vmcs_model::registers::Cr4;

/// Executes the instruction, leaves the guest if it entered, and gives the status.
fn run(cpu: &mut LogicalProcessor, instruction: &str) -> u8 {
    let status = match instruction {
        "vmlaunch" => __vmx_vmlaunch(cpu),
        "vmresume" => __vmx_vmresume(cpu),
        "vmclear" => __vmx_vmclear(cpu, &VMCS),
        "vmptrld" => __vmx_vmptrld(cpu, &VMCS),
        "other" => __vmx_vmptrld(cpu, &OTHER),
        "off" => __vmx_off(cpu),
        "on" => __vmx_on(cpu, &VMXON_REGION),
        _ => panic!("{instruction}?"),
    };
    if status == 0 && matches!(instruction, "vmlaunch" | "vmresume") {
        cpu.vm_exit(VmExit::new(HLT, 0)).expect("the guest leaves");
    }
    status
}

#[test]
fn vmlaunch_wants_clear_vmresume_wants_launched() {
    // Every line starts with the current VMCS clear: instruction, status, error number.
    let programs: &[&[(&str, u8, u32)]] = &[
        &[("vmlaunch", 0, 0), ("vmlaunch", 1, 4)],
        &[("vmlaunch", 0, 0), ("vmresume", 0, 0), ("vmresume", 0, 0), ("vmlaunch", 1, 4)],
        &[("vmresume", 1, 5), ("vmlaunch", 0, 0), ("vmresume", 0, 0)],
        &[("vmlaunch", 0, 0), ("vmclear", 0, 0), ("vmlaunch", 2, 0), ("vmresume", 2, 0)],
        &[("vmlaunch", 0, 0), ("vmclear", 0, 0), ("vmptrld", 0, 0), ("vmresume", 1, 5), ("vmlaunch", 0, 0)],
        &[("vmlaunch", 0, 0), ("other", 0, 0), ("vmptrld", 0, 0), ("vmlaunch", 1, 4), ("vmresume", 0, 0)],
        &[("vmlaunch", 0, 0), ("off", 0, 0), ("on", 0, 0), ("vmptrld", 0, 0), ("vmresume", 1, 6), ("vmlaunch", 1, 4)],
        &[("vmlaunch", 0, 0), ("off", 0, 0), ("on", 0, 0), ("vmclear", 0, 0), ("vmptrld", 0, 0), ("vmlaunch", 0, 0)],
        &[("off", 0, 0), ("on", 0, 0), ("vmlaunch", 2, 0), ("vmptrld", 0, 0), ("vmlaunch", 0, 0)],
    ];
    for program in programs {
        let mut cpu = ready();
        for (step, (instruction, status, error)) in program.iter().enumerate() {
            assert_eq!(run(&mut cpu, instruction), *status, "step {step} of {program:?}");
            if *status == 1 {
                assert_eq!(get(&cpu, VM_INSTRUCTION_ERROR).0, *error, "step {step} of {program:?}");
            }
        }
    }
}

#[test]
fn a_failed_entry_leaves_the_launch_state() {
    let mut cpu = ready();
    set(&mut cpu, GUEST_CR4, Cr4::empty());
    assert_eq!(__vmx_vmlaunch(&mut cpu), vmcs_emu::intrinsics::DIVERTED);
    assert_eq!(cpu.region(VMCS).map(|region| region.launch_state), Some(LaunchState::Clear));
    assert_eq!(cpu.register(GUEST_RIP), get(&cpu, HOST_RIP));
}

#[test]
fn every_intrinsic_returns_0_1_or_2() {
    let mut cpu = outside();
    let mut value = 7;
    assert_eq!(__vmx_on(&mut cpu, &(VMXON_REGION + 8)), 2);
    assert_eq!(__vmx_vmptrld(&mut cpu, &VMCS), vmcs_emu::intrinsics::DIVERTED, "#UD outside VMX operation");
    assert_eq!(__vmx_on(&mut cpu, &VMXON_REGION), 0);
    assert_eq!(__vmx_on(&mut cpu, &VMXON_REGION), 2);
    assert_eq!(__vmx_vmclear(&mut cpu, &1), 2);
    assert_eq!(__vmx_vmread(&mut cpu, 0x6800, &mut value), 2);
    assert_eq!(__vmx_vmwrite(&mut cpu, 0x6800, 1), 2);
    assert_eq!(__vmx_vmptrst(&mut cpu, &mut value), 0);
    assert_eq!(value, u64::MAX);
    assert_eq!(__vmx_vmptrld(&mut cpu, &VMCS), 0);
    assert_eq!(__vmx_vmptrst(&mut cpu, &mut value), 0);
    assert_eq!(value, VMCS);
    assert_eq!(__vmx_on(&mut cpu, &VMXON_REGION), 1);
    assert_eq!(__vmx_vmclear(&mut cpu, &1), 1);
    assert_eq!(__vmx_vmwrite(&mut cpu, 0x6800, 0x21), 0);
    assert_eq!(__vmx_vmread(&mut cpu, 0x6800, &mut value), 0);
    assert_eq!(value, 0x21);
    assert_eq!(__vmx_vmread(&mut cpu, 0x7800, &mut value), 1);
    assert_eq!(value, 0x21);
    assert_eq!(__vmx_off(&mut cpu), 0);
}
