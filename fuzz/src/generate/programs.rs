//! The generator `programs`: sequences of VMX instructions over several VMCS regions, for the rules on launch states,
//! pointers, revision identifiers and fields.

use arbitrary::{Result, Unstructured};
use vmcs_case::Case;
use vmcs_model::field::{self, FIELDS};
use vmcs_wire::{Op, Start, layout};

use super::values;
use crate::generate::test_processor::TestProcessor;

/// Most VMX instructions of a program.
const STEPS: usize = 20;
/// VMCS regions that programs use.
const REGIONS: u64 = 3;

/// Stores that prepare the regions, then up to [`STEPS`] instructions.
pub(super) fn case(processor: &TestProcessor, u: &mut Unstructured<'_>) -> Result<Case> {
    let revision = u64::from(processor.capabilities.revision());
    let start = if u.ratio(1u8, 3u8)? { Start::OutsideVmx } else { Start::VmxRoot };
    let mut ops = Vec::new();
    for i in 0..REGIONS {
        let header = match u.int_in_range(0..=99u8)? {
            0..=9 => revision ^ 1 << u.int_in_range(0..=30u8)?,
            10 => revision | 1 << 31,
            _ => revision,
        };
        ops.push(Op::Store { address: region(i), size: 4, value: header });
    }
    if start == Start::OutsideVmx {
        ops.push(Op::Store { address: layout::VMXON_REGION, size: 4, value: revision });
        if u.ratio(3u8, 4u8)? {
            ops.push(Op::Vmxon { address: layout::VMXON_REGION });
        }
    }
    // A region is used only after VMCLEAR has made its launch state definite, as the SDM demands of software.
    ops.extend((0..REGIONS).map(|i| Op::Vmclear { address: region(i) }));
    let steps = u.int_in_range(4..=STEPS - 4)?;
    for _ in 0..steps {
        let op = step(processor, u)?;
        ops.push(op);
    }
    Ok(Case { start, ops, ..Case::default() })
}

fn region(index: u64) -> u64 {
    layout::VMCS_REGIONS + index * 0x1000
}

/// The operand of an instruction that takes a region: mostly one of the regions, sometimes a bad pointer.
fn pointer(processor: &TestProcessor, u: &mut Unstructured<'_>) -> Result<u64> {
    let good = region(u.int_in_range(0..=REGIONS - 1)?);
    let top = processor.capabilities.address_reserved & processor.capabilities.address_reserved.wrapping_neg();
    Ok(match u.int_in_range(0..=19u8)? {
        0 => layout::VMXON_REGION,
        1 => good | 1 << u.int_in_range(0..=11u8)?,
        2 => good | top,
        3 => *u.choose(&[u64::MAX, top, 1 << 63])?,
        _ => good,
    })
}

/// The encoding of a field, mostly one that exists.
fn encoding(processor: &TestProcessor, u: &mut Unstructured<'_>) -> Result<u64> {
    let known = u64::from(u.choose(&processor.fields)?.info().encoding.0);
    Ok(match u.int_in_range(0..=15u8)? {
        0 => known | 1,
        1 => known ^ 1 << u.int_in_range(0..=14u8)?,
        2 => known | 1 << u.int_in_range(15..=63u8)?,
        3 => u64::from(u.choose(&FIELDS)?.encoding.0),
        4 => u64::from(field::VM_INSTRUCTION_ERROR.encoding().0),
        _ => known,
    })
}

fn step(processor: &TestProcessor, u: &mut Unstructured<'_>) -> Result<Op> {
    Ok(match u.int_in_range(0..=31u8)? {
        0..=2 => Op::Vmclear { address: pointer(processor, u)? },
        3..=7 => Op::Vmptrld { address: pointer(processor, u)? },
        8 | 9 => Op::Vmptrst,
        10..=13 => Op::Vmread { encoding: encoding(processor, u)? },
        14 | 15 => Op::Vmread { encoding: u64::from(field::VM_INSTRUCTION_ERROR.encoding().0) },
        16..=18 => {
            let encoding = encoding(processor, u)?;
            let value = match vmcs_model::field::Encoding(u32::try_from(encoding).unwrap_or(0)).field() {
                Some(field) => values::mutated(u, &processor.capabilities, field, 0)?,
                None => u.arbitrary()?,
            };
            Op::Vmwrite { encoding, value }
        }
        19..=21 => Op::WriteImage { image: 0 },
        22..=24 => Op::Vmlaunch { after_mov_ss: u.ratio(1u8, 12u8)? },
        25..=27 => Op::Vmresume { after_mov_ss: u.ratio(1u8, 12u8)? },
        28 => Op::Vmxon { address: if u.ratio(2u8, 3u8)? { layout::VMXON_REGION } else { pointer(processor, u)? } },
        29 => match u.int_in_range(0..=3u8)? {
            0 => Op::Vmxoff,
            1 => Op::Vmfunc { eax: u.int_in_range(0..=64)?, ecx: u.int_in_range(0..=512)? },
            _ => Op::Vmptrst,
        },
        30 => {
            let good = processor.bases[0].vmcs.raw(field::EPT_POINTER.id());
            let eptp = values::mutated(u, &processor.capabilities, field::EPT_POINTER.id(), good)?;
            Op::Invept { kind: small(u)?, descriptor: [if u.ratio(1u8, 2u8)? { good } else { eptp }, 0] }
        }
        _ => Op::Invvpid {
            kind: small(u)?,
            descriptor: [
                *u.choose(&[0u64, 1, 1, 1, 0xFFFF, 0x1_0000, 1 << 63])?,
                *u.choose(&[0u64, 0x1000, 1 << 47, 0xFFFF_8000_0000_0000, 1 << 63])?,
            ],
        },
    })
}

/// The type operand of INVEPT and INVVPID.
fn small(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(if u.ratio(7u8, 8u8)? { u.int_in_range(0..=4)? } else { u.arbitrary()? })
}
