//! The profile report: MSRs, CPUID, and every VMCS encoding.

use vmcs_model::msr::CapabilityMsr;
use vmcs_model::profile::{CpuidLeaf, MsrValue};
use vmcs_wire::StepResult;
use vmcs_wire::codec::{BufferFull, Writer};
use vmcs_wire::layout::VMCS_REGIONS;
use vmcs_wire::profile::{FieldReport, encode_leaf, encode_msr, encodings};
use vmcs_wire::{Op, Start};

use crate::capabilities;
use crate::case::CaseRunner;
use crate::vmx::{self, Flags};

/// VM-instruction error of VMREAD and VMWRITE: unsupported VMCS component (SDM Vol. 3, Table 33-1).
const UNSUPPORTED_COMPONENT: u32 = 12;

/// Writes the whole report.
///
/// # Errors
/// [`BufferFull`].
pub(crate) fn write(machine: &mut CaseRunner<'_>, out: &mut Writer<'_>) -> Result<(), BufferFull> {
    let profile = capabilities::read();
    out.u16(CapabilityMsr::ALL.len() as u16)?;
    for msr in CapabilityMsr::ALL {
        let value = match profile.msr(msr) {
            MsrValue::Value(value) => Some(value),
            MsrValue::Absent | MsrValue::Unknown => None,
        };
        encode_msr(out, msr.number(), value)?;
    }
    out.u16(CpuidLeaf::ALL.len() as u16)?;
    for leaf in CpuidLeaf::ALL {
        encode_leaf(out, leaf.query(), profile.cpuid(leaf))?;
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

fn make_vmcs_current(machine: &mut CaseRunner<'_>) -> Result<(), BufferFull> {
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
