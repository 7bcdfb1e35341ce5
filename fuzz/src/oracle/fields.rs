//! What is known of the fields of the current VMCS, and whether the fields that a target shows agree with it.

use std::mem;

use vmcs_model::field::{self, Encoding, FIELD_COUNT, FieldId};
use vmcs_model::formats::ExitReason;
use vmcs_model::{Outcome, ReadMemory, Vmcs};
use vmcs_wire::{Op, StepResult};

use super::effects::{self, Left};
use super::exit::ObservedExit;
use super::reviewed::Reviewed;
use super::{About, Difference, Disagreement, ExplanationText, Since, WrongField};
use crate::deviations::condition::Fields;
use crate::deviations::written::{Earlier, FieldWritten};
use crate::deviations::{After, Deviation, DeviationIds};
use crate::emulator::CaseEmulator;
use crate::step::Step;

/// Which bits of the current VMCS's fields nobody can know; the others hold what the emulator says.
///
/// VMCLEAR initialises no field (SDM 25.11.3, Initializing a VMCS), so a field is open until it is written or looked at.
#[derive(Clone, Debug)]
pub(super) struct Known {
    open: [u64; FIELD_COUNT],
    since: Since,
    /// The fields as the last entry found them, if there was one.
    last: Option<Box<Vmcs>>,
    /// The same of all entries before that one that entered a guest, of whichever VMCS.
    earlier: Vec<Vmcs>,
}

impl Since {
    /// How the entry ended that was the last to change fields, if one was.
    const fn after(self) -> Option<After> {
        match self {
            Self::Writes => None,
            Self::Refusal => Some(After::RefusedEntry),
            Self::FailedEntry => Some(After::FailedEntry),
            Self::Exit => Some(After::Exit),
        }
    }

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
    pub(super) const NOTHING: Self =
        Self { open: [u64::MAX; FIELD_COUNT], since: Since::Writes, last: None, earlier: Vec::new() };

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
            (Op::Vmclear { .. } | Op::Vmptrld { .. } | Op::Vmxon { .. } | Op::Vmxoff, _) => {
                self.end_last();
                *self = Self { earlier: mem::take(&mut self.earlier), ..Self::NOTHING };
            }
            _ => {}
        }
    }

    /// Notes what an entry has done that found the fields `entered`. `machine` has taken the same way.
    pub(super) fn note_entry(
        &mut self,
        machine: &mut CaseEmulator,
        entered: Box<Vmcs>,
        outcome: Outcome,
        reason: ExitReason,
    ) {
        self.end_last();
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
                for (field, left) in effects::after(&ObservedExit::new(&entered, reason)) {
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
        self.last = Some(entered);
    }

    /// The last entry is the last no more.
    fn end_last(&mut self) {
        let last = self.last.take();
        self.earlier.extend(last.filter(|_| self.since == Since::Exit).map(|entered| *entered));
    }

    /// What was before the fields of the current VMCS came to be `ended`.
    fn earlier<'k>(&'k self, ended: &'k Vmcs, memory: &'k dyn ReadMemory) -> Earlier<'k> {
        let entered = self.last.as_deref().unwrap_or(ended);
        Earlier { fields: Fields { entered, ended }, entries: &self.earlier, memory }
    }

    fn settle(&mut self, field: FieldId) {
        self.open[field.index()] = 0;
    }
}

impl<'a> Reviewed<'a> {
    /// The deviations that write the field, each with what it writes.
    fn writing(&self, field: FieldId) -> impl Iterator<Item = (&'a Deviation, &'a FieldWritten)> {
        let pairs = |deviation: &&'a Deviation| {
            let deviation = *deviation;
            deviation.fields_written.iter().map(move |written| (deviation, written))
        };
        self.0.iter().flat_map(pairs).filter(move |(_, written)| written.field == field)
    }

    /// The deviations that foretell other values of fields than the target shows, which are those of the SDM: their
    /// conditions are too wide.
    pub(super) fn refuted_by_fields(
        &self,
        machine: &CaseEmulator,
        known: &Known,
        shown: impl Iterator<Item = (FieldId, u64)>,
    ) -> DeviationIds {
        let Some(current) = machine.processor().current() else {
            return DeviationIds::NONE;
        };
        let memory = machine.processor().memory();
        let earlier = known.earlier(&current.fields, memory);
        let mut refuted = DeviationIds::NONE;
        for (field, observed) in shown {
            let expected = current.fields.raw(field);
            for (deviation, written) in self.writing(field) {
                let bits = written.bits.0 & !known.open[field.index()];
                if (observed ^ expected) & bits == 0
                    && written.foretold(earlier).is_some_and(|foretold| (foretold ^ expected) & bits != 0)
                    && deviation.shows(known.since.after(), earlier, memory)
                {
                    refuted.add(deviation.id.clone());
                }
            }
        }
        refuted
    }

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
        let memory = machine.processor().memory();
        let earlier = known.earlier(&current.fields, memory);
        let mut accounted = DeviationIds::NONE;
        let mut differing = Vec::new();
        for (field, observed) in shown.clone() {
            let expected = current.fields.raw(field);
            if observed == expected {
                continue;
            }
            differing.push((field, observed));
            let mut wrong_bits = (observed ^ expected) & !known.open[field.index()];
            for (deviation, written) in self.writing(field) {
                if written.bits.0 & wrong_bits != 0
                    && written.accounts_for(observed, earlier)
                    && deviation.shows(since.after(), earlier, memory)
                {
                    wrong_bits &= !written.bits.0;
                    accounted.add(deviation.id.clone());
                }
            }
            if wrong_bits != 0 {
                return Err(Box::new(wrong(field, observed, expected, since)));
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
