//! Checks on the descriptor-table registers of the guest-state area.

use super::{Failure, checks};
use crate::field;

checks! {
    /// Checks on guest descriptor-table registers.
    pub enum GuestDescriptorTableCheck, GuestState, sdm "27.3.1.3" "Checks on Guest Descriptor-Table Registers", fails Failure::guest_state(0), |c|
    when true, "" => {
        /// The bases of GDTR and IDTR are canonical.
        Base "guest.dt.base-canonical" [GUEST_GDTR_BASE, GUEST_IDTR_BASE] =>
            c.all_canonical([c.look_at(field::GUEST_GDTR_BASE), c.look_at(field::GUEST_IDTR_BASE)]);
        /// Bits 31:16 of the limits of GDTR and IDTR are 0.
        Limit "guest.dt.limit-high" [GUEST_GDTR_LIMIT, GUEST_IDTR_LIMIT] =>
            (c.get(field::GUEST_GDTR_LIMIT) | c.get(field::GUEST_IDTR_LIMIT)) >> 16 == 0;
    }
}
