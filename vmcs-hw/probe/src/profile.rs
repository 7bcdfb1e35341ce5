//! The profile report: MSRs, CPUID, and every VMCS encoding.

use core::arch::x86_64::__cpuid_count;

use vmcs_wire::StepResult;
use vmcs_wire::codec::{BufferFull, Writer};
use vmcs_wire::layout::VMCS_REGIONS;
use vmcs_wire::profile::{CPUID_LEAVES, FieldReport, MSRS, encodings};
use vmcs_wire::{Op, Start};

use crate::case::Machine;
use crate::vmx::{self, Flags};

/// VM-instruction error of VMREAD and VMWRITE: unsupported VMCS component (SDM Vol. 3, Table 33-1).
const UNSUPPORTED_COMPONENT: u32 = 12;

/// Writes the whole report.
///
/// # Errors
/// [`BufferFull`].
pub(crate) fn write(machine: &mut Machine<'_>, out: &mut Writer<'_>) -> Result<(), BufferFull> {
    for msr in MSRS {
        optional(out, vmx::rdmsr(msr).map(u64::to_le_bytes))?;
    }
    let (highest, highest_extended) = (__cpuid_count(0, 0).eax, __cpuid_count(0x8000_0000, 0).eax);
    for (leaf, subleaf) in CPUID_LEAVES {
        let limit = if leaf < 0x8000_0000 { highest } else { highest_extended };
        let registers = (leaf <= limit).then(|| {
            let r = __cpuid_count(leaf, subleaf);
            (u128::from(r.edx) << 96 | u128::from(r.ecx) << 64 | u128::from(r.ebx) << 32 | u128::from(r.eax))
                .to_le_bytes()
        });
        optional(out, registers)?;
    }

    make_vmcs_current(machine)?;
    let count_at = out.len();
    out.u16(0)?;
    let mut count = 0;
    for encoding in encodings() {
        let report = probe_field(encoding);
        let unsupported = StepResult::FailValid(UNSUPPORTED_COMPONENT);
        if (report.read, report.write) != (unsupported, unsupported) {
            report.encode(out)?;
            count += 1;
        }
    }
    out.patch_u16(count_at, count)
}

/// A flag and, if there are any, the bytes.
fn optional<const N: usize>(out: &mut Writer<'_>, bytes: Option<[u8; N]>) -> Result<(), BufferFull> {
    out.u8(u8::from(bytes.is_some()))?;
    out.bytes(bytes.as_ref().map_or(&[], <[u8; N]>::as_slice))
}

fn make_vmcs_current(machine: &mut Machine<'_>) -> Result<(), BufferFull> {
    machine.reset(Start::VmxRoot);
    let mut results = [0; 32];
    let mut results = Writer::new(&mut results);
    for op in [
        Op::Store { address: VMCS_REGIONS, size: 4, value: machine.revision().into() },
        Op::Vmclear { address: VMCS_REGIONS },
        Op::Vmptrld { address: VMCS_REGIONS },
    ] {
        machine.step(op, &mut results)?;
    }
    Ok(())
}

fn probe_field(encoding: u32) -> FieldReport {
    let encoding_operand = u64::from(encoding);
    let read = match vmx::vmread(encoding_operand) {
        (Flags::Succeed, value) => StepResult::Value(value),
        (flags, _) => flags.result(),
    };
    let write = vmx::vmwrite(encoding_operand, u64::MAX).result();
    FieldReport { encoding, read, write, sticky: vmx::vmread(encoding_operand).1 }
}
