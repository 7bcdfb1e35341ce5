//! The formats of fields that have parts, such as a type or an address, and not only independent flags. Reserved bits are
//! kept.
//!
//! Field and bit positions are those of SDM Vol. 3C, 25.4, Guest-State Area, to 25.9, VM-Exit Information Fields.

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

/// A segment selector: bits 1:0 RPL, bit 2 TI, bits 15:3 index. SDM Vol. 3A, 3.4.2, Segment Selectors.
#[bitfield(u16)]
#[derive(PartialEq, Eq, Hash)]
pub struct Selector {
    /// Bits 1:0, RPL: the requested privilege level.
    #[bits(2)]
    pub rpl: u8,
    /// Bit 2, TI: the table indicator, 0 for the GDT and 1 for the LDT.
    pub ti: bool,
    /// Bits 15:3: the index of the descriptor in its table.
    #[bits(13)]
    pub index: u16,
}

/// Access rights of a guest segment register. SDM 25.4.1, Guest Register State.
#[bitfield(u32)]
#[derive(PartialEq, Eq, Hash)]
pub struct AccessRights {
    /// Bits 3:0: the segment type.
    #[bits(4)]
    pub kind: u8,
    /// Bit 4, S: 0 for a system segment, 1 for code or data.
    pub code_or_data: bool,
    /// Bits 6:5, DPL: the descriptor privilege level.
    #[bits(2)]
    pub dpl: u8,
    /// Bit 7, P: the segment is present.
    pub present: bool,
    /// Reserved, bits 11:8.
    #[bits(4)]
    pub reserved_11_8: u8,
    /// Bit 12, AVL: available to software.
    pub available: bool,
    /// Bit 13, L: the code is 64-bit code (CS only).
    pub long: bool,
    /// Bit 14, D/B: the default operation size, 0 for 16 bits and 1 for 32 bits.
    pub default_big: bool,
    /// Bit 15, G: the granularity of the limit, 0 for bytes and 1 for 4 KBytes.
    pub granularity: bool,
    /// Bit 16: the register is unusable.
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
    /// Bits 7:0: the vector of the interrupt or exception.
    pub vector: u8,
    /// Bits 10:8: the event type, one of [`event_type`].
    #[bits(3)]
    pub event_type: u8,
    /// Bit 11: an error code is delivered with the event.
    pub deliver_error_code: bool,
    /// Bit 12: reserved in the VM-entry field, NMI unblocking due to IRET in the others.
    pub bit_12: bool,
    /// Bit 13: the exception is nested. The bit is reserved unless IA32_VMX_BASIC\[58\] is 1.
    pub nested_exception: bool,
    /// Reserved, bits 30:14.
    #[bits(17)]
    pub reserved_30_14: u32,
    /// Bit 31: the field holds an event.
    pub valid: bool,
}

/// Event types of [`InterruptionInformation`]. Type 1 is reserved.
pub mod event_type {
    /// External interrupt.
    pub const EXTERNAL_INTERRUPT: u8 = 0;
    /// Type 1, which is reserved.
    pub const RESERVED: u8 = 1;
    /// Non-maskable interrupt (NMI).
    pub const NMI: u8 = 2;
    /// Hardware exception.
    pub const HARDWARE_EXCEPTION: u8 = 3;
    /// Software interrupt (INT n).
    pub const SOFTWARE_INTERRUPT: u8 = 4;
    /// Privileged software exception (INT1).
    pub const PRIVILEGED_SOFTWARE_EXCEPTION: u8 = 5;
    /// Software exception (INT3, INTO).
    pub const SOFTWARE_EXCEPTION: u8 = 6;
    /// Other event. Vector 0 is a pending MTF VM exit; for a guest with FRED, vector 1 is SYSCALL and vector 2 SYSENTER.
    pub const OTHER_EVENT: u8 = 7;
}

/// The exit-reason field. SDM 25.9.1, Basic VM-Exit Information.
#[bitfield(u32)]
#[derive(PartialEq, Eq, Hash)]
pub struct ExitReason {
    /// Bits 15:0: the basic exit reason. [`exit_reason`] names those that the model uses.
    pub basic: u16,
    /// Bits 24:16: bit 16 is always 0, the others are undefined.
    #[bits(9)]
    pub undefined_24_16: u16,
    /// Bit 25: a shadow stack was prematurely busy.
    pub busy_shadow_stack: bool,
    /// Bit 26: a bus lock was asserted.
    pub bus_lock: bool,
    /// Bit 27: the exit was incident to enclave mode.
    pub enclave_mode: bool,
    /// Bit 28: an MTF VM exit was pending (SMM VM exits only).
    pub pending_mtf: bool,
    /// Bit 29: the exit came from VMX root operation (SMM VM exits only).
    pub from_root: bool,
    /// Bit 30, which is undefined.
    pub undefined_30: bool,
    /// Bit 31: the VM entry failed, so that this is no VM exit of a guest.
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
    /// Bits 2:0: the memory type of the EPT paging structures, 0 uncacheable or 6 write-back.
    #[bits(3)]
    pub memory_type: u8,
    /// Bits 5:3: the length of an EPT page walk, minus 1.
    #[bits(3)]
    pub walk_length_minus_1: u8,
    /// Bit 6: accessed and dirty flags of EPT are used.
    pub accessed_dirty: bool,
    /// Bit 7: access rights of supervisor shadow-stack pages are enforced.
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
    /// Bit 3: PWT for the access to the first paging structure.
    pub write_through: bool,
    /// Bit 4: PCD for the access to the first paging structure.
    pub cache_disable: bool,
    /// Reserved, bits 11:5.
    #[bits(7)]
    pub reserved_11_5: u8,
    /// Bits 63:12 of the guest-physical address of the first paging structure.
    #[bits(52)]
    pub page: u64,
}

/// The first dword of a VMXON region or VMCS region. SDM 25.2, Format of the VMCS Region.
#[bitfield(u32)]
#[derive(PartialEq, Eq, Hash)]
pub struct RegionHeader {
    /// Bits 30:0: the VMCS revision identifier.
    #[bits(31)]
    pub revision: u32,
    /// Bit 31: the shadow-VMCS indicator, 1 for a shadow VMCS.
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
        /// B0, bit 0: the condition of breakpoint 0 was met.
        const B0 = 1 << 0;
        /// B1, bit 1: the condition of breakpoint 1 was met.
        const B1 = 1 << 1;
        /// B2, bit 2: the condition of breakpoint 2 was met.
        const B2 = 1 << 2;
        /// B3, bit 3: the condition of breakpoint 3 was met.
        const B3 = 1 << 3;
        /// BLD, bit 11: a bus lock was asserted.
        const BLD = 1 << 11;
        /// Enabled breakpoint, bit 12: at least one breakpoint whose condition was met is enabled in DR7.
        const ENABLED_BREAKPOINT = 1 << 12;
        /// BS, bit 14: a single-step exception is pending.
        const BS = 1 << 14;
        /// RTM, bit 16: the debug event came inside a transactional region.
        const RTM = 1 << 16;
        const _ = !0;
    }
}

/// Guest activity state. Only 0 to 3 are defined, but any number can be stored. SDM 25.4.2, Guest Non-Register State.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ActivityState(pub u32);

impl ActivityState {
    /// The processor executes instructions.
    pub const ACTIVE: Self = Self(0);
    /// The processor is halted by HLT.
    pub const HLT: Self = Self(1);
    /// The processor is shut down, as after a triple fault.
    pub const SHUTDOWN: Self = Self(2);
    /// The processor waits for a start-up IPI.
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

/// A VM-instruction error number. Not every number has a meaning, but any can be stored. SDM 31.4, VM Instruction Error
/// Numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstructionError(pub u32);

impl InstructionError {
    /// The numbers that the SDM assigns, with their meanings in its order. 14, 21 and 27 are not assigned.
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
