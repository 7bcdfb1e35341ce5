//! Tests of the driver with machines that are killed, hang, lose answers or give answers that make no sense.

use vmcs_wire::program::ListLengths;
use vmcs_wire::{Op, Start};

use super::*;
use crate::blame::{answered, split_answers};

/// What a case does to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing.
    Fine,
    /// It crashes the machine in the step behind so many.
    Crashes(u16),
    /// It hangs in its first step.
    Hangs,
    /// It executes, and what the machine answers then is nonsense.
    Garbles,
    /// It executes, and then the machine crashes before it has handed in that the batch is complete.
    SpoilsTheEnd,
    /// It crashes the machine unless it is executed by itself.
    DislikesCompany,
    /// It executes, and the machine crashes before the next case; not twice.
    DiesBetween,
}
use Fate::{Crashes, DiesBetween, DislikesCompany, Fine, Garbles, Hangs, SpoilsTheEnd};

/// Operations of every case.
const STEPS: u16 = 2;

/// A machine whose cases have those fates. It takes `at_once` batches at a time.
struct Fake<'a, const CAREFUL: bool> {
    fates: &'a [Fate],
    at_once: usize,
    between: bool,
    /// Every batch it was given: first case and number of cases.
    given: Vec<(usize, usize)>,
    discarded: usize,
}

impl<const CAREFUL: bool> BatchMachine for Fake<'_, CAREFUL> {
    type Error = ();
    const ALWAYS_CAREFUL: bool = CAREFUL;

    fn execute(&mut self, _: &Chunk, batches: &[Batch], deliver: Deliver<'_>) -> Result<Option<Stopped>, ()> {
        for batch in batches.iter().take(self.at_once) {
            assert_eq!(batch.careful, CAREFUL || batch.cases == 1);
            self.given.push((batch.first, batch.cases));
            let mut content = Vec::new();
            let mut results = |count: u16| {
                content.extend(count.to_le_bytes());
                content.extend(vec![0; count.into()]);
            };
            let mut stop = None;
            let mut nonsense = false;
            for case in batch.range() {
                let crashed = |words: &str| Some(Stop::Crashed(words.to_owned()));
                stop = match self.fates[case] {
                    Crashes(after) => {
                        results(after);
                        crashed("it crashes")
                    }
                    Hangs => {
                        results(0);
                        Some(Stop::Hung)
                    }
                    DislikesCompany if batch.cases > 1 => crashed("in company"),
                    fate => {
                        results(STEPS);
                        nonsense |= fate == Garbles;
                        match fate {
                            SpoilsTheEnd => crashed("overwritten"),
                            DiesBetween if self.between => {
                                self.between = false;
                                crashed("between")
                            }
                            _ => None,
                        }
                    }
                };
                if stop.is_some() {
                    break;
                }
            }
            if let Some(stop) = stop {
                let partial = if batch.careful { content } else { Vec::new() };
                return Ok(Some(Stopped { stop, partial }));
            }
            if nonsense {
                content.fill(0xFF);
            }
            if deliver(&content).is_break() {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn discard(&mut self) {
        self.discarded += 1;
    }
}

/// Keeps how each case ended: its results, and what stopped the machine.
#[derive(Default)]
struct Answers {
    cases: Vec<(usize, Option<Stop>)>,
    most: Option<usize>,
}

impl Answers {
    fn go_on(&self) -> ControlFlow<()> {
        if Some(self.cases.len()) >= self.most && self.most.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

impl Receiver for Answers {
    fn answered(&mut self, cases: Range<usize>, content: &[u8]) -> Result<ControlFlow<()>, Garbled> {
        let answers = split_answers(content, 0).map_err(|error| Garbled(error.to_string()))?;
        assert_eq!((cases.start, cases.len()), (self.cases.len(), answers.len()));
        self.cases.extend(answers.into_iter().map(|results| (answered(&content[results]), None)));
        Ok(self.go_on())
    }

    fn stopped(&mut self, case: usize, results: &[u8], stop: &Stop) -> ControlFlow<()> {
        assert_eq!(case, self.cases.len());
        self.cases.push((answered(results), Some(stop.clone())));
        self.go_on()
    }
}

fn chunk(cases: usize) -> Chunk {
    let mut chunk = Chunk::default();
    for _ in 0..cases {
        let ops = vec![Op::Vmxoff; STEPS.into()];
        assert!(chunk.push(Start::VmxRoot, &ops, ListLengths::default(), 2, false));
    }
    chunk
}

fn fake<const CAREFUL: bool>(fates: &[Fate], at_once: usize) -> Fake<'_, CAREFUL> {
    Fake { fates, at_once, between: true, given: Vec::new(), discarded: 0 }
}

/// How each case ended on that machine, four at a time.
fn run<const CAREFUL: bool>(machine: &mut Fake<'_, CAREFUL>) -> Vec<(usize, Option<Stop>)> {
    let mut answers = Answers::default();
    let cases = machine.fates.len();
    assert_eq!(drive(machine, &chunk(cases), 4, 0, &mut answers), Ok(ControlFlow::Continue(())));
    assert_eq!(answers.cases.len(), cases);
    answers.cases
}

fn crashed(words: &str) -> Option<Stop> {
    Some(Stop::Crashed(words.to_owned()))
}

const DONE: (usize, Option<Stop>) = (2, None);

/// What every machine makes of these fates, whatever it takes at once and whether it is careful.
#[test]
fn every_case_is_answered_once_and_the_culprits_alone_are_blamed() {
    let fates = [Fine, Crashes(1), Fine, Hangs, Hangs, Fine, Fine, Crashes(0), Fine, Garbles, Fine, SpoilsTheEnd];
    let garbled = || crashed("0xff is not a known tag");
    let expected = [
        DONE,
        (1, crashed("it crashes")),
        DONE,
        (0, Some(Stop::Hung)),
        (0, Some(Stop::Hung)),
        DONE,
        DONE,
        (0, crashed("it crashes")),
        DONE,
        (0, garbled()),
        DONE,
        (2, crashed("overwritten")),
    ];
    for at_once in [1, 2, 100] {
        assert_eq!(run(&mut fake::<false>(&fates, at_once)), expected, "{at_once} at once");
        assert_eq!(run(&mut fake::<true>(&fates, at_once)), expected, "{at_once} at once, careful");
    }
}

#[test]
fn the_batch_of_a_culprit_is_executed_again_one_by_one_and_the_rest_as_before() {
    let fates = [Fine, Fine, Crashes(0), Fine, Fine, Fine, Fine, Fine, Fine];
    let mut machine = fake::<false>(&fates, 100);
    run(&mut machine);
    let alone = [(0, 1), (1, 1), (2, 1)];
    assert_eq!(machine.given, [&[(0, 4)][..], &alone, &[(3, 1), (4, 4), (8, 1)]].concat());
}

#[test]
fn a_careful_machine_executes_nothing_again_that_it_has_answered() {
    let fates = [Fine, Fine, Crashes(1), Fine, Fine, Fine];
    let mut machine = fake::<true>(&fates, 1);
    run(&mut machine);
    assert_eq!(machine.given, [(0, 4), (3, 3)]);
}

#[test]
fn a_machine_that_dies_between_two_cases_has_no_culprit() {
    let fates = [Fine, DiesBetween, Fine, Fine];
    let mut machine = fake::<true>(&fates, 1);
    assert_eq!(run(&mut machine), [DONE, DONE, DONE, DONE]);
    assert_eq!(machine.given, [(0, 4), (2, 2)]);
    // One that is not careful cannot know, and finds nobody.
    assert_eq!(run(&mut fake::<false>(&fates, 1)), [DONE, DONE, DONE, DONE]);
}

#[test]
fn nobody_is_blamed_for_what_happens_in_company_alone() {
    let fates = [Fine, DislikesCompany, Fine, Fine, Fine];
    assert_eq!(run(&mut fake::<false>(&fates, 100)), vec![DONE; 5]);
    assert_eq!(run(&mut fake::<true>(&fates, 1)), vec![DONE; 5]);
}

#[test]
fn a_machine_whose_answer_makes_no_sense_is_discarded() {
    let fates = [Fine, Garbles, Fine];
    let mut machine = fake::<false>(&fates, 1);
    run(&mut machine);
    // For the batch, and for the case in it.
    assert_eq!(machine.discarded, 2);
}

#[test]
fn the_receiver_can_break_off_at_any_case() {
    let fates = [Fine, Crashes(1), Fine, Fine, Hangs, Fine];
    for most in 1..=fates.len() {
        let mut answers = Answers { most: Some(most), ..Answers::default() };
        let ended = drive(&mut fake::<false>(&fates, 1), &chunk(fates.len()), 1, 0, &mut answers);
        assert_eq!((ended, answers.cases.len()), (Ok(ControlFlow::Break(())), most));
        let mut answers = Answers { most: Some(most), ..Answers::default() };
        let ended = drive(&mut fake::<true>(&fates, 1), &chunk(fates.len()), 4, 0, &mut answers);
        assert_eq!(ended, Ok(ControlFlow::Break(())));
        assert!(answers.cases.len() >= most);
    }
}

#[test]
fn an_encoded_batch_is_answered_with_how_its_cases_ended() {
    let fates = [Fine, Crashes(1), Hangs, SpoilsTheEnd];
    let chunk = chunk(fates.len());
    let mut batch = Vec::new();
    chunk.append(&chunk.batches(0, 0, 4)[0], 1, &mut batch);
    let content = crate::answer_batch(&mut fake::<true>(&fates, 1), &batch, 0).expect("it is a batch");
    let crashed = |words: &str| [&[1, u8::try_from(words.len()).expect("short")][..], words.as_bytes()].concat();
    let expected = [
        &[2, 0, 0, 0][..],
        &[1, 0, 0],
        &crashed("it crashes"),
        &[0, 0, 0],
        // All results would say that it was completed.
        &[0, 0],
        &crashed("overwritten"),
    ];
    assert_eq!(content, expected.concat());
}
