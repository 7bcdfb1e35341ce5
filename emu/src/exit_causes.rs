//! What caused a VM exit, as far as it decides which guest state the exit saves: RF and pending debug exceptions.
//!
//! SDM 28.3.3, Saving RIP, RSP, RFLAGS, and SSP, and 28.3.4, Saving Non-Register State, speak of causes; the numbers
//! are those of Appendix C, VMX Basic Exit Reasons. Whoever compares what another processor saves needs the same lists,
//! which is why they are public.

use vmcs_model::formats::InterruptionInformation;
use vmcs_model::formats::event_type::{HARDWARE_EXCEPTION, NMI};
use vmcs_model::registers::Rflags;

use crate::VmExit;

/// Basic exit reason 0: an exception or an NMI.
const EXCEPTION_OR_NMI: u16 = 0;
const TASK_SWITCH: u16 = 9;
const EPT_MISCONFIGURATION: u16 = 49;
/// Vectors of exceptions. SDM Vol. 3A, 7.3, Sources of Interrupts and Exceptions.
const DEBUG: u8 = 1;
const MACHINE_CHECK: u8 = 18;
/// Exit qualification of an exit by #DB, bit 13: the exception came from an access to a debug register (DR7.GD).
const DEBUG_REGISTER_ACCESS: u64 = 1 << 13;
/// Exit qualification of accesses, bit 16: the access was asynchronous to the execution of instructions.
const ASYNCHRONOUS: u64 = 1 << 16;

/// Whether exits with that basic reason come from an instruction that always causes VM exits, or that does so because a
/// control says so. They save RF as 0. SDM 28.3.3, Saving RIP, RSP, RFLAGS, and SSP.
///
/// The instructions of reasons 70, 80, 81, 84 and 85 are ENCLV, URDMSR, UWRMSR, RDMSR and WRMSRNS with the number of
/// the MSR in the instruction. Appendix C does not list them in every edition.
#[must_use]
pub const fn caused_by_instruction(reason: u16) -> bool {
    matches!(
        reason,
        10..=32 | 36 | 39 | 40 | 46 | 47 | 50 | 51 | 53..=55 | 57..=61 | 63..=65 | 67..=70 | 72 | 73 | 76..=81 | 84 | 85
    )
}

/// Whether exits with that basic reason are due to an access to memory: APIC access, EPT violation, EPT
/// misconfiguration, page-modification log full, SPP-related event. They save RF as 1, unless the access was part of
/// the delivery of an event. SDM 28.3.3, Saving RIP, RSP, RFLAGS, and SSP.
#[must_use]
pub const fn caused_by_access(reason: u16) -> bool {
    matches!(reason, 44 | 48 | 49 | 62 | 66)
}

/// Whether every exit with that basic reason saves the debug exceptions that are pending: INIT, SMI, TPR below
/// threshold, virtualized EOI, APIC write, monitor trap flag, bus lock. Of the exits with other reasons only some do,
/// see [`saves_pending_debug_exceptions`]; the rest save none. SDM 28.3.4, Saving Non-Register State.
#[must_use]
pub const fn always_saves_pending_debug_exceptions(reason: u16) -> bool {
    matches!(reason, 3 | 5 | 6 | 37 | 43 | 45 | 56 | 74)
}

/// Whether the exit saves the debug exceptions that are pending. `mov_ss_blocking` says whether there was blocking by MOV
/// SS before the exit. SDM 28.3.4, Saving Non-Register State.
#[must_use]
pub fn saves_pending_debug_exceptions(exit: &VmExit, mov_ss_blocking: bool) -> bool {
    let reason = exit.reason.basic();
    // Trace-address pre-translation and processor event-based sampling, which access memory on their own. The
    // qualification of an EPT misconfiguration does not tell them.
    let asynchronous =
        caused_by_access(reason) && reason != EPT_MISCONFIGURATION && exit.qualification & ASYNCHRONOUS != 0;
    always_saves_pending_debug_exceptions(reason)
        || asynchronous
        || is_exception(exit, MACHINE_CHECK)
        || mov_ss_blocking && !is_exception(exit, DEBUG)
}

/// RFLAGS as the exit saves it; `rflags` is the guest's.
pub(crate) fn saved_rflags(exit: &VmExit, rflags: Rflags) -> Rflags {
    let reason = exit.reason.basic();
    let rf = if caused_by_instruction(reason) || exit.reason.enclave_mode() {
        false
    } else if exit.original_event.valid() && (caused_by_access(reason) || reason == TASK_SWITCH) {
        pushed_rf(exit.original_event, 0, rflags)
    } else if caused_by_access(reason) {
        true
    } else if reason == EXCEPTION_OR_NMI && exit.event.valid() {
        pushed_rf(exit.event, exit.qualification, rflags)
    } else {
        rflags.contains(Rflags::RF)
    };
    let mut saved = rflags;
    saved.set(Rflags::RF, rf);
    saved
}

/// RF in the image of RFLAGS that the delivery of an event would push: 1 for faults, except that a #DB for an
/// instruction breakpoint leaves it as it is. SDM Vol. 3B, 19.3.1.1, Instruction-Breakpoint Exception Condition.
fn pushed_rf(event: InterruptionInformation, qualification: u64, rflags: Rflags) -> bool {
    let fault = match event.vector() {
        _ if event.event_type() != HARDWARE_EXCEPTION => false,
        DEBUG => qualification & DEBUG_REGISTER_ACCESS != 0,
        // #DE, #BR, #UD, #NM, #TS, #NP, #SS, #GP, #PF, #MF, #AC, #XM, #VE, #CP.
        0 | 5..=7 | 10..=14 | 16 | 17 | 19..=21 => true,
        _ => false,
    };
    fault || rflags.contains(Rflags::RF)
}

/// The exit is caused by an exception with that vector.
fn is_exception(exit: &VmExit, vector: u8) -> bool {
    exit.reason.basic() == EXCEPTION_OR_NMI && exit.event.event_type() != NMI && exit.event.vector() == vector
}
