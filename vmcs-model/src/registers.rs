//! Control and status registers that guest-state and host-state fields hold. SDM Vol. 3A, 2.3 and 2.5.

use crate::field::FieldValue;

/// Declares a register of independent flags whose unnamed bits are carried.
macro_rules! register {
    ($(#[doc = $doc:literal])+ pub struct $register:ident { $($(#[doc = $bit_doc:literal])+ $bit:ident = $n:literal;)+ }) => {
        bitflags::bitflags! {
            $(#[doc = $doc])+
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
            pub struct $register: u64 {
                $($(#[doc = $bit_doc])+ const $bit = 1 << $n;)+
                // Bits without a name here are carried like any other.
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
        /// RDFSBASE and its like enabled.
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
