//! The observation of a case does not depend on the cases before it.

mod support;

use support::{base_image, bochs, launch, run, session};
use vmcs_case::{Case, End, ProbeReport, StepResult, Target};
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
