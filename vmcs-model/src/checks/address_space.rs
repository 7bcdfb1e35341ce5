//! Checks related to the address-space sizes of host and guest.

use super::{Failure, checks};
use crate::controls::Exit;
use crate::field;
use crate::outcome::Outcome;
use crate::registers::{Cr4, Efer};

checks! {
    /// Checks related to address-space size. The SDM does not say which error they lead to: they look at controls
    /// (error 7) and at the host-state area (error 8), and both kinds come in any order. Implementations give 8.
    pub enum AddressSpaceCheck, ControlsAndHost, sdm "27.2.4" "Checks Related to Address-Space Size",
        fails Failure::valid(8).or(Outcome::fail_valid(7)), |c|
    when !c.cpu().efer.contains(Efer::LMA), "IA32_EFER.LMA is 0 at the time of VM entry" => {
        /// “IA-32e mode guest” is 0.
        LegacyGuest "as.legacy.guest-not-ia32e" [VM_ENTRY_CONTROLS] => !c.ia32e_guest();
        /// “host address-space size” is 0.
        LegacyHost "as.legacy.host-not-64" [PRIMARY_VM_EXIT_CONTROLS] => !c.host_64();
    }
    when c.cpu().efer.contains(Efer::LMA), "IA32_EFER.LMA is 1 at the time of VM entry" => {
        /// “host address-space size” is 1.
        LongModeHost "as.longmode.host-64" [PRIMARY_VM_EXIT_CONTROLS] => c.host_64();
    }
    [seldom] when !c.host_64(), "“host address-space size” is 0" => {
        /// “IA-32e mode guest” is 0.
        Host32Guest "as.host32.guest-not-ia32e" [VM_ENTRY_CONTROLS, PRIMARY_VM_EXIT_CONTROLS] => !c.ia32e_guest();
        /// CR4.PCIDE is 0.
        Host32Pcide "as.host32.pcide" [HOST_CR4, PRIMARY_VM_EXIT_CONTROLS] => !c.get(field::HOST_CR4).contains(Cr4::PCIDE);
        /// CR4.FRED is 0.
        Host32Fred "as.host32.fred" [HOST_CR4, PRIMARY_VM_EXIT_CONTROLS] => !c.get(field::HOST_CR4).contains(Cr4::FRED);
        /// Bits 63:32 of RIP are 0.
        Host32Rip "as.host32.rip-high" [HOST_RIP, PRIMARY_VM_EXIT_CONTROLS] => c.get(field::HOST_RIP) >> 32 == 0;
    }
    [seldom] when !c.host_64() && c.exit().contains(Exit::LOAD_CET_STATE), "“host address-space size” is 0 and “load CET state” (exit) is 1" => {
        /// Bits 63:32 of IA32_S_CET are 0.
        Host32SCet "as.host32.s-cet-high" [HOST_IA32_S_CET, PRIMARY_VM_EXIT_CONTROLS] => c.get(field::HOST_IA32_S_CET) >> 32 == 0;
        /// Bits 63:32 of SSP are 0.
        Host32Ssp "as.host32.ssp-high" [HOST_SSP, PRIMARY_VM_EXIT_CONTROLS] => c.get(field::HOST_SSP) >> 32 == 0;
    }
    when c.host_64(), "“host address-space size” is 1" => {
        /// CR4.PAE is 1.
        Host64Pae "as.host64.pae" [HOST_CR4, PRIMARY_VM_EXIT_CONTROLS] => c.get(field::HOST_CR4).contains(Cr4::PAE);
        /// RIP is canonical for the width of linear addresses that CR4.LA57 of the host-state area selects, 57 or 48 bits: the
        /// exit loads CR4 before it fetches from RIP. Every other check of this kind goes by the widest width.
        Host64Rip "as.host64.rip-canonical" [HOST_RIP, HOST_CR4, PRIMARY_VM_EXIT_CONTROLS] =>
            canonical_by_la57(c.get(field::HOST_RIP), c.get(field::HOST_CR4));
    }
    [seldom] when c.host_64() && c.exit().contains(Exit::LOAD_CET_STATE), "“host address-space size” and “load CET state” (exit) are 1" => {
        /// IA32_S_CET is canonical.
        Host64SCet "as.host64.s-cet-canonical" [HOST_IA32_S_CET, PRIMARY_VM_EXIT_CONTROLS] => c.canonical(c.get(field::HOST_IA32_S_CET));
        /// SSP is canonical.
        Host64Ssp "as.host64.ssp-canonical" [HOST_SSP, PRIMARY_VM_EXIT_CONTROLS] => c.canonical(c.get(field::HOST_SSP));
    }
    [seldom] when c.exit().contains(Exit::LOAD_CET_STATE), "“load CET state” (exit) is 1" => {
        /// IA32_INTERRUPT_SSP_TABLE_ADDR is canonical, whatever the size.
        SspTable "as.cet.ssp-table-canonical" [HOST_IA32_INTERRUPT_SSP_TABLE_ADDR, PRIMARY_VM_EXIT_CONTROLS] =>
            c.canonical(c.get(field::HOST_IA32_INTERRUPT_SSP_TABLE_ADDR));
    }
    [seldom] when !c.intel_64(), "the processor does not support Intel 64" => {
        /// “IA-32e mode guest” and “host address-space size” are 0. The processor does not allow the 1-settings either.
        NoIntel64 "as.no-intel64" [VM_ENTRY_CONTROLS, PRIMARY_VM_EXIT_CONTROLS] => !c.ia32e_guest() && !c.host_64();
    }
}

/// Whether the address is canonical with the paging that `cr4` selects in IA-32e mode.
#[inline]
const fn canonical_by_la57(address: u64, cr4: Cr4) -> bool {
    canonical_of(48, address) || cr4.contains(Cr4::LA57) && canonical_of(57, address)
}

/// Whether the bits of the address above its lowest `bits` equal the highest of those.
#[inline]
const fn canonical_of(bits: u32, address: u64) -> bool {
    let unused = 64 - bits;
    (address << unused).cast_signed() >> unused == address.cast_signed()
}
