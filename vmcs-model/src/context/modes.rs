//! Single bits that choose the modes of guest and host, on which many checks depend and nothing else of their fields, and
//! whether there is a 64-bit mode at all.

use super::EntryContext;
use crate::controls::{Entry, Exit, Secondary};
use crate::field::GUEST_RFLAGS;
use crate::memory::ReadMemory;
use crate::profile::CpuidLeaf;
use crate::registers::Rflags;
use crate::vmcs::ReadFields;

/// A bit that chooses a mode. Where its field is not known, a reader can suppose one value of it after the other
/// ([`ReadFields::supposed`]): what is violated with either value is violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The VM-entry control “IA-32e mode guest”.
    Ia32eGuest,
    /// The secondary processor-based control “unrestricted guest”, in force.
    UnrestrictedGuest,
    /// RFLAGS.VM of the guest.
    Virtual8086,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 3] = [Self::Ia32eGuest, Self::UnrestrictedGuest, Self::Virtual8086];
}

impl<R: ReadFields, M: ReadMemory> EntryContext<'_, R, M> {
    /// Whether the mode is chosen: by what the reader supposes, or else by the field that holds the bit.
    #[inline(always)]
    fn mode(&self, mode: Mode, read: impl FnOnce() -> bool) -> bool {
        if R::PARTIAL
            && let Some(supposed) = self.reader().supposed(mode)
        {
            return supposed;
        }
        read()
    }

    /// “IA-32e mode guest” is 1.
    #[inline]
    pub fn ia32e_guest(&self) -> bool {
        self.mode(Mode::Ia32eGuest, || self.entry().contains(Entry::IA_32E_MODE_GUEST))
    }

    /// “host address-space size” is 1.
    #[inline]
    pub fn host_64(&self) -> bool {
        self.exit().contains(Exit::HOST_ADDRESS_SPACE_SIZE)
    }

    /// “unrestricted guest” is 1.
    #[inline]
    pub fn unrestricted_guest(&self) -> bool {
        self.mode(Mode::UnrestrictedGuest, || self.secondary().contains(Secondary::UNRESTRICTED_GUEST))
    }

    /// “unrestricted guest” is 1 among the controls that the checks of the guest-state area go by, see
    /// [`Self::guest_secondary`].
    #[inline(always)]
    pub fn guest_unrestricted(&self) -> bool {
        self.mode(Mode::UnrestrictedGuest, || self.guest_secondary().contains(Secondary::UNRESTRICTED_GUEST))
    }

    /// The guest will be in virtual-8086 mode.
    #[inline(always)]
    pub fn virtual_8086(&self) -> bool {
        self.mode(Mode::Virtual8086, || self.get(GUEST_RFLAGS).contains(Rflags::VM))
    }

    /// Whether the processor supports Intel 64.
    #[inline]
    pub fn intel_64(&self) -> bool {
        if R::PARTIAL && self.attempt().capabilities.intel_64.is_none() {
            self.cpuid(CpuidLeaf::ExtendedFeatures);
        }
        self.attempt().capabilities.intel_64()
    }
}
