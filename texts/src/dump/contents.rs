//! The contents of a dump as values.

use vmcs_model::Outcome;
use vmcs_model::field::FieldId;
use vmcs_model::partial::PartialVmcs;

/// A dump as read.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    /// Who printed it.
    pub format: &'static str,
    /// The fields that it shows.
    pub vmcs: PartialVmcs,
    /// How the entry ended, as far as the log says so.
    pub reported: Option<Reported>,
    /// What of the dump is stale, derived or unreadable.
    pub notes: Vec<String>,
}

/// How an entry ended, according to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// The outcome.
    pub outcome: Outcome,
    /// The log gives the exit qualification, too.
    pub qualified: bool,
}

impl Reported {
    /// What the number means that KVM hands to user space: an exit reason, or a VM-instruction error.
    pub(super) fn hardware_error(number: u64, qualification: Option<u64>) -> Option<Self> {
        let outcome = match number {
            #[allow(clippy::cast_possible_truncation, reason = "the basic exit reason")]
            _ if number >> 31 == 1 => {
                Outcome::EntryFailed { reason: number as u16, qualification: qualification.unwrap_or(0) }
            }
            #[allow(clippy::cast_possible_truncation, reason = "at most 28")]
            1..=28 => Outcome::fail_valid(number as u32),
            _ => return None,
        };
        Some(Self { outcome, qualified: qualification.is_some() || matches!(outcome, Outcome::FailValid(_)) })
    }

    /// Whether that outcome is the reported one, as far as is known.
    #[must_use]
    pub fn is(&self, outcome: Outcome) -> bool {
        match (self.outcome, outcome) {
            (Outcome::EntryFailed { reason, .. }, Outcome::EntryFailed { reason: other, .. }) if !self.qualified => {
                reason == other
            }
            (reported, outcome) => reported == outcome,
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

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Takes a value that was read. A value that does not fit its field is not taken, because it was misread.
    pub(super) fn take(&mut self, field: FieldId, value: Option<u64>) {
        let mask = field.info().width().mask();
        match value.filter(|value| value & !mask == 0) {
            Some(value) => self.vmcs.set_raw(field, value),
            None => self.note(format!("the value of {} cannot be read: taken as unknown", field.info().name)),
        }
    }
}
