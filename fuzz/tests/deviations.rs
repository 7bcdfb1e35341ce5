//! Tests that the smallest case of each reviewed deviation still shows it, on the Bochs or the KVM in a Bochs that it
//! names. What a deviation says of fields excuses the value that the machine writes there, under its conditions, and no
//! other. And what it says is not more than the machine does.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use vmcs_case::number::Number;
use vmcs_case::profile::NamedProfile;
use vmcs_case::program::{FieldKey, OpLine, Program, StartState};
use vmcs_case::{Case, Implementation, Observation, Session, Target};
use vmcs_fuzz::deviations::condition::{Comparand, Condition, Test};
use vmcs_fuzz::deviations::written::{FieldWritten, Held};
use vmcs_fuzz::deviations::{After, Deviation, Deviations};
use vmcs_fuzz::emulator::EmulatorTarget;
use vmcs_fuzz::oracle::{Difference, Disagreement, Judgement, Oracle, WrongField};
use vmcs_fuzz::{Generator, Stream, TestProcessor};
use vmcs_hw::metal::MetalOptions;
use vmcs_hw::targets::Machine as Named;
use vmcs_model::field::{self, FieldId};
use vmcs_wire::StepResult;

/// That machine, if it is here.
fn open(place: &Implementation) -> Option<Box<dyn Target>> {
    let machine = Named::of(place).ok()?;
    Some(machine.open(&MetalOptions::default()).expect("it has the CPU model"))
}

/// Cases of each generator on each machine.
const CASES: usize = 1500;

static DEVIATIONS: LazyLock<Deviations> = LazyLock::new(|| Deviations::embedded().expect("they are valid"));
/// The machines that are here of those that cases of deviations name, with the cases executed.
static MACHINES: LazyLock<Vec<Machine>> = LazyLock::new(|| machines(&DEVIATIONS));

/// A machine, and what it did in the cases of deviations.
struct Machine {
    here: Implementation,
    processor: TestProcessor,
    session: Session,
    /// Deviations that say which components a VMCS has.
    about_fields: Vec<&'static Deviation>,
    shown: Vec<Shown>,
}

/// A deviation, its case, and what the machine did in it.
struct Shown {
    deviation: &'static Deviation,
    case: Case,
    observation: Observation,
}

fn machines(deviations: &'static Deviations) -> Vec<Machine> {
    let mut by_name: BTreeMap<String, (Implementation, Vec<&Deviation>)> = BTreeMap::new();
    for deviation in deviations.iter() {
        let place = deviation.shown_by().expect("every deviation has a case");
        by_name.entry(place.to_string()).or_insert((place, Vec::new())).1.push(deviation);
    }
    let mut machines = Vec::new();
    for (name, (place, of_machine)) in by_name {
        let Some(mut target) = open(&place) else {
            println!("skipped: the cases of {} deviations need {name}", of_machine.len());
            continue;
        };
        let report = target.capture().expect("the probe reports");
        let processor = TestProcessor::new(&NamedProfile::captured("Bochs", "test", &report).profile);
        let session = processor.session();
        let (about_fields, with_program): (Vec<_>, Vec<_>) = of_machine.into_iter().partition(|d| d.is_about_fields());
        let case = |deviation: &&Deviation| case_of(&processor, &deviation.program().expect("it has a program"));
        let cases: Vec<_> = with_program.iter().map(case).collect();
        let mut shown = Vec::new();
        target
            .run(&session, &mut cases.iter().cloned(), &mut |index, observation| {
                shown.push(Shown { deviation: with_program[index], case: cases[index].clone(), observation });
                ControlFlow::Continue(())
            })
            .expect("the target answers");
        println!("{name}: {} cases", cases.len());
        machines.push(Machine { here: target.implementation(), processor, session, about_fields, shown });
    }
    machines
}

fn case_of(processor: &TestProcessor, program: &Program) -> Case {
    program.to_case(processor.capabilities.revision(), &processor.image_names()).expect("the program is valid here")
}

#[test]
fn every_minimal_case_still_shows_its_deviation_and_no_other() {
    let mut stale = String::new();
    for machine in &*MACHINES {
        let here = &machine.here;
        for deviation in &machine.about_fields {
            if !deviation.shows_in(&machine.processor.profile) {
                stale += &format!("{here}: {}\n", deviation.id);
            }
        }
        let oracle = Oracle::new(&machine.processor, &machine.session, DEVIATIONS.of(here));
        for Shown { deviation, case, observation } in &machine.shown {
            let judgement = oracle.judge(case, observation).judgement;
            if !deviation.accounts_for(&judgement) {
                stale += &format!("{here}: {}: {judgement:?}\n", deviation.id);
            }
        }
    }
    assert!(stale.is_empty(), "stale:\n{stale}");
}

/// A case that meets the conditions of a deviation deviates: where the machine does as the SDM says, they are too wide.
#[test]
fn no_deviation_says_more_than_the_machine_does() {
    let mut places: Vec<_> = DEVIATIONS.iter().filter_map(Deviation::shown_by).collect();
    places.retain(|place| place.on.is_none());
    places.sort_by_key(ToString::to_string);
    places.dedup();
    let mut wide = BTreeMap::new();
    for mut target in places.iter().filter_map(open) {
        let report = target.capture().expect("the probe reports");
        let processor = TestProcessor::new(&NamedProfile::captured("Bochs", "test", &report).profile);
        let (session, here) = (processor.session(), target.implementation());
        let oracle = Oracle::new(&processor, &session, DEVIATIONS.of(&here));
        for generator in [Generator::Boundary, Generator::State, Generator::Controls, Generator::Programs] {
            let mut stream = Stream::new(generator, 3);
            let cases: Vec<_> = (0..CASES).map(|_| stream.next(&processor).case).collect();
            target
                .run(&session, &mut cases.iter().cloned(), &mut |index, observation| {
                    for id in oracle.refuted(&cases[index], &observation).iter() {
                        wide.entry(format!("{here}: {id}")).or_insert_with(|| cases[index].clone());
                    }
                    ControlFlow::Continue(())
                })
                .expect("the target answers");
        }
    }
    assert!(wide.is_empty(), "too wide: {wide:#?}");
}

/// For each entry of `fields_written`: the machine writes what it says, and without the entry that is a disagreement; the
/// value with any one bit changed is one; and so is the same value if a condition is not met.
#[test]
fn a_deviation_excuses_one_value_under_its_conditions() {
    let mut wrong = Vec::new();
    let mut entries = 0;
    for machine in &*MACHINES {
        for shown in machine.shown.iter().filter(|shown| !shown.deviation.fields_written.is_empty()) {
            for (index, written) in shown.deviation.fields_written.iter().enumerate() {
                entries += 1;
                let entry = Entry { deviations: &DEVIATIONS, machine, shown, index, written };
                let problems = entry.problems();
                let name = format!("{}: {}, {}", machine.here, shown.deviation.id, written.field.info().name);
                wrong.extend(problems.into_iter().map(|problem| format!("{name}: {problem}")));
            }
        }
    }
    println!("{entries} entries of fields_written");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An entry of `fields_written` of a deviation that a machine has shown.
struct Entry<'t> {
    deviations: &'t Deviations,
    machine: &'t Machine,
    shown: &'t Shown,
    index: usize,
    written: &'t FieldWritten,
}

impl Entry<'_> {
    fn problems(&self) -> Vec<String> {
        let real = &self.shown.observation;
        let without = self.changed(|deviation| drop(deviation.fields_written.remove(self.index)));
        let Some((step, found)) = self.disagreement(&without, real) else {
            return vec!["the case does not show it".to_owned()];
        };
        let differing = (found.observed ^ found.expected) & self.written.bits.0;
        if found.field != self.written.field || differing == 0 {
            return vec![format!("without it the case disagrees in {found:?}")];
        }
        let mut problems = Vec::new();
        if let Some(found) = self.disagreement(self.deviations, real) {
            problems.push(format!("the real value is not excused: {found:?}"));
        }
        for bit in (0..64).map(|bit| 1 << bit).filter(|bit| self.is_decided(*bit, step, found, &without)) {
            let lie = self.with_value(real, step, found.observed ^ bit);
            if !self.disagrees(self.deviations, &lie) {
                problems.push(format!("with bit {bit:#x} changed the value {:#x} is excused", found.observed));
            }
        }
        for (condition, unmet) in self.with_an_unmet_condition() {
            if !self.disagrees(&unmet, real) {
                problems.push(format!("{condition}: excused even if it is not met"));
            }
        }
        if !self.is_wrong_elsewhere(found.observed) {
            problems.push("in no other case the value is a disagreement".to_owned());
        }
        problems
    }

    /// Whether the field's value with a bit changed has to be a disagreement: the field has the bit, the SDM says what it
    /// is, the entry says what it is, and with it changed the field does not hold what the SDM says.
    fn is_decided(&self, bit: u64, step: usize, found: WrongField, without: &Deviations) -> bool {
        let value = found.observed ^ bit;
        let said = match &self.written.held {
            Held::Unpredictable(_) => self.written.bits.0 & bit == 0,
            Held::OneOf(values) => !values.contains(&Number(value & self.written.bits.0)),
            Held::LeftOfEarlier(most) => bit > most.0,
            Held::Value(_) | Held::Kept | Held::Plus(_) | Held::LoadedMsr(_) => true,
        };
        let of_sdm = || self.with_value(&self.shown.observation, step, found.expected ^ bit);
        found.field.info().width().mask() & bit != 0
            && said
            && value != found.expected
            && self.disagrees(without, &of_sdm())
    }

    /// Copies of the deviations in which this entry has a condition that is never met.
    fn with_an_unmet_condition(&self) -> Vec<(String, Deviations)> {
        let never = |condition: &mut Condition| {
            condition.bits = Number(0);
            condition.test = Test::Equals(Comparand::Number(Number(1)));
        };
        let Deviation { after, earlier, when, when_any, .. } = self.shown.deviation;
        let mut copies = Vec::new();
        if !after.is_empty() {
            let others = [After::RefusedEntry, After::FailedEntry, After::Exit];
            let others: Vec<_> = others.into_iter().filter(|other| !after.contains(other)).collect();
            copies.push(("after".to_owned(), self.apart(|own| own.after = others)));
        }
        for index in 0..earlier.len() {
            copies.push((format!("earlier {index}"), self.apart(|own| never(&mut own.earlier[index]))));
        }
        for index in 0..when.len() {
            copies.push((format!("when {index}"), self.apart(|own| never(&mut own.when[index]))));
        }
        if !when_any.is_empty() {
            copies.push(("when_any".to_owned(), self.apart(|own| own.when_any.iter_mut().for_each(never))));
        }
        for index in 0..self.written.when.len() {
            let copy = self.apart(|own| never(&mut own.fields_written[0].when[index]));
            copies.push((format!("when {index} of the entry"), copy));
        }
        copies
    }

    /// The deviations with this entry in one of its own, which is changed.
    fn apart(&self, change: impl FnOnce(&mut Deviation)) -> Deviations {
        let without = self.changed(|deviation| drop(deviation.fields_written.remove(self.index)));
        let mut own = self.shown.deviation.clone();
        own.fields_written = vec![self.written.clone()];
        change(&mut own);
        without.iter().cloned().chain([own]).collect()
    }

    /// Whether the value is a disagreement where the conditions are not met, in a case of a target that does everything
    /// else right.
    fn is_wrong_elsewhere(&self, value: u64) -> bool {
        let Machine { processor, session, .. } = self.machine;
        other_programs().iter().map(|program| case_of(processor, program)).any(|case| {
            let mut truth = None;
            EmulatorTarget::new(processor.profile.clone(), "same")
                .run(session, &mut std::iter::once(case.clone()), &mut |_, observation| {
                    truth = Some(observation);
                    ControlFlow::Continue(())
                })
                .expect("the emulator answers");
            let truth = truth.expect("the emulator answers");
            let step = case.ops.len() - 1;
            let expected = self.value(&truth, step);
            let bits = self.written.bits.0;
            let lie = self.with_value(&truth, step, expected & !bits | value & bits);
            let oracle = self.oracle(self.deviations);
            oracle.judge(&case, &truth).judgement == Judgement::Agree
                && matches!(oracle.judge(&case, &lie).judgement, Judgement::Disagree(_))
        })
    }

    fn value(&self, observation: &Observation, step: usize) -> u64 {
        match &observation.steps[step] {
            StepResult::Fields(values) => values[self.place()],
            other => panic!("the case looks there: {other:?}"),
        }
    }

    fn with_value(&self, observation: &Observation, step: usize, value: u64) -> Observation {
        let mut lie = observation.clone();
        let StepResult::Fields(values) = &mut lie.steps[step] else { panic!("the case looks there") };
        values[self.place()] = value;
        lie
    }

    fn place(&self) -> usize {
        let encoding = self.written.field.info().encoding.0;
        self.machine
            .session
            .fields_observed(true)
            .position(|other| other == encoding)
            .expect("the machine has the field")
    }

    /// The deviations with this one changed.
    fn changed(&self, change: impl FnOnce(&mut Deviation)) -> Deviations {
        let mut all: Vec<_> = self.deviations.iter().cloned().collect();
        let own = all.iter_mut().find(|deviation| deviation.id == self.shown.deviation.id).expect("it is one of them");
        change(own);
        all.into_iter().collect()
    }

    fn oracle<'o>(&'o self, deviations: &'o Deviations) -> Oracle<'o> {
        Oracle::new(&self.machine.processor, &self.machine.session, deviations.of(&self.machine.here))
    }

    /// In which field the case disagrees.
    fn disagreement(&self, deviations: &Deviations, observation: &Observation) -> Option<(usize, WrongField)> {
        match self.oracle(deviations).judge(&self.shown.case, observation).judgement {
            Judgement::Disagree(Disagreement { step, difference: Difference::Field(found) }) => Some((step, found)),
            _ => None,
        }
    }

    /// Whether the case disagrees in this field.
    fn disagrees(&self, deviations: &Deviations, observation: &Observation) -> bool {
        self.disagreement(deviations, observation).is_some_and(|(_, found)| found.field == self.written.field)
    }
}

/// Programs whose last operation looks at all fields: after exits from guests of several kinds, after an entry that failed,
/// after one that was refused, and after VMWRITE alone.
fn other_programs() -> Vec<Program> {
    let image = |name: &str| OpLine::Image { image: vmcs_case::program::ImageKey::Name(name.to_owned()) };
    let write = |field: FieldId, value: u64| OpLine::Vmwrite {
        field: FieldKey::Name(field.info().name.to_owned()),
        value: Number(value),
    };
    let begin = |ops: Vec<OpLine>, enters: bool| {
        let region = Number(vmcs_wire::layout::VMCS_REGIONS);
        let mut all: Vec<OpLine> = serde_json::from_value(serde_json::json!([
            {"op": "store", "address": region, "u32": "revision"},
            {"op": "vmclear", "address": region},
            {"op": "vmptrld", "address": region},
        ]))
        .expect("they are operations");
        all.extend(ops);
        if enters {
            all.push(OpLine::Vmlaunch { mov_ss: false });
        }
        all.push(OpLine::Observe { state: true });
        Program { id: String::new(), start: StartState::VmxRoot, memory: Vec::new(), ops: all }
    };
    let (rflags, state) = (field::GUEST_RFLAGS.id(), field::GUEST_INTERRUPTIBILITY_STATE.id());
    let timer = field::VMX_PREEMPTION_TIMER_VALUE.id();
    vec![
        begin(vec![image("plain")], true),
        begin(vec![image("plain"), write(rflags, 0xAD7), write(state, 1)], true),
        begin(vec![image("plain"), write(state, 2), write(timer, 0x1_0000)], true),
        begin(vec![image("hlt")], true),
        begin(vec![image("plain"), write(rflags, 0), image("stale-information")], true),
        begin(vec![image("plain"), write(field::CR3_TARGET_COUNT.id(), 0xFFFF), image("stale-information")], true),
        begin(
            [image("plain")]
                .into_iter()
                .chain(FieldId::all().filter(is_access_rights).map(|field| write(field, 0x2_0F93)))
                .collect(),
            false,
        ),
    ]
}

fn is_access_rights(field: &FieldId) -> bool {
    field.info().name.starts_with("guest_") && field.info().name.ends_with("_access_rights")
}
