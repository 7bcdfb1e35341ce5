//! The state of the logical processor that executes a VMX instruction.

use crate::registers::{Cr0, Cr4, Efer, Rflags};

/// The value of the VMXON pointer and of the current-VMCS pointer while they point to no region: FFFFFFFF_FFFFFFFFH.
pub const NO_POINTER: u64 = u64::MAX;

/// Whether the logical processor is in VMX operation. SDM 24.3, Introduction to VMX Operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VmxOperation {
    /// Outside VMX operation.
    Outside,
    /// VMX root operation.
    Root,
    /// VMX non-root operation.
    NonRoot,
}

/// The launch state of a VMCS. SDM 25.1, Overview.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LaunchState {
    /// The launch state is clear, as VMCLEAR leaves it: VMLAUNCH can use the VMCS.
    #[default]
    Clear,
    /// The launch state is launched, as a completed VMLAUNCH leaves it: VMRESUME can use the VMCS.
    Launched,
    /// The VMCS was launched, and then VMXOFF and VMXON were executed without a VMCLEAR before them. The SDM leaves open
    /// whether VMRESUME ends in error 6, in error 5 or in an entry.
    LaunchedBeforeVmxoff,
}

/// What an entry that returns from SMM needs to know of the executive VMCS. SDM 32.15.4, VM Entries that Return from
/// SMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutiveVmcs {
    /// The launch state of the executive VMCS is launched.
    pub launched: bool,
    /// The VM-execution controls of the executive VMCS pass their checks.
    pub controls_valid: bool,
}

/// The logical processor as a VMX instruction finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuState {
    /// Control register CR0.
    pub cr0: Cr0,
    /// Control register CR4.
    pub cr4: Cr4,
    /// The IA32_EFER MSR.
    pub efer: Efer,
    /// The RFLAGS register.
    pub rflags: Rflags,
    /// CS.L: with EFER.LMA, whether the code is 64-bit rather than compatibility-mode code.
    pub cs_l: bool,
    /// Current privilege level, 0-3.
    pub cpl: u8,
    /// Whether the processor is in VMX operation, and whether in root or non-root operation.
    pub vmx: VmxOperation,
    /// Events are blocked by MOV SS.
    pub mov_ss_blocking: bool,
    /// The processor is in system-management mode.
    pub smm: bool,
    /// The processor is in SEAM VMX root operation.
    pub seam: bool,
    /// IA32_RTIT_CTL.TraceEn is 1.
    pub trace_enabled: bool,
    /// The VMXON pointer; meaningful in VMX operation.
    pub vmxon_pointer: u64,
    /// The current-VMCS pointer, [`NO_POINTER`] if there is no current VMCS.
    pub vmcs_pointer: u64,
    /// What is known of the executive VMCS, `None` if nothing is. Only an entry that returns from SMM depends on it.
    pub executive: Option<ExecutiveVmcs>,
}

impl CpuState {
    /// A 64-bit host at CPL 0 in VMX root operation, with the control registers that a host-state area commonly holds and
    /// made-up pointers: VMXON region at 10000H, current VMCS at 11000H.
    #[must_use]
    pub const fn host_64() -> Self {
        Self {
            cr0: Cr0::from_bits_retain(0x8001_0033),
            cr4: Cr4::from_bits_retain(0x2620),
            efer: Efer::from_bits_retain(0x500),
            rflags: Rflags::FIXED1,
            cs_l: true,
            cpl: 0,
            vmx: VmxOperation::Root,
            mov_ss_blocking: false,
            smm: false,
            seam: false,
            trace_enabled: false,
            vmxon_pointer: 0x1_0000,
            vmcs_pointer: 0x1_1000,
            executive: None,
        }
    }

    /// Compatibility mode: LMA is 1 and CS.L is 0.
    #[must_use]
    pub const fn compatibility_mode(&self) -> bool {
        self.efer.contains(Efer::LMA) && !self.cs_l
    }
}
