//! Control and status registers that guest-state and host-state fields hold. SDM Vol. 3A, 2.3, System Flags and Fields in
//! the EFLAGS Register, and 2.5, Control Registers.

use crate::field::FieldValue;

/// Declares a register of independent flags. Bits without a name are kept.
macro_rules! register {
    ($(#[doc = $doc:literal])+ pub struct $register:ident { $($(#[doc = $bit_doc:literal])+ $bit:ident = $n:literal;)+ }) => {
        bitflags::bitflags! {
            $(#[doc = $doc])+
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
            pub struct $register: u64 {
                $($(#[doc = $bit_doc])+ const $bit = 1 << $n;)+
                // Bits without a name here are kept like any other.
                const _ = !0;
            }
        }

        impl FieldValue for $register {
            const BITS: u32 = 64;
            #[inline]
            fn from_raw(raw: u64) -> Self {
                Self::from_bits_retain(raw)
            }
            #[inline]
            fn to_raw(self) -> u64 {
                self.bits()
            }
        }
    };
}

register! {
    /// Control register CR0.
    pub struct Cr0 {
        /// Protection enable.
        PE = 0;
        /// Monitor coprocessor.
        MP = 1;
        /// Emulation.
        EM = 2;
        /// Task switched.
        TS = 3;
        /// Extension type; always 1.
        ET = 4;
        /// Numeric error.
        NE = 5;
        /// Write protect.
        WP = 16;
        /// Alignment mask.
        AM = 18;
        /// Not write-through.
        NW = 29;
        /// Cache disable.
        CD = 30;
        /// Paging.
        PG = 31;
    }
}

register! {
    /// Control register CR4.
    pub struct Cr4 {
        /// Virtual-8086 mode extensions.
        VME = 0;
        /// Protected-mode virtual interrupts.
        PVI = 1;
        /// Time-stamp disable.
        TSD = 2;
        /// Debugging extensions.
        DE = 3;
        /// Page-size extensions.
        PSE = 4;
        /// Physical-address extension.
        PAE = 5;
        /// Machine-check enable.
        MCE = 6;
        /// Page-global enable.
        PGE = 7;
        /// Performance-monitoring counter enable.
        PCE = 8;
        /// OS support for FXSAVE and FXRSTOR.
        OSFXSR = 9;
        /// OS support for unmasked SIMD floating-point exceptions.
        OSXMMEXCPT = 10;
        /// User-mode instruction prevention.
        UMIP = 11;
        /// 57-bit linear addresses.
        LA57 = 12;
        /// VMX enable.
        VMXE = 13;
        /// SMX enable.
        SMXE = 14;
        /// RDFSBASE, RDGSBASE, WRFSBASE and WRGSBASE enabled.
        FSGSBASE = 16;
        /// Process-context identifiers.
        PCIDE = 17;
        /// XSAVE and extended states enabled.
        OSXSAVE = 18;
        /// Key Locker.
        KL = 19;
        /// Supervisor-mode execution prevention.
        SMEP = 20;
        /// Supervisor-mode access prevention.
        SMAP = 21;
        /// Protection keys for user-mode pages.
        PKE = 22;
        /// Control-flow enforcement.
        CET = 23;
        /// Protection keys for supervisor-mode pages.
        PKS = 24;
        /// User interrupts.
        UINTR = 25;
        /// Linear-address space separation.
        LASS = 27;
        /// Linear-address masking for supervisor addresses.
        LAM_SUP = 28;
        /// Flexible return and event delivery.
        FRED = 32;
    }
}

register! {
    /// The IA32_EFER MSR.
    pub struct Efer {
        /// SYSCALL enable.
        SCE = 0;
        /// IA-32e mode enable.
        LME = 8;
        /// IA-32e mode active.
        LMA = 10;
        /// Execute-disable enable.
        NXE = 11;
    }
}

register! {
    /// The RFLAGS register.
    pub struct Rflags {
        /// Carry.
        CF = 0;
        /// Reserved, always 1.
        FIXED1 = 1;
        /// Parity.
        PF = 2;
        /// Auxiliary carry.
        AF = 4;
        /// Zero.
        ZF = 6;
        /// Sign.
        SF = 7;
        /// Single step.
        TF = 8;
        /// Interrupts enabled.
        IF = 9;
        /// Direction.
        DF = 10;
        /// Overflow.
        OF = 11;
        /// Nested task.
        NT = 14;
        /// Resume.
        RF = 16;
        /// Virtual-8086 mode.
        VM = 17;
        /// Alignment check.
        AC = 18;
        /// Virtual interrupt.
        VIF = 19;
        /// Virtual interrupt pending.
        VIP = 20;
        /// CPUID can be executed.
        ID = 21;
    }
}

impl Rflags {
    /// I/O privilege level, bits 13:12.
    #[must_use]
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "two bits")]
    pub fn iopl(self) -> u8 {
        (self.bits() >> 12 & 3) as u8
    }
}

/// Whether each of the eight bytes of an IA32_PAT value is a memory type: 0, 1, 4, 5, 6 or 7. SDM Vol. 3A, 12.12.2
/// (IA32_PAT MSR).
#[must_use]
#[inline]
pub const fn pat_valid(pat: u64) -> bool {
    const EACH_BYTE: u64 = 0x0101_0101_0101_0101;
    // With bit 2 inverted the types are 0 to 5: two more, and they still fit three bits.
    let types = pat ^ (EACH_BYTE * 4);
    (types | types.wrapping_add(EACH_BYTE * 2)) & (EACH_BYTE * 0xF8) == 0
}

/// Bit 13 of IA32_DEBUGCTL, uncore PMI. Some processors have it and others reserve it, and nothing enumerates which.
pub const DEBUGCTL_UNCORE_PMI: u64 = 1 << 13;

/// Whether IA32_S_CET or IA32_U_CET suppresses a tracker that it does not hold: SUPPRESS (10) and TRACKER (11) are both
/// 1. SDM Vol. 1, 17.2 (Control-Flow Enforcement Technology).
#[must_use]
#[inline]
pub const fn cet_suppress_and_tracker(cet: u64) -> bool {
    cet & 0xC00 == 0xC00
}

#[cfg(test)]
mod tests {
    use super::pat_valid;

    #[test]
    fn every_byte_of_the_pat_is_a_memory_type() {
        for byte in 0..8 {
            for kind in 0..=0xFFu64 {
                let pat = 0x0007_0406_0007_0406 & !(0xFF << (8 * byte)) | kind << (8 * byte);
                assert_eq!(pat_valid(pat), matches!(kind, 0 | 1 | 4..=7), "{pat:#x}");
            }
        }
    }
}
