//! The data of one VMCS.

use vmcs_model::{LaunchState, Vmcs};

/// What the processor keeps of the VMCS at one physical address. SDM 25.1, Overview, and 25.2, Format of the VMCS
/// VmcsRegion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmcsRegion {
    /// The fields. VMCLEAR keeps them.
    pub fields: Vmcs,
    /// Clear after VMCLEAR, launched after a VMLAUNCH that entered.
    pub launch_state: LaunchState,
    /// Active: VMPTRLD has loaded it, and neither VMCLEAR nor VMXOFF has come since.
    pub active: bool,
    /// The shadow-VMCS indicator that the last VMPTRLD found in memory.
    pub shadow: bool,
}
