//! Failures of KVM and of the virtual machine, as opposed to results of cases.

use std::error::Error;

use vmcs_wire::codec::DecodeError;

use crate::refusal::Refusal;

/// KVM did not do what a working KVM does. What a case does to the machine is never one of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvmError {
    /// This host cannot execute VMX instructions in a virtual machine.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A request to KVM failed.
    #[error("KVM: {action}")]
    Request {
        /// What was asked of it.
        action: &'static str,
        /// What it answered.
        source: std::io::Error,
    },
    /// The host gives no memory for the virtual machine.
    #[error("there is no memory for the virtual machine")]
    Memory(#[source] Box<dyn Error + Send + Sync>),
    /// The probe ended before it took any work.
    #[error("the probe ended before it was ready: {0}")]
    DiedAtStart(String),
    /// The batch is not one.
    #[error("the batch does not decode")]
    BadBatch(#[source] DecodeError),
}

impl KvmError {
    /// For `map_err`: the host gives no memory.
    pub(crate) fn memory(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Memory(Box::new(error))
    }

    /// For `map_err`: says what was asked of KVM.
    pub(crate) fn request(action: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |error| Self::Request { action, source: error.into() }
    }
}
