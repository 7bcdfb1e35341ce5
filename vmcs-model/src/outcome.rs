//! How a VMX instruction can end.

use core::fmt;

use crate::formats::{InstructionError, exit_reason};

/// An exception raised instead of completing an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Exception {
    /// Vector, 0-31.
    pub vector: u8,
    /// Error code, for the vectors that push one.
    pub error_code: Option<u32>,
}

impl Exception {
    /// Invalid opcode.
    pub const UD: Self = Self { vector: 6, error_code: None };
    /// General protection with error code 0.
    pub const GP0: Self = Self { vector: 13, error_code: Some(0) };
    const MNEMONICS: [&'static str; 22] = [
        "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "#9", "#TS", "#NP", "#SS", "#GP", "#PF", "#15",
        "#MF", "#AC", "#MC", "#XM", "#VE", "#CP",
    ];
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::MNEMONICS.get(usize::from(self.vector)) {
            Some(mnemonic) => f.write_str(mnemonic)?,
            None => write!(f, "#{}", self.vector)?,
        }
        match self.error_code {
            Some(code) => write!(f, "({code:X})"),
            None => Ok(()),
        }
    }
}

/// How VMLAUNCH or VMRESUME ends. `Display` writes the form that files and reports use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The instruction raised an exception: `#UD`, `#GP(0)`.
    Fault(Exception),
    /// The instruction was executed in VMX non-root operation and caused a VM exit: `Exited(20)`.
    Exited {
        /// Basic exit reason.
        reason: u16,
    },
    /// VMfailInvalid: CF is set, no status is stored.
    FailInvalid,
    /// VMfailValid: ZF is set, the VM-instruction error field holds the number: `VMfailValid(7)`.
    FailValid(InstructionError),
    /// Guest state was being loaded and the host state was loaded back: `EntryFailed(33, 4)`.
    EntryFailed {
        /// Basic exit reason: 33 guest state, 34 MSR loading, 41 machine check.
        reason: u16,
        /// Exit qualification.
        qualification: u64,
    },
    /// The entry is complete: the processor is in VMX non-root operation.
    Entered,
}

impl Outcome {
    /// A VM-entry failure due to a machine check.
    pub const MACHINE_CHECK: Self = Self::EntryFailed { reason: exit_reason::MACHINE_CHECK, qualification: 0 };

    /// VMfailValid with that number.
    #[must_use]
    pub const fn fail_valid(error: u32) -> Self {
        Self::FailValid(InstructionError(error))
    }

    /// An entry failure due to invalid guest state.
    #[must_use]
    pub const fn invalid_guest_state(qualification: u64) -> Self {
        Self::EntryFailed { reason: exit_reason::INVALID_GUEST_STATE, qualification }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(exception) => exception.fmt(f),
            Self::Exited { reason } => write!(f, "Exited({reason})"),
            Self::FailInvalid => f.write_str("VMfailInvalid"),
            Self::FailValid(InstructionError(n)) => write!(f, "VMfailValid({n})"),
            Self::EntryFailed { reason, qualification } => write!(f, "EntryFailed({reason}, {qualification})"),
            Self::Entered => f.write_str("Entered"),
        }
    }
}
