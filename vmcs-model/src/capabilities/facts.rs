//! Sets of facts about a processor: which of its MSRs and CPUID leaves are known, or which a check depends on.

use crate::msr::{CapabilityMsr, Source};
use crate::profile::CpuidLeaf;

/// A set of facts about a processor: values of MSRs ([`CapabilityMsr`]) and of CPUID leaves ([`CpuidLeaf`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts(u64);

impl Facts {
    /// The value of one MSR.
    #[must_use]
    pub const fn msr(msr: CapabilityMsr) -> Self {
        Self(1 << msr as u64)
    }

    /// The value of one CPUID leaf.
    #[must_use]
    pub const fn cpuid(leaf: CpuidLeaf) -> Self {
        Self(1 << (CapabilityMsr::ALL.len() as u64 + leaf as u64))
    }

    /// The facts on which the capability bits of `source` can depend. Some control words are reported by either of two MSRs.
    /// SDM A.2, Reserved Controls and Default Settings.
    #[must_use]
    pub const fn of(source: Source) -> Self {
        use CapabilityMsr as M;
        match source {
            Source::Pin => Self::msr(M::Pinbased).and(Self::msr(M::TruePinbased)),
            Source::Primary => Self::msr(M::Procbased).and(Self::msr(M::TrueProcbased)),
            Source::Secondary => Self::msr(M::Procbased2),
            Source::Tertiary => Self::msr(M::Procbased3),
            Source::Exit => Self::msr(M::Exit).and(Self::msr(M::TrueExit)),
            Source::SecondaryExit => Self::msr(M::Exit2),
            Source::Entry => Self::msr(M::Entry).and(Self::msr(M::TrueEntry)),
            Source::VmFunctions => Self::msr(M::Vmfunc),
            Source::Cpuid7_1Eax => Self::cpuid(CpuidLeaf::Extended1),
        }
    }

    /// The union of this set and `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set less `other`.
    #[must_use]
    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The facts of this set that are in `other`, too.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The MSRs of the set.
    pub fn msrs(self) -> impl Iterator<Item = CapabilityMsr> {
        CapabilityMsr::ALL.into_iter().filter(move |msr| self.intersects(Self::msr(*msr)))
    }

    /// The CPUID leaves of the set.
    pub fn leaves(self) -> impl Iterator<Item = CpuidLeaf> {
        CpuidLeaf::ALL.into_iter().filter(move |leaf| self.intersects(Self::cpuid(*leaf)))
    }

    /// Whether the set has no fact.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the sets share a fact.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}
