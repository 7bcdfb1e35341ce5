//! Tests that the probe itself names the violated check after a failed entry: the model runs on the machine and reads
//! fields by VMREAD.

mod support;

use support::{base_image, bochs, load, run, session};
use vmcs_case::{Case, NO_VIOLATION, Op, Start, StepResult, Target, layout};
use vmcs_hw::bochs::BochsTarget;
use vmcs_model::checks::CheckId;
use vmcs_model::field::{
    GUEST_RFLAGS, GUEST_TR_ACCESS_RIGHTS, HOST_CR4, PIN_BASED_VM_EXECUTION_CONTROLS, VM_ENTRY_MSR_LOAD_ADDRESS,
    VM_ENTRY_MSR_LOAD_COUNT, VMCS_LINK_POINTER,
};

const LAUNCH: Op = Op::Vmlaunch { after_mov_ss: false };
const RESUME: Op = Op::Vmresume { after_mov_ss: false };

/// How an entry ended, as far as it is compared.
#[derive(Debug, PartialEq)]
enum Ended {
    Error(u32),
    Failed(u32),
    Entered,
}

/// What a case is about, what comes before its launch, whether it is a VMRESUME, how it ends, and the check it violates.
type Row = (&'static str, Vec<Op>, bool, Ended, Option<&'static str>);

#[test]
fn the_probe_names_the_violated_check() {
    let Some(install) = bochs() else { return };
    let mut target = BochsTarget::new(install, "corei7_skylake_x").expect("the model exists");
    let report = target.capture().expect("the probe answers");
    let session = session(&report);
    let image = base_image(&report);
    let written = |encoding: u32| image.iter().find(|(field, _)| *field == encoding).map_or(0, |(_, value)| *value);
    let write = |encoding: u32, value: u64| Op::Vmwrite { encoding: encoding.into(), value };
    let pin = PIN_BASED_VM_EXECUTION_CONTROLS.encoding().0;
    let cr4 = HOST_CR4.encoding().0;
    let table: [Row; 7] = [
        ("nothing", vec![], false, Ended::Entered, None),
        (
            "a control that must be 1",
            vec![write(pin, written(pin) & !(1 << 1))],
            false,
            Ended::Error(7),
            Some("ctl.pin.reserved-bits.allowed0"),
        ),
        (
            "VMXE of the host",
            vec![write(cr4, written(cr4) & !(1 << 13))],
            false,
            Ended::Error(8),
            Some("host.cr4.fixed0"),
        ),
        (
            "two of the guest",
            vec![write(GUEST_TR_ACCESS_RIGHTS.encoding().0, 0x89), write(GUEST_RFLAGS.encoding().0, 0)],
            false,
            Ended::Failed(0x8000_0021),
            Some("guest.seg.tr.type-ia32e"),
        ),
        (
            "memory: a linked VMCS without a revision identifier",
            vec![write(VMCS_LINK_POINTER.encoding().0, layout::SCRATCH)],
            false,
            Ended::Failed(0x8000_0021),
            Some("guest.link.revision"),
        ),
        (
            "memory: an MSR that must not be loaded",
            vec![
                Op::Store { address: layout::ENTRY_MSR_LOAD, size: 4, value: 0xC000_0100 },
                write(VM_ENTRY_MSR_LOAD_ADDRESS.encoding().0, layout::ENTRY_MSR_LOAD),
                write(VM_ENTRY_MSR_LOAD_COUNT.encoding().0, 1),
            ],
            false,
            Ended::Failed(0x8000_0022),
            Some("msrload.fs-gs-base"),
        ),
        (
            "VMRESUME",
            vec![LAUNCH, write(GUEST_RFLAGS.encoding().0, 0)],
            true,
            Ended::Failed(0x8000_0021),
            Some("guest.rflags.bit1"),
        ),
    ];
    let cases = table.iter().map(|(_, changes, resume, ..)| {
        let mut ops = load(&report);
        ops.push(Op::WriteImage { image: 0 });
        ops.extend_from_slice(changes);
        ops.extend([if *resume { RESUME } else { LAUNCH }, Op::Diagnose { resume: *resume }]);
        Case { start: Start::VmxRoot, ops, ..Case::default() }
    });
    let observed = run(&mut target, &session, cases.collect());
    for ((name, _, _, ended, check), observation) in table.iter().zip(observed) {
        let [.., entry, diagnosis] = &observation.steps[..] else { panic!("{name}: {observation:?}") };
        let how = match entry {
            StepResult::FailValid(error) => Ended::Error(*error),
            StepResult::Exit { reason, .. } if reason >> 31 == 1 => Ended::Failed(*reason),
            _ => Ended::Entered,
        };
        assert_eq!(how, *ended, "{name}: {observation:?}");
        let named = match diagnosis {
            StepResult::Value(NO_VIOLATION) => None,
            StepResult::Value(index) => CheckId::all().find(|check| check.index() as u64 == *index),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(named.map(|check| check.info().id), *check, "{name}");
    }
}
