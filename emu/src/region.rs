//! The VMCS of one region: its fields, its launch state, and whether it is active.

use vmcs_model::{LaunchState, Vmcs};

/// The VMCS whose region is at one physical address: the VMCS data, and the state of the VMCS. SDM 25.1, Overview, and
/// 25.2, Format of the VMCS Region.
///
/// A real processor keeps the data in the region or in itself, in a format of its own. The emulator never writes them to the
/// region.
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
