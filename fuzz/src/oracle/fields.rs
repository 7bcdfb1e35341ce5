//! What is known of the fields of the current VMCS, and whether those that a target shows hold it.

use vmcs_model::Outcome;
use vmcs_model::Vmcs;
use vmcs_model::field::{self, Encoding, FIELD_COUNT, FieldId};
use vmcs_model::formats::ExitReason;
use vmcs_wire::{Op, StepResult};

use super::effects::{self, Left};
use super::exit::ObservedExit;
use super::reviewed::Reviewed;
use super::{About, Difference, Disagreement, ExplanationText, Since, WrongField};
use crate::deviations::{Deviation, DeviationIds};
use crate::emulator::CaseEmulator;
use crate::step::Step;

/// Which bits of the current VMCS's fields nobody can know; the others hold what the emulator says.
///
/// VMCLEAR initialises no field (SDM 25.11.3, Initializing a VMCS), so a field is open until it is written or looked at.
#[derive(Clone, Debug)]
pub(super) struct Known {
    open: [u64; FIELD_COUNT],
    since: Since,
}

impl Since {
    /// Why a field should hold what is expected.
    fn reason(self, field: FieldId) -> String {
        let unchanged = |section: &str| format!("{field:?} is not written: SDM {section}.");
        match self {
            Self::Writes => unchanged("25.11.2, VMREAD, VMWRITE, and Encodings of VMCS Fields"),
            Self::Refusal => unchanged("31.2, Conventions; VMfailValid writes the VM-instruction error alone"),
            Self::FailedEntry => unchanged(
                "27.8, VM-Entry Failures During or After Loading Guest State: exit reason and exit qualification are \
                 recorded, and nothing else is modified",
            ),
            Self::Exit => match effects::of(field) {
                Some(effect) => format!("{field:?}: {}. SDM {}.", effect.rule, effect.sdm),
                None => unchanged("28, VM Exits, names no effect on it"),
            },
        }
    }
}

impl Known {
    /// Nothing is known of a VMCS that was just made current.
    pub(super) const NOTHING: Self = Self { open: [u64::MAX; FIELD_COUNT], since: Since::Writes };

    /// Notes what an instruction other than an entry has written, which ended in `result`.
    pub(super) fn note(&mut self, op: &Op, result: &Step, images: &[Vec<(u32, u64)>]) {
        match (op, result) {
            (_, StepResult::FailValid(_)) => self.settle(field::VM_INSTRUCTION_ERROR.id()),
            (Op::Vmwrite { encoding, .. }, StepResult::Ok) => {
                let encoding = u32::try_from(*encoding).map(Encoding);
                if let Some(written) = encoding.ok().filter(|encoding| !encoding.is_high()).and_then(Encoding::field) {
                    self.settle(written);
                }
            }
            (Op::WriteImage { image }, StepResult::Ok) => {
                let image = images.get(usize::from(*image)).map_or(&[][..], Vec::as_slice);
                image
                    .iter()
                    .filter_map(|(encoding, _)| Encoding(*encoding).field())
                    .for_each(|field| self.settle(field));
            }
            (Op::Vmclear { .. } | Op::Vmptrld { .. } | Op::Vmxon { .. } | Op::Vmxoff, _) => *self = Self::NOTHING,
            _ => {}
        }
    }

    /// Notes what an entry has done that found the fields `entered`. `machine` has taken the same way.
    pub(super) fn note_entry(
        &mut self,
        machine: &mut CaseEmulator,
        entered: &Vmcs,
        outcome: Outcome,
        reason: ExitReason,
    ) {
        match outcome {
            Outcome::FailValid(_) => {
                self.settle(field::VM_INSTRUCTION_ERROR.id());
                self.since = Since::Refusal;
            }
            Outcome::EntryFailed { .. } => {
                self.settle(field::EXIT_REASON.id());
                self.settle(field::EXIT_QUALIFICATION.id());
                self.since = Since::FailedEntry;
            }
            Outcome::Entered => {
                for (field, left) in effects::after(&ObservedExit::new(entered, reason)) {
                    let open = match left {
                        Left::Open(open) => open,
                        Left::Value { value, open } => {
                            machine.adopt(field, value);
                            open
                        }
                    };
                    self.open[field.index()] = open;
                }
                self.since = Since::Exit;
            }
            Outcome::Fault(_) | Outcome::FailInvalid | Outcome::Exited { .. } => self.since = Since::Refusal,
        }
    }

    fn settle(&mut self, field: FieldId) {
        self.open[field.index()] = 0;
    }
}

impl Reviewed<'_> {
    /// Compares fields that the target shows with those of `machine`, which then holds what the target does. The
    /// deviations that account for what is wrong, or the first field for which there is none.
    pub(super) fn fields(
        &self,
        machine: &mut CaseEmulator,
        known: &mut Known,
        shown: impl Iterator<Item = (FieldId, u64)> + Clone,
    ) -> Result<DeviationIds, Box<(Disagreement, ExplanationText)>> {
        let Some(current) = machine.processor().current() else {
            return Ok(DeviationIds::NONE);
        };
        let since = known.since;
        let mut accounted = DeviationIds::NONE;
        let mut differing = Vec::new();
        for (field, observed) in shown.clone() {
            let expected = current.fields.raw(field);
            if observed == expected {
                continue;
            }
            differing.push((field, observed));
            if (observed ^ expected) & !known.open[field.index()] == 0 {
                continue;
            }
            let name = field.info().name;
            let writes = |deviation: &&Deviation| deviation.fields_written.iter().any(|field| field == name);
            match self.applicable(machine, writes).next() {
                Some(deviation) => accounted.add(deviation.id.clone()),
                None => return Err(Box::new(wrong(field, observed, expected, since))),
            }
        }
        for (field, observed) in differing {
            machine.adopt(field, observed);
        }
        for (field, _) in shown {
            known.settle(field);
        }
        Ok(accounted)
    }
}

/// A field that does not hold what it should, and why it should.
fn wrong(field: FieldId, observed: u64, expected: u64, since: Since) -> (Disagreement, ExplanationText) {
    let difference = Difference::Field(WrongField { since, field, observed, expected });
    let explanation = ExplanationText { about: About::Field(field), text: since.reason(field) };
    (Disagreement { step: 0, difference }, explanation)
}
