//! Names and sets of checks over all sections.

use core::fmt;
use core::str::FromStr;

use crate::context::EntryContext;
use crate::field::ones;
use crate::memory::ReadMemory;
use crate::vmcs::ReadFields;

use super::{
    AddressSpaceCheck, BasicCheck, CheckInfo, EntryControlCheck, ExecutionControlCheck, ExitControlCheck,
    GuestDescriptorTableCheck, GuestNonRegisterCheck, GuestRegisterCheck, GuestRipCheck, GuestSegmentCheck,
    HostRegisterCheck, HostSegmentCheck, MsrLoadCheck, PdpteCheck, SmmCheck,
};

/// The row of that number. Every check of a section has one; what comes second is there so that the code cannot panic.
#[inline]
const fn row(section: &'static [CheckInfo], number: usize) -> &'static CheckInfo {
    if number < section.len() { &section[number] } else { &section[0] }
}

/// Declares the union of the sections and numbers their checks in order.
macro_rules! sections {
    ($($section:ident),+ $(,)?) => {
        /// A check of a VM entry: the section that states it, and the row there.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum CheckId {
            $(#[doc = concat!("A row of [`", stringify!($section), "`].")] $section($section)),+
        }

        /// How many checks there are.
        pub const CHECK_COUNT: usize = 0 $(+ $section::ALL.len())+;

        /// Every check, in the order of the sections.
        static ALL: [CheckId; CHECK_COUNT] = {
            let mut all = [CheckId::BasicCheck(BasicCheck::ALL[0]); CHECK_COUNT];
            let mut n = 0;
            $(
                let mut i = 0;
                while i < $section::ALL.len() {
                    all[n] = CheckId::$section($section::ALL[i]);
                    i += 1;
                    n += 1;
                }
            )+
            assert!(n == CHECK_COUNT);
            all
        };

        impl CheckId {
            /// The number of the check in the order of [`CheckId::all`], below [`CHECK_COUNT`].
            #[must_use]
            #[inline]
            pub const fn index(self) -> usize {
                let base = 0;
                $(
                    if let Self::$section(check) = self {
                        return base + check as usize;
                    }
                    let base = base + $section::ALL.len();
                )+
                base
            }

            /// Whether what puts the check in force is the case.
            pub(crate) fn in_force<R: ReadFields, M: ReadMemory>(self, context: &EntryContext<'_, R, M>) -> bool {
                match self { $(Self::$section(check) => check.in_force(context)),+ }
            }

            /// Whether what the rule demands is the case, in force or not.
            pub(crate) fn predicate<R: ReadFields, M: ReadMemory>(self, context: &EntryContext<'_, R, M>) -> bool {
                match self { $(Self::$section(check) => check.predicate(context)),+ }
            }

            /// What the row says.
            #[must_use]
            pub const fn info(self) -> &'static CheckInfo {
                match self { $(Self::$section(check) => row($section::INFO, check as usize)),+ }
            }
        }
    };
}

sections!(
    BasicCheck,
    ExecutionControlCheck,
    ExitControlCheck,
    EntryControlCheck,
    SmmCheck,
    HostRegisterCheck,
    HostSegmentCheck,
    AddressSpaceCheck,
    GuestRegisterCheck,
    GuestSegmentCheck,
    GuestDescriptorTableCheck,
    GuestRipCheck,
    GuestNonRegisterCheck,
    PdpteCheck,
    MsrLoadCheck,
);

impl CheckId {
    pub(crate) const ALL: &'static [Self; CHECK_COUNT] = &ALL;

    /// Every check, in the order of the SDM.
    pub fn all() -> impl ExactSizeIterator<Item = Self> + Clone {
        ALL.iter().copied()
    }

    /// The check of that id.
    #[must_use]
    pub fn by_id(id: &str) -> Option<Self> {
        Self::all().find(|check| check.info().id == id)
    }
}

/// The error of a text that is not the id of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCheck;

impl fmt::Display for UnknownCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no such check")
    }
}

impl core::error::Error for UnknownCheck {}

impl FromStr for CheckId {
    type Err = UnknownCheck;

    /// As [`CheckId::by_id`].
    fn from_str(id: &str) -> Result<Self, UnknownCheck> {
        Self::by_id(id).ok_or(UnknownCheck)
    }
}

impl fmt::Debug for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().id)
    }
}

impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().id)
    }
}

const WORDS: usize = CHECK_COUNT.div_ceil(64);

/// A set of checks.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CheckSet([u64; WORDS]);

impl CheckSet {
    /// No check.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Adds `check`.
    #[inline]
    pub fn insert(&mut self, check: CheckId) {
        let index = check.index();
        // There is a word for every index; `get_mut` says so without a panic path.
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    /// Whether `check` is in the set.
    #[must_use]
    pub fn contains(&self, check: CheckId) -> bool {
        let index = check.index();
        self.0.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 != 0)
    }

    /// The checks of either set.
    #[must_use]
    #[inline]
    pub fn union(&self, other: &Self) -> Self {
        let mut both = *self;
        both.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
        both
    }

    /// Whether the set is empty.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many checks are in the set.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// The checks, in the order of the SDM.
    pub fn iter(&self) -> impl Iterator<Item = CheckId> + '_ {
        self.0
            .iter()
            .enumerate()
            .flat_map(|(i, word)| ones(*word).filter_map(move |bit| ALL.get(i * 64 + usize::from(bit)).copied()))
    }
}

impl FromIterator<CheckId> for CheckSet {
    fn from_iter<I: IntoIterator<Item = CheckId>>(checks: I) -> Self {
        let mut set = Self::EMPTY;
        for check in checks {
            set.insert(check);
        }
        set
    }
}

impl fmt::Debug for CheckSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
