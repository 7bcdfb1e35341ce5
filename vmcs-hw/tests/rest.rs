//! What a case leaves in the processor does not show in the next one.

mod support;

use support::{base_image, launch, msr, run, steps};
use vmcs_case::{Case, Observation, Op, ProbeReport, Session, StepResult, Target, layout};
use vmcs_hw::bochs::{self, BochsTarget};

const PIN: u32 = 0x4000;
const PRIMARY: u32 = 0x4002;
const EXIT: u32 = 0x400C;
const ENTRY: u32 = 0x4012;
const ENTRY_MSR_LOAD_COUNT: u32 = 0x4014;
const ENTRY_MSR_LOAD_ADDRESS: u32 = 0x200A;
const INJECTION: u32 = 0x4016;
const INTERRUPTIBILITY: u32 = 0x4824;
const IDT_LIMIT: u32 = 0x4812;
const TIMER: u32 = 0x482E;
const UINV: u32 = 0x0814;
const PKRS: u32 = 0x2818;
const S_CET: u32 = 0x6828;
const SSP: u32 = 0x682A;
const SSP_TABLE: u32 = 0x682C;
const IA32_S_CET: u64 = 0x6A2;

/// A processor, and what it can do.
struct Subject {
    target: BochsTarget,
    report: ProbeReport,
}

/// Of each Bochs that is here two models, of which one has most features.
fn subjects() -> Vec<Subject> {
    let installs = bochs::installs().expect("an installed Bochs is usable");
    if installs.is_empty() {
        println!("skipped: there is no Bochs here");
    }
    let wanted = ["corei7_skylake_x", "tigerlake", "wildcat_lake"];
    let models = installs.into_iter().flat_map(|install| {
        let known = install.models().expect("it lists its models");
        let models = wanted.into_iter().filter(move |model| known.iter().any(|known| known == model));
        models.map(move |model| BochsTarget::new(install.clone(), model).expect("the model exists"))
    });
    let subject = |mut target: BochsTarget| Subject { report: target.capture().expect("the probe answers"), target };
    models.map(subject).collect()
}

impl Subject {
    /// Whether a bit of a control word may be 1.
    fn may(&self, word: u32, bit: u32) -> bool {
        let number = match word {
            PIN => 0x481,
            PRIMARY => 0x482,
            EXIT => 0x483,
            _ => 0x484,
        };
        msr(&self.report, number) >> (32 + bit) & 1 == 1
    }

    /// A control word of the image with further bits.
    fn with(&self, word: u32, bits: &[u32]) -> (u32, u64) {
        let value = base_image(&self.report).iter().find(|entry| entry.0 == word).map_or(0, |entry| entry.1);
        (word, bits.iter().fold(value, |value, bit| value | 1 << bit))
    }

    fn case(&self, changes: &[(u32, u64)]) -> Case {
        launch(&self.report, changes)
    }

    fn run(&mut self, cases: Vec<Case>) -> Vec<Observation> {
        let exists = |encoding: &u32| self.report.fields.iter().any(|field| field.encoding == *encoding);
        let observed = [INTERRUPTIBILITY, TIMER, UINV, PKRS, S_CET, SSP, SSP_TABLE];
        let session = Session {
            images: vec![base_image(&self.report)],
            observed_fields: observed.into_iter().filter(exists).collect(),
            ..Session::default()
        };
        run(&mut self.target, &session, cases)
    }

    /// Asserts that the second case ends as it does alone, with that exit reason, behind the first one.
    fn assert_leaves_nothing(&mut self, first: &Case, second: &Case, reason: u32) {
        let name = self.target.implementation().to_string();
        let alone = self.run(vec![second.clone()]).remove(0);
        let both = self.run(vec![first.clone(), second.clone(), first.clone(), second.clone()]);
        assert!(
            matches!(last(&both[0]), StepResult::Exit { reason, .. } if reason >> 31 == 0),
            "{name}: {:?}",
            both[0]
        );
        assert!(matches!(last(&alone), StepResult::Exit { reason: r, .. } if *r == reason), "{name}: {alone:?}");
        assert_eq!(both[1], alone, "{name}");
        assert_eq!(both[3], alone, "{name}");
    }
}

/// What the entry ended in.
fn last(observation: &Observation) -> &StepResult<Vec<u64>> {
    steps(observation).last().expect("the case has steps")
}

const VMCALL: u32 = 18;
const MONITOR_TRAP_FLAG: u32 = 37;
const PREEMPTION_TIMER: u32 = 52;

#[test]
fn a_timer_does_not_run_on() {
    for mut subject in subjects() {
        let controls = [subject.with(PIN, &[6]), subject.with(EXIT, &[22])];
        let with = |subject: &Subject, value| subject.case(&[controls[0], controls[1], (TIMER, value)]);
        let (long, none) = (with(&subject, 0x8000_0000), with(&subject, 0));
        subject.assert_leaves_nothing(&long, &none, PREEMPTION_TIMER);
    }
}

/// The timer counts the time-stamp counter's wraps of some of its bits.
#[test]
fn a_timer_starts_at_the_same_time() {
    for mut subject in subjects() {
        let name = subject.target.implementation().to_string();
        let controls = [subject.with(PIN, &[6]), subject.with(EXIT, &[22])];
        let cases = [1, 2, 3].map(|value| subject.case(&[controls[0], controls[1], (TIMER, value)]));
        let filler = |length: usize| Case { ops: vec![Op::Vmptrst; length], ..Case::default() };
        let program = (0..64).flat_map(|length| cases.iter().flat_map(move |case| [filler(length), case.clone()]));
        let observed: Vec<_> = subject.run(program.collect()).into_iter().skip(1).step_by(2).collect();
        for (index, observation) in observed.iter().enumerate() {
            assert_eq!(*observation, observed[index % 3], "{name}: value {}, {index}", 1 + index % 3);
        }
    }
}

#[test]
fn virtual_nmi_blocking_ends_with_its_guest() {
    for mut subject in subjects() {
        let pin = subject.with(PIN, &[3, 5]);
        let blocked = subject.case(&[pin, (INTERRUPTIBILITY, 8)]);
        let open = subject.case(&[pin, (INTERRUPTIBILITY, 0)]);
        subject.assert_leaves_nothing(&blocked, &open, VMCALL);
    }
}

#[test]
fn the_monitor_trap_flag_ends_with_its_guest() {
    for mut subject in subjects() {
        if !subject.may(PRIMARY, 27) {
            continue;
        }
        // The exit comes with the injection, before an instruction: a #GP without an IDT is a triple fault.
        let trapping = subject.case(&[subject.with(PRIMARY, &[27]), (IDT_LIMIT, 0), (INJECTION, 0x8000_0B0D)]);
        let injecting = subject.case(&[(INJECTION, 0x8000_0700)]);
        subject.assert_leaves_nothing(&trapping, &injecting, MONITOR_TRAP_FLAG);
    }
}

#[test]
fn registers_of_a_guest_end_with_it() {
    let loads: [(u32, &[(u32, u64)]); 3] = [
        (19, &[(UINV, 0x21)]),
        (20, &[(S_CET, 0x7FFF_FFFF_F000), (SSP, 0x1_0000), (SSP_TABLE, 0x2000)]),
        (22, &[(PKRS, 0xFFFF)]),
    ];
    let mut tested = 0;
    for mut subject in subjects() {
        for (bit, fields) in loads {
            if !subject.may(ENTRY, bit) {
                continue;
            }
            let loading = subject.case(&[&[subject.with(ENTRY, &[bit])], fields].concat());
            let plain = subject.case(&[]);
            subject.assert_leaves_nothing(&loading, &plain, VMCALL);
            tested += 1;
        }
    }
    println!("{tested} sets of registers");
}

#[test]
fn msrs_that_an_area_names_are_restored() {
    for mut subject in subjects() {
        if !subject.may(ENTRY, 20) {
            continue;
        }
        let mut loading = subject.case(&[(ENTRY_MSR_LOAD_ADDRESS, layout::ENTRY_MSR_LOAD), (ENTRY_MSR_LOAD_COUNT, 2)]);
        let entry = loading.ops.len() - 1;
        let area = [IA32_S_CET, 0x1000, 0xC000_0102, 0x2000];
        let stores = (layout::ENTRY_MSR_LOAD..).step_by(8).zip(area);
        let stores = stores.map(|(address, value)| Op::Store { address, size: 8, value });
        loading.ops.splice(entry..entry, stores);
        let plain = subject.case(&[]);
        subject.assert_leaves_nothing(&loading, &plain, VMCALL);
    }
}
