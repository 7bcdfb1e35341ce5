//! The fields that a row says it reads are those that its guard and its predicate ask for: none is missing, none too many.

use std::cell::Cell;
use std::collections::BTreeMap;

use vmcs_golden::{corpus, profiles};
use vmcs_model::checks::CheckId;
use vmcs_model::controls;
use vmcs_model::field::{self, FieldSet};
use vmcs_model::{Capabilities, EntryAttempt, FieldId, ReadFields, ReadMemory, Vmcs};

/// An image that notes which fields the checks ask for.
struct Noting<'a> {
    vmcs: &'a Vmcs,
    asked_for: Cell<FieldSet>,
}

impl ReadFields for Noting<'_> {
    const PARTIAL: bool = true;

    fn read(&self, field: FieldId) -> u64 {
        self.vmcs.raw(field)
    }

    fn knows(&self, field: FieldId) -> bool {
        let mut asked_for = self.asked_for.get();
        asked_for.insert(field);
        self.asked_for.set(asked_for);
        true
    }
}

/// What each row was seen to ask for.
#[derive(Default)]
struct Seen {
    /// By its guard and its predicate.
    whole: BTreeMap<CheckId, FieldSet>,
    /// By its guard alone.
    guard: BTreeMap<CheckId, FieldSet>,
}

impl Seen {
    fn look(&mut self, attempt: EntryAttempt<'_>, vmcs: &Vmcs, memory: &impl ReadMemory) {
        let note = |into: &mut BTreeMap<CheckId, FieldSet>, check, noting: &Noting<'_>| {
            let seen = into.entry(check).or_insert(FieldSet::EMPTY);
            *seen = seen.iter().chain(noting.asked_for.take().iter()).collect();
        };
        for check in CheckId::all() {
            // An entry that returns from SMM goes by the controls and the pointer that say so before any other row.
            if attempt.cpu.smm && !check.info().gate.contains("SMM") {
                continue;
            }
            let noting = Noting { vmcs, asked_for: Cell::new(FieldSet::EMPTY) };
            let entry = attempt.on(&noting, memory);
            let _ = entry.in_force(check);
            note(&mut self.guard, check, &noting);
            let _ = entry.unknowns(check);
            note(&mut self.whole, check, &noting);
        }
    }

    /// What is not as the rows say, a line each.
    fn wrong(&self) -> Vec<String> {
        use field::{
            PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS as PRIMARY, PRIMARY_VM_EXIT_CONTROLS as EXIT,
            SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS as SECONDARY, SECONDARY_VM_EXIT_CONTROLS as SECONDARY_EXIT,
            TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS as TERTIARY,
        };
        let mut wrong = Vec::new();
        for check in CheckId::all() {
            let (whole, guard) = (self.whole[&check], self.guard[&check]);
            let declared = check.info().fields;
            let activates = |field: FieldId| {
                field == PRIMARY.id() && (whole.contains(SECONDARY.id()) || whole.contains(TERTIARY.id()))
                    || field == EXIT.id() && whole.contains(SECONDARY_EXIT.id())
            };
            // A row need not name a control word that only puts it in force, or only activates one that it names.
            let left_to_the_gate =
                |field: FieldId| controls::WORDS.contains(&field) && (guard.contains(field) || activates(field));
            for field in whole.iter().filter(|field| !declared.contains(field) && !left_to_the_gate(*field)) {
                wrong.push(format!("{check} reads {} and does not say so", field.info().name));
            }
            for field in declared.iter().filter(|field| !whole.contains(**field)) {
                wrong.push(format!("{check} says that it reads {} and does not", field.info().name));
            }
        }
        wrong
    }
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

#[test]
fn rows_read_what_they_say() {
    look_at_golden_lines(12);
}

#[test]
#[ignore = "takes minutes, even with --release"]
fn rows_read_what_they_say_of_a_million_images() {
    look_at_golden_lines(1000);
}

/// Looks at every golden line and its neighbour, each as it is and so many times with some bits flipped.
fn look_at_golden_lines(variants: usize) {
    let mut seen = Seen::default();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let fields: Vec<FieldId> = FieldId::all().collect();
    for line in corpus::lines() {
        let scenes = [Some(&line.scene), line.neighbour.as_ref().map(|(scene, _)| scene)];
        for scene in scenes.into_iter().flatten() {
            let capabilities = Capabilities::new(&profiles::by_name(scene.profile()));
            let stage = scene.on(&capabilities);
            let attempt = stage.attempt(&capabilities);
            seen.look(attempt, &stage.vmcs, &stage.memory);
            for _ in 0..variants {
                let mut vmcs = stage.vmcs.clone();
                for _ in 0..1 + random.next() % 4 {
                    let field = fields[usize::try_from(random.next()).unwrap_or(0) % fields.len()];
                    vmcs.set_raw(field, vmcs.raw(field) ^ 1 << (random.next() % 64));
                }
                seen.look(attempt, &vmcs, &stage.memory);
            }
        }
    }
    let wrong = seen.wrong();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
