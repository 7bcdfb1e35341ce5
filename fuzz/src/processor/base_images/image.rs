//! The type of a valid image that cases start from.

use vmcs_case::probe_host;
use vmcs_model::memory::ZeroMemory;
use vmcs_model::{Capabilities, EntryAttempt, Vmcs};

use crate::processor::memory::CaseMemory;

/// An image to start from.
#[derive(Clone, Debug)]
pub struct BaseImage {
    /// What is special about it.
    pub name: &'static str,
    /// All fields.
    pub vmcs: Vmcs,
    /// What its pointers need to find in memory: qwords by address.
    pub memory: Vec<(u64, u64)>,
}

impl BaseImage {
    /// Whether the processor can enter it.
    pub(crate) fn is_valid(&self, capabilities: &Capabilities) -> bool {
        let memory = CaseMemory::new(capabilities, &self.memory, &[]);
        EntryAttempt::vmlaunch(&probe_host(), capabilities).on(&self.vmcs, &memory).violations().is_empty()
    }
}

/// Whether an image is valid on memory that is zero, executed by a 64-bit host.
pub(super) fn is_valid(capabilities: &Capabilities, vmcs: &Vmcs) -> bool {
    EntryAttempt::vmlaunch(&probe_host(), capabilities).on(vmcs, &ZeroMemory).violations().is_empty()
}
