//! What the SDM leaves open of single instructions.

use std::collections::BTreeSet;

use vmcs_model::field::{self, Area, Encoding};
use vmcs_wire::{Op, StepResult};

use crate::step::Step;

/// Whether the VMCS that is current after `ops` was active at a VMXOFF. Its data may be with the processor alone then, and are lost:
/// VMCLEAR comes first (SDM 25.11.1, Software Use of Virtual-Machine Control Structures).
pub(super) fn was_active_at_vmxoff(ops: &[Op]) -> bool {
    let (mut active, mut lost) = (BTreeSet::new(), BTreeSet::new());
    let mut current = None;
    for op in ops {
        match op {
            Op::Vmptrld { address } => {
                active.insert(*address);
                current = Some(*address);
            }
            Op::Vmclear { address } => {
                active.remove(address);
            }
            Op::Vmxoff => lost.append(&mut active),
            _ => {}
        }
    }
    current.is_some_and(|current| lost.contains(&current))
}

/// Whether two values differ only where the SDM says nothing about the field: VM-exit information that the exit before
/// did not define keeps whatever a processor left there, and VMCLEAR initialises no field.
pub(super) fn is_open(op: &Op, expected: &Step, observed: &Step) -> bool {
    let (Op::Vmread { encoding }, StepResult::Value(_), StepResult::Value(_)) = (op, expected, observed) else {
        return false;
    };
    let field = u32::try_from(*encoding).ok().map(|encoding| Encoding(encoding).full()).and_then(Encoding::field);
    field.is_some_and(|field| {
        field.info().area() == Area::ExitInformation
            && field != field::VM_INSTRUCTION_ERROR.id()
            && field != field::EXIT_REASON.id()
            && field != field::EXIT_QUALIFICATION.id()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vmclear_before_vmxoff_keeps_a_vmcs() {
        let (load, clear) = (Op::Vmptrld { address: 0x1000 }, Op::Vmclear { address: 0x1000 });
        let on = Op::Vmxon { address: 0x2000 };
        assert!(was_active_at_vmxoff(&[load, Op::Vmxoff, on, load]));
        assert!(!was_active_at_vmxoff(&[load, clear, Op::Vmxoff, on, load]));
        assert!(!was_active_at_vmxoff(&[load, Op::Vmxoff, on, Op::Vmptrld { address: 0x3000 }]));
    }
}
