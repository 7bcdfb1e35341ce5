//! How a VMX instruction can end.

use core::fmt;
use core::str::FromStr;

use crate::formats::{InstructionError, exit_reason};

/// An exception raised instead of completing an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Exception {
    /// Vector, 0-31.
    pub vector: u8,
    /// Error code, for the vectors that push one.
    pub error_code: Option<u32>,
}

impl Exception {
    /// Invalid opcode.
    pub const UD: Self = Self { vector: 6, error_code: None };
    /// General protection with error code 0.
    pub const GP0: Self = Self { vector: 13, error_code: Some(0) };
    const MNEMONICS: [&'static str; 22] = [
        "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "#9", "#TS", "#NP", "#SS", "#GP", "#PF", "#15",
        "#MF", "#AC", "#MC", "#XM", "#VE", "#CP",
    ];
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::MNEMONICS.get(usize::from(self.vector)) {
            Some(mnemonic) => f.write_str(mnemonic)?,
            None => write!(f, "#{}", self.vector)?,
        }
        match self.error_code {
            Some(code) => write!(f, "({code:X})"),
            None => Ok(()),
        }
    }
}

/// A text that is no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseOutcomeError;

impl fmt::Display for ParseOutcomeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an outcome, such as Entered, VMfailInvalid, VMfailValid(7), EntryFailed(33, 0), Exited(18) or #GP(0)")
    }
}

impl core::error::Error for ParseOutcomeError {}

/// The digits of a number and nothing else: no sign, no blanks.
fn digits(text: &str, radix: u32) -> Option<u64> {
    let mut number = (!text.is_empty()).then_some(0_u64)?;
    for c in text.chars() {
        number = number.checked_mul(radix.into())?.checked_add(c.to_digit(radix)?.into())?;
    }
    Some(number)
}

/// What stands in the parentheses of `name(...)`.
fn argument<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')
}

impl FromStr for Exception {
    type Err = ParseOutcomeError;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, ParseOutcomeError> {
        let parse = || {
            let (name, error_code) = match text.split_once('(') {
                Some((name, rest)) => (name, Some(u32::try_from(digits(rest.strip_suffix(')')?, 16)?).ok()?)),
                None => (text, None),
            };
            let known = (0..).zip(Self::MNEMONICS).find(|(_, mnemonic)| *mnemonic == name);
            let vector = match known {
                Some((vector, _)) => vector,
                None => u8::try_from(digits(name.strip_prefix('#')?, 10)?).ok()?,
            };
            Some(Self { vector, error_code })
        };
        parse().ok_or(ParseOutcomeError)
    }
}

/// How VMLAUNCH or VMRESUME ends. `Display` writes the form that files and reports use, and `FromStr` reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The instruction raised an exception: `#UD`, `#GP(0)`.
    Fault(Exception),
    /// The instruction was executed in VMX non-root operation and caused a VM exit: `Exited(20)`.
    Exited {
        /// Basic exit reason.
        reason: u16,
    },
    /// VMfailInvalid: CF is set, no status is stored.
    FailInvalid,
    /// VMfailValid: ZF is set, the VM-instruction error field holds the number: `VMfailValid(7)`.
    FailValid(InstructionError),
    /// Guest state was being loaded and the host state was loaded back: `EntryFailed(33, 4)`.
    EntryFailed {
        /// Basic exit reason: 33 guest state, 34 MSR loading, 41 machine check.
        reason: u16,
        /// Exit qualification.
        qualification: u64,
    },
    /// The entry is complete: the processor is in VMX non-root operation.
    Entered,
}

impl Outcome {
    /// A VM-entry failure due to a machine check.
    pub const MACHINE_CHECK: Self = Self::EntryFailed { reason: exit_reason::MACHINE_CHECK, qualification: 0 };

    /// VMfailValid with that number.
    #[must_use]
    pub const fn fail_valid(error: u32) -> Self {
        Self::FailValid(InstructionError(error))
    }

    /// An entry failure due to invalid guest state.
    #[must_use]
    pub const fn invalid_guest_state(qualification: u64) -> Self {
        Self::EntryFailed { reason: exit_reason::INVALID_GUEST_STATE, qualification }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(exception) => exception.fmt(f),
            Self::Exited { reason } => write!(f, "Exited({reason})"),
            Self::FailInvalid => f.write_str("VMfailInvalid"),
            Self::FailValid(InstructionError(n)) => write!(f, "VMfailValid({n})"),
            Self::EntryFailed { reason, qualification } => write!(f, "EntryFailed({reason}, {qualification})"),
            Self::Entered => f.write_str("Entered"),
        }
    }
}

impl FromStr for Outcome {
    type Err = ParseOutcomeError;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, ParseOutcomeError> {
        let parse = || match text {
            "VMfailInvalid" => Some(Self::FailInvalid),
            "Entered" => Some(Self::Entered),
            _ => {
                if let Some(number) = argument(text, "VMfailValid") {
                    return Some(Self::fail_valid(u32::try_from(digits(number, 10)?).ok()?));
                }
                if let Some(reason) = argument(text, "Exited") {
                    return Some(Self::Exited { reason: u16::try_from(digits(reason, 10)?).ok()? });
                }
                let (reason, qualification) = argument(text, "EntryFailed")?.split_once(", ")?;
                Some(Self::EntryFailed {
                    reason: u16::try_from(digits(reason, 10)?).ok()?,
                    qualification: digits(qualification, 10)?,
                })
            }
        };
        match parse() {
            Some(outcome) => Ok(outcome),
            None => text.parse().map(Self::Fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let codes = [None, Some(0), Some(5), Some(0xDEAD_BEEF), Some(u32::MAX)];
        let exceptions = (0..=u8::MAX).flat_map(|vector| codes.map(|error_code| Exception { vector, error_code }));
        let mut outcomes: Vec<_> = exceptions.map(Outcome::Fault).collect();
        outcomes.extend([Outcome::FailInvalid, Outcome::Entered, Outcome::MACHINE_CHECK]);
        outcomes.extend([0, 7, 33, u32::MAX].map(Outcome::fail_valid));
        outcomes.extend([0, 18, u16::MAX].map(|reason| Outcome::Exited { reason }));
        for reason in [0, 33, 34, 41, u16::MAX] {
            outcomes.extend([0, 1, 4, u64::MAX].map(|qualification| Outcome::EntryFailed { reason, qualification }));
        }
        for outcome in outcomes {
            assert_eq!(outcome.to_string().parse(), Ok(outcome), "{outcome}");
        }
    }

    #[test]
    fn what_is_no_outcome_is_refused() {
        for text in [
            "",
            "entered",
            "Entered ",
            " Entered",
            "VMfailValid",
            "VMfailValid()",
            "VMfailValid(-1)",
            "VMfailValid(+7)",
            "VMfailValid(7",
            "VMfailValid(7) ",
            "VMfailValid(4294967296)",
            "EntryFailed(33)",
            "EntryFailed(33,0)",
            "EntryFailed(65536, 0)",
            "EntryFailed(33, 0, 0)",
            "Exited(0x12)",
            "Exited(70000)",
            "#",
            "#256",
            "#ud",
            "#GP(",
            "#GP()",
            "#GP(100000000)",
            "#GP(0",
            "ok",
        ] {
            assert_eq!(text.parse::<Outcome>(), Err(ParseOutcomeError), "{text:?}");
        }
    }
}
