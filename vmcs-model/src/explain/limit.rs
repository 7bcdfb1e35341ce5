//! What a capability MSR says about the bits of a field that a check compares with it.

use core::fmt;

use super::{Bits, Explanation};
use crate::capabilities::{Allowed, Capabilities, Facts};
use crate::checks::{
    CheckId, EntryControlCheck, ExecutionControlCheck, ExitControlCheck, GuestRegisterCheck, HostRegisterCheck,
};
use crate::controls::{Primary, Secondary};
use crate::field::{self, FieldId, FieldValue};
use crate::msr::CapabilityMsr;
use crate::registers::Cr0;

/// Which settings of a bit a capability MSR allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Bits of the mask must be 1 (“allowed-0 settings” of the SDM).
    MustBe1,
    /// Bits outside of the mask must be 0 (“allowed-1 settings” of the SDM).
    MayBe1,
}

/// What a capability MSR says about the bits of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The field whose bits are limited.
    pub field: FieldId,
    /// The capability MSR that holds the mask.
    pub msr: CapabilityMsr,
    /// Whether the mask says which bits must be 1, or which may be 1.
    pub setting: Setting,
    /// The mask that the capability MSR holds.
    pub mask: u64,
    /// Bits of the field that break the rule: with [`Setting::MustBe1`] those that are 0, with [`Setting::MayBe1`] those
    /// that are 1.
    pub wrong: u64,
}

impl Setting {
    /// Which settings a check compares its first field with; `None` if the check compares it with no capability MSR.
    #[must_use]
    pub const fn compared_by(check: CheckId) -> Option<Self> {
        use ExecutionControlCheck as Execution;
        match check {
            CheckId::ExecutionControlCheck(Execution::PinAllowed0 | Execution::PrimaryAllowed0)
            | CheckId::ExitControlCheck(ExitControlCheck::ExitAllowed0)
            | CheckId::EntryControlCheck(EntryControlCheck::EntryAllowed0)
            | CheckId::HostRegisterCheck(HostRegisterCheck::Cr0Fixed0 | HostRegisterCheck::Cr4Fixed0)
            | CheckId::GuestRegisterCheck(GuestRegisterCheck::Cr0Fixed0 | GuestRegisterCheck::Cr4Fixed0) => {
                Some(Self::MustBe1)
            }
            CheckId::ExecutionControlCheck(
                Execution::PinAllowed1
                | Execution::PrimaryAllowed1
                | Execution::SecondaryReserved
                | Execution::TertiaryReserved
                | Execution::VmFunctionReserved,
            )
            | CheckId::ExitControlCheck(ExitControlCheck::ExitAllowed1 | ExitControlCheck::SecondaryExitReserved)
            | CheckId::EntryControlCheck(EntryControlCheck::EntryAllowed1)
            | CheckId::HostRegisterCheck(HostRegisterCheck::Cr0Fixed1 | HostRegisterCheck::Cr4Fixed1)
            | CheckId::GuestRegisterCheck(GuestRegisterCheck::Cr0Fixed1 | GuestRegisterCheck::Cr4Fixed1) => {
                Some(Self::MayBe1)
            }
            _ => None,
        }
    }
}

impl Explanation<'_> {
    /// The limit that the explained check compares a field with; `None` if the check compares no field with a capability
    /// MSR.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        let setting = Setting::compared_by(self.check)?;
        let field = *self.check.info().fields.first()?;
        let caps = self.attempt.capabilities;
        let (allowed, ones, may) = allowed(caps, field)?;
        let value = self.vmcs.read(field);
        let (msr, mask, wrong) = match setting {
            Setting::MustBe1 => (ones, allowed.ones, allowed.missing(value)),
            Setting::MayBe1 => (may, allowed.may(), allowed.forbidden(value)),
        };
        let wrong = wrong & !self.unchecked(field);
        (self.vmcs.knows(field) && wrong != 0 && !caps.unknown.intersects(Facts::msr(msr))).then_some(Limit {
            field,
            msr,
            setting,
            mask,
            wrong,
        })
    }

    /// Bits of CR0 that the rules on fixed bits leave out.
    fn unchecked(&self, field: FieldId) -> u64 {
        let secondary = field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS;
        let primary = self.vmcs.read(field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id());
        let unrestricted = Primary::from_raw(primary).contains(Primary::ACTIVATE_SECONDARY_CONTROLS)
            && Secondary::from_raw(self.vmcs.read(secondary.id())).contains(Secondary::UNRESTRICTED_GUEST);
        let caching = Cr0::NW | Cr0::CD;
        if field == field::HOST_CR0.id() || field == field::GUEST_CR0.id() && !unrestricted {
            caching.bits()
        } else if field == field::GUEST_CR0.id() {
            (caching | Cr0::PE | Cr0::PG).bits()
        } else {
            0
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, msr, setting, mask, wrong } = *self;
        let verb = if wrong.count_ones() == 1 { "is" } else { "are" };
        let (is, must, name) = match setting {
            Setting::MustBe1 => (0, 1, "allowed-0"),
            Setting::MayBe1 => (1, 0, "allowed-1"),
        };
        write!(f, "{} {verb} {is} and must be {must}: ", Bits { field, mask: wrong })?;
        if matches!(
            msr,
            CapabilityMsr::Cr0Fixed0 | CapabilityMsr::Cr0Fixed1 | CapabilityMsr::Cr4Fixed0 | CapabilityMsr::Cr4Fixed1
        ) {
            return write!(f, "{} is {mask:#x}", msr.name());
        }
        write!(f, "the {name} mask of {} is {mask:#x}", msr.name())
    }
}

/// The settings that the processor with these capabilities allows in the field `word`; `None` if no capability MSR limits
/// that field.
#[must_use]
pub fn allowed_settings(caps: &Capabilities, word: FieldId) -> Option<Allowed> {
    allowed(caps, word).map(|(allowed, ..)| allowed)
}

/// The settings that a processor allows in a field, with the MSRs that say which bits must be 1 and which may.
pub(super) fn allowed(caps: &Capabilities, word: FieldId) -> Option<(Allowed, CapabilityMsr, CapabilityMsr)> {
    use CapabilityMsr::{
        Cr0Fixed0, Cr0Fixed1, Cr4Fixed0, Cr4Fixed1, Entry, Exit, Exit2, Pinbased, Procbased, Procbased2, Procbased3,
        TrueEntry, TrueExit, TruePinbased, TrueProcbased, Vmfunc,
    };
    let one = |allowed: Allowed, msr: CapabilityMsr| (allowed, msr, msr);
    let precise = |allowed: Allowed, default: CapabilityMsr, precise: CapabilityMsr| {
        one(allowed, if caps.basic & 1 << 55 != 0 { precise } else { default })
    };
    [
        (field::PIN_BASED_VM_EXECUTION_CONTROLS.id(), precise(caps.pin, Pinbased, TruePinbased)),
        (field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), precise(caps.primary, Procbased, TrueProcbased)),
        (field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), one(caps.secondary, Procbased2)),
        (field::TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), one(caps.tertiary, Procbased3)),
        (field::PRIMARY_VM_EXIT_CONTROLS.id(), precise(caps.exit, Exit, TrueExit)),
        (field::SECONDARY_VM_EXIT_CONTROLS.id(), one(caps.secondary_exit, Exit2)),
        (field::VM_ENTRY_CONTROLS.id(), precise(caps.entry, Entry, TrueEntry)),
        (field::VM_FUNCTION_CONTROLS.id(), one(caps.vm_functions, Vmfunc)),
        (field::GUEST_CR0.id(), (caps.cr0, Cr0Fixed0, Cr0Fixed1)),
        (field::HOST_CR0.id(), (caps.cr0, Cr0Fixed0, Cr0Fixed1)),
        (field::GUEST_CR4.id(), (caps.cr4, Cr4Fixed0, Cr4Fixed1)),
        (field::HOST_CR4.id(), (caps.cr4, Cr4Fixed0, Cr4Fixed1)),
    ]
    .into_iter()
    .find_map(|(id, allowed)| (id == word).then_some(allowed))
}
