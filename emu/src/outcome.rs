//! How an instruction can end other than by success.

use core::fmt;

use vmcs_model::formats::InstructionError;
use vmcs_model::{Exception, Outcome};

/// Why an instruction did not succeed. SDM 31.2, Conventions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InstructionFailure {
    /// VMfailInvalid: CF is 1, no error number is stored.
    Invalid,
    /// VMfailValid: ZF is 1, the VM-instruction error field of the current VMCS holds the number.
    Valid(InstructionError),
    /// The instruction raised an exception.
    Fault(Exception),
    /// The instruction caused a VM exit, which has been carried out: in VMX non-root operation one to the host-state
    /// area, for VMCALL in VMX root operation an SMM VM exit.
    Exit {
        /// Basic exit reason.
        reason: u16,
    },
    /// A VMX abort has shut the processor down, so that it executes no instruction. SDM 28.7, VMX Aborts.
    Shutdown,
}

impl InstructionFailure {
    /// `#UD`.
    pub const UNDEFINED_OPCODE: Self = Self::Fault(Exception::UD);
    /// `#GP(0)`.
    pub const GENERAL_PROTECTION: Self = Self::Fault(Exception::GP0);

    /// VMfailValid with that error number.
    #[must_use]
    pub const fn valid(error: u32) -> Self {
        Self::Valid(InstructionError(error))
    }

    /// What the C intrinsics return: 1 if a status is available in the VM-instruction error field, 2 if none is.
    /// `None` where no intrinsic would return.
    #[must_use]
    pub const fn status(self) -> Option<u8> {
        match self {
            Self::Valid(_) => Some(1),
            Self::Invalid => Some(2),
            Self::Fault(_) | Self::Exit { .. } | Self::Shutdown => None,
        }
    }

    /// The same as an outcome of the model, `None` after a VMX abort.
    #[must_use]
    pub const fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Invalid => Some(Outcome::FailInvalid),
            Self::Valid(error) => Some(Outcome::FailValid(error)),
            Self::Fault(exception) => Some(Outcome::Fault(exception)),
            Self::Exit { reason } => Some(Outcome::Exited { reason }),
            Self::Shutdown => None,
        }
    }
}

impl fmt::Display for InstructionFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome() {
            Some(outcome) => outcome.fmt(f),
            None => f.write_str("shutdown after a VMX abort"),
        }
    }
}

impl core::error::Error for InstructionFailure {}

/// How VMLAUNCH or VMRESUME ends once it has got beyond the checks that make the instruction fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryResult {
    /// The entry is complete. The processor is in VMX non-root operation, or in VMX root operation if the entry
    /// returned from SMM to it.
    Entered,
    /// Guest state was being loaded, and the host state was loaded back. SDM 27.8, VM-Entry Failures During or After
    /// Loading Guest State.
    Failed {
        /// Basic exit reason: 33 invalid guest state, 34 MSR loading, 41 machine check.
        reason: u16,
        /// Exit qualification.
        qualification: u64,
    },
    /// Loading the host state back ended in a VMX abort.
    Aborted(VmxAbort),
}

impl EntryResult {
    /// The same as an outcome of the model, `None` after a VMX abort.
    #[must_use]
    pub const fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Entered => Some(Outcome::Entered),
            Self::Failed { reason, qualification } => Some(Outcome::EntryFailed { reason, qualification }),
            Self::Aborted(_) => None,
        }
    }
}

/// A VMX abort: a VM exit met a problem that leaves the processor in shutdown. SDM 28.7, VMX Aborts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum VmxAbort {
    /// Saving guest MSRs failed.
    SavingGuestMsrs = 1,
    /// The host page-directory-pointer-table entries failed their check.
    HostPdptes = 2,
    /// Loading host MSRs failed.
    LoadingHostMsrs = 4,
    /// The processor was in IA-32e mode and “host address-space size” is 0.
    HostAddressSpaceSize = 6,
}

impl VmxAbort {
    /// The VMX-abort indicator, stored at byte offset 4 of the VMCS region.
    #[must_use]
    pub const fn indicator(self) -> u32 {
        self as u32
    }
}
