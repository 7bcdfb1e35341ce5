//! The bare-metal payload that executes case programs.
//!
//! `boot.s` leads from a loader's 32-bit protected mode to [`main`]; `rom_stub.s` leads there from the reset vector (`linux_rom.s` leads
//! from there to a Linux, which executes the probe under KVM).
//! [`case`] executes programs with the instructions of [`vmx`]; `enter.s` holds VM entry and the exit path. [`work`] comes
//! and answers go by a [`transport`](vmcs_probe::transport), the [`disk`](vmcs_probe::disk) or the [`mailbox`]; [`console`] is for messages to people, [`diagnose`] asks the model why an entry failed.
#![no_std]
#![no_main]
// Everything is one program: registers are cut to the width that the hardware gives them.
#![allow(clippy::cast_possible_truncation, reason = "register halves and addresses below 4 GiB")]

mod case;
mod console;
mod diagnose;
mod mailbox;
mod memory;
mod profile;
mod tables;
mod vmx;
mod work;

use core::arch::x86_64::__cpuid_count;

use vmcs_probe::disk;
use vmcs_wire::layout;
use x86::msr::{IA32_FEATURE_CONTROL, IA32_VMX_BASIC};

/// Comes from `boot.s` in 64-bit mode on the probe's own stack; `boot` says where the work lies.
extern "C" fn main(boot: u32) -> ! {
    assert!(__cpuid_count(1, 0).ecx & 1 << 5 != 0, "no VMX in CPUID");
    tables::load();
    enable_vmx();
    let revision =
        vmx::rdmsr(IA32_VMX_BASIC).expect("IA32_VMX_BASIC exists where CPUID shows VMX") as u32 & 0x7FFF_FFFF;
    console::say(format_args!("ready"));
    match boot {
        layout::BOOT_DISK => work::all(&mut disk::Disk::default(), revision),
        layout::BOOT_MAILBOX => work::all(&mut mailbox::Mailbox, revision),
        _ => panic!("started without word of where the work lies (EAX {boot:#x})"),
    }
    console::say(format_args!("done"));
    console::power_off()
}

/// Sets CR4.VMXE and, when firmware has not, the lock and VMX-outside-SMX bits of IA32_FEATURE_CONTROL.
#[allow(unsafe_code, reason = "CR4 and an MSR are written")]
fn enable_vmx() {
    const LOCKED: u64 = 1 << 0;
    const VMX_OUTSIDE_SMX: u64 = 1 << 2;
    match vmx::rdmsr(IA32_FEATURE_CONTROL) {
        Some(control) if control & LOCKED == 0 => {
            // SAFETY: the MSR exists and is not locked, so that bits 0 and 2 may be set (SDM Vol. 3, "Enabling and
            // Entering VMX Operation").
            unsafe { x86::msr::wrmsr(IA32_FEATURE_CONTROL, control | LOCKED | VMX_OUTSIDE_SMX) };
        }
        Some(control) => {
            assert!(control & VMX_OUTSIDE_SMX != 0, "VMX is locked off (IA32_FEATURE_CONTROL {control:#x})")
        }
        None => {}
    }
    // SAFETY: CPUID shows VMX, so CR4.VMXE may be set; the other bits are those that boot.s has set.
    unsafe {
        core::arch::asm!("mov cr4, {}", in(reg) layout::CR4, options(nostack, preserves_flags));
    }
}
