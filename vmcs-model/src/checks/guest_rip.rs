//! Checks on RIP, RFLAGS and SSP of the guest-state area.

use super::{Failure, checks};
use crate::context::EntryContext;
use crate::controls::Entry;
use crate::field;
use crate::formats::event_type::EXTERNAL_INTERRUPT;
use crate::memory::ReadMemory;
use crate::registers::{Cr0, Rflags};
use crate::vmcs::ReadFields;

checks! {
    /// Checks on guest RIP, RFLAGS and SSP.
    pub enum GuestRipCheck, GuestState, sdm "27.3.1.4" "Checks on Guest RIP, RFLAGS, and SSP", fails Failure::guest_state(0), |c|
    when !mode_64(c) && c.intel_64(),
        "“IA-32e mode guest” or L of CS is 0, and the processor supports Intel 64" => {
        /// Bits 63:32 of RIP are 0.
        RipHigh "guest.rip.high-32" [GUEST_RIP, GUEST_CS_ACCESS_RIGHTS, VM_ENTRY_CONTROLS] => c.get(field::GUEST_RIP) >> 32 == 0;
    }
    when mode_64(c), "“IA-32e mode guest” and L of CS are 1" => {
        /// Bits 63:N of RIP are equal, N being the width of linear addresses that the processor supports. Bit N-1 may differ:
        /// RIP need not be canonical.
        RipUpper "guest.rip.upper-identical" [GUEST_RIP, GUEST_CS_ACCESS_RIGHTS, VM_ENTRY_CONTROLS] =>
            c.upper_identical(c.get(field::GUEST_RIP));
    }
    when true, "" => {
        /// Bits 63:22, 15, 5 and 3 of RFLAGS are 0.
        RflagsReserved "guest.rflags.reserved-zero" [GUEST_RFLAGS] => c.get(field::GUEST_RFLAGS).bits() & RFLAGS_RESERVED == 0;
        /// Bit 1 of RFLAGS is 1.
        RflagsFixed1 "guest.rflags.bit1" [GUEST_RFLAGS] => c.get(field::GUEST_RFLAGS).contains(Rflags::FIXED1);
    }
    [seldom] when c.virtual_8086(), "the guest will be virtual-8086" => {
        /// “IA-32e mode guest” is 0.
        VmIa32e "guest.rflags.vm-ia32e" [GUEST_RFLAGS, VM_ENTRY_CONTROLS] => !c.ia32e_guest();
        /// CR0.PE is 1.
        VmRealMode "guest.rflags.vm-realmode" [GUEST_RFLAGS, GUEST_CR0] => c.get(field::GUEST_CR0).contains(Cr0::PE);
    }
    [seldom] when c.injects(EXTERNAL_INTERRUPT), "an external interrupt is injected" => {
        /// RFLAGS.IF is 1.
        IfExternalInterrupt "guest.rflags.if-extint" [GUEST_RFLAGS, VM_ENTRY_INTERRUPTION_INFORMATION] =>
            c.get(field::GUEST_RFLAGS).contains(Rflags::IF);
    }
    [seldom] when c.entry().contains(Entry::LOAD_CET_STATE), "“load CET state” (entry) is 1" => {
        /// Bits 1:0 of SSP are 0.
        SspAlign "guest.ssp.align" [GUEST_SSP, VM_ENTRY_CONTROLS] => c.get(field::GUEST_SSP) & 3 == 0;
        /// Bits 63:N of SSP are equal, N being the width of linear addresses that the processor supports.
        SspUpper "guest.ssp.upper-identical" [GUEST_SSP, VM_ENTRY_CONTROLS] => c.upper_identical(c.get(field::GUEST_SSP));
    }
    [seldom] when !mode_64(c) && c.entry().contains(Entry::LOAD_CET_STATE),
        "“IA-32e mode guest” or L of CS is 0, and “load CET state” (entry) is 1" => {
        /// Bits 63:32 of SSP are 0. The SDM says so where it describes the loading of SSP (27.3.2.3), not in the list of
        /// checks: whether a processor makes the check is open.
        SspHigh "guest.ssp.high-32" [GUEST_SSP, GUEST_CS_ACCESS_RIGHTS, VM_ENTRY_CONTROLS] -> Failure::guest_state(0).optional() =>
            c.get(field::GUEST_SSP) >> 32 == 0;
    }
}

/// Bits 63:22, 15, 5 and 3.
const RFLAGS_RESERVED: u64 = u64::MAX << 22 | 1 << 15 | 1 << 5 | 1 << 3;

/// The guest will be in 64-bit mode.
#[inline]
fn mode_64<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    c.ia32e_guest() && c.get(field::GUEST_CS_ACCESS_RIGHTS).long()
}
