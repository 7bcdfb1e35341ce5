//! Works out which sides of which checks a campaign can reach on a processor, and why not the others.
//!
//! A side is reachable if a recipe for it is known. If none is, the golden lines for that side show what the processor or
//! the machine lacks. A side with neither a recipe nor such a reason counts as reachable but not covered.

use vmcs_case::probe_host;
use vmcs_golden::corpus::{self, Scene};
use vmcs_model::checks::{
    AddressSpaceCheck, BasicCheck, CHECK_COUNT, CheckId, CheckSet, EntryControlCheck, ExecutionControlCheck,
    GuestNonRegisterCheck, Phase,
};
use vmcs_model::controls;
use vmcs_model::explain::{Bits, Setting, allowed_settings};
use vmcs_model::field::{self, Area, FieldId};
use vmcs_model::{Capabilities, VmxOperation};

use super::recipes::Recipes;
use crate::coverage::{Aim, Side};
use crate::generate::entry_case::EntryCase;
use crate::generate::reach::{Reach, Reason};
use crate::processor::Processor;

/// For every check, in their order, the reach of each [`Side`], in the order of its variants.
pub(crate) fn of(processor: &Processor, recipes: &Recipes) -> Vec<[Reach; 3]> {
    let needs = Needs::new(processor);
    let reach = |check| Side::ALL.map(|side| needs.reach(processor, recipes, Aim { check, side }));
    CheckId::all().map(reach).collect()
}

/// What the golden lines about each check need and this processor or machine does not have.
struct Needs {
    /// For the violation and for its neighbour: a reason, if every line has one.
    lines: Vec<[Option<Reason>; 2]>,
}

impl Needs {
    fn new(processor: &Processor) -> Self {
        let mut lines = vec![[None, None]; CHECK_COUNT];
        let mut free = vec![[false, false]; CHECK_COUNT];
        for line in corpus::lines() {
            let checks = line.expected.violated.iter().filter_map(|id| CheckId::by_id(id));
            // A line about several checks is not a smallest violation of each of them.
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

    fn reach(&self, processor: &Processor, recipes: &Recipes, aim: Aim) -> Reach {
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
            // The search starts from violations. If it has none, it shows nothing about the other sides.
            _ if recipes.of(Aim { side: Side::Violated, ..aim }).is_empty() => None,
            (None, Side::Legal) => Some(Reason::NeverHolds),
            (None, Side::GateOff) => Some(Reason::FixedGate),
            (None, Side::Violated) => None,
        };
        reason.or_else(searched).map_or(Reach::Reachable, Reach::Unreachable)
    }

    /// The reason that the golden lines give for a side.
    fn of(&self, check: CheckId, side: Side) -> Option<Reason> {
        let [violated, legal] = self.lines[check.index()];
        match side {
            Side::Violated => violated,
            // A rule that cannot be violated has no boundary, so that its other sides cannot be reached either.
            Side::Legal | Side::GateOff => legal.or(violated),
        }
    }
}

/// A check that every entry of `ways` violates as well, so that the violation of this one never shows.
fn hidden_by(processor: &Processor, check: CheckId, ways: &[EntryCase]) -> Option<CheckId> {
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
fn lacks(processor: &Processor, check: CheckId, scene: &Scene) -> Option<Reason> {
    let has = &processor.capabilities;
    let stage = scene.on(has);
    let usual = probe_host();
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
    let limits = |word: FieldId| check.info().fields.first() == Some(&word) && Setting::compared_by(check).is_some();
    controls::WORDS.into_iter().chain(CONTROL_REGISTERS).filter(|word| !limits(*word)).find_map(|field| {
        let mask = allowed_settings(has, field)?.forbidden(stage.vmcs.raw(field));
        (mask != 0).then_some(Reason::NotOffered(Bits { field, mask }))
    })
}

/// The control registers of which capability MSRs say what a processor allows, in the order in which a reason is looked for.
const CONTROL_REGISTERS: [FieldId; 4] =
    [field::GUEST_CR0.id(), field::GUEST_CR4.id(), field::HOST_CR0.id(), field::HOST_CR4.id()];

/// The fact about the processor that leaves the rule without that side.
fn lifted(has: &Capabilities, check: CheckId, side: Side) -> Option<&'static str> {
    use {EntryControlCheck as Inject, ExecutionControlCheck as Execution, GuestNonRegisterCheck as Guest};
    let basic = |bit: u32| has.basic >> bit & 1 != 0;
    let misc = |bit: u32| has.misc >> bit & 1 != 0;
    let ept = |bit: u32| has.ept_vpid >> bit & 1 != 0;
    if let (Some(setting), [word, ..]) = (Setting::compared_by(check), check.info().fields)
        && word.info().area() == Area::Control
    {
        let allowed = allowed_settings(has, *word)?;
        let nothing = match setting {
            Setting::MustBe1 => allowed.ones == 0,
            Setting::MayBe1 => allowed.may() == word.info().width().mask(),
        };
        return nothing.then_some("the processor demands no bit of the word, or allows every one");
    }
    let (lifts, why) = match check {
        CheckId::EntryControlCheck(Inject::InjectErrorCodeRequired | Inject::InjectErrorCodeVector) => {
            (basic(56), "IA32_VMX_BASIC[56] is 1: exceptions come with or without error codes")
        }
        CheckId::EntryControlCheck(Inject::InjectNestedSupported) => {
            (basic(58), "IA32_VMX_BASIC[58] is 1: nested exceptions are supported")
        }
        CheckId::EntryControlCheck(Inject::InjectNestedType) => {
            (!basic(58), "IA32_VMX_BASIC[58] is 0: nested exceptions are not supported")
        }
        CheckId::EntryControlCheck(Inject::InjectLengthZero) => {
            (misc(30), "IA32_VMX_MISC[30] is 1: an instruction length of 0 is allowed")
        }
        CheckId::EntryControlCheck(Inject::InjectOtherSupported) => {
            (side == Side::Violated, "the processor supports the monitor trap flag or FRED")
        }
        CheckId::ExecutionControlCheck(Execution::EptpAccessedDirty) => {
            (ept(21), "IA32_VMX_EPT_VPID_CAP[21] is 1: EPT has accessed and dirty flags")
        }
        CheckId::ExecutionControlCheck(Execution::EptpShadowStack) => {
            (ept(23), "IA32_VMX_EPT_VPID_CAP[23] is 1: EPT has supervisor shadow stacks")
        }
        CheckId::GuestNonRegisterCheck(Guest::ActivitySupported) => {
            ((6..9).all(misc), "IA32_VMX_MISC[8:6] is 111b: every activity state is supported")
        }
        CheckId::GuestNonRegisterCheck(Guest::EnclaveSgx) => (has.sgx(), "the processor supports SGX"),
        CheckId::GuestNonRegisterCheck(Guest::EnclaveMovSs) => (!has.sgx(), "the processor does not support SGX"),
        CheckId::GuestNonRegisterCheck(Guest::RtmSupport) => (has.rtm(), "the processor supports RTM"),
        CheckId::GuestNonRegisterCheck(Guest::RtmBits | Guest::RtmMovSs) => {
            (!has.rtm(), "the processor does not support RTM")
        }
        CheckId::BasicCheck(BasicCheck::ShadowVmcs) => {
            (!has.vmcs_shadowing(), "the processor has no shadow VMCSs: VMPTRLD refuses them")
        }
        CheckId::AddressSpaceCheck(AddressSpaceCheck::NoIntel64) => {
            (side == Side::Violated, "the processor supports Intel 64")
        }
        _ => (false, ""),
    };
    lifts.then_some(why)
}
