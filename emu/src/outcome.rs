//! How an instruction ends: how it can fail, how VMLAUNCH and VMRESUME end when they do not fail, and VMX aborts.

use core::fmt;

use vmcs_model::formats::InstructionError;
use vmcs_model::{Exception, Outcome};

/// How an instruction failed. SDM 31.2, Conventions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InstructionFailure {
    /// VMfailInvalid: CF is 1, and no error number is stored, because there is no current VMCS to store it in.
    Invalid,
    /// VMfailValid: ZF is 1, and the VM-instruction error field of the current VMCS holds the error number.
    Valid(InstructionError),
    /// The instruction raised an exception. It is not delivered: the processor is as before the instruction.
    Fault(Exception),
    /// The instruction caused a VM exit, and the exit has been made. In VMX non-root operation it led to the host; a
    /// VMCALL in VMX root operation led to SMM.
    Exit {
        /// Basic exit reason.
        reason: u16,
    },
    /// A VMX abort has shut the processor down, now or earlier, so that it executes no instruction. SDM 28.7, VMX
    /// Aborts.
    Shutdown,
}

impl InstructionFailure {
    /// The invalid-opcode exception, `#UD`.
    pub const UNDEFINED_OPCODE: Self = Self::Fault(Exception::UD);
    /// The general-protection exception with the error code 0, `#GP(0)`.
    pub const GENERAL_PROTECTION: Self = Self::Fault(Exception::GP0);

    /// VMfailValid with that error number.
    #[must_use]
    pub const fn valid(error: u32) -> Self {
        Self::Valid(InstructionError(error))
    }

    /// What a C intrinsic would return: 1 if an error number is available in the VM-instruction error field, 2 if none
    /// is. `None` if the intrinsic would not return, because control goes elsewhere.
    #[must_use]
    pub const fn status(self) -> Option<u8> {
        match self {
            Self::Valid(_) => Some(1),
            Self::Invalid => Some(2),
            Self::Fault(_) | Self::Exit { .. } | Self::Shutdown => None,
        }
    }

    /// The same as an outcome of the model; `None` for a processor that is shut down, about which the model says
    /// nothing.
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

/// How VMLAUNCH or VMRESUME ends once it has passed the checks that make the instruction fail, those on controls and on
/// host state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryResult {
    /// The entry is complete. The processor is in VMX non-root operation, that is, in the guest; or in VMX root
    /// operation, if the entry returned from SMM to there.
    Entered,
    /// The entry failed while guest state was checked or loaded. Host state has been loaded, as by a VM exit. SDM 27.8,
    /// VM-Entry Failures During or After Loading Guest State.
    Failed {
        /// Basic exit reason: 33 for invalid guest state, 34 for MSR loading, 41 for a machine check. In the VMCS, bit 31
        /// of the exit reason is 1 as well.
        reason: u16,
        /// Exit qualification: for MSR loading the number of the entry in the area, counted from 1; for invalid guest
        /// state 2 to 4 for three of its causes, else 0.
        qualification: u64,
    },
    /// The entry failed as in [`Self::Failed`], and then the loading of host state ended in a VMX abort, which has shut the
    /// processor down. SDM 28.7, VMX Aborts.
    Aborted(VmxAbort),
}

impl EntryResult {
    /// The same as an outcome of the model; `None` after a VMX abort, about which the model says nothing.
    #[must_use]
    pub const fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Entered => Some(Outcome::Entered),
            Self::Failed { reason, qualification } => Some(Outcome::EntryFailed { reason, qualification }),
            Self::Aborted(_) => None,
        }
    }
}

/// Why a VM exit ended in a VMX abort, which shuts the processor down. SDM 28.7, VMX Aborts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum VmxAbort {
    /// An MSR of the VM-exit MSR-store area could not be stored.
    SavingGuestMsrs = 1,
    /// The page-directory-pointer-table entries of a host with PAE paging are not valid.
    HostPdptes = 2,
    /// An MSR of the VM-exit MSR-load area could not be loaded.
    LoadingHostMsrs = 4,
    /// The processor was in IA-32e mode and “host address-space size” is 0.
    HostAddressSpaceSize = 6,
}

impl VmxAbort {
    /// The VMX-abort indicator, which the processor stores at byte offset 4 of the VMCS region.
    #[must_use]
    pub const fn indicator(self) -> u32 {
        self as u32
    }
}
