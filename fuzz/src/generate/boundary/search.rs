//! Searches for recipes. It applies the golden lines to every image that they fit, and it tries every field of every image
//! with each of its bits inverted, and with the values at which a rule changes.

use vmcs_golden::corpus;
use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::controls;
use vmcs_model::field::{self, FieldId};
use vmcs_wire::layout;

use super::reasons;
use super::recipes::Recipes;
use super::trial::Trial;
use crate::coverage::{Aim, Side};
use crate::generate::entry_case::{EntryCase, StateBefore, is_input};
use crate::generate::reach::Reach;
use crate::processor::Processor;

/// Ways to violate a check that are taken from one image.
const PER_IMAGE: u8 = 2;
/// Ways to violate a check whose surroundings are searched.
const SEARCHED: usize = 4;
/// Ways to another side that are taken from the surroundings of one.
const FOUND: usize = 3;

/// More entries than an area of MSRs should have: 512, SDM A.6.
const LONG_AREA: u64 = 1024;

/// Works out the ways, and what they say of what can be reached.
pub(crate) fn recipes(processor: &Processor) -> Recipes {
    let mut all = Recipes::none();
    golden_lines(processor, &mut all);
    violations(processor, &mut all);
    legal_sides(processor, &mut all);
    open_gates(processor, &mut all);
    let aims = || CheckId::all().flat_map(|check| Side::ALL.map(|side| Aim { check, side }));
    aims().for_each(|aim| all.finish(processor, aim));
    all.reach = reasons::of(processor, &all);
    // Random changes may find an entry that the search has not found.
    let open = |all: &Recipes, aim: &Aim| {
        all.of(*aim).is_empty() && all.reach[aim.check.index()][aim.side as usize] == Reach::Reachable
    };
    let open: Vec<_> = aims().filter(|aim| open(&all, aim)).collect();
    all.aims.extend(open);
    all
}

/// Applies the golden lines to every image.
fn golden_lines(processor: &Processor, recipes: &mut Recipes) {
    for (n, line) in corpus::lines().iter().enumerate() {
        let ids = line.expected.violated.iter();
        let checks: Vec<_> = ids.filter_map(|id| CheckId::by_id(id)).collect();
        // With the plain image, and with different ones of the others.
        for base in (0..processor.bases.len()).filter(|base| *base == 0 || (base + n) % 4 == 0) {
            let scenes = std::iter::once(&line.scene).chain(line.neighbour.as_ref().map(|(scene, _)| scene));
            for scene in scenes {
                let stage = scene.with(&processor.capabilities, processor.bases[base].vmcs.clone());
                let Some(entry) = EntryCase::of_stage(processor, base, &stage) else { continue };
                if base > 0 && entry.before != StateBefore::Clear {
                    continue;
                }
                let trial = Trial::new(processor, entry);
                for check in &checks {
                    for side in Side::ALL {
                        take(processor, recipes, Aim { check: *check, side }, &trial);
                    }
                }
            }
        }
    }
}

/// The values that are tried in a field that holds `old`: values near it, and those at which the result of a check changes.
fn values(processor: &Processor, field: FieldId, old: u64) -> impl Iterator<Item = u64> + use<> {
    let top = processor.capabilities.address_reserved & processor.capabilities.address_reserved.wrapping_neg();
    let linear = 1u64 << (processor.capabilities.linear_bits - 1);
    let width = field.info().width();
    let bits = (0..width.bits()).map(move |bit| old ^ 1 << bit);
    let edges = [
        old.wrapping_add(1),
        old.wrapping_sub(1),
        0,
        u64::MAX,
        top,
        top.wrapping_sub(1),
        top.wrapping_sub(8),
        top.wrapping_sub(16),
        top.wrapping_sub(0x1000),
        linear,
        linear - 1,
        linear.wrapping_neg(),
        linear.wrapping_neg() - 1,
        linear << 1,
        0xFFFF,
        0x1_0000,
        0xFFFF_FFFF,
        0x1_0000_0000,
    ];
    // Long MSR areas take long to judge, and differ only in their length.
    let any_length = field != field::VM_ENTRY_MSR_LOAD_COUNT.id();
    let all = edges.into_iter().map(move |edge| edge & width.mask()).chain(bits);
    all.filter(move |value| *value != old && (any_length || *value < LONG_AREA))
}

/// The fields of a VMCS that some check reads, as far as the processor has them.
fn checked_fields(processor: &Processor) -> Vec<FieldId> {
    let read = |field: &FieldId| CheckId::all().any(|check| check.info().fields.contains(field));
    processor.fields.iter().copied().filter(|field| is_input(*field)).filter(read).collect()
}

/// One changed field that violates checks, on every image.
fn violations(processor: &Processor, recipes: &mut Recipes) {
    for base in 0..processor.bases.len() {
        let mut taken = vec![0; CheckId::all().len()];
        let mut vmcs = processor.bases[base].vmcs.clone();
        let plain = EntryCase { base, ..EntryCase::default() };
        for field in checked_fields(processor) {
            let old = vmcs.raw(field);
            let mut here = CheckSet::EMPTY;
            for value in values(processor, field, old) {
                vmcs.set_raw(field, value);
                let violated = plain.violations(processor, &vmcs);
                for check in violated.iter().filter(|_| violated.len() < 4) {
                    // One value of a field, and rather one that violates nothing else.
                    let wanted = !here.contains(check) && taken[check.index()] < PER_IMAGE;
                    if wanted || (violated.len() == 1 && recipes.of(Aim { check, side: Side::Violated }).is_empty()) {
                        here.insert(check);
                        taken[check.index()] += 1;
                        let entry = EntryCase { changes: vec![(field, value)], ..plain.clone() };
                        recipes.add(Aim { check, side: Side::Violated }, &entry);
                    }
                }
            }
            vmcs.set_raw(field, old);
        }
    }
}

/// Ways to violate the check, those of different images.
fn some_violations(processor: &Processor, recipes: &Recipes, check: CheckId) -> Vec<EntryCase> {
    let known = recipes.of(Aim { check, side: Side::Violated });
    let mut ways: Vec<_> =
        known.iter().map(|entry| (entry.violations(processor, &entry.image(processor)).len(), entry)).collect();
    ways.sort_by_key(|(violated, _)| *violated);
    let step = ways.len().div_ceil(SEARCHED).max(1);
    ways.into_iter().step_by(step).map(|(_, entry)| entry.clone()).collect()
}

/// Next to each violation, the values of its fields with which the check holds.
fn legal_sides(processor: &Processor, recipes: &mut Recipes) {
    for check in CheckId::all() {
        let aim = Aim { check, side: Side::Legal };
        for violating in some_violations(processor, recipes, check) {
            let vmcs = violating.image(processor);
            let changed = violating.changes.iter().map(|(field, _)| *field);
            let mut fields: Vec<_> = changed.chain(check.info().fields.iter().copied()).collect();
            fields.retain(|field| processor.fields.contains(field) && is_input(*field));
            let mut found = 0;
            for (i, field) in fields.iter().enumerate().filter(|(i, field)| !fields[..*i].contains(field)) {
                let base = processor.bases[violating.base].vmcs.raw(*field);
                // Back to the image's own value: nothing is left of the case but the image.
                let back = (i == 0).then_some(base).into_iter();
                for value in values(processor, *field, vmcs.raw(*field)).chain(back) {
                    if found < FOUND {
                        let mut entry = violating.clone();
                        entry.set(*field, value);
                        found += usize::from(take(processor, recipes, aim, &Trial::new(processor, entry)));
                    }
                }
            }
        }
    }
}

/// The values of violations where the check is not in force: on other images, and with one bit of a control turned.
fn open_gates(processor: &Processor, recipes: &mut Recipes) {
    let gates: Vec<_> =
        controls::WORDS.into_iter().chain(GATES).filter(|field| processor.fields.contains(field)).collect();
    for check in CheckId::all().filter(|check| !check.info().gate.is_empty()) {
        let aim = Aim { check, side: Side::GateOff };
        for violating in some_violations(processor, recipes, check) {
            let vmcs = violating.image(processor);
            let mut found = 0;
            for field in &gates {
                for value in values(processor, *field, vmcs.raw(*field)) {
                    if found < FOUND {
                        let mut entry = violating.clone();
                        entry.set(*field, value);
                        found += usize::from(take(processor, recipes, aim, &Trial::new(processor, entry)));
                    }
                }
            }
            found = 0;
            for base in 0..processor.bases.len() {
                if found < FOUND {
                    let trial = Trial::new(processor, EntryCase { base, ..violating.clone() });
                    found += usize::from(take(processor, recipes, aim, &trial));
                }
            }
        }
    }
}

/// Adds the entry if it lies on that side. If it would stop the machine, a violation of a later stage is added to prevent
/// that, where one can.
fn take(processor: &Processor, recipes: &mut Recipes, aim: Aim, trial: &Trial<'_>) -> bool {
    if !trial.lies_on(aim) {
        if recipes.of(aim).is_empty()
            && let Some(obstacle) = trial.obstacle(aim)
        {
            recipes.note_obstacle(obstacle, aim);
        }
        return false;
    }
    if !trial.is_risky() {
        return recipes.add(aim, &trial.entry);
    }
    for fail in LATER_FAILURES.into_iter().filter(|_| aim.side != Side::Violated) {
        let mut failing = trial.entry.clone();
        fail(&mut failing);
        let failing = Trial::new(processor, failing);
        if failing.lies_on(aim) && !failing.is_risky() {
            return recipes.add(aim, &failing.entry);
        }
    }
    // It is kept where there is nothing else, and others are looked for.
    if recipes.of(aim).is_empty() {
        recipes.add(aim, &trial.entry);
    }
    false
}

/// Violations that end an entry at its last stage, at its guest state, and at its host state.
const LATER_FAILURES: [fn(&mut EntryCase); 3] = [
    |entry| {
        entry.set(field::VM_ENTRY_MSR_LOAD_ADDRESS.id(), layout::ENTRY_MSR_LOAD);
        entry.set(field::VM_ENTRY_MSR_LOAD_COUNT.id(), 1);
        // IA32_FS_BASE, which no area may name.
        entry.store(layout::ENTRY_MSR_LOAD, 0xC000_0100);
    },
    |entry| entry.set(field::GUEST_RFLAGS.id(), 0),
    |entry| entry.set(field::HOST_CS_SELECTOR.id(), 0),
];

/// Fields other than control words that put checks in force.
const GATES: [FieldId; 12] = [
    field::VM_ENTRY_INTERRUPTION_INFORMATION.id(),
    field::VM_ENTRY_MSR_LOAD_COUNT.id(),
    field::VM_EXIT_MSR_LOAD_COUNT.id(),
    field::VM_EXIT_MSR_STORE_COUNT.id(),
    field::VMCS_LINK_POINTER.id(),
    field::GUEST_ACTIVITY_STATE.id(),
    field::GUEST_INTERRUPTIBILITY_STATE.id(),
    field::GUEST_PENDING_DEBUG_EXCEPTIONS.id(),
    field::GUEST_LDTR_ACCESS_RIGHTS.id(),
    field::GUEST_CS_ACCESS_RIGHTS.id(),
    field::GUEST_RFLAGS.id(),
    field::GUEST_CR4.id(),
];
