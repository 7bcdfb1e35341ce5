//! The golden lines: what a change of the plain 64-bit guest violates, every outcome that it permits, and the nearest
//! change that is legal. One file for each file of checks.
//!
//! ```text
//! @name := changes                                             a name for changes, within its file
//! changes => ids => outcomes                                   what they violate, and what may come of it
//! changes => ids => outcomes => correction                     the same, and what makes them valid
//! changes => ids => outcomes => correction => ids => outcomes  the same where something else stays violated
//! ```
//! An id with a "?" is that of a check that the model cannot decide. Outcomes are joined by `or`; one that ends in `+` is a
//! failure to load MSRs at that entry of the area or at any later one. `-` stands for an empty list.
//!
//! A change is one of
//! - `field=value`, `field|=bits` (set), `field-=bits` (clear); `pin`, `primary`, `secondary`,
//!   `tertiary`, `exit`, `exit2`, `entry` and `event` are short for the control words and the injected event;
//! - `memory.address=qword`, `msr.n=number:value` (entry n of the VM-entry MSR-load area at 25000H, counted
//!   from 1), `msr.1-20=number:value` (all of these);
//! - `cpu.name=value`: the processor's state, see `set_cpu`;
//! - `op=vmresume`, `launch=clear`, `launch=launched`, `launch=vmxoff` (launched before VMXOFF and VMXON), `shadow=1`;
//! - `profile=name`: another processor than `full`, see [`crate::profiles::by_name`].
//!
//! A number is hexadecimal, or a sum or difference of hexadecimal numbers and what depends on the processor:
//! - `width`: the first address beyond the physical-address width; `maxphyaddr`: the same as CPUID enumerates it;
//!   `physical`: the same as it is for paging structures;
//! - `linear`: the first address that is not canonical, a power of 2;
//! - `revision`: the VMCS revision identifier.
//!
//! `width/2` is half of it.

use std::collections::BTreeMap;
use std::fmt::Write;

use vmcs_model::cpu::{ExecutiveVmcs, NO_POINTER, VmxOperation};
use vmcs_model::registers::{Cr0, Cr4, Efer, Rflags};
use vmcs_model::{
    Capabilities, CpuState, EntryAttempt, EntryInstruction, FieldId, LaunchState, Verdict, Vmcs, baseline, field,
};

use crate::Sparse;

macro_rules! files {
    ($($name:literal),+ $(,)?) => { &[$(($name, include_str!(concat!("../lines/", $name)))),+] };
}

/// The names of the files of golden lines, and their texts.
const FILES: &[(&str, &str)] = files!(
    "basic.txt",
    "execution_controls.txt",
    "exit_controls.txt",
    "entry_controls.txt",
    "smm.txt",
    "host.txt",
    "address_space.txt",
    "guest_registers.txt",
    "guest_segments.txt",
    "guest_rip.txt",
    "guest_non_register.txt",
    "pdptes.txt",
    "msr_load.txt",
    "unchecked.txt",
);

/// The physical address of the VM-entry MSR-load area that changes of `msr.n` write.
pub const MSR_AREA: u64 = 0x2_5000;

/// A change: what is on the left of its operator, the operator, and what is on its right.
#[derive(Clone, Debug)]
struct Change {
    left: String,
    operator: char,
    right: String,
}

/// The plain 64-bit guest, the processor that is about to enter it, and what is changed of them.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    changes: Vec<Change>,
}

/// What a scene violates and permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Ids of the violated checks, in the order of the checks.
    pub violated: Vec<String>,
    /// Ids of the checks that the model cannot decide, in the order of the checks.
    pub open: Vec<String>,
    /// The permitted outcomes as the lines write them: joined by ` or `.
    pub outcomes: String,
}

/// One golden line: a scene, what comes of it, and the nearest legal change.
#[derive(Clone, Debug)]
pub struct Line {
    /// The file and the number of the line in it.
    pub place: String,
    /// The line as it stands in the file.
    pub text: String,
    /// What is changed of the plain guest and of the processor.
    pub scene: Scene,
    /// What the scene violates and permits.
    pub expected: Expected,
    /// The nearest change that the line's check allows, with what comes of it; `None` if the line names no correction.
    pub neighbour: Option<(Scene, Expected)>,
}

/// A scene made for one processor: everything that an attempt to enter needs.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The instruction.
    pub instruction: EntryInstruction,
    /// Launch state of the current VMCS.
    pub launch_state: LaunchState,
    /// The current VMCS is a shadow VMCS.
    pub shadow: bool,
    /// The processor.
    pub cpu: CpuState,
    /// The current VMCS.
    pub vmcs: Vmcs,
    /// Fields that the scene changes.
    pub changed: Vec<FieldId>,
    /// Memory.
    pub memory: Sparse,
}

/// Every line of every file.
///
/// # Panics
/// A line is not well-formed.
#[must_use]
pub fn lines() -> Vec<Line> {
    FILES.iter().flat_map(|(file, text)| read(file, text)).collect()
}

fn read(file: &str, text: &str) -> Vec<Line> {
    let mut names = BTreeMap::new();
    let mut lines = Vec::new();
    for (n, text) in text.lines().map(str::trim).enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
        let place = format!("{file}:{}", n + 1);
        if let Some((name, changes)) = text.strip_prefix('@').and_then(|l| l.split_once(" := ")) {
            names.insert(name.to_string(), changes.to_string());
            continue;
        }
        let columns: Vec<_> = text.split(" => ").collect();
        let mut scene = Scene::default();
        scene.add(&names, columns[0]);
        let (expected, corrected) = match columns[1..] {
            [ids, outcomes] => (Expected::new(ids, outcomes), None),
            [ids, outcomes, to] => (Expected::new(ids, outcomes), Some((to, Expected::new("-", "Entered")))),
            [ids, outcomes, to, then, so] => (Expected::new(ids, outcomes), Some((to, Expected::new(then, so)))),
            _ => panic!("{place}: expected 3, 4 or 6 columns"),
        };
        let neighbour = corrected.map(|(correction, expected)| {
            assert!(!correction.contains([' ', '@']), "{place}: a neighbour differs in one change");
            let mut scene = scene.clone();
            scene.add(&names, correction);
            (scene, expected)
        });
        lines.push(Line { place, text: text.to_string(), scene, expected, neighbour });
    }
    lines
}

impl Expected {
    fn new(ids: &str, outcomes: &str) -> Self {
        let (open, violated): (Vec<_>, Vec<_>) =
            ids.split_whitespace().filter(|id| *id != "-").partition(|id| id.starts_with('?'));
        Self {
            violated: violated.into_iter().map(str::to_string).collect(),
            open: open.into_iter().map(|id| id[1..].to_string()).collect(),
            outcomes: outcomes.to_string(),
        }
    }

    /// The violated checks, the undecidable ones and the permitted outcomes of a verdict.
    #[must_use]
    pub fn of(verdict: &Verdict) -> Self {
        let from = verdict.permitted.msr_failures_from().map(|from| format!("EntryFailed(34, {from})"));
        let mut outcomes = String::new();
        for outcome in verdict.permitted.iter().map(|outcome| outcome.to_string()) {
            let or = if outcomes.is_empty() { "" } else { " or " };
            let later = if from.as_ref() == Some(&outcome) { "+" } else { "" };
            let _ = write!(outcomes, "{or}{outcome}{later}");
        }
        Self {
            violated: verdict.violated.iter().map(|check| check.to_string()).collect(),
            open: verdict.undecidable.iter().map(|check| check.to_string()).collect(),
            outcomes,
        }
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let open = self.open.iter().map(|id| format!("?{id}"));
        let ids: Vec<_> = self.violated.iter().cloned().chain(open).collect();
        write!(f, "{} => {}", if ids.is_empty() { "-".to_string() } else { ids.join(" ") }, self.outcomes)
    }
}

impl Scene {
    fn add(&mut self, names: &BTreeMap<String, String>, changes: &str) {
        for change in changes.split_whitespace().filter(|change| *change != "-") {
            if let Some(name) = change.strip_prefix('@') {
                let named = names.get(name).unwrap_or_else(|| panic!("no changes named {name}"));
                self.add(names, named);
                continue;
            }
            let (left, right) = change.split_once('=').unwrap_or_else(|| panic!("no = in {change}"));
            let operator = left.chars().last().filter(|c| "|-".contains(*c));
            let left = left.strip_suffix(['|', '-']).unwrap_or(left);
            self.changes.push(Change {
                left: left.to_string(),
                operator: operator.unwrap_or('='),
                right: right.to_string(),
            });
        }
    }

    /// The name of the processor that the line is about, see [`crate::profiles`].
    #[must_use]
    pub fn profile(&self) -> &str {
        self.changes.iter().rev().find(|change| change.left == "profile").map_or("full", |change| &change.right)
    }

    /// Makes the scene for the processor with these capabilities, from the plain 64-bit guest.
    ///
    /// # Panics
    /// A change is not well-formed.
    #[must_use]
    pub fn on(&self, capabilities: &Capabilities) -> Stage {
        self.with(capabilities, baseline::plain_64bit(capabilities))
    }

    /// Makes the scene from `vmcs` in place of the plain guest.
    ///
    /// # Panics
    /// A change is not well-formed.
    #[must_use]
    pub fn with(&self, capabilities: &Capabilities, vmcs: Vmcs) -> Stage {
        let executive = Some(ExecutiveVmcs { launched: true, controls_valid: true });
        let mut stage = Stage {
            instruction: EntryInstruction::Vmlaunch,
            launch_state: LaunchState::Clear,
            shadow: false,
            cpu: CpuState { executive, ..CpuState::host_64() },
            vmcs,
            changed: Vec::new(),
            memory: Sparse::default(),
        };
        for change in &self.changes {
            stage.apply(change, capabilities);
        }
        stage
    }
}

impl Stage {
    fn apply(&mut self, change: &Change, capabilities: &Capabilities) {
        let number = |text: &str| number(text, capabilities);
        let Change { left, operator, right } = change;
        match left.split_once('.') {
            Some(("cpu", name)) => set_cpu(&mut self.cpu, name, number(right)),
            Some(("memory", address)) => self.memory.write_u64(number(address), number(right)),
            Some(("msr", n)) => {
                let (msr, value) = right.split_once(':').unwrap_or_else(|| panic!("no : in {right}"));
                let (first, last) = n.split_once('-').unwrap_or((n, n));
                for entry in (number(first) - 1..number(last)).map(|n| MSR_AREA + 16 * n) {
                    self.memory.write_u64(entry, number(msr));
                    self.memory.write_u64(entry + 8, number(value));
                }
            }
            Some(_) => panic!("what is {left}?"),
            None => match (left.as_str(), right.as_str()) {
                ("profile", _) => {}
                ("op", "vmresume") => self.instruction = EntryInstruction::Vmresume,
                ("launch", "clear") => self.launch_state = LaunchState::Clear,
                ("launch", "launched") => self.launch_state = LaunchState::Launched,
                ("launch", "vmxoff") => self.launch_state = LaunchState::LaunchedBeforeVmxoff,
                ("shadow", _) => self.shadow = number(right) != 0,
                _ => self.change_field(field_of(left), *operator, number(right)),
            },
        }
    }

    fn change_field(&mut self, field: FieldId, operator: char, value: u64) {
        let old = self.vmcs.raw(field);
        let new = match operator {
            '|' => old | value,
            '-' => old & !value,
            _ => value,
        };
        self.vmcs.set_raw(field, new);
        self.changed.push(field);
    }

    /// The attempt at a VM entry that the scene describes.
    #[must_use]
    pub fn attempt<'a>(&'a self, capabilities: &'a Capabilities) -> EntryAttempt<'a> {
        EntryAttempt::by(self.instruction, &self.cpu, capabilities)
            .with_launch_state(self.launch_state)
            .with_shadow(self.shadow)
    }
}

fn field_of(name: &str) -> FieldId {
    match name {
        "pin" => field::PIN_BASED_VM_EXECUTION_CONTROLS.id(),
        "primary" => field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(),
        "secondary" => field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(),
        "tertiary" => field::TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(),
        "exit" => field::PRIMARY_VM_EXIT_CONTROLS.id(),
        "exit2" => field::SECONDARY_VM_EXIT_CONTROLS.id(),
        "entry" => field::VM_ENTRY_CONTROLS.id(),
        "event" => field::VM_ENTRY_INTERRUPTION_INFORMATION.id(),
        name => FieldId::by_name(name).unwrap_or_else(|| panic!("no field {name}")),
    }
}

/// `vmx` is 0 outside VMX operation, 1 in root and 2 in non-root operation; `vmxon` and `vmcs` are the pointers;
/// `executive` has bit 0 if the executive VMCS is launched, bit 1 if its controls are valid.
fn set_cpu(cpu: &mut CpuState, name: &str, value: u64) {
    match name {
        "cr0" => cpu.cr0 = Cr0::from_bits_retain(value),
        "cr4" => cpu.cr4 = Cr4::from_bits_retain(value),
        "efer" => cpu.efer = Efer::from_bits_retain(value),
        "rflags" => cpu.rflags = Rflags::from_bits_retain(value),
        "cs_l" => cpu.cs_l = value != 0,
        "cpl" => cpu.cpl = u8::try_from(value).expect("a privilege level"),
        "vmx" => {
            cpu.vmx = match value {
                0 => VmxOperation::Outside,
                1 => VmxOperation::Root,
                _ => VmxOperation::NonRoot,
            }
        }
        "mov_ss" => cpu.mov_ss_blocking = value != 0,
        "smm" => cpu.smm = value != 0,
        "seam" => cpu.seam = value != 0,
        "trace" => cpu.trace_enabled = value != 0,
        "vmxon" => cpu.vmxon_pointer = value,
        "vmcs" => cpu.vmcs_pointer = if value == 0 { NO_POINTER } else { value },
        "executive" => {
            cpu.executive = Some(ExecutiveVmcs { launched: value & 1 != 0, controls_valid: value & 2 != 0 });
        }
        other => panic!("no cpu.{other}"),
    }
}

/// A number as the lines write it.
fn number(text: &str, capabilities: &Capabilities) -> u64 {
    let mut sum = 0u64;
    let mut rest = text;
    let mut negative = false;
    loop {
        let end = rest.find(['+', '-']).unwrap_or(rest.len());
        let term = term(&rest[..end], capabilities);
        sum = if negative { sum.wrapping_sub(term) } else { sum.wrapping_add(term) };
        let Some(operator) = rest[end..].chars().next() else { return sum };
        negative = operator == '-';
        rest = &rest[end + 1..];
    }
}

fn term(text: &str, capabilities: &Capabilities) -> u64 {
    if let Some(whole) = text.strip_suffix("/2") {
        return term(whole, capabilities) / 2;
    }
    match text {
        "width" => 1 << capabilities.address_reserved.trailing_zeros(),
        "maxphyaddr" => 1 << capabilities.physical_reserved.trailing_zeros(),
        "physical" => 1 << capabilities.reserved.physical.certain.trailing_zeros(),
        "linear" => 1 << (capabilities.linear_bits - 1),
        "revision" => u64::from(capabilities.revision()),
        digits => u64::from_str_radix(digits, 16).unwrap_or_else(|error| panic!("{digits:?}: {error}")),
    }
}
