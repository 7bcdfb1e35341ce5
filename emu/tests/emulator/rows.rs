//! Tables of outcomes.

use vmcs_emu::{InstructionFailure, LogicalProcessor};
use vmcs_model::field::{EXIT_REASON, VM_INSTRUCTION_ERROR};
use vmcs_model::formats::InstructionError;
use vmcs_model::registers::Rflags;
use vmcs_model::{CpuProfile, VmxOperation};

use crate::support::profile;

/// The number and condition of the row, the state, the instruction, the outcome.
pub(crate) type Row = (&'static str, fn() -> LogicalProcessor, fn(&mut LogicalProcessor) -> Outcome, Outcome);
pub(crate) type Outcome = Result<u64, InstructionFailure>;

pub(crate) const SUCCEEDS: Outcome = Ok(0);
pub(crate) const UD: Outcome = Err(InstructionFailure::UNDEFINED_OPCODE);
pub(crate) const GP: Outcome = Err(InstructionFailure::GENERAL_PROTECTION);
pub(crate) const INVALID: Outcome = Err(InstructionFailure::Invalid);

pub(crate) const fn valid(error: u32) -> Outcome {
    Err(InstructionFailure::valid(error))
}

pub(crate) const fn exits(reason: u16) -> Outcome {
    Err(InstructionFailure::Exit { reason })
}

/// Success without a value as an [`Outcome`].
pub(crate) fn done(result: Result<(), InstructionFailure>) -> Outcome {
    result.map(|()| 0)
}

/// `setup` with a change.
pub(crate) fn with(setup: fn() -> LogicalProcessor, change: impl FnOnce(&mut LogicalProcessor)) -> LogicalProcessor {
    let mut cpu = setup();
    change(&mut cpu);
    cpu
}

/// A profile and its change.
pub(crate) fn profile_and(change: impl FnOnce(&mut CpuProfile)) -> CpuProfile {
    let mut profile = profile();
    change(&mut profile);
    profile
}

const STATUS: Rflags =
    Rflags::CF.union(Rflags::PF).union(Rflags::AF).union(Rflags::ZF).union(Rflags::SF).union(Rflags::OF);
const OLD_ERROR: InstructionError = InstructionError(0x5A5A);

/// Executes every row with all status flags 0 and with all 1, and looks at flags and error number too. SDM 31.2,
/// Conventions.
pub(crate) fn check(rows: &[Row]) {
    for (name, setup, instruction, expected) in rows {
        for flags in [Rflags::empty(), STATUS] {
            let mut cpu = setup();
            cpu.cpu_mut().rflags |= flags;
            let (before, current) = (cpu.cpu().clone(), cpu.cpu().vmcs_pointer);
            if cpu.current().is_some() {
                cpu.region_mut(current).fields.set(VM_INSTRUCTION_ERROR, OLD_ERROR);
            }
            assert_eq!(instruction(&mut cpu), *expected, "{name}");
            let after = cpu.cpu();
            let status = after.rflags & STATUS;
            let error = cpu.region(current).map(|region| region.fields.get(VM_INSTRUCTION_ERROR));
            let unchanged = error.is_none_or(|error| error == OLD_ERROR);
            match expected {
                Ok(_) => assert_eq!((status, unchanged), (Rflags::empty(), true), "{name}"),
                Err(InstructionFailure::Invalid) => {
                    assert_eq!((status, unchanged), (Rflags::CF, true), "{name}");
                }
                Err(InstructionFailure::Valid(number)) => {
                    assert_eq!((status, error), (Rflags::ZF, Some(*number)), "{name}");
                }
                Err(InstructionFailure::Fault(_)) => assert_eq!((after, unchanged), (&before, true), "{name}"),
                Err(InstructionFailure::Exit { reason }) if before.vmx == VmxOperation::NonRoot => {
                    assert_eq!((after.vmx, after.rflags), (VmxOperation::Root, Rflags::FIXED1), "{name}");
                    let recorded = cpu.current().map(|region| region.fields.get(EXIT_REASON).into_bits());
                    assert_eq!((recorded, unchanged), (Some(u32::from(*reason)), true), "{name}");
                }
                Err(InstructionFailure::Exit { .. } | InstructionFailure::Shutdown) => assert!(unchanged, "{name}"),
            }
        }
    }
}
