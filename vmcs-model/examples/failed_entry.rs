//! A hypervisor without std that asks the model why its VM entry failed, and prints the answer on a serial port.
//!
//! [`explain_failed_entry`] is all that it takes: no allocation, a closure that executes VMREAD, a [`fmt::Write`]. Here the
//! current VMCS and the serial port are make-believe, so that the example runs anywhere:
//!
//! ```sh
//! cargo run -p vmcs-model --example failed_entry
//! ```
#![no_std]

extern crate std;

use core::fmt;

use vmcs_model::capabilities::Capabilities;
use vmcs_model::cpu::CpuState;
use vmcs_model::field::{self, Encoding};
use vmcs_model::formats::{ExitReason, InstructionError};
use vmcs_model::vmcs::FieldReader;
use vmcs_model::{EntryAttempt, FieldValue, ReadMemory};

/// How the hypervisor noticed.
#[derive(Clone, Copy)]
enum Failure {
    /// VMLAUNCH fell through with ZF set: the VM-instruction error field has a number.
    Instruction,
    /// Control came back through the host-state area with bit 31 of the exit reason set.
    Exit,
}

/// Says why VMLAUNCH failed.
///
/// `vmread` is VMREAD of the current VMCS, which a failed entry leaves as it was but for the exit information. A field that
/// the processor does not have may read as anything. `memory` reads physical memory: the virtual-APIC page, the VMCS that
/// the link pointer names, the MSR-load area, PDPTEs.
///
/// # Errors
/// Those of `serial`.
fn explain_failed_entry(
    failure: Failure,
    vmread: impl Fn(Encoding) -> u64,
    memory: &impl ReadMemory,
    cpu: &CpuState,
    capabilities: &Capabilities,
    serial: &mut impl fmt::Write,
) -> fmt::Result {
    if let Failure::Exit = failure {
        let reason = ExitReason::from_raw(vmread(field::EXIT_REASON.encoding()));
        let qualification = vmread(field::EXIT_QUALIFICATION.encoding());
        writeln!(serial, "VM entry failed: exit reason {}, qualification {qualification}", reason.basic())?;
    } else {
        let error = InstructionError::from_raw(vmread(field::VM_INSTRUCTION_ERROR.encoding()));
        writeln!(serial, "VM entry failed: {error}")?;
    }
    let vmcs = FieldReader(|field: field::FieldId| vmread(field.info().encoding));
    let entry = EntryAttempt::vmlaunch(cpu, capabilities).on(&vmcs, memory);
    let violated = entry.violations();
    for check in violated.iter() {
        writeln!(serial, "{}", entry.explain(check))?;
    }
    if violated.is_empty() {
        writeln!(serial, "no check of the model is violated: is the processor the one that it was told of?")?;
    }
    Ok(())
}

/// A serial port, which a hypervisor would write to with OUT.
struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        std::print!("{text}");
        Ok(())
    }
}

fn main() -> fmt::Result {
    // A hypervisor reads the MSRs 480H-493H and CPUID; this is a processor made up of few of them.
    let capabilities = Capabilities::new(&profile());
    let cpu = CpuState::host_64();
    // Its VMCS, but for two mistakes a good one.
    let mut vmcs = vmcs_model::baseline::plain_64bit(&capabilities);
    vmcs.set(field::GUEST_TR_ACCESS_RIGHTS, 0x89.into());
    vmcs.set(field::GUEST_RFLAGS, vmcs_model::registers::Rflags::empty());
    vmcs.set(field::EXIT_REASON, 0x8000_0021.into());
    // On a processor: `vmread {value}, {encoding}`.
    let vmread = |encoding: Encoding| encoding.field().map_or(0, |field| vmcs.raw(field));
    let zf = false;
    let failure = if zf { Failure::Instruction } else { Failure::Exit };
    explain_failed_entry(failure, vmread, &vmcs_model::memory::ZeroMemory, &cpu, &capabilities, &mut Serial)
}

/// A processor with 64-bit mode and no optional feature.
fn profile() -> vmcs_model::CpuProfile {
    use vmcs_model::msr::CapabilityMsr as Msr;
    use vmcs_model::profile::{CpuidLeaf, MsrValue};

    let mut profile = vmcs_model::CpuProfile::default();
    for (msr, value) in [
        (Msr::Basic, 1),
        (Msr::Pinbased, 0x3F_0000_0016),
        (Msr::Procbased, 0x77B9_FFFE_0401_E172),
        (Msr::Exit, 0x3_FFFF_0003_6DFF),
        (Msr::Entry, 0x3FFF_0000_11FF),
        (Msr::Misc, 0x401C0),
        (Msr::Cr0Fixed0, 0x8000_0021),
        (Msr::Cr0Fixed1, 0xFFFF_FFFF),
        (Msr::Cr4Fixed0, 0x2000),
        (Msr::Cr4Fixed1, 0x27FF),
    ] {
        profile.set_msr(msr, MsrValue::Value(value));
    }
    for leaf in CpuidLeaf::ALL {
        profile.set_cpuid(leaf, [0; 4]);
    }
    profile.set_cpuid(CpuidLeaf::ExtendedFeatures, [0, 0, 0, 1 << 29 | 1 << 20 | 1 << 11]);
    profile.set_cpuid(CpuidLeaf::AddressWidths, [0x3027, 0, 0, 0]);
    profile
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    #[test]
    fn mistakes_are_named() {
        let capabilities = Capabilities::new(&profile());
        let mut vmcs = vmcs_model::baseline::plain_64bit(&capabilities);
        let memory = vmcs_model::memory::ZeroMemory;
        let explain = |failure: Failure, vmcs: &vmcs_model::Vmcs| {
            let mut serial = String::new();
            let vmread = |encoding: Encoding| encoding.field().map_or(0, |field| vmcs.raw(field));
            explain_failed_entry(failure, vmread, &memory, &CpuState::host_64(), &capabilities, &mut serial)
                .map(|()| serial)
        };
        vmcs.set(field::VM_INSTRUCTION_ERROR, InstructionError(7));
        let none = explain(Failure::Instruction, &vmcs).expect("a string takes everything");
        assert!(none.contains("invalid control field") && none.contains("no check"), "{none}");
        vmcs.set(field::GUEST_RFLAGS, vmcs_model::registers::Rflags::empty());
        vmcs.set(field::EXIT_REASON, 0x8000_0021.into());
        let one = explain(Failure::Exit, &vmcs).expect("a string takes everything");
        assert!(one.starts_with("VM entry failed: exit reason 33, qualification 0\nguest.rflags.bit1: "), "{one}");
        assert!(one.contains("set bit 1 “FIXED1”: guest_rflags = 0x2"), "{one}");
    }
}
