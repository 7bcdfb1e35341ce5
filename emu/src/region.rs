//! What the processor keeps of one VMCS region.

use vmcs_model::{LaunchState, Vmcs};

/// What the processor keeps of the VMCS region at one physical address: the VMCS data, and the state of the VMCS. SDM
/// 25.1, Overview, and 25.2, Format of the VMCS Region.
///
/// A real processor keeps the data in the region or in itself, in a format of its own. Here they are never in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmcsRegion {
    /// The fields, 0 at first. VMCLEAR does not change them.
    pub fields: Vmcs,
    /// The launch state: clear after VMCLEAR, launched after a VMLAUNCH that entered the guest.
    pub launch_state: LaunchState,
    /// Whether the VMCS is active: VMPTRLD has loaded it, and neither VMCLEAR of it nor VMXOFF has come since.
    pub active: bool,
    /// The shadow-VMCS indicator (bit 31 of the region's first dword) that the last VMPTRLD found in memory.
    pub shadow: bool,
}
