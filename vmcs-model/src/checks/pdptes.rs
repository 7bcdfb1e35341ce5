//! Checks on the page-directory-pointer-table entries of a guest with PAE paging.

use super::{Failure, checks};
use crate::capabilities::{Reserved, ReservedBits};
use crate::context::EntryContext;
use crate::controls::Secondary;
use crate::field;
use crate::memory::ReadMemory;
use crate::registers::{Cr0, Cr4, Efer};
use crate::vmcs::ReadFields;

checks! {
    /// Checks on guest page-directory-pointer-table entries. An entry is bad if it is present and has a reserved bit:
    /// 2:1, 8:5 or one beyond the physical-address width.
    pub enum PdpteCheck, GuestState, sdm "27.3.1.6" "Checks on Guest Page-Directory-Pointer-Table Entries", fails Failure::guest_state(2), |c|
    when pae_paging(c) && c.guest_secondary().contains(Secondary::ENABLE_EPT), "the guest will use PAE paging and “enable EPT” is 1" => {
        /// None of the four PDPTE fields is bad. Memory encryption does not reduce the width of guest-physical addresses.
        Fields "pdpte.ept" [GUEST_PDPTE0, GUEST_PDPTE1, GUEST_PDPTE2, GUEST_PDPTE3, GUEST_CR0, GUEST_CR4, VM_ENTRY_CONTROLS, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            pdpte_valid(c, c.get(field::GUEST_PDPTE0), |reserved| reserved.guest_physical)
                && pdpte_valid(c, c.get(field::GUEST_PDPTE1), |reserved| reserved.guest_physical)
                && pdpte_valid(c, c.get(field::GUEST_PDPTE2), |reserved| reserved.guest_physical)
                && pdpte_valid(c, c.get(field::GUEST_PDPTE3), |reserved| reserved.guest_physical);
    }
    when pae_paging(c) && !c.guest_secondary().contains(Secondary::ENABLE_EPT), "the guest will use PAE paging and “enable EPT” is 0" => {
        /// None of the four entries in memory at bits 31:5 of CR3 is bad. If PAE paging was in use before the entry with the
        /// same CR3, a processor may skip the check; as the model does not know CR3 before the entry, the check is open
        /// wherever PAE paging was in use.
        Memory "pdpte.memory" [GUEST_CR3, GUEST_CR0, GUEST_CR4, VM_ENTRY_CONTROLS, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            entries_valid(c) || (pae_paging_before(c) && c.open_question());
    }
}

/// The guest will use PAE paging.
#[inline]
fn pae_paging<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    !c.ia32e_guest() && c.get(field::GUEST_CR4).contains(Cr4::PAE) && c.get(field::GUEST_CR0).contains(Cr0::PG)
}

/// PAE paging was in use when the entry began.
pub(super) fn pae_paging_before<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    c.cpu().cr0.contains(Cr0::PG) && c.cpu().cr4.contains(Cr4::PAE) && !c.cpu().efer.contains(Efer::LMA)
}

/// The entries lie within 4 GBytes.
fn entries_valid<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    let table = c.get(field::GUEST_CR3) & 0xFFFF_FFE0;
    (0..4).all(|i| pdpte_valid(c, c.read_u64(table + 8 * i), |reserved| reserved.physical))
}

#[inline]
fn pdpte_valid<R: ReadFields, M: ReadMemory>(
    c: &EntryContext<'_, R, M>,
    pdpte: u64,
    width: impl FnOnce(&Reserved) -> ReservedBits,
) -> bool {
    const PRESENT: u64 = 1 << 0;
    const RESERVED: u64 = 0b11 << 1 | 0xF << 5;
    pdpte & PRESENT == 0 || (pdpte & RESERVED == 0 && c.clear_of(pdpte, width(c.reserved()), Reserved::PHYSICAL_FACTS))
}
