//! Every check of a VM entry, one row each, in the SDM's outline.
//!
//! A row is the whole check: its rule, its id, the fields it reads, how the entry ends if it does not hold, and the
//! predicate. Enums, tables, coverage and explanations derive from the rows.

mod address_space;
mod basic;
mod entry_controls;
mod execution_controls;
mod exit_controls;
mod guest_descriptor_tables;
mod guest_non_register;
mod guest_registers;
mod guest_rip;
mod guest_segments;
mod host_registers;
mod host_segments;
mod id;
mod msr_load;
mod msr_rules;
mod msr_write;
mod pdptes;
mod smm;
mod unchecked;

pub use address_space::AddressSpaceCheck;
pub use basic::BasicCheck;
pub use entry_controls::EntryControlCheck;
pub use execution_controls::ExecutionControlCheck;
pub use exit_controls::ExitControlCheck;
pub use guest_descriptor_tables::GuestDescriptorTableCheck;
pub use guest_non_register::GuestNonRegisterCheck;
pub use guest_registers::GuestRegisterCheck;
pub use guest_rip::GuestRipCheck;
pub use guest_segments::GuestSegmentCheck;
pub use host_registers::HostRegisterCheck;
pub use host_segments::HostSegmentCheck;
pub use id::{CHECK_COUNT, CheckId, CheckSet, UnknownCheck};
pub use msr_load::MsrLoadCheck;
pub(crate) use msr_load::{AfterEntries, EntryFate, MsrLoads, msr_failure};
pub use msr_rules::{Exists, MSR_RULES, MsrRule, Register, Takes, msr_rule};
pub use pdptes::PdpteCheck;
pub use smm::SmmCheck;
pub use unchecked::{NOT_CHECKS, NotACheck, NotACheckKind};

use core::ops::ControlFlow;

use crate::field::FieldId;
use crate::outcome::{Exception, Outcome};

/// The stage of a VM entry that a check belongs to. Stages follow one another; within one that is not
/// [`Phase::Basic`], a processor may check in any order. SDM 27, VM Entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// 27.1, in the order of the rows.
    Basic,
    /// 27.2: VMX controls, host-state area and address-space size, in any order.
    ControlsAndHost,
    /// 27.3.1: guest-state area.
    GuestState,
    /// 27.4: the VM-entry MSR-load area.
    MsrLoading,
}

/// How the entry ends if a check does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// The outcome; for a failed MSR load the qualification is the entry's 1-based index instead of what stands here.
    pub outcome: Outcome,
    /// The SDM also defines or leaves open this other outcome.
    pub or: Option<Outcome>,
    /// The SDM leaves open whether a processor makes this check at all; the row's doc says why.
    pub optional: bool,
}

impl Failure {
    /// `#UD`.
    pub const UNDEFINED_OPCODE: Self = Self::new(Outcome::Fault(Exception::UD));
    /// `#GP(0)`.
    pub const GENERAL_PROTECTION: Self = Self::new(Outcome::Fault(Exception::GP0));
    /// VMfailInvalid.
    pub const INVALID: Self = Self::new(Outcome::FailInvalid);

    /// That outcome.
    #[must_use]
    pub const fn new(outcome: Outcome) -> Self {
        Self { outcome, or: None, optional: false }
    }

    /// VMfailValid with that error.
    #[must_use]
    pub const fn valid(error: u32) -> Self {
        Self::new(Outcome::fail_valid(error))
    }

    /// A VM-entry failure due to invalid guest state with that qualification.
    #[must_use]
    pub const fn guest_state(qualification: u64) -> Self {
        Self::new(Outcome::invalid_guest_state(qualification))
    }

    /// The SDM permits this other outcome as well.
    #[must_use]
    pub const fn or(self, other: Outcome) -> Self {
        Self { or: Some(other), ..self }
    }

    /// The SDM leaves open whether the check is made.
    #[must_use]
    pub const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }
}

/// One row, as data.
#[derive(Debug)]
pub struct CheckInfo {
    /// Stable id, such as `ctl.pin.reserved-bits.allowed0`.
    pub id: &'static str,
    /// What has to hold, and what there is to know about it.
    pub rule: &'static str,
    /// What puts the rule in force; empty if it always is.
    pub gate: &'static str,
    /// SDM section that states it, number in the 2024 editions. The title is the stable name.
    pub sdm: &'static str,
    /// Title of the section.
    pub title: &'static str,
    /// Fields that the rule reads and that put it in force, those first that it is about. Control words that only put it in
    /// force are left to [`Self::gate`].
    pub fields: &'static [FieldId],
    /// How the entry ends if it does not hold.
    pub failure: Failure,
    /// Stage of the entry.
    pub phase: Phase,
}

/// Receives the violated checks, in the order of the rows.
pub trait Sink {
    /// What stops the run.
    type Break;

    /// `check` does not hold.
    fn violated(&mut self, check: CheckId) -> ControlFlow<Self::Break>;

    /// All rows of a section were judged.
    #[inline]
    fn judged<C: Copy + Into<CheckId>>(&mut self, _section: &[C]) {}
}

/// Stops at the first violated check.
#[derive(Clone, Copy, Debug, Default)]
pub struct FirstViolation;

impl Sink for FirstViolation {
    type Break = CheckId;

    #[inline]
    fn violated(&mut self, check: CheckId) -> ControlFlow<CheckId> {
        ControlFlow::Break(check)
    }
}

impl Sink for CheckSet {
    type Break = core::convert::Infallible;

    #[inline]
    fn violated(&mut self, check: CheckId) -> ControlFlow<Self::Break> {
        self.insert(check);
        ControlFlow::Continue(())
    }
}

/// Bits 11:0 are 0.
#[inline]
const fn aligned_4k(address: u64) -> bool {
    address & 0xFFF == 0
}

/// Bytes of an entry of an MSR area. SDM 25.7.2, VM-Exit Controls for MSRs.
const MSR_ENTRY_BYTES: u64 = 16;

/// The last byte of an MSR area of `count` entries, `None` if it lies beyond the 64-bit address space.
/// An area of no entries has no last byte; its address stands in.
#[inline]
fn msr_area_last_byte(address: u64, count: u32) -> Option<u64> {
    address.checked_add((u64::from(count) * MSR_ENTRY_BYTES).saturating_sub(1))
}

/// Declares the checks of one SDM section:
///
/// ```text
/// checks! {
///     /// What the section is about.
///     pub enum SectionCheck, Phase, sdm "number" "title", fails <Failure>, |c|
///     unless <filter>,
///     [seldom] when <guard>, "<the guard in words>" => {
///         /// The rule.
///         Name "its.id" [FIELDS, IT_READS] -> <another Failure> => <predicate>;
///     }
/// }
/// ```
///
/// It emits the enum of the checks, their [`CheckInfo`]s, and three functions: `run` over any reader and [`Sink`], and for
/// one row `in_force`, its guard, and `predicate`.
///
/// `run` judges the rows of a group together, and reports them one by one, in their order, only if one does not hold. What it
/// calls out of line gets the entry and makes an [`EntryContext`](crate::context::EntryContext) of its own: so the address
/// of the one that `run` has is never taken, and the control words stay in registers.
///
/// `unless` and `[seldom]` are optional, and there for speed alone. Where the filter of `unless` is true, none of the rows
/// of the section is violated, which the filter finds in fewer steps than the rows, most often because the image is an
/// ordinary one. Where it is false nothing is said, and the rows are judged, out of line. Filters count where everything is
/// known; a reader that knows only a part is judged by the rows alone. Groups that are marked `[seldom]` are seldom in
/// force: one look at the guards of all of them passes them over.
macro_rules! checks {
    (
        $(#[doc = $doc:literal])+
        pub enum $section:ident, $phase:ident, sdm $number:literal $title:literal, fails $default:expr, |$c:ident|
        $(unless $filter:expr,)?
        $($([$often:ident])? when $guard:expr, $gate:literal => {
            $($(#[doc = $rule:literal])+ $name:ident $id:literal [$($field:ident),*] $(-> $failure:expr)? => $holds:expr;)+
        })+
    ) => {
        $(#[doc = $doc])+
        #[doc = concat!("\n\nSDM ", $number, ", ", $title, ".")]
        #[allow(rustdoc::broken_intra_doc_links, reason = "rules name bits of MSRs as the SDM does, such as [56]")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum $section { $($($(#[doc = $rule])+ $name,)+)+ }

        impl $section {
            /// The checks, in the order of the rows.
            pub const ALL: &'static [Self] = &[$($(Self::$name),+),+];
            /// What each is, in the same order.
            pub const INFO: &'static [$crate::checks::CheckInfo] = &[$($($crate::checks::CheckInfo {
                id: $id,
                rule: concat!($($rule),+).trim_ascii(),
                gate: $gate,
                sdm: $number,
                title: $title,
                fields: &[$($crate::field::$field.id()),*],
                failure: { let all = [$default $(, $failure)?]; all[all.len() - 1] },
                phase: $crate::checks::Phase::$phase,
            }),+),+];

            /// Reports every violated check of the section.
            #[inline(always)]
            pub(crate) fn run<R: $crate::vmcs::ReadFields, M: $crate::memory::ReadMemory, S: $crate::checks::Sink>(
                $c: &$crate::context::EntryContext<'_, R, M>,
                sink: &mut S,
            ) -> core::ops::ControlFlow<S::Break> {
                $(if !R::PARTIAL {
                    #[inline(never)]
                    fn rows<R: $crate::vmcs::ReadFields, M: $crate::memory::ReadMemory, S: $crate::checks::Sink>(
                        entry: &$crate::verdict::VmEntry<'_, R, M>,
                        notes: &$crate::context::Notes,
                        sink: &mut S,
                    ) -> core::ops::ControlFlow<S::Break> {
                        $section::rows(&$crate::context::EntryContext::new(entry, notes), sink)
                    }
                    return if $filter {
                        core::ops::ControlFlow::Continue(())
                    } else {
                        rows($c.entry, $c.notes, sink)
                    };
                })?
                #[allow(unreachable_code, reason = "a section with a filter")]
                Self::rows($c, sink)
            }

            /// Judges the rows of each group that is in force together.
            #[inline(always)]
            fn rows<R: $crate::vmcs::ReadFields, M: $crate::memory::ReadMemory, S: $crate::checks::Sink>(
                $c: &$crate::context::EntryContext<'_, R, M>,
                sink: &mut S,
            ) -> core::ops::ControlFlow<S::Break> {
                $(if $crate::checks::ordinary!($([$often])? $guard) && !($($holds)&&+) {
                    return Self::report($c.entry, $c.notes, sink);
                })+
                if ($($crate::checks::seldom!($([$often])? $guard))|+) && !Self::seldom_hold($c.entry, $c.notes) {
                    return Self::report($c.entry, $c.notes, sink);
                }
                core::ops::ControlFlow::Continue(())
            }

            /// Whether the rows hold of groups that are seldom in force.
            #[cold]
            #[inline(never)]
            fn seldom_hold<R: $crate::vmcs::ReadFields, M: $crate::memory::ReadMemory>(
                entry: &$crate::verdict::VmEntry<'_, R, M>,
                notes: &$crate::context::Notes,
            ) -> bool {
                let $c = &$crate::context::EntryContext::new(entry, notes);
                $(if $crate::checks::seldom!($([$often])? $guard) && !($($holds)&&+) {
                    return false;
                })+
                true
            }

            /// Reports every violated check of the section, row by row.
            #[cold]
            #[inline(never)]
            fn report<R: $crate::vmcs::ReadFields, M: $crate::memory::ReadMemory, S: $crate::checks::Sink>(
                entry: &$crate::verdict::VmEntry<'_, R, M>,
                notes: &$crate::context::Notes,
                sink: &mut S,
            ) -> core::ops::ControlFlow<S::Break> {
                let $c = &$crate::context::EntryContext::new(entry, notes);
                $(if $guard {
                    $(if !$holds {
                        sink.violated(Self::$name.into())?;
                    })+
                })+
                core::ops::ControlFlow::Continue(())
            }

            /// Whether what puts the check in force is the case.
            pub(crate) fn in_force<R: $crate::vmcs::ReadFields, M: $crate::memory::ReadMemory>(
                self,
                $c: &$crate::context::EntryContext<'_, R, M>,
            ) -> bool {
                let _ = $c;
                match self {
                    $($(Self::$name)|+ => $guard,)+
                }
            }

            /// Whether what the rule demands is the case, in force or not.
            pub(crate) fn predicate<R: $crate::vmcs::ReadFields, M: $crate::memory::ReadMemory>(
                self,
                $c: &$crate::context::EntryContext<'_, R, M>,
            ) -> bool {
                match self {
                    $($(Self::$name => $holds,)+)+
                }
            }
        }

        impl From<$section> for $crate::checks::CheckId {
            #[inline]
            fn from(check: $section) -> Self {
                Self::$section(check)
            }
        }
    };
}
use checks;

/// The guard of a group, if it is an ordinary one.
macro_rules! ordinary {
    ([seldom] $guard:expr) => {
        false
    };
    ($guard:expr) => {
        $guard
    };
}
use ordinary;

/// The guard of a group, if it is one that is seldom in force.
macro_rules! seldom {
    ([seldom] $guard:expr) => {
        $guard
    };
    ($guard:expr) => {
        false
    };
}
use seldom;
