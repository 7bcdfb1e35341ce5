//! The single steps that make a case smaller.

use std::collections::BTreeSet;
use std::ops::Range;

use vmcs_case::{Case, Session};
use vmcs_model::field::Encoding;
use vmcs_wire::{Op, Start};

use crate::emulator::CaseEmulator;
use crate::processor::Processor;

/// A case of which operations can go while the others keep their places.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    start: Start,
    ops: Vec<Option<Op>>,
}

/// One way to make a draft smaller.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    /// Operations are left out.
    Drop(Vec<usize>),
    /// An operation is replaced by a plainer one.
    Replace(usize, Op),
    /// Bits of the value that an operation writes are what they were before it.
    Restore {
        /// The operation.
        op: usize,
        /// The bits.
        mask: u64,
        /// What its destination held.
        old: u64,
    },
    /// The case starts in VMX root operation, without the operations that led there.
    StartInVmxRoot(Vec<usize>),
    /// Several at once: fields that have to agree can only change together.
    Together(Vec<Edit>),
}

impl Draft {
    pub(super) fn new(case: &Case) -> Self {
        Self { start: case.start, ops: case.ops.iter().copied().map(Some).collect() }
    }

    pub(super) fn case(&self) -> Case {
        Case { start: self.start, ops: self.ops.iter().copied().flatten().collect(), ..Case::default() }
    }

    /// The draft with `edits`, which were made for it, applied.
    pub(super) fn with(&self, edits: &[Edit]) -> Self {
        let mut draft = self.clone();
        for edit in edits {
            match edit {
                Edit::Drop(ops) => draft.drop_ops(ops),
                Edit::Replace(op, plainer) => draft.ops[*op] = draft.ops[*op].map(|_| *plainer),
                Edit::Restore { op, mask, old } => {
                    if let Some(Op::Vmwrite { value, .. } | Op::Store { value, .. }) = &mut draft.ops[*op] {
                        *value = *value & !mask | old & mask;
                    }
                }
                Edit::StartInVmxRoot(ops) => {
                    draft.start = Start::VmxRoot;
                    draft.drop_ops(ops);
                }
                Edit::Together(edits) => draft = draft.with(edits),
            }
        }
        draft
    }

    fn drop_ops(&mut self, ops: &[usize]) {
        for op in ops {
            self.ops[*op] = None;
        }
    }

    fn present(&self) -> impl Iterator<Item = (usize, Op)> {
        self.ops.iter().enumerate().filter_map(|(index, op)| Some((index, (*op)?)))
    }

    /// Edits that leave out operations or make them plainer; those that do most come first.
    pub(super) fn fewer_operations(&self) -> Vec<Edit> {
        let present: Vec<usize> = self.present().map(|(index, _)| index).collect();
        let mut edits: Vec<_> = chunks(present.len()).map(|chunk| Edit::Drop(present[chunk].to_vec())).collect();
        if self.start == Start::OutsideVmx {
            let vmxon = self.present().position(|(_, op)| matches!(op, Op::Vmxon { .. }));
            edits.extend(vmxon.map(|last| Edit::StartInVmxRoot(present[..=last].to_vec())));
        }
        for (index, op) in self.present() {
            edits.extend(plainer(op).filter(|plainer| *plainer != op).map(|plainer| Edit::Replace(index, plainer)));
        }
        edits
    }

    /// Edits that take bits of written values back, or all but one of them, or all other writes; those of most bits come
    /// first.
    pub(super) fn fewer_bits(&self, processor: &Processor, session: &Session) -> Vec<Edit> {
        let mut machine = CaseEmulator::new(&processor.profile, self.start);
        let is_write = |(_, op): &(usize, Op)| matches!(op, Op::Vmwrite { .. });
        let writes: Vec<usize> = self.present().filter(is_write).map(|(index, _)| index).collect();
        let mut edits = Vec::new();
        for (index, op) in self.present() {
            if let Some((old, value)) = change(&machine, &op) {
                let bits: Vec<u64> = (0..64).map(|bit| 1 << bit).filter(|bit| (old ^ value) & bit != 0).collect();
                // One bit of one field, and nothing else.
                if writes.len() > 1 && writes.contains(&index) {
                    let others = Edit::Drop(writes.iter().copied().filter(|other| *other != index).collect());
                    edits.extend(bits.iter().map(|bit| {
                        let rest = Edit::Restore { op: index, mask: !bit, old };
                        Edit::Together(vec![others.clone(), rest])
                    }));
                    edits.push(others);
                }
                if bits.len() > 1 {
                    edits.extend(chunks(bits.len()).map(|chunk| {
                        let mask: u64 = bits[chunk].iter().sum();
                        Edit::Restore { op: index, mask, old }
                    }));
                }
            }
            machine.step(session, &op);
        }
        edits.sort_by_key(|edit| match edit {
            Edit::Restore { mask, .. } => std::cmp::Reverse(mask.count_ones()),
            _ => std::cmp::Reverse(u32::MAX),
        });
        edits
    }
}

/// What a case uses that the SDM leaves undefined: the launch state of a VMCS that is loaded without a VMCLEAR before, and
/// the fields of one that is entered without a valid image. SDM 25.11.3, Initializing a VMCS.
pub(super) fn undefined(case: &Case) -> BTreeSet<(Undefined, u64)> {
    let (mut cleared, mut written, mut undefined) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut current = None;
    for op in &case.ops {
        match *op {
            Op::Vmclear { address } => {
                cleared.insert(address);
            }
            Op::Vmptrld { address } => {
                current = Some(address);
                if !cleared.contains(&address) {
                    undefined.insert((Undefined::LaunchState, address));
                }
            }
            Op::WriteImage { .. } => written.extend(current),
            Op::Vmlaunch { .. } | Op::Vmresume { .. } => {
                let entered = current.filter(|address| !written.contains(address));
                undefined.extend(entered.map(|address| (Undefined::Fields, address)));
            }
            _ => {}
        }
    }
    undefined
}

/// What is undefined of a VMCS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Undefined {
    LaunchState,
    Fields,
}

/// What an operation writes: the old value of its destination, and the new one.
pub(crate) fn change(machine: &CaseEmulator, op: &Op) -> Option<(u64, u64)> {
    match *op {
        Op::Vmwrite { encoding, value } => {
            let encoding = Encoding(u32::try_from(encoding).ok()?);
            let field = encoding.full().field()?;
            let held = machine.processor().current()?.fields.raw(field);
            Some(if encoding.is_high() {
                (held >> 32, value & 0xFFFF_FFFF)
            } else {
                (held, value & field.info().width().mask())
            })
        }
        Op::Store { address, size, value } => {
            let memory = machine.processor().memory();
            let low = memory.read_u32(address);
            let high = if size == 8 { memory.read_u32(address.wrapping_add(4)) } else { 0 };
            let width = if size >= 8 { u64::MAX } else { (1 << (8 * size)) - 1 };
            Some(((u64::from(high) << 32 | u64::from(low)) & width, value & width))
        }
        _ => None,
    }
}

/// Plainer operations in place of that one.
fn plainer(op: Op) -> impl Iterator<Item = Op> {
    let list = match op {
        Op::WriteImage { .. } => vec![Op::WriteImage { image: 0 }],
        Op::Vmwrite { encoding, value } => {
            let field = u32::try_from(encoding).ok().and_then(|encoding| Encoding(encoding).full().field());
            let width = field.map_or(u64::MAX, |field| field.info().width().mask());
            vec![Op::Vmwrite { encoding, value: value & width }]
        }
        Op::Vmlaunch { .. } => vec![Op::Vmlaunch { after_mov_ss: false }],
        Op::Vmresume { .. } => vec![Op::Vmresume { after_mov_ss: false }],
        Op::Invept { kind, descriptor: [eptp, reserved] } => vec![
            Op::Invept { kind: 1, descriptor: [eptp, reserved] },
            Op::Invept { kind, descriptor: [0, reserved] },
            Op::Invept { kind, descriptor: [eptp, 0] },
        ],
        Op::Invvpid { kind, descriptor: [vpid, address] } => vec![
            Op::Invvpid { kind: 1, descriptor: [vpid, address] },
            Op::Invvpid { kind, descriptor: [vpid & 1, address] },
            Op::Invvpid { kind, descriptor: [vpid, 0] },
        ],
        Op::Vmfunc { eax, .. } => vec![Op::Vmfunc { eax, ecx: 0 }],
        _ => vec![],
    };
    list.into_iter()
}

/// Parts of `count` things: halves, quarters and so on, at last each alone.
fn chunks(count: usize) -> impl Iterator<Item = Range<usize>> {
    let sizes = std::iter::successors(Some(count.div_ceil(2)), |&size| (size > 1).then(|| size.div_ceil(2)));
    sizes
        .filter(move |_| count > 0)
        .flat_map(move |size| (0..count).step_by(size).map(move |first| first..(first + size).min(count)))
}

/// The case with every image but the first written out as the first and the fields in which they differ; `None` if it
/// writes no other image.
pub(super) fn from_the_plain_image(case: &Case, session: &Session) -> Option<Case> {
    let plain = session.images.first()?;
    let mut ops = Vec::with_capacity(case.ops.len());
    for op in &case.ops {
        let Op::WriteImage { image: image @ 1.. } = *op else {
            ops.push(*op);
            continue;
        };
        let image = session.images.get(usize::from(image))?;
        if !is_of_one_kind(plain, image) {
            ops.push(*op);
            continue;
        }
        ops.push(Op::WriteImage { image: 0 });
        let differing = image.iter().filter(|write| !plain.contains(write));
        ops.extend(differing.map(|(encoding, value)| Op::Vmwrite { encoding: u64::from(*encoding), value: *value }));
    }
    (ops != case.ops).then_some(Case { start: case.start, ops, ..Case::default() })
}

/// Whether two images write the same fields. One that does not is not a VMCS to enter.
fn is_of_one_kind(one: &[(u32, u64)], other: &[(u32, u64)]) -> bool {
    one.iter().map(|(encoding, _)| encoding).eq(other.iter().map(|(encoding, _)| encoding))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_end_with_each_alone() {
        assert_eq!(chunks(0).count(), 0);
        assert!(chunks(1).eq(std::iter::once(0..1)));
        assert_eq!(chunks(3).collect::<Vec<_>>(), [0..2, 2..3, 0..1, 1..2, 2..3]);
    }
}
