//! The observation of a case does not depend on the cases before it.

mod support;

use support::{base_image, bochs, launch, run, session};
use vmcs_case::{Case, End, Op, ProbeReport, StepResult, Target, layout};
use vmcs_hw::bochs::BochsTarget;

/// Near-valid cases that break one or two fields of the base image, from a fixed seed.
fn mutations(report: &ProbeReport, count: usize) -> Vec<Case> {
    let fields: Vec<u32> = report
        .fields
        .iter()
        .filter(|field| field.write == StepResult::Ok && field.encoding >> 10 & 3 != 1)
        .map(|field| field.encoding)
        // Page tables, MSR areas and the like reach all memory: a probe that is overwritten proves nothing.
        .filter(|encoding| !matches!(encoding, 0x2000..0x2800 | 0x4006..0x4012 | 0x4014 | 0x6802 | 0x6C02))
        .collect();
    let base = base_image(report);
    let mut random = Random(1);
    let mut case = || {
        let mut changes = vec![(0x4000, base[0].1 | 1 << 6)];
        for _ in 0..1 + random.below(2) {
            let encoding = fields[random.below(fields.len())];
            let old = base.iter().find(|entry| entry.0 == encoding).map_or(0, |entry| entry.1);
            let value = match random.below(3) {
                0 => old ^ 1 << random.below(64),
                1 => random.next(),
                _ => [0, 1, u64::MAX, 1 << 47, 0xFFFF_FFFF][random.below(5)],
            };
            changes.push((encoding, value));
        }
        launch(report, &changes)
    };
    (0..count).map(|_| case()).collect()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ value >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("less than limit")
    }
}

#[test]
fn a_case_does_not_depend_on_its_neighbours() {
    let Some(install) = bochs() else { return };
    let model = std::env::var("VMCS_BOCHS_MODEL").unwrap_or_else(|_| "corei7_skylake_x".to_owned());
    let mut target = BochsTarget::new(install, &model).expect("the model exists");
    let report = target.capture().expect("the probe answers");
    let session = session(&report);
    let count = std::env::var("VMCS_MUTATIONS").map_or(2_000, |count| count.parse().expect("a number"));
    let mut cases = mutations(&report, count);
    let forwards = run(&mut target, &session, cases.clone());
    cases.reverse();
    let mut backwards = run(&mut target, &session, cases.clone());
    backwards.reverse();
    cases.reverse();
    let mut different = 0;
    for (index, case) in cases.iter().enumerate() {
        if forwards[index] != backwards[index] {
            different += 1;
            println!("{:x?}\n  {:x?}\n  {:x?}", &case.ops[4..], forwards[index], backwards[index]);
        }
    }
    let stopped = forwards.iter().filter(|observation| observation.end != End::Completed).count();
    println!("{} cases, {stopped} stopped the machine", cases.len());
    assert_eq!(different, 0);
}

/// A guest that writes to the probe's session: the next cases would be made from other images. The probe notices, and the
/// case alone counts as one that stopped the machine.
#[test]
fn a_guest_that_overwrites_the_session_spoils_no_other_case() {
    let Some(install) = bochs() else { return };
    let mut target = BochsTarget::new(install, "corei7_skylake_x").expect("the model exists");
    let report = target.capture().expect("the probe answers");
    let session = session(&report);
    let plain = launch(&report, &[]);
    // mov qword ptr [SESSION_BUFFER + 200H], 6000H; vmcall
    let place = u32::try_from(layout::SESSION_BUFFER + 0x200).expect("it lies below 4 GiB").to_le_bytes();
    let code = [&[0x48, 0xC7, 0x04, 0x25][..], &place, &[0x00, 0x60, 0x00, 0x00, 0x0F, 0x01, 0xC1, 0xF4]].concat();
    let stores = code.as_chunks::<8>().0.iter().zip((layout::SCRATCH..).step_by(8)).map(|(bytes, address)| Op::Store {
        address,
        size: 8,
        value: u64::from_le_bytes(*bytes),
    });
    let mut writer = launch(&report, &[(0x681E, layout::SCRATCH)]);
    writer.ops.splice(0..0, stores);
    let cases = vec![plain.clone(), writer, plain.clone(), plain];
    let observed = run(&mut target, &session, cases);
    assert!(matches!(observed[1].end, End::Crashed { .. }), "{:?}", observed[1]);
    for neighbour in [0, 2, 3] {
        assert_eq!(observed[neighbour].end, End::Completed);
        assert_eq!(observed[neighbour], observed[0]);
    }
}
