//! Every line of `golden/*.txt`: what a change of the plain 64-bit guest violates, and every outcome it permits.
//!
//! ```text
//! @name := changes                          a name for changes
//! changes => check ids => outcomes          ids of the violated checks, "?" before those that stay open
//! ```
//! A change is `field=value`, `field|=bits`, `field^=bits`, `cpu.name=value`, `memory.address=qword`, `msr.n=number:value`
//! (entry n of an MSR-load area at A0000H, counted from 1) or `profile=name`, with numbers in hexadecimal; `-` is none.
//! Outcomes are joined by `or`; a failure at an entry "or later" ends in `+`.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::Sparse;
use vmcs_model::checks::{CheckId, CheckSet, Phase};
use vmcs_model::controls::PinBased;
use vmcs_model::cpu::ExecutiveVmcs;
use vmcs_model::registers::{Cr0, Cr4, Efer};
use vmcs_model::{
    Capabilities, CpuState, EntryAttempt, EntryInstruction, FieldId, LaunchState, Outcome, Vmcs, baseline, field,
    first_violation, judge, judge_partial, violations,
};

const FILES: &[(&str, &str)] = &[
    ("host.txt", include_str!("golden/host.txt")),
    ("guest.txt", include_str!("golden/guest.txt")),
    ("loading.txt", include_str!("golden/loading.txt")),
];

const MSR_AREA: u64 = 0xA_0000;

struct Case {
    profile: String,
    cpu: CpuState,
    changes: Vec<(FieldId, char, u64)>,
    memory: Sparse,
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap_or_else(|e| panic!("{text}: {e}"))
}

impl Case {
    fn new() -> Self {
        let executive = Some(ExecutiveVmcs { launched: true, controls_valid: true });
        Self {
            profile: "full".into(),
            cpu: CpuState { executive, ..CpuState::host_64() },
            changes: vec![],
            memory: Sparse::default(),
        }
    }

    fn apply(&mut self, names: &BTreeMap<String, String>, changes: &str) {
        for change in changes.split_whitespace().filter(|c| *c != "-") {
            if let Some(name) = change.strip_prefix('@') {
                let named = names.get(name).unwrap_or_else(|| panic!("no changes named {name}")).clone();
                self.apply(names, &named);
                continue;
            }
            let (left, value) = change.split_once('=').unwrap_or_else(|| panic!("no = in {change}"));
            match left.split_once('.') {
                Some(("cpu", name)) => self.set_cpu(name, hex(value)),
                Some(("memory", address)) => self.memory.write_u64(hex(address), hex(value)),
                Some(("msr", n)) => {
                    let (number, value) = value.split_once(':').unwrap_or_else(|| panic!("no : in {change}"));
                    let entry = MSR_AREA + 16 * (hex(n) - 1);
                    self.memory.write_u64(entry, hex(number));
                    self.memory.write_u64(entry + 8, hex(value));
                }
                Some(_) => panic!("what is {left}?"),
                None if left == "profile" => self.profile = value.into(),
                None => {
                    let name = left.trim_end_matches(['|', '^']);
                    let field = FieldId::by_name(name).unwrap_or_else(|| panic!("no field {name}"));
                    let operator = left[name.len()..].chars().next().unwrap_or('=');
                    self.changes.push((field, operator, hex(value)));
                }
            }
        }
    }

    fn set_cpu(&mut self, name: &str, value: u64) {
        match name {
            "cr0" => self.cpu.cr0 = Cr0::from_bits_retain(value),
            "cr4" => self.cpu.cr4 = Cr4::from_bits_retain(value),
            "efer" => self.cpu.efer = Efer::from_bits_retain(value),
            "smm" => self.cpu.smm = value != 0,
            other => panic!("no cpu.{other}"),
        }
    }

    fn image(&self, capabilities: &Capabilities) -> Vmcs {
        let mut vmcs = baseline::plain_64bit(capabilities);
        for (field, operator, value) in &self.changes {
            let old = vmcs.raw(*field);
            vmcs.set_raw(
                *field,
                match operator {
                    '|' => old | value,
                    '^' => old ^ value,
                    _ => *value,
                },
            );
        }
        vmcs
    }
}

fn ids(set: &CheckSet) -> BTreeSet<String> {
    set.iter().map(|check| check.to_string()).collect()
}

#[test]
fn golden() {
    let mut seen = CheckSet::EMPTY;
    let mut wrong = String::new();
    for (file, text) in FILES {
        let mut names = BTreeMap::new();
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some((name, changes)) = line.strip_prefix('@').and_then(|l| l.split_once(" := ")) {
                names.insert(name.to_string(), changes.to_string());
                continue;
            }
            let [changes, expected, outcomes] = line.split(" => ").collect::<Vec<_>>()[..] else {
                panic!("{file}:{}: not three columns", n + 1);
            };
            let mut case = Case::new();
            case.apply(&names, changes);
            let capabilities = Capabilities::new(&common::by_name(&case.profile));
            let vmcs = case.image(&capabilities);
            let attempt = EntryAttempt {
                instruction: EntryInstruction::Vmlaunch,
                launch_state: LaunchState::Clear,
                shadow: false,
                cpu: &case.cpu,
                capabilities: &capabilities,
            };
            let verdict = judge(attempt, &vmcs, &case.memory);
            let (open, violated): (Vec<_>, Vec<_>) =
                expected.split_whitespace().filter(|id| *id != "-").partition(|id| id.starts_with('?'));
            let violated: BTreeSet<_> = violated.iter().map(ToString::to_string).collect();
            let open: BTreeSet<_> = open.iter().map(|id| id[1..].to_string()).collect();
            let mut permitted: Vec<_> = verdict.permitted.iter().map(|o| o.to_string()).collect();
            if let Some(from) = verdict.permitted.msr_failures_from() {
                for outcome in &mut permitted {
                    if *outcome == format!("EntryFailed(34, {from})") {
                        outcome.push('+');
                    }
                }
            }
            let permitted = permitted.join(" or ");
            if ids(&verdict.violated) != violated || ids(&verdict.undecidable) != open || permitted != outcomes {
                wrong += &format!(
                    "{file}:{}: {changes}\n  expected {expected} => {outcomes}\n  got      {:?} open {:?} => {permitted}\n",
                    n + 1,
                    verdict.violated,
                    verdict.undecidable
                );
            }
            // The other ways to ask agree.
            assert_eq!(violations(attempt, &vmcs, &case.memory), verdict.violated);
            assert_eq!(first_violation(attempt, &vmcs, &case.memory), verdict.violated.iter().next());
            let partial = judge_partial(attempt, &vmcs, &case.memory);
            assert_eq!(
                (partial.violated, partial.undecidable),
                (verdict.violated, verdict.undecidable),
                "{file}:{}",
                n + 1
            );
            for check in verdict.violated.iter() {
                seen.insert(check);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    let without: Vec<_> = CheckId::all()
        .filter(|check| {
            let id = check.info().id;
            let here = id.starts_with("host.") || id.starts_with("as.");
            here || matches!(check.info().phase, Phase::GuestState | Phase::MsrLoading)
        })
        .filter(|check| !seen.contains(*check))
        .collect();
    assert!(without.is_empty(), "no line violates {without:?}");
}

#[test]
fn the_baseline_is_valid_everywhere() {
    for name in ["full", "sgx", "lean", "encrypted", "first", "narrow"] {
        let capabilities = Capabilities::new(&common::by_name(name));
        let vmcs = baseline::plain_64bit(&capabilities);
        let mut cpu = CpuState::host_64();
        if name == "narrow" {
            cpu.efer = Efer::empty();
            cpu.cr4 -= Cr4::PAE;
        }
        let attempt = EntryAttempt {
            instruction: EntryInstruction::Vmlaunch,
            launch_state: LaunchState::Clear,
            shadow: false,
            cpu: &cpu,
            capabilities: &capabilities,
        };
        let verdict = judge(attempt, &vmcs, &Sparse::default());
        assert_eq!(verdict.permitted.single(), Some(Outcome::Entered), "{name}: {verdict:?}");
        assert!(verdict.violated.is_empty() && verdict.undecidable.is_empty());
        let timer = vmcs.get(field::PIN_BASED_VM_EXECUTION_CONTROLS).contains(PinBased::ACTIVATE_VMX_PREEMPTION_TIMER);
        assert_eq!(timer, !matches!(name, "first" | "narrow"));
    }
}
