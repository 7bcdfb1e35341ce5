//! Which sides of which checks a campaign can reach on a processor, and why not the others.
//!
//! A side is reachable if a way there is known. Where none is, the golden lines say what they would need and the processor
//! or the machine does not have. A side without a way and without such a reason counts as reachable, and as not covered.

use std::fmt;

use vmcs_golden::corpus::{self, Scene};
use vmcs_model::checks::{CHECK_COUNT, CheckId, CheckSet, Phase};
use vmcs_model::cpu::CpuState;
use vmcs_model::explain::Bits;
use vmcs_model::field::{self, FieldId};
use vmcs_model::{Capabilities, VmxOperation};

use crate::TestProcessor;
use crate::coverage::{Aim, Side};
use crate::generate::boundary::Recipes;
use crate::generate::entry_case::EntryCase;

/// Whether a side of a check can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A way there is known, or nothing speaks against one.
    Reachable,
    /// It cannot.
    Unreachable(Reason),
}

/// Why no case on the processor lies on a side of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The rule is always in force.
    NoGate,
    /// Whatever violates it violates that check, too, which ends the entry the same way or earlier.
    Hidden(CheckId),
    /// Of the images that lie there the best still violates that check, which ends the entry before it shows.
    Masked(CheckId),
    /// Nothing in a VMCS turns its gate off.
    FixedGate,
    /// Wherever it is in force it is violated.
    NeverHolds,
    /// The VMCS of the processor does not have the field.
    NoField(FieldId),
    /// The processor does not allow these bits of a field to be 1.
    NotOffered(Bits),
    /// The entry has to be tried in a state in which the probe never is.
    Needs(&'static str),
    /// A fact about the processor lifts the rule, or leaves nothing that violates it.
    Lifted(&'static str),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGate => f.write_str("the rule is always in force"),
            Self::Hidden(check) => write!(f, "whatever violates it violates {check}, which hides it"),
            Self::Masked(check) => write!(f, "every image there violates something else, at least {check}"),
            Self::FixedGate => f.write_str("nothing in a VMCS turns its gate off"),
            Self::NeverHolds => f.write_str("wherever it is in force it is violated"),
            Self::NoField(field) => write!(f, "the processor has no {}", field.info().name),
            Self::NotOffered(bits) => write!(f, "the processor does not allow {bits} of {}", bits.field.info().name),
            Self::Needs(what) => write!(f, "it needs {what}"),
            Self::Lifted(why) => f.write_str(why),
        }
    }
}

/// For every check, in their order, the reach of each [`Side`], in the order of its variants.
pub(crate) fn of(processor: &TestProcessor, recipes: &Recipes) -> Vec<[Reach; 3]> {
    let needs = Needs::new(processor);
    let reach = |check| Side::ALL.map(|side| needs.reach(processor, recipes, Aim { check, side }));
    CheckId::all().map(reach).collect()
}

/// What the golden lines about each check need and do not get.
struct Needs {
    /// For the violation and for its neighbour: a reason, if every line has one.
    lines: Vec<[Option<Reason>; 2]>,
}

impl Needs {
    fn new(processor: &TestProcessor) -> Self {
        let mut lines = vec![[None, None]; CHECK_COUNT];
        let mut free = vec![[false, false]; CHECK_COUNT];
        for line in corpus::lines() {
            let checks = line.expected.violated.iter().filter_map(|id| CheckId::by_id(id));
            // A line about several checks is no smallest one of each.
            for check in checks.filter(|_| line.expected.violated.len() <= 2) {
                let legal = line.neighbour.as_ref().map_or(&line.scene, |(scene, _)| scene);
                for (side, scene) in [&line.scene, legal].into_iter().enumerate() {
                    match lacks(processor, check, scene) {
                        Some(reason) => {
                            lines[check.index()][side].get_or_insert(reason);
                        }
                        None => free[check.index()][side] |= scene.profile() == "full",
                    }
                }
            }
        }
        for (reasons, free) in lines.iter_mut().zip(free) {
            for (reason, _) in reasons.iter_mut().zip(free).filter(|(_, free)| *free) {
                *reason = None;
            }
        }
        Self { lines }
    }

    fn reach(&self, processor: &TestProcessor, recipes: &Recipes, aim: Aim) -> Reach {
        let Aim { check, side } = aim;
        if side == Side::GateOff && check.info().gate.is_empty() {
            return Reach::Unreachable(Reason::NoGate);
        }
        let ways = recipes.of(aim);
        if side != Side::Violated && !ways.is_empty() {
            return Reach::Reachable;
        }
        if !ways.is_empty() {
            return match hidden_by(processor, aim.check, ways) {
                Some(by) => Reach::Unreachable(self.of(check, side).unwrap_or(Reason::Hidden(by))),
                None => Reach::Reachable,
            };
        }
        let reason = lifted(&processor.capabilities, check, side).map(Reason::Lifted).or_else(|| self.of(check, side));
        let searched = || match (recipes.obstacle(aim), side) {
            (Some(by), _) => Some(Reason::Masked(by)),
            // The search starts from violations: without one it says nothing.
            _ if recipes.of(Aim { side: Side::Violated, ..aim }).is_empty() => None,
            (None, Side::Legal) => Some(Reason::NeverHolds),
            (None, Side::GateOff) => Some(Reason::FixedGate),
            (None, Side::Violated) => None,
        };
        reason.or_else(searched).map_or(Reach::Reachable, Reach::Unreachable)
    }

    /// The reason that the lines have.
    fn of(&self, check: CheckId, side: Side) -> Option<Reason> {
        let [violated, legal] = self.lines[check.index()];
        match side {
            Side::Violated => violated,
            // Without what violates it a rule has no boundary.
            Side::Legal | Side::GateOff => legal.or(violated),
        }
    }
}

/// A check that every way violates as well and that leaves no trace of this one.
fn hidden_by(processor: &TestProcessor, check: CheckId, ways: &[EntryCase]) -> Option<CheckId> {
    let this = check.info();
    let hides = |other: &CheckId| {
        let info = other.info();
        let first = match info.phase {
            phase if phase != this.phase => phase < this.phase,
            Phase::Basic => other.index() < check.index(),
            _ => info.failure == this.failure,
        };
        *other != check && first
    };
    let mut always: Option<CheckSet> = None;
    for entry in ways {
        let violated = entry.violations(processor, &entry.image(processor));
        let hiding: CheckSet = violated.iter().filter(hides).collect();
        always = Some(match always {
            None => hiding,
            Some(before) => before.iter().filter(|check| hiding.contains(*check)).collect(),
        });
    }
    always?.iter().next()
}

/// What a scene needs and does not get on the processor, or on a machine whose host is a 64-bit VMM outside SMM.
fn lacks(processor: &TestProcessor, check: CheckId, scene: &Scene) -> Option<Reason> {
    let has = &processor.capabilities;
    let stage = scene.on(has);
    let usual = CpuState::host_64();
    let cpu = &stage.cpu;
    let states = [
        (cpu.smm, "system-management mode"),
        (cpu.seam, "SEAM VMX root operation"),
        (cpu.trace_enabled, "Intel Processor Trace, enabled in the host"),
        (cpu.efer != usual.efer || cpu.cr4 != usual.cr4, "a host that is not in IA-32e mode"),
        (cpu.vmx == VmxOperation::NonRoot, "a guest that executes VMX instructions"),
        (cpu.cpl != 0, "a host at another privilege level than 0"),
    ];
    if let Some((_, what)) = states.into_iter().find(|(needed, _)| *needed) {
        return Some(Reason::Needs(what));
    }
    if let Some(field) = stage.changed.iter().copied().find(|field| !has.has_field(field.info())) {
        return Some(Reason::NoField(field));
    }
    let words = [
        (field::PIN_BASED_VM_EXECUTION_CONTROLS.id(), has.pin),
        (field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), has.primary),
        (field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), has.secondary),
        (field::TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), has.tertiary),
        (field::PRIMARY_VM_EXIT_CONTROLS.id(), has.exit),
        (field::SECONDARY_VM_EXIT_CONTROLS.id(), has.secondary_exit),
        (field::VM_ENTRY_CONTROLS.id(), has.entry),
        (field::VM_FUNCTION_CONTROLS.id(), has.vm_functions),
        (field::GUEST_CR0.id(), has.cr0),
        (field::GUEST_CR4.id(), has.cr4),
        (field::HOST_CR0.id(), has.cr0),
        (field::HOST_CR4.id(), has.cr4),
    ];
    let limits = |field: FieldId| check.info().fields.first() == Some(&field) && is_about_reserved_bits(check);
    words.into_iter().filter(|(word, _)| !limits(*word)).find_map(|(field, allowed)| {
        let mask = allowed.forbidden(stage.vmcs.raw(field));
        (mask != 0).then_some(Reason::NotOffered(Bits { field, mask }))
    })
}

/// Whether the check compares a field with the settings that the processor allows.
fn is_about_reserved_bits(check: CheckId) -> bool {
    ["reserved-bits", "allowed0", "allowed1", "fixed0", "fixed1"].iter().any(|end| check.info().id.ends_with(end))
}

/// The fact about the processor that leaves the rule without that side.
fn lifted(has: &Capabilities, check: CheckId, side: Side) -> Option<&'static str> {
    let id = check.info().id;
    let basic = |bit: u32| has.basic >> bit & 1 != 0;
    let misc = |bit: u32| has.misc >> bit & 1 != 0;
    let ept = |bit: u32| has.ept_vpid >> bit & 1 != 0;
    let words = [
        ("ctl.pin.", has.pin, u64::from(u32::MAX)),
        ("ctl.proc1.", has.primary, u64::from(u32::MAX)),
        ("ctl.proc2.", has.secondary, u64::from(u32::MAX)),
        ("ctl.proc3.", has.tertiary, u64::MAX),
        ("ctl.exit1.", has.exit, u64::from(u32::MAX)),
        ("ctl.exit2.", has.secondary_exit, u64::MAX),
        ("ctl.entry.", has.entry, u64::from(u32::MAX)),
    ];
    let mut word = words.into_iter().filter(|(word, ..)| id.starts_with(word) && is_about_reserved_bits(check));
    if let Some((_, allowed, all)) = word.next() {
        let nothing = if id.ends_with("allowed0") { allowed.ones == 0 } else { allowed.may == all };
        return nothing.then_some("the processor demands no bit of the word, or allows every one");
    }
    let lifted = match id {
        "ctl.inject.errcode-required" | "ctl.inject.errcode-forbidden-vector" => {
            (basic(56), "IA32_VMX_BASIC[56] is 1: exceptions come with or without error codes")
        }
        "ctl.inject.nested-exception-supported" => {
            (basic(58), "IA32_VMX_BASIC[58] is 1: nested exceptions are supported")
        }
        "ctl.inject.nested-exception-type" => {
            (!basic(58), "IA32_VMX_BASIC[58] is 0: nested exceptions are not supported")
        }
        "ctl.inject.instr-len-zero" => (misc(30), "IA32_VMX_MISC[30] is 1: an instruction length of 0 is allowed"),
        "ctl.inject.type-7-supported" => {
            (side == Side::Violated, "the processor supports the monitor trap flag or FRED")
        }
        "ctl.eptp.ad-supported" => (ept(21), "IA32_VMX_EPT_VPID_CAP[21] is 1: EPT has accessed and dirty flags"),
        "ctl.eptp.sss-bit7" => (ept(23), "IA32_VMX_EPT_VPID_CAP[23] is 1: EPT has supervisor shadow stacks"),
        "guest.activity.supported" => {
            ((6..9).all(misc), "IA32_VMX_MISC[8:6] is 111b: every activity state is supported")
        }
        "guest.intr.enclave-sgx" => (has.sgx(), "the processor supports SGX"),
        "guest.intr.enclave-movss" => (!has.sgx(), "the processor does not support SGX"),
        "guest.pdbg.rtm-support" => (has.rtm(), "the processor supports RTM"),
        "guest.pdbg.rtm-bits" | "guest.pdbg.rtm-movss" => (!has.rtm(), "the processor does not support RTM"),
        "pre.shadow-vmcs" => (!has.vmcs_shadowing(), "the processor has no shadow VMCSs: VMPTRLD refuses them"),
        "as.no-intel64" => (side == Side::Violated, "the processor supports Intel 64"),
        _ => (false, ""),
    };
    lifted.0.then_some(lifted.1)
}
