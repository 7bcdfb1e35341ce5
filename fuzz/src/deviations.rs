//! What implementations do otherwise than the SDM, reviewed: files that say who, when, what and with which evidence.
//!
//! A deviation excuses what it names and nothing else. `docs/deviations.md` describes the files.

pub mod condition;
mod file;
mod id;
pub mod read;
pub mod written;

use serde::{Deserialize, Serialize};
use vmcs_case::number::Number;
use vmcs_case::program::{OpLine, Program, StartState};
use vmcs_case::{End, Implementation, Op};
use vmcs_model::checks::{CheckId, CheckSet, Phase};
use vmcs_model::field::{Area, FieldId, FieldSet};
use vmcs_model::formats::exit_reason;
use vmcs_model::{CpuProfile, Outcome, ReadMemory, Vmcs};

use crate::as_text;
use crate::step::{OpKind, StepEnd};
use condition::{Condition, Fields, Subject};
use read::{FieldRead, MsrRead};
use written::{Earlier, FieldWritten};

pub use file::{DeviationError, Deviations};
pub use id::{DeviationId, DeviationIds};

/// One deviation of an implementation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deviation {
    /// Stable id.
    pub id: DeviationId,
    /// The implementation's name, such as `Bochs`.
    pub implementation: String,
    /// Its versions; all if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
    /// Its CPU models; all if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Checks of a VM entry that it does not make.
    #[serde(default, with = "as_text::list", skip_serializing_if = "Vec::is_empty")]
    pub omits: Vec<CheckId>,
    /// Checks that it makes after all others and after MSR loading: an entry that fails there does so whatever these say.
    #[serde(default, with = "as_text::list", skip_serializing_if = "Vec::is_empty")]
    pub checked_last: Vec<CheckId>,
    /// Fields that its checks find otherwise than they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields_read: Vec<FieldRead>,
    /// Values in the VM-entry MSR-load area that it takes for others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub msrs_read: Vec<MsrRead>,
    /// MSRs that it does not load from the VM-entry MSR-load area: the entry fails there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub msrs_refused: Vec<Number>,
    /// It loads MSRs before it checks the guest state: an entry that fails there does so whatever the guest state is.
    #[serde(default, skip_serializing_if = "is_false")]
    pub msrs_before_guest_state: bool,
    /// What a VM entry ends in there although the SDM does not permit it, such as `VMfailValid(7)`. The checks that come
    /// before, in the SDM's order, are made as ever.
    #[serde(default, with = "as_text::option", skip_serializing_if = "Option::is_none")]
    pub entry: Option<Outcome>,
    /// What becomes of the machine, if an entry that is to be refused gets as far as loading state there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub takes_down: Vec<Down>,
    /// The instruction other than a VM entry that ends differently, such as `invvpid`.
    #[serde(default, with = "as_text::option", skip_serializing_if = "Option::is_none")]
    pub instruction: Option<OpKind>,
    /// What that instruction ends in there: one of these.
    #[serde(default, with = "as_text::list", skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<StepEnd>,
    /// What it should end in.
    #[serde(default, with = "as_text::option", skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<StepEnd>,
    /// Components that it lacks although its capabilities promise them.
    #[serde(default, with = "as_text::list", skip_serializing_if = "Vec::is_empty")]
    pub fields_missing: Vec<FieldId>,
    /// Components that it has although its capabilities do not promise them.
    #[serde(default, with = "as_text::list", skip_serializing_if = "Vec::is_empty")]
    pub fields_extra: Vec<FieldId>,
    /// Bits of fields that hold something else than the SDM says, and what they hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields_written: Vec<FieldWritten>,
    /// After which ends of an entry its `fields_written` show.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<After>,
    /// What has to hold, all of it, of a VMCS with which an earlier entry of the same program entered a guest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Condition>,
    /// What has to hold, all of it: of the VMCS that the entry finds, of the operands of an instruction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Condition>,
    /// Of these at least one has to hold, if there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when_any: Vec<Condition>,
    /// MSRs of which the VM-entry MSR-load area has to name one; any area will do if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loads: Vec<Number>,
    /// What the implementation does.
    pub behaviour: String,
    /// What the SDM says.
    pub sdm: String,
    /// How one can see it.
    pub evidence: String,
    /// Where it shows, and the smallest program that shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<MinimalCase>,
}

/// What becomes of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Down {
    /// It ends.
    Crashes,
    /// It goes on without an answer.
    Hangs,
}

/// How an entry ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum After {
    /// With VMfail or an exception.
    RefusedEntry,
    /// It failed during or after loading guest state.
    FailedEntry,
    /// The guest was entered, and left by a VM exit.
    Exit,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// What shows a deviation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinimalCase {
    /// Version of the implementation.
    pub version: String,
    /// CPU model.
    pub model: String,
    /// Version of the Bochs below it, for one that leaves part of its work to a processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Where the program starts.
    #[serde(default)]
    pub start: StartState,
    /// The program. None shows which components a VMCS has: a deviation about that, and no other, has no program, and
    /// the comparison of `vmcs fields` shows it.
    #[serde(default)]
    pub ops: Vec<OpLine>,
}

/// What is wrong with a deviation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A program cannot show which components a VMCS has.
    #[error("a case is a program, or for fields_missing and fields_extra only a version and a model")]
    Case,
    /// Nobody would know when a value of a field is excused.
    #[error("fields_written needs a condition: after, when, when_any, or a when of each entry")]
    Unconditional,
    /// Only what fields hold can depend on how the entry ended.
    #[error(
        "exit_reason and exit_qualification tell of an entry that has ended: only fields_written can depend on them"
    )]
    End,
    /// They say when fields are looked at.
    #[error("after and earlier belong to fields_written")]
    After,
    /// An instruction's end is compared with a list.
    #[error("an instruction needs instead_of and results, and they need an instruction")]
    Instruction,
    /// A condition is about what is not there.
    #[error("only a deviation of an instruction has conditions on operands, and it has no others")]
    Operand,
}

impl Deviation {
    fn is_of(&self, implementation: &Implementation) -> bool {
        let matches = |list: &[String], name: &str| list.is_empty() || list.iter().any(|item| item == name);
        self.implementation == implementation.name
            && matches(&self.versions, &implementation.version)
            && matches(&self.models, &implementation.model)
    }

    /// Whether it is one in the checks on the guest-state area, or in what a guest does once it is entered.
    fn is_in_guest_state(&self) -> bool {
        let guest_state_fails =
            matches!(self.entry, Some(Outcome::EntryFailed { reason: exit_reason::INVALID_GUEST_STATE, .. }));
        let is_guest_state = |field: FieldId| field.info().area() == Area::GuestState;
        guest_state_fails
            || self.fields_written.iter().any(|written| is_guest_state(written.field))
            || self.fields_read.iter().any(|read| is_guest_state(read.field))
            || self.omits.iter().any(|check| check.info().phase == Phase::GuestState)
    }

    /// Whether the fields meet its conditions, and the MSR-load area that they name.
    #[must_use]
    pub fn applies(&self, fields: Fields<'_>, memory: &impl ReadMemory) -> bool {
        let holds = |condition: &Condition| condition.holds(fields);
        self.when.iter().all(holds)
            && (self.when_any.is_empty() || self.when_any.iter().any(holds))
            && (self.loads.is_empty() || first_load(fields.entered, memory, &self.loads).is_some())
    }

    /// Whether its `fields_written` show when fields are looked at after an entry that ended so, or before any entry.
    #[must_use]
    pub fn shows(&self, after: Option<After>, earlier: Earlier<'_>, memory: &impl ReadMemory) -> bool {
        let meets = |vmcs: &Vmcs| self.earlier.iter().all(|condition| condition.holds(Fields::before(vmcs)));
        (self.after.is_empty() || after.is_some_and(|after| self.after.contains(&after)))
            && (self.earlier.is_empty() || earlier.entries.iter().any(meets))
            && self.applies(earlier.fields, memory)
    }

    /// The end of a VM entry that it brings about itself, with a VMCS that meets its conditions.
    #[must_use]
    pub fn ends_in(&self, vmcs: &Vmcs, memory: &impl ReadMemory) -> Option<Outcome> {
        let refused = || {
            let qualification = first_load(vmcs, memory, &self.msrs_refused)?;
            Some(Outcome::EntryFailed { reason: exit_reason::MSR_LOADING, qualification })
        };
        self.entry.or_else(refused)
    }

    /// Whether it is why `op`, which is no VM entry, ended so and not as expected.
    #[must_use]
    pub fn accounts_for_end(&self, op: &Op, expected: StepEnd, observed: StepEnd) -> bool {
        self.instruction == Some(OpKind::of(op))
            && self.instead_of == Some(expected)
            && self.results.contains(&observed)
            && self.when.iter().all(|condition| condition.holds_for(op))
    }

    /// Whether it takes a machine down so.
    #[must_use]
    pub fn takes_down(&self, end: &End) -> bool {
        match end {
            End::Completed => false,
            End::Crashed { .. } => self.takes_down.contains(&Down::Crashes),
            End::Hung => self.takes_down.contains(&Down::Hangs),
        }
    }

    /// Whether it is about which components a VMCS has, which no program of a session shows.
    #[must_use]
    pub fn is_about_fields(&self) -> bool {
        !self.fields_missing.is_empty() || !self.fields_extra.is_empty()
    }

    /// Whether a processor with that profile, read out of it, has the deviation about its fields.
    #[must_use]
    pub fn shows_in(&self, profile: &CpuProfile) -> bool {
        let quirks = &profile.quirks;
        let in_set = |fields: &[FieldId], set: &FieldSet| fields.iter().any(|field| set.contains(*field));
        in_set(&self.fields_missing, &quirks.fields_missing) || in_set(&self.fields_extra, &quirks.fields_extra)
    }

    /// The program that shows it, if it has one.
    #[must_use]
    pub fn program(&self) -> Option<Program> {
        let MinimalCase { start, ops, .. } = self.case.as_ref()?;
        let program = Program { id: self.id.to_string(), start: *start, memory: Vec::new(), ops: ops.clone() };
        (!ops.is_empty()).then_some(program)
    }

    /// Where it is known to show.
    #[must_use]
    pub fn shown_by(&self) -> Option<Implementation> {
        let MinimalCase { version, model, on, .. } = self.case.clone()?;
        let below = |version| Implementation { name: "Bochs".to_owned(), version, model: model.clone(), on: None };
        let on = on.map(|version| Box::new(below(version)));
        Some(Implementation { name: self.implementation.clone(), version, model, on })
    }

    /// Whether it can change what the checks of an entry come to.
    #[must_use]
    pub fn changes_checks(&self) -> bool {
        !(self.omits.is_empty() && self.fields_read.is_empty() && self.msrs_read.is_empty())
    }

    /// The checks that it omits.
    #[must_use]
    pub fn omitted(&self) -> CheckSet {
        self.omits.iter().copied().collect()
    }

    /// What is wrong with it, if something is.
    fn problem(&self) -> Option<Problem> {
        let conditions = || self.when.iter().chain(&self.when_any);
        let reads = || self.fields_read.iter().flat_map(|read| &read.when).chain(&self.earlier);
        let unconditional = || {
            self.after.is_empty()
                && self.when.is_empty()
                && self.when_any.is_empty()
                && self.fields_written.iter().any(|written| written.when.is_empty())
        };
        let about_entries = self.changes_checks()
            || !self.msrs_refused.is_empty()
            || self.msrs_before_guest_state
            || !self.checked_last.is_empty()
            || self.entry.is_some()
            || !self.takes_down.is_empty();
        let on_operand = |condition: &Condition| matches!(condition.subject, Subject::Operand(_));
        let is_instruction = self.instruction.is_some();
        let whole = [is_instruction, self.instead_of.is_some(), !self.results.is_empty()];
        let problems = [
            (Problem::Case, self.case.as_ref().is_some_and(|case| case.ops.is_empty() != self.is_about_fields())),
            (Problem::Unconditional, unconditional()),
            (
                Problem::End,
                reads().any(Condition::is_about_the_end)
                    || about_entries && conditions().any(Condition::is_about_the_end),
            ),
            (Problem::After, !(self.after.is_empty() && self.earlier.is_empty()) && self.fields_written.is_empty()),
            (Problem::Instruction, whole.contains(&true) && whole.contains(&false)),
            (
                Problem::Operand,
                conditions().any(|condition| on_operand(condition) != is_instruction)
                    || self.fields_written.iter().flat_map(|written| &written.when).any(on_operand)
                    || reads().any(on_operand),
            ),
        ];
        problems.into_iter().find_map(|(problem, is_there)| is_there.then_some(problem))
    }
}

/// The number of the first entry of the VM-entry MSR-load area that names one of the MSRs.
fn first_load(vmcs: &Vmcs, memory: &impl ReadMemory, msrs: &[Number]) -> Option<u64> {
    if msrs.is_empty() {
        return None;
    }
    read::loads(vmcs, memory).find(|load| msrs.contains(&Number(load.msr.into()))).map(|load| load.number)
}
