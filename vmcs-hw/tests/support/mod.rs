//! A VMCS image that enters a 64-bit guest, and short names for programs.
#![allow(dead_code, reason = "each test file uses its part")]

use std::ops::ControlFlow;

use vmcs_case::{Case, End, Observation, Op, ProbeReport, Session, Start, StepResult, Target, layout};
use vmcs_hw::bochs::{BochsError, BochsInstall};
use vmcs_hw::targets::{self, ChoiceError};

/// First VMCS region.
pub(crate) const REGION: u64 = layout::VMCS_REGIONS;

/// The Bochs to test with: version 2.7, which every Debian has had for long, or the newest. Prints why there is none.
pub(crate) fn bochs() -> Option<BochsInstall> {
    let found = targets::find_bochs(Some("2.7")).or_else(|_| targets::find_bochs(None));
    match found {
        Ok(install) => Some(install),
        Err(ChoiceError::Target(error)) if matches!(error.machine(), Some(BochsError::Missing)) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Value of a capability MSR; 0 where it does not exist.
pub(crate) fn msr(report: &ProbeReport, number: u32) -> u64 {
    report.msrs.iter().find(|(msr, _)| *msr == number).and_then(|(_, value)| *value).unwrap_or(0)
}

/// VMCS revision identifier.
pub(crate) fn revision(report: &ProbeReport) -> u64 {
    msr(report, 0x480) & 0x7FFF_FFFF
}

/// An image whose guest executes VMCALL in 64-bit mode; the host state is the probe's own.
pub(crate) fn base_image(report: &ProbeReport) -> Vec<(u32, u64)> {
    // The TRUE capability MSRs exist if bit 55 of IA32_VMX_BASIC is set.
    let offset = if msr(report, 0x480) >> 55 & 1 == 1 { 0xC } else { 0 };
    let control = |number: u32, wanted: u64| {
        let allowed = msr(report, number + offset);
        (wanted | allowed & 0xFFFF_FFFF) & allowed >> 32
    };
    let selector = |selector: u16| u64::from(selector);
    let (code, data, tr) = (layout::CODE_SELECTOR, layout::DATA_SELECTOR, layout::TSS_SELECTOR);
    let mut image = vec![
        // Controls: pin-based, primary processor-based, VM-exit (64-bit host), VM-entry (IA-32e guest).
        (0x4000, control(0x481, 0)),
        (0x4002, control(0x482, 0)),
        (0x400C, control(0x483, 1 << 9)),
        (0x4012, control(0x484, 1 << 9)),
        (0x4004, 0),
        (0x4006, 0),
        (0x4008, 0),
        (0x400A, 0),
        (0x400E, 0),
        (0x4010, 0),
        (0x4014, 0),
        (0x4016, 0),
        // Guest: selectors, control registers, descriptor tables.
        (0x0800, selector(data)),
        (0x0802, selector(code)),
        (0x0804, selector(data)),
        (0x0806, selector(data)),
        (0x0808, selector(data)),
        (0x080A, selector(data)),
        (0x080C, 0),
        (0x080E, selector(tr)),
        (0x2800, u64::MAX),
        (0x2802, 0),
        (0x6800, layout::CR0),
        (0x6802, layout::PML4),
        (0x6804, layout::CR4),
        (0x6814, layout::TSS),
        (0x480E, layout::TSS_LIMIT.into()),
        (0x4822, 0x8B),
        // LDTR is unusable.
        (0x4820, 0x1_0000),
        (0x6816, layout::GDT),
        (0x4810, layout::GDT_LIMIT.into()),
        (0x6818, layout::IDT),
        (0x4812, layout::IDT_LIMIT.into()),
        (0x4816, 0xA09B),
        (0x681A, 0x400),
        (0x681C, layout::GUEST_RSP),
        (0x681E, layout::GUEST_RIP),
        (0x6820, 2),
        (0x4824, 0),
        (0x4826, 0),
        // Host.
        (0x0C00, selector(data)),
        (0x0C02, selector(code)),
        (0x0C04, selector(data)),
        (0x0C06, selector(data)),
        (0x0C08, selector(data)),
        (0x0C0A, selector(data)),
        (0x0C0C, selector(tr)),
        (0x6C00, layout::CR0),
        (0x6C02, layout::PML4),
        (0x6C04, layout::CR4),
        (0x6C06, 0),
        (0x6C08, 0),
        (0x6C0A, layout::TSS),
        (0x6C0C, layout::GDT),
        (0x6C0E, layout::IDT),
        (0x6C14, layout::HOST_RSP),
        (0x6C16, layout::HOST_RIP),
    ];
    // ES, CS, SS, DS, FS, GS: limits; data segments: access rights.
    image.extend((0x4800..=0x480A).step_by(2).map(|encoding| (encoding, 0xFFFF_FFFF)));
    image.extend([0x4814, 0x4818, 0x481A, 0x481C, 0x481E].map(|encoding| (encoding, 0xC093)));
    image
}

/// The session of [`base_image`], which observes three exit fields.
pub(crate) fn session(report: &ProbeReport) -> Session {
    // VM-exit interruption information, instruction length, guest RIP.
    Session { images: vec![base_image(report)], observed_fields: vec![0x4404, 0x440C, 0x681E], ..Session::default() }
}

/// Makes a region the current VMCS: revision identifier, VMCLEAR, VMPTRLD.
pub(crate) fn load(report: &ProbeReport) -> Vec<Op> {
    vec![
        Op::Store { address: REGION, size: 4, value: revision(report) },
        Op::Vmclear { address: REGION },
        Op::Vmptrld { address: REGION },
    ]
}

/// [`load`], the base image, `changes` to it, VMLAUNCH.
pub(crate) fn launch(report: &ProbeReport, changes: &[(u32, u64)]) -> Case {
    let mut ops = load(report);
    ops.push(Op::WriteImage { image: 0 });
    ops.extend(changes.iter().map(|&(encoding, value)| Op::Vmwrite { encoding: encoding.into(), value }));
    ops.push(Op::Vmlaunch { after_mov_ss: false });
    Case { start: Start::VmxRoot, ops, ..Case::default() }
}

/// Runs all cases and collects the observations.
pub(crate) fn run(target: &mut dyn Target, session: &Session, cases: Vec<Case>) -> Vec<Observation> {
    let expected = cases.len();
    let mut observations = Vec::new();
    target
        .run(session, &mut cases.into_iter(), &mut |number, observation| {
            assert_eq!(number, observations.len());
            observations.push(observation);
            ControlFlow::Continue(())
        })
        .expect("the target works");
    assert_eq!(observations.len(), expected);
    observations
}

/// Results of the case, which must have been completed.
pub(crate) fn steps(observation: &Observation) -> &[StepResult<Vec<u64>>] {
    assert_eq!(observation.end, End::Completed, "{observation:?}");
    &observation.steps
}

/// Result of the last step.
pub(crate) fn last(observation: &Observation) -> &StepResult<Vec<u64>> {
    steps(observation).last().expect("the case has steps")
}

/// Basic exit reason (with bit 31) of the last step, when that is an exit.
pub(crate) fn exit_reason(observation: &Observation) -> Option<u32> {
    match last(observation) {
        StepResult::Exit { reason, .. } => Some(*reason),
        _ => None,
    }
}
