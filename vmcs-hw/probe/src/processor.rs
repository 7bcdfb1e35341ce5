//! Finding out whether this processor can execute cases, and switching VMX on.
// UNSAFETY: CR4 and an MSR are written.
#![allow(unsafe_code, reason = "CR4 and an MSR are written")]

use core::arch::x86_64::__cpuid_count;
use core::fmt::{self, Write};

use vmcs_wire::layout;
use x86::msr::{IA32_FEATURE_CONTROL, IA32_VMX_BASIC};

use crate::vmx;

const LOCKED: u64 = 1 << 0;
const VMX_OUTSIDE_SMX: u64 = 1 << 2;

/// Why the processor cannot execute cases.
pub(crate) enum ProcessorUnfit {
    /// CPUID shows no VMX.
    NoVmx,
    /// The firmware has locked IA32_FEATURE_CONTROL, whose value this is, with VMX off.
    LockedOff(u64),
}

impl fmt::Display for ProcessorUnfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVmx => {
                write!(f, "the processor has no VMX: {ProcessorName}")?;
                f.write_str(if __cpuid_count(1, 0).ecx >> 31 == 1 {
                    "; it is a virtual machine's, whose hypervisor must offer VMX to it"
                } else {
                    "; it takes one of Intel's with VT-x"
                })
            }
            Self::LockedOff(control) => write!(
                f,
                "VMX is locked off by the firmware (IA32_FEATURE_CONTROL is {control:#x}): switch on VT-x, Intel's \
                 virtualization technology, in the firmware's setup"
            ),
        }
    }
}

/// VMX that is switched on.
pub(crate) struct Vmx {
    /// VMCS revision identifier.
    pub(crate) revision: u32,
    /// Value of IA32_FEATURE_CONTROL before, where it exists.
    pub(crate) feature_control: Option<u64>,
}

/// Sets CR4.VMXE and, when firmware has not, the lock and VMX-outside-SMX bits of IA32_FEATURE_CONTROL.
///
/// # Errors
/// [`ProcessorUnfit`].
pub(crate) fn enable_vmx() -> Result<Vmx, ProcessorUnfit> {
    if __cpuid_count(1, 0).ecx & 1 << 5 == 0 {
        return Err(ProcessorUnfit::NoVmx);
    }
    let feature_control = vmx::rdmsr(IA32_FEATURE_CONTROL);
    match feature_control {
        Some(control) if control & LOCKED == 0 => {
            // SAFETY: the MSR exists and is not locked, so that bits 0 and 2 may be set (SDM Vol. 3, "Enabling and
            // Entering VMX Operation").
            unsafe { x86::msr::wrmsr(IA32_FEATURE_CONTROL, control | LOCKED | VMX_OUTSIDE_SMX) };
        }
        Some(control) if control & VMX_OUTSIDE_SMX == 0 => return Err(ProcessorUnfit::LockedOff(control)),
        _ => {}
    }
    // SAFETY: CPUID shows VMX, so CR4.VMXE may be set; the other bits are those that boot.s has set.
    unsafe {
        core::arch::asm!("mov cr4, {}", in(reg) layout::CR4, options(nostack, preserves_flags));
    }
    let basic = vmx::rdmsr(IA32_VMX_BASIC).expect("IA32_VMX_BASIC exists where CPUID shows VMX");
    Ok(Vmx { revision: basic as u32 & 0x7FFF_FFFF, feature_control })
}

/// Vendor, brand string and signature of the processor.
pub(crate) struct ProcessorName;

impl fmt::Display for ProcessorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Brand strings are padded with spaces.
        let mut last = b' ';
        let mut text = |registers: &[u32]| {
            registers.iter().flat_map(|register| register.to_le_bytes()).try_for_each(|byte| {
                if !(b' '..=b'~').contains(&byte) || (last, byte) == (b' ', b' ') {
                    return Ok(());
                }
                last = byte;
                f.write_char(char::from(byte))
            })
        };
        let vendor = __cpuid_count(0, 0);
        text(&[vendor.ebx, vendor.edx, vendor.ecx])?;
        if __cpuid_count(0x8000_0000, 0).eax >= 0x8000_0004 {
            text(&[u32::from_le_bytes(*b"    ")])?;
            for leaf in 0x8000_0002..=0x8000_0004 {
                let part = __cpuid_count(leaf, 0);
                text(&[part.eax, part.ebx, part.ecx, part.edx])?;
            }
        }
        write!(f, " (signature {:#x})", __cpuid_count(1, 0).eax)
    }
}
