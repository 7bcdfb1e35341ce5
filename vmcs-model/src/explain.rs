//! Explanations of violated checks: a few lines for a person, with the rule, what the fields hold, and a value that would be
//! legal.

mod limit;
mod names;
mod repair;

use core::fmt;

use crate::checks::{CheckId, CheckInfo};
use crate::context::EntryAttempt;
use crate::field::FieldId;
use crate::vmcs::{AnyFields, ReadFields};
pub use limit::{Limit, Setting, allowed_settings};
pub use names::{Bits, Meaning, bit_name};
pub use repair::Repair;

/// The explanation of a violated check; `Display` writes it, without a final newline.
///
/// ```text
/// ctl.pin.reserved-bits.allowed0: VMfailValid(7)
///   Every bit that the processor reports as must-be-1 is 1. [SDM 27.2.1.1, VM-Execution Control Fields]
///   pin_based_vm_execution_controls (4000H) = 0x0
///   bits 2:1, 4 are 0 and must be 1: the allowed-0 mask of IA32_VMX_TRUE_PINBASED_CTLS is 0x16
///   legal, for example: pin_based_vm_execution_controls = 0x16
/// ```
#[derive(Clone, Copy)]
pub struct Explanation<'a> {
    check: CheckId,
    attempt: EntryAttempt<'a>,
    vmcs: &'a dyn AnyFields,
}

impl<'a> Explanation<'a> {
    pub(crate) fn new<R: ReadFields>(check: CheckId, attempt: EntryAttempt<'a>, vmcs: &'a R) -> Self {
        Self { check, attempt, vmcs }
    }

    /// The check that is explained.
    #[must_use]
    pub const fn check(&self) -> CheckId {
        self.check
    }

    /// The condition that puts the rule in force, in words; empty if the rule is always in force.
    #[must_use]
    pub const fn gate(&self) -> &'static str {
        self.check.info().gate
    }

    /// The fields that the rule reads and what they hold, `None` where that is not known.
    pub fn fields(&self) -> impl Iterator<Item = (FieldId, Option<u64>)> + use<'a> {
        let vmcs = self.vmcs;
        self.check.info().fields.iter().map(|field| (*field, vmcs.knows(*field).then(|| vmcs.read(*field))))
    }
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CheckInfo { id, rule, gate, sdm, title, failure, .. } = self.check.info();
        write!(f, "{id}: {}", failure.outcome)?;
        if let Some(other) = failure.or {
            write!(f, " or {other}")?;
        }
        if failure.optional {
            f.write_str(", if the processor makes this check")?;
        }
        write!(f, "\n  {rule} [SDM {sdm}, {title}]")?;
        if !gate.is_empty() {
            write!(f, "\n  in force because {gate}")?;
        }
        for (field, value) in self.fields() {
            let info = field.info();
            write!(f, "\n  {} ({}) = ", info.name, info.encoding)?;
            match value {
                Some(value) => write!(f, "{value:#x}{}", InParentheses(Meaning { field, value }))?,
                None => f.write_str("unknown")?,
            }
        }
        if let Some(limit) = self.limit() {
            write!(f, "\n  {limit}")?;
        }
        match self.repair() {
            Some(repair) => write!(f, "\n  {repair}"),
            None => Ok(()),
        }
    }
}

/// The meaning of a value, written in parentheses behind the value.
struct InParentheses(Meaning);

impl fmt::Display for InParentheses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Opens the parenthesis when something is written.
        struct Opening<'a, 'b> {
            f: &'a mut fmt::Formatter<'b>,
            open: bool,
        }
        impl fmt::Write for Opening<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                if !text.is_empty() && !core::mem::replace(&mut self.open, true) {
                    self.f.write_str(" (")?;
                }
                self.f.write_str(text)
            }
        }
        let mut out = Opening { f, open: false };
        fmt::Write::write_fmt(&mut out, format_args!("{}", self.0))?;
        if out.open { out.f.write_str(")") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bits, Meaning, bit_name};
    use crate::field;

    #[test]
    fn bits_have_the_names_of_the_sdm() {
        assert_eq!(bit_name(field::VM_ENTRY_CONTROLS.id(), 10), Some("entry to SMM"));
        assert_eq!(bit_name(field::HOST_CR4.id(), 13), Some("VMXE"));
        assert_eq!(bit_name(field::GUEST_RFLAGS.id(), 17), Some("VM"));
        assert_eq!(bit_name(field::GUEST_INTERRUPTIBILITY_STATE.id(), 1), Some("blocking by MOV SS"));
        assert_eq!(bit_name(field::GUEST_LDTR_ACCESS_RIGHTS.id(), 16), Some("segment unusable"));
        assert_eq!(bit_name(field::HOST_CR4.id(), 63), None);
        assert_eq!(bit_name(field::GUEST_RIP.id(), 0), None);
        let bits = |field, mask| Bits { field, mask }.to_string();
        assert_eq!(bits(field::HOST_CR4.id(), 1 << 13), "bit 13 “VMXE”");
        assert_eq!(bits(field::HOST_CR4.id(), 0xF << 60 | 1 << 13 | 1 << 40), "bits 13 “VMXE”, 40, 63:60");
        assert_eq!(bits(field::GUEST_RIP.id(), u64::MAX), "bits 63:0");
    }

    #[test]
    fn values_say_what_they_mean() {
        let meaning = |field, value| Meaning { field, value }.to_string();
        let event = field::VM_ENTRY_INTERRUPTION_INFORMATION.id();
        assert_eq!(meaning(event, 0x8000_030D), "hardware exception, vector 13, without error code");
        assert_eq!(meaning(event, 0x30D), "not valid: no event");
        assert_eq!(meaning(field::GUEST_CS_ACCESS_RIGHTS.id(), 0xA09B), "type 11, DPL 0, S, P, L, G");
        assert_eq!(meaning(field::GUEST_TR_ACCESS_RIGHTS.id(), 0x1_008B), "unusable");
        assert_eq!(meaning(field::GUEST_INTERRUPTIBILITY_STATE.id(), 9), "blocking by STI, blocking by NMI");
        assert_eq!(meaning(field::EPT_POINTER.id(), 0x105E), "memory type 6, 4 levels, accessed and dirty flags");
        assert_eq!(meaning(field::GUEST_ACTIVITY_STATE.id(), 1), "HLT");
        assert_eq!(meaning(field::HOST_CS_SELECTOR.id(), 7), "RPL 3, TI");
        assert_eq!(meaning(field::GUEST_RIP.id(), 7), "");
    }
}
