//! Every VM-instruction error number that the SDM assigns can be produced. SDM 31.4, VM Instruction Error Numbers.

use std::collections::BTreeSet;

use vmcs_emu::{InstructionFailure, LogicalProcessor};
use vmcs_model::LaunchState;
use vmcs_model::controls::{Entry, Exit, PinBased};
use vmcs_model::field::{
    EXECUTIVE_VMCS_POINTER, HOST_CS_SELECTOR, PIN_BASED_VM_EXECUTION_CONTROLS, PRIMARY_VM_EXIT_CONTROLS,
    VM_ENTRY_CONTROLS,
};
use vmcs_model::formats::InstructionError;
use vmcs_model::msr::CapabilityMsr;

use crate::support::{MSEG, OTHER, VMCS, VMXON_REGION, get, profile_with, ready_of, set};

type Case = (u32, fn(&mut LogicalProcessor) -> Option<InstructionFailure>);

fn in_smm(cpu: &mut LogicalProcessor) {
    cpu.cpu_mut().smm = true;
    let fields = cpu.region(VMCS).expect("the tests' VMCS").fields.clone();
    cpu.region_mut(OTHER).fields = fields;
    cpu.region_mut(OTHER).launch_state = LaunchState::Launched;
    set(cpu, EXECUTIVE_VMCS_POINTER, OTHER);
}

fn enable_monitor(cpu: &mut LogicalProcessor) {
    cpu.platform_mut().smm_monitor_ctl = MSEG | 1;
}

const CASES: &[Case] = &[
    (1, |cpu| cpu.vmcall().err()),
    (2, |cpu| cpu.vmclear(1).err()),
    (3, |cpu| cpu.vmclear(VMXON_REGION).err()),
    (4, |cpu| {
        cpu.region_mut(VMCS).launch_state = LaunchState::Launched;
        cpu.vmlaunch().err()
    }),
    (5, |cpu| cpu.vmresume().err()),
    (6, |cpu| {
        cpu.region_mut(VMCS).launch_state = LaunchState::Launched;
        cpu.vmxoff().expect("VMXOFF");
        cpu.vmxon(VMXON_REGION).expect("VMXON");
        cpu.vmptrld(VMCS).expect("VMPTRLD");
        cpu.vmresume().err()
    }),
    (7, |cpu| {
        set(cpu, PIN_BASED_VM_EXECUTION_CONTROLS, PinBased::empty());
        cpu.vmlaunch().err()
    }),
    (8, |cpu| {
        set(cpu, HOST_CS_SELECTOR, 0.into());
        cpu.vmlaunch().err()
    }),
    (9, |cpu| cpu.vmptrld(1).err()),
    (10, |cpu| cpu.vmptrld(VMXON_REGION).err()),
    (11, |cpu| cpu.vmptrld(0x4000).err()),
    (12, |cpu| cpu.vmread(u64::MAX).err()),
    (13, |cpu| cpu.vmwrite(0x4402, 0).err()),
    (15, |cpu| cpu.vmxon(VMXON_REGION).err()),
    (16, |cpu| {
        in_smm(cpu);
        set(cpu, EXECUTIVE_VMCS_POINTER, 1);
        cpu.vmlaunch().err()
    }),
    (17, |cpu| {
        in_smm(cpu);
        cpu.region_mut(OTHER).launch_state = LaunchState::Clear;
        cpu.vmlaunch().err()
    }),
    (18, |cpu| {
        in_smm(cpu);
        let controls = get(cpu, VM_ENTRY_CONTROLS) | Entry::DEACTIVATE_DUAL_MONITOR_TREATMENT;
        set(cpu, VM_ENTRY_CONTROLS, controls);
        cpu.vmlaunch().err()
    }),
    (19, |cpu| {
        enable_monitor(cpu);
        cpu.region_mut(VMCS).launch_state = LaunchState::Launched;
        cpu.vmcall().err()
    }),
    (20, |cpu| {
        enable_monitor(cpu);
        set(cpu, PRIMARY_VM_EXIT_CONTROLS, Exit::empty());
        cpu.vmcall().err()
    }),
    (22, |cpu| {
        enable_monitor(cpu);
        cpu.memory_mut().write_u32(MSEG, 1);
        cpu.vmcall().err()
    }),
    (23, |cpu| {
        cpu.platform_mut().dual_monitor_active = true;
        cpu.vmxoff().err()
    }),
    (24, |cpu| {
        enable_monitor(cpu);
        cpu.vmcall().err()
    }),
    (25, |cpu| {
        in_smm(cpu);
        cpu.region_mut(OTHER).fields.set(PIN_BASED_VM_EXECUTION_CONTROLS, PinBased::empty());
        cpu.vmlaunch().err()
    }),
    (26, |cpu| {
        cpu.cpu_mut().mov_ss_blocking = true;
        cpu.vmlaunch().err()
    }),
    (28, |cpu| cpu.invept(0, [0, 0]).err()),
];

#[test]
fn every_error_number_is_produced() {
    let read_only = profile_with(CapabilityMsr::Misc, |misc| misc & !(1 << 29));
    for (number, provoke) in CASES {
        let mut cpu = ready_of(&read_only);
        assert_eq!(provoke(&mut cpu), Some(InstructionFailure::valid(*number)));
        cpu.cpu_mut().smm = false;
        assert_eq!(cpu.vmread(0x4400), Ok(u64::from(*number)), "the VM-instruction error field");
        assert_eq!(InstructionFailure::valid(*number).status(), Some(1));
    }
    let produced: BTreeSet<u32> = CASES.iter().map(|(number, _)| *number).collect();
    let assigned: BTreeSet<u32> = InstructionError::MEANINGS.iter().map(|(number, _)| *number).collect();
    assert_eq!(produced, assigned);
}
