//! Basic VM-entry checks: whether VMLAUNCH or VMRESUME gets as far as the VMCS. The processor makes them in the order of the
//! rows.

use super::{Failure, checks};
use crate::context::EntryInstruction;
use crate::cpu::{LaunchState, NO_POINTER, VmxOperation};
use crate::formats::exit_reason;
use crate::outcome::Outcome;
use crate::registers::{Cr0, Rflags};

checks! {
    /// Whether the instruction can be executed here, and on this VMCS.
    pub enum BasicCheck, Basic, sdm "27.1" "Basic VM-Entry Checks", fails Failure::INVALID, |c|
    when true, "" => {
        /// The instruction is valid only in VMX operation, in protected mode, outside virtual-8086 mode and
        /// outside compatibility mode.
        Mode "pre.mode-ud" [] -> Failure::UNDEFINED_OPCODE =>
            c.cpu().vmx != VmxOperation::Outside
                && c.cpu().cr0.contains(Cr0::PE)
                && !c.cpu().rflags.contains(Rflags::VM)
                && !c.cpu().compatibility_mode();
        /// In VMX non-root operation the instruction causes a VM exit: basic reason 20 for VMLAUNCH, 24 for VMRESUME.
        NonRoot "pre.nonroot-exit" []
            -> Failure::new(Outcome::Exited { reason: exit_reason::VMLAUNCH })
                .or(Outcome::Exited { reason: exit_reason::VMRESUME }) =>
            c.cpu().vmx != VmxOperation::NonRoot;
        /// CPL is 0.
        Cpl "pre.cpl" [] -> Failure::GENERAL_PROTECTION => c.cpu().cpl == 0;
        /// There is a current VMCS: the current-VMCS pointer is not FFFFFFFF_FFFFFFFFH.
        CurrentVmcs "pre.current-vmcs" [] => c.cpu().vmcs_pointer != NO_POINTER;
    }
    when c.cpu().vmcs_pointer != NO_POINTER, "there is a current VMCS" => {
        /// The current VMCS is an ordinary VMCS, not a shadow VMCS. No error number is stored although a current
        /// VMCS exists.
        ShadowVmcs "pre.shadow-vmcs" [] => !c.attempt().shadow;
        /// Events are not blocked by MOV SS. Blocking by STI does not matter.
        MovSsBlocking "pre.mov-ss-blocking" [] -> Failure::valid(26) => !c.cpu().mov_ss_blocking;
    }
    when c.cpu().vmcs_pointer != NO_POINTER && c.attempt().instruction == EntryInstruction::Vmlaunch,
        "the instruction is VMLAUNCH" => {
        /// The launch state of the current VMCS is clear.
        VmlaunchState "pre.vmlaunch-state" [] -> Failure::valid(4) => c.attempt().launch_state == LaunchState::Clear;
    }
    when c.cpu().vmcs_pointer != NO_POINTER && c.attempt().instruction == EntryInstruction::Vmresume,
        "the instruction is VMRESUME" => {
        /// The launch state of the current VMCS is launched.
        VmresumeState "pre.vmresume-state" [] -> Failure::valid(5) => c.attempt().launch_state != LaunchState::Clear;
        /// The VMCS was not launched before an intervening VMXOFF and VMXON. Error 6 is reserved for that; whether a
        /// processor notices, or has lost the launch state, is its own.
        VmresumeAfterVmxoff "pre.vmresume-after-vmxoff" []
            -> Failure::valid(6).or(Outcome::fail_valid(5)).optional() =>
            c.attempt().launch_state != LaunchState::LaunchedBeforeVmxoff;
    }
}
