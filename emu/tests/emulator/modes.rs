//! What most instructions have in common: `#UD` outside VMX operation and in the wrong mode, a VM exit in VMX non-root
//! operation, `#GP(0)` unless CPL is 0. Rows 01-03 of VMXOFF, VMCLEAR, VMPTRLD, VMPTRST, VMLAUNCH, VMRESUME; 01, 02 and
//! 05 of VMREAD and VMWRITE; 01, 03 and 04 of INVEPT and INVVPID.

use vmcs_emu::LogicalProcessor;
use vmcs_model::CpuState;
use vmcs_model::controls::Secondary;
use vmcs_model::field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS;
use vmcs_model::registers::{Cr0, Rflags};

use crate::rows::{GP, Outcome, UD, done, exits};
use crate::support::{EPTP, VMCS, guest_with, outside, ready};

type Instruction = (&'static str, u16, fn(&mut LogicalProcessor) -> Outcome);

const INSTRUCTIONS: [Instruction; 10] = [
    ("VMXOFF", 26, |cpu| done(cpu.vmxoff())),
    ("VMCLEAR", 19, |cpu| done(cpu.vmclear(VMCS))),
    ("VMPTRLD", 21, |cpu| done(cpu.vmptrld(VMCS))),
    ("VMPTRST", 22, LogicalProcessor::vmptrst),
    ("VMREAD", 23, |cpu| cpu.vmread(0x6800)),
    ("VMWRITE", 25, |cpu| done(cpu.vmwrite(0x6800, 1))),
    ("VMLAUNCH", 20, |cpu| cpu.vmlaunch().map(|_| 0)),
    ("VMRESUME", 24, |cpu| cpu.vmresume().map(|_| 0)),
    ("INVEPT", 50, |cpu| done(cpu.invept(1, [EPTP, 0]))),
    ("INVVPID", 53, |cpu| done(cpu.invvpid(1, [1, 0]))),
];

const WRONG_MODES: [fn(&mut CpuState); 3] =
    [|cpu| cpu.cr0.remove(Cr0::PE), |cpu| cpu.rflags.insert(Rflags::VM), |cpu| cpu.cs_l = false];

fn guest_without_shadowing() -> LogicalProcessor {
    guest_with(|vmcs| {
        let mut controls = vmcs.get(SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS);
        controls.remove(Secondary::VMCS_SHADOWING);
        vmcs.set(SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, controls);
    })
}

#[test]
fn row_01_undefined_outside_vmx_operation() {
    for (name, _, instruction) in INSTRUCTIONS {
        assert_eq!(instruction(&mut outside()), UD, "{name}");
    }
}

#[test]
fn row_01_undefined_in_the_wrong_mode() {
    for (name, _, instruction) in INSTRUCTIONS {
        for setup in [ready, guest_without_shadowing] {
            for wrong in WRONG_MODES {
                let mut cpu = setup();
                wrong(cpu.cpu_mut());
                // The wrong mode is seen first.
                cpu.cpu_mut().cpl = 3;
                assert_eq!(instruction(&mut cpu), UD, "{name}");
            }
        }
    }
}

#[test]
fn row_02_exits_from_a_guest_at_any_cpl() {
    for (name, reason, instruction) in INSTRUCTIONS {
        for cpl in [0, 3] {
            let mut cpu = guest_without_shadowing();
            cpu.cpu_mut().cpl = cpl;
            assert_eq!(instruction(&mut cpu), exits(reason), "{name}");
            assert_eq!(cpu.vmread(0x4402), Ok(u64::from(reason)), "{name}");
            assert_eq!(cpu.vmread(0x6400), Ok(0), "{name}");
        }
    }
}

#[test]
fn row_03_general_protection_at_other_privilege_levels() {
    for (name, _, instruction) in INSTRUCTIONS {
        for cpl in 1..=3 {
            let mut cpu = ready();
            cpu.cpu_mut().cpl = cpl;
            assert_eq!(instruction(&mut cpu), GP, "{name}");
        }
    }
}

#[test]
fn compatibility_mode_needs_lma() {
    let mut cpu = ready();
    cpu.cpu_mut().cs_l = false;
    cpu.cpu_mut().efer = vmcs_model::registers::Efer::empty();
    assert_eq!(cpu.vmptrst(), Ok(VMCS));
}
