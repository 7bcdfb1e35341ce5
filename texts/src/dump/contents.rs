//! The contents of a dump as values.

use std::fmt;

use vmcs_model::Outcome;
use vmcs_model::checks::CheckId;
use vmcs_model::field::{self, FieldId};
use vmcs_model::partial::PartialVmcs;

/// What a log shows of one entry: a dump, or only a line that says how it ended.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    /// Who printed it.
    pub format: &'static str,
    /// The line of the log in which it begins, counted from 1.
    pub line: usize,
    /// The fields that it shows.
    pub vmcs: PartialVmcs,
    /// Entries of the VM-entry MSR-load area that it shows.
    pub msr_load: Vec<MsrLoadEntry>,
    /// How the entry ended, as far as the log says so.
    pub reported: Option<Reported>,
    /// What the program that printed it says to be the cause.
    pub named: Vec<Named>,
    /// Values that are shown, but cannot be read, so that their fields are unknown.
    pub damage: Vec<Damage>,
    /// Of the values in [`Self::damage`] those of which digits may be missing, as they stand: nothing says that any are.
    pub doubtful: Vec<(FieldId, u64)>,
    /// Two dumps are printed into each other: what they do not agree in is unknown, also how their entries ended.
    pub mixed: bool,
    /// What of the dump is stale, derived or missing.
    pub notes: Vec<String>,
}

/// An entry of the VM-entry MSR-load area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsrLoadEntry {
    /// Its number, counted from 1 as in the exit qualification.
    pub number: u32,
    /// The index of the MSR.
    pub index: u32,
    /// The value to be loaded.
    pub value: u64,
}

/// A cause that the program names which printed the log, such as VirtualBox' diagnostic or KVM's tracepoint of a failed
/// consistency check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The check that it means, if it is one of the SDM's.
    pub check: Option<CheckId>,
    /// The program's words.
    pub words: String,
}

/// A value that is shown, but cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The field, which stays unknown.
    pub field: FieldId,
    /// The line of the log, counted from 1.
    pub line: usize,
    /// What is wrong with the value, such as "cut off" or "contradicted by line 7".
    pub why: String,
}

/// How an entry ended, according to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// In one of the ways in which an entry can end.
    Outcome {
        /// The outcome.
        outcome: Outcome,
        /// The log gives the exit qualification, too, or the outcome has none.
        qualified: bool,
    },
    /// It failed with VMfail, and no VM-instruction error was stored: KVM's "hardware error 0x0". That is VMfailInvalid, or
    /// the hypervisor below stores no number.
    FailWithoutNumber,
    /// An AMD processor refused its VMCB: VMEXIT_INVALID, printed as 0xffffffff. No VMCS is involved.
    Svm,
}

impl Reported {
    /// What the number means that KVM hands to user space: an exit reason, a VM-instruction error, or one of the numbers that
    /// are neither.
    pub(super) fn hardware_error(number: u64, qualification: Option<u64>) -> Option<Self> {
        let outcome = match number {
            0 => return Some(Self::FailWithoutNumber),
            0xFFFF_FFFF | u64::MAX => return Some(Self::Svm),
            #[allow(clippy::cast_possible_truncation, reason = "the basic exit reason")]
            _ if number >> 31 == 1 => {
                Outcome::EntryFailed { reason: number as u16, qualification: qualification.unwrap_or(0) }
            }
            #[allow(clippy::cast_possible_truncation, reason = "at most 28")]
            1..=28 => Outcome::fail_valid(number as u32),
            _ => return None,
        };
        Some(Self::Outcome { outcome, qualified: qualification.is_some() || matches!(outcome, Outcome::FailValid(_)) })
    }

    /// What the exit reason in a VMCS says, if it is that of a VM entry that failed.
    #[must_use]
    pub fn of_fields(vmcs: &PartialVmcs) -> Option<Self> {
        let reason = vmcs.raw(field::EXIT_REASON.id()).filter(|reason| reason >> 31 == 1)?;
        Self::hardware_error(reason, vmcs.raw(field::EXIT_QUALIFICATION.id()))
    }

    /// The outcome, if the log tells it.
    #[must_use]
    pub const fn outcome(&self) -> Option<Outcome> {
        match *self {
            Self::Outcome { outcome, .. } => Some(outcome),
            Self::FailWithoutNumber | Self::Svm => None,
        }
    }

    /// Whether an entry with that outcome is reported so, as far as is known.
    #[must_use]
    pub fn is(&self, outcome: Outcome) -> bool {
        match (*self, outcome) {
            (Self::Svm, _) => false,
            (Self::FailWithoutNumber, outcome) => matches!(outcome, Outcome::FailInvalid | Outcome::FailValid(_)),
            (
                Self::Outcome { outcome: Outcome::EntryFailed { reason, .. }, qualified: false },
                Outcome::EntryFailed { reason: other, .. },
            ) => reason == other,
            (Self::Outcome { outcome: reported, .. }, outcome) => reported == outcome,
        }
    }
}

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outcome { outcome, .. } => outcome.fmt(f),
            Self::FailWithoutNumber => f.write_str("VMfail without a VM-instruction error"),
            Self::Svm => f.write_str("VMEXIT_INVALID of an AMD processor"),
        }
    }
}

impl Dump {
    pub(super) fn new(format: &'static str) -> Self {
        Self { format, ..Self::default() }
    }

    /// How many fields are known.
    #[must_use]
    pub fn known(&self) -> usize {
        FieldId::all().filter(|field| self.vmcs.raw(*field).is_some()).count()
    }

    /// Whether it is about a VM entry that is known to have failed.
    #[must_use]
    pub const fn failed(&self) -> bool {
        self.reported.is_some()
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}
