//! Cases, observations, and the session, which holds what all cases of a run share.

use vmcs_wire::program::ListLengths;
use vmcs_wire::session::VolatileArea;
use vmcs_wire::{Op, Start, StepResult};

/// A short program of VMX instructions, and the state in which it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Case {
    /// State of the processor before the first operation.
    pub start: Start,
    /// The program, at most 65,535 operations.
    pub ops: Vec<Op>,
    /// It may take the machine down: a target that loses others with it executes it by itself.
    pub perilous: bool,
}

/// What executing a [`Case`] showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// One result per operation if the case was completed. If not, the results of the operations before the one that
    /// brought the machine down: operation number `steps.len()` is the culprit.
    pub steps: Vec<StepResult<Vec<u64>>>,
    /// How the case ended.
    pub end: End,
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The probe executed it to its end.
    Completed,
    /// The machine stopped: a triple fault outside of a guest, for example, or an emulator that gave up.
    Crashed {
        /// The last words of the machine.
        detail: String,
    },
    /// The machine was still running and did not answer: a VMX abort, a guest that never exits.
    Hung,
}

/// What all cases of a run share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// VMCS images that [`Op::WriteImage`] names by index: encodings and values, in the order of the VMWRITEs.
    pub images: Vec<Vec<(u32, u64)>>,
    /// Encodings of the fields that are read after each exit; 0 stands for a field that VMREAD rejects.
    pub observed_fields: Vec<u32>,
    /// Encodings of the fields that [`Op::Observe`] always reads: what entries and exits report.
    pub information_fields: Vec<u32>,
    /// Encodings of the fields that [`Op::Observe`] reads if it is told to.
    pub state_fields: Vec<u32>,
    /// Areas of [`vmcs_wire::layout::ARENA`] that the processor may write to by way of VMCS pointers: after a case that came
    /// to a VM exit with a VMCS that says so they are zeroed, like the pages that operations touch.
    pub volatile: Vec<VolatileArea>,
}

impl Session {
    /// How long its lists of fields are.
    #[must_use]
    pub fn list_lengths(&self) -> ListLengths {
        ListLengths {
            observed: self.observed_fields.len(),
            information: self.information_fields.len(),
            state: self.state_fields.len(),
        }
    }

    /// Encodings of the fields that [`Op::Observe`] reads, in its order.
    pub fn fields_observed(&self, state: bool) -> impl Iterator<Item = u32> + '_ {
        let more = if state { &self.state_fields[..] } else { &[] };
        self.information_fields.iter().chain(more).copied()
    }
}
