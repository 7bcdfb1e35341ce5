//! Formats of fields and capability MSRs that are more than independent flags. Reserved bits are kept.

use core::fmt;

use bitfield_struct::bitfield;

use crate::field::FieldValue;

/// Implements [`FieldValue`] for a newtype over unsigned bits.
macro_rules! format_of {
    ($($format:ident: $bits:ty, $from:ident, $into:ident;)+) => {$(
        impl FieldValue for $format {
            const BITS: u32 = <$bits>::BITS;
            #[inline]
            fn from_raw(raw: u64) -> Self {
                Self::$from(<$bits as FieldValue>::from_raw(raw))
            }
            #[inline]
            fn to_raw(self) -> u64 {
                self.$into().to_raw()
            }
        }
    )+};
}
format_of! {
    Selector: u16, from_bits, into_bits;
    AccessRights: u32, from_bits, into_bits;
    InterruptionInformation: u32, from_bits, into_bits;
    ExitReason: u32, from_bits, into_bits;
    Eptp: u64, from_bits, into_bits;
    Hlatp: u64, from_bits, into_bits;
    Interruptibility: u32, from_bits_retain, bits;
    PendingDebug: u64, from_bits_retain, bits;
}

/// A segment selector.
#[bitfield(u16)]
#[derive(PartialEq, Eq, Hash)]
pub struct Selector {
    /// Requested privilege level.
    #[bits(2)]
    pub rpl: u8,
    /// Table indicator: 1 for the LDT.
    pub ti: bool,
    /// Index of the descriptor.
    #[bits(13)]
    pub index: u16,
}

/// Access rights of a guest segment register. SDM 25.4.1, Guest Register State.
#[bitfield(u32)]
#[derive(PartialEq, Eq, Hash)]
pub struct AccessRights {
    /// Segment type.
    #[bits(4)]
    pub kind: u8,
    /// S: 0 system, 1 code or data.
    pub code_or_data: bool,
    /// Descriptor privilege level.
    #[bits(2)]
    pub dpl: u8,
    /// P: segment present.
    pub present: bool,
    /// Reserved, bits 11:8.
    #[bits(4)]
    pub reserved_11_8: u8,
    /// AVL: available to software.
    pub available: bool,
    /// L: 64-bit mode (CS only).
    pub long: bool,
    /// D/B: default operation size.
    pub default_big: bool,
    /// G: granularity of the limit.
    pub granularity: bool,
    /// The segment is unusable.
    pub unusable: bool,
    /// Reserved, bits 31:17.
    #[bits(15)]
    pub reserved_31_17: u16,
}

/// VM-entry interruption information (in newer editions: injected-event identification), and the VM-exit and
/// IDT-vectoring fields of the same layout. SDM 25.8.3, VM-Entry Controls for Event Injection.
#[bitfield(u32)]
#[derive(PartialEq, Eq, Hash)]
pub struct InterruptionInformation {
    /// Vector.
    pub vector: u8,
    /// Event type, one of [`event_type`].
    #[bits(3)]
    pub event_type: u8,
    /// An error code is delivered.
    pub deliver_error_code: bool,
    /// Bit 12: reserved in the VM-entry field, NMI unblocking due to IRET in the others.
    pub bit_12: bool,
    /// The exception is nested; exists where IA32_VMX_BASIC\[58\] is 1.
    pub nested_exception: bool,
    /// Reserved, bits 30:14.
    #[bits(17)]
    pub reserved_30_14: u32,
    /// The field holds an event.
    pub valid: bool,
}

/// Event types of [`InterruptionInformation`]. Type 1 is reserved.
pub mod event_type {
    /// External interrupt.
    pub const EXTERNAL_INTERRUPT: u8 = 0;
    /// Reserved.
    pub const RESERVED: u8 = 1;
    /// NMI.
    pub const NMI: u8 = 2;
    /// Hardware exception.
    pub const HARDWARE_EXCEPTION: u8 = 3;
    /// Software interrupt (INT n).
    pub const SOFTWARE_INTERRUPT: u8 = 4;
    /// Privileged software exception (INT1).
    pub const PRIVILEGED_SOFTWARE_EXCEPTION: u8 = 5;
    /// Software exception (INT3, INTO).
    pub const SOFTWARE_EXCEPTION: u8 = 6;
    /// Other event: vector 0 a pending MTF VM exit; with FRED 1 SYSCALL, 2 SYSENTER.
    pub const OTHER_EVENT: u8 = 7;
}

/// The exit-reason field. SDM 25.9.1, Basic VM-Exit Information.
#[bitfield(u32)]
#[derive(PartialEq, Eq, Hash)]
pub struct ExitReason {
    /// Basic exit reason, one of [`exit_reason`].
    pub basic: u16,
    /// Always 0, and bits that are undefined.
    #[bits(9)]
    pub undefined_24_16: u16,
    /// A shadow stack was prematurely busy.
    pub busy_shadow_stack: bool,
    /// A bus lock was asserted.
    pub bus_lock: bool,
    /// The exit was incident to enclave mode.
    pub enclave_mode: bool,
    /// A pending MTF VM exit (SMM VM exits only).
    pub pending_mtf: bool,
    /// The exit came from VMX root operation (SMM VM exits only).
    pub from_root: bool,
    /// Undefined.
    pub undefined_30: bool,
    /// The VM entry failed.
    pub entry_failure: bool,
}

/// Basic exit reasons that the model names. SDM Appendix C (VMX Basic Exit Reasons).
pub mod exit_reason {
    /// CPUID.
    pub const CPUID: u16 = 10;
    /// VMCALL.
    pub const VMCALL: u16 = 18;
    /// VMCLEAR.
    pub const VMCLEAR: u16 = 19;
    /// VMLAUNCH.
    pub const VMLAUNCH: u16 = 20;
    /// VMPTRLD.
    pub const VMPTRLD: u16 = 21;
    /// VMPTRST.
    pub const VMPTRST: u16 = 22;
    /// VMREAD.
    pub const VMREAD: u16 = 23;
    /// VMRESUME.
    pub const VMRESUME: u16 = 24;
    /// VMWRITE.
    pub const VMWRITE: u16 = 25;
    /// VMXOFF.
    pub const VMXOFF: u16 = 26;
    /// VMXON.
    pub const VMXON: u16 = 27;
    /// VM-entry failure due to invalid guest state.
    pub const INVALID_GUEST_STATE: u16 = 33;
    /// VM-entry failure due to MSR loading.
    pub const MSR_LOADING: u16 = 34;
    /// VM-entry failure due to machine-check event.
    pub const MACHINE_CHECK: u16 = 41;
    /// INVEPT.
    pub const INVEPT: u16 = 50;
    /// VMX-preemption timer expired.
    pub const PREEMPTION_TIMER: u16 = 52;
    /// INVVPID.
    pub const INVVPID: u16 = 53;
    /// VMFUNC.
    pub const VMFUNC: u16 = 59;
}

/// Extended-page-table pointer. SDM 25.6.11, Extended-Page-Table Pointer (EPTP).
#[bitfield(u64)]
#[derive(PartialEq, Eq, Hash)]
pub struct Eptp {
    /// Memory type of the EPT paging structures: 0 uncacheable, 6 write-back.
    #[bits(3)]
    pub memory_type: u8,
    /// Length of an EPT page walk, minus 1.
    #[bits(3)]
    pub walk_length_minus_1: u8,
    /// Accessed and dirty flags are used.
    pub accessed_dirty: bool,
    /// Access rights of supervisor shadow-stack pages are enforced.
    pub supervisor_shadow_stack: bool,
    /// Reserved, bits 11:8.
    #[bits(4)]
    pub reserved_11_8: u8,
    /// Bits 63:12 of the address of the EPT PML4 or PML5 table.
    #[bits(52)]
    pub page: u64,
}

/// Hypervisor-managed linear-address translation pointer. SDM 25.6.19, HLAT.
#[bitfield(u64)]
#[derive(PartialEq, Eq, Hash)]
pub struct Hlatp {
    /// Reserved, bits 2:0.
    #[bits(3)]
    pub reserved_2_0: u8,
    /// PWT for the first structure.
    pub write_through: bool,
    /// PCD for the first structure.
    pub cache_disable: bool,
    /// Reserved, bits 11:5.
    #[bits(7)]
    pub reserved_11_5: u8,
    /// Bits 63:12 of the guest-physical address of the first structure.
    #[bits(52)]
    pub page: u64,
}

/// The first dword of a VMXON region or VMCS region. SDM 25.2, Format of the VMCS Region.
#[bitfield(u32)]
#[derive(PartialEq, Eq, Hash)]
pub struct RegionHeader {
    /// VMCS revision identifier.
    #[bits(31)]
    pub revision: u32,
    /// Shadow-VMCS indicator.
    pub shadow: bool,
}

bitflags::bitflags! {
    /// Guest interruptibility state. SDM 25.4.2, Guest Non-Register State.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Interruptibility: u32 {
        /// Blocking by STI, bit 0.
        const STI = 1 << 0;
        /// Blocking by MOV SS, bit 1.
        const MOV_SS = 1 << 1;
        /// Blocking by SMI, bit 2.
        const SMI = 1 << 2;
        /// Blocking by NMI, bit 3.
        const NMI = 1 << 3;
        /// Enclave interruption, bit 4.
        const ENCLAVE = 1 << 4;
        const _ = !0;
    }

    /// Guest pending debug exceptions. SDM 25.4.2, Guest Non-Register State.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct PendingDebug: u64 {
        /// B0, bit 0: condition of breakpoint 0 met.
        const B0 = 1 << 0;
        /// B1, bit 1.
        const B1 = 1 << 1;
        /// B2, bit 2.
        const B2 = 1 << 2;
        /// B3, bit 3.
        const B3 = 1 << 3;
        /// BLD, bit 11: a bus lock was asserted.
        const BLD = 1 << 11;
        /// Enabled breakpoint, bit 12.
        const ENABLED_BREAKPOINT = 1 << 12;
        /// BS, bit 14: a single-step exception is pending.
        const BS = 1 << 14;
        /// RTM, bit 16: the debug event came inside a transactional region.
        const RTM = 1 << 16;
        const _ = !0;
    }
}

/// Guest activity state, an open code. SDM 25.4.2, Guest Non-Register State.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ActivityState(pub u32);

impl ActivityState {
    /// Executing instructions.
    pub const ACTIVE: Self = Self(0);
    /// Halted by HLT.
    pub const HLT: Self = Self(1);
    /// Shut down, as after a triple fault.
    pub const SHUTDOWN: Self = Self(2);
    /// Waiting for a start-up IPI.
    pub const WAIT_FOR_SIPI: Self = Self(3);
}

impl FieldValue for ActivityState {
    const BITS: u32 = 32;
    #[inline]
    fn from_raw(raw: u64) -> Self {
        Self(u32::from_raw(raw))
    }
    #[inline]
    fn to_raw(self) -> u64 {
        u64::from(self.0)
    }
}

/// A VM-instruction error number, an open code. SDM 31.4, VM Instruction Error Numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstructionError(pub u32);

impl InstructionError {
    /// Numbers and meanings, in the SDM's order. 14, 21 and 27 are unassigned.
    pub const MEANINGS: &'static [(u32, &'static str)] = &[
        (1, "VMCALL executed in VMX root operation"),
        (2, "VMCLEAR with invalid physical address"),
        (3, "VMCLEAR with VMXON pointer"),
        (4, "VMLAUNCH with non-clear VMCS"),
        (5, "VMRESUME with non-launched VMCS"),
        (6, "VMRESUME after VMXOFF"),
        (7, "VM entry with invalid control field(s)"),
        (8, "VM entry with invalid host-state field(s)"),
        (9, "VMPTRLD with invalid physical address"),
        (10, "VMPTRLD with VMXON pointer"),
        (11, "VMPTRLD with incorrect VMCS revision identifier"),
        (12, "VMREAD or VMWRITE from/to unsupported VMCS component"),
        (13, "VMWRITE to read-only VMCS component"),
        (15, "VMXON executed in VMX root operation"),
        (16, "VM entry with invalid executive-VMCS pointer"),
        (17, "VM entry with non-launched executive VMCS"),
        (18, "VM entry with executive-VMCS pointer not VMXON pointer"),
        (19, "VMCALL with non-clear VMCS"),
        (20, "VMCALL with invalid VM-exit control fields"),
        (22, "VMCALL with incorrect MSEG revision identifier"),
        (23, "VMXOFF under dual-monitor treatment of SMIs and SMM"),
        (24, "VMCALL with invalid SMM-monitor features"),
        (25, "VM entry with invalid VM-execution control fields in executive VMCS"),
        (26, "VM entry with events blocked by MOV SS"),
        (28, "invalid operand to INVEPT or INVVPID"),
    ];

    /// The number's meaning, if the SDM assigns one.
    #[must_use]
    pub fn meaning(self) -> Option<&'static str> {
        Self::MEANINGS.iter().find(|(n, _)| *n == self.0).map(|(_, meaning)| *meaning)
    }
}

impl FieldValue for InstructionError {
    const BITS: u32 = 32;
    #[inline]
    fn from_raw(raw: u64) -> Self {
        Self(u32::from_raw(raw))
    }
    #[inline]
    fn to_raw(self) -> u64 {
        u64::from(self.0)
    }
}

impl fmt::Display for InstructionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.meaning() {
            Some(meaning) => write!(f, "error {}: {meaning}", self.0),
            None => write!(f, "error {}", self.0),
        }
    }
}
