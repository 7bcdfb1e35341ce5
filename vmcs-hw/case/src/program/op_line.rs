//! Reading and writing the operations of a program as JSON.

use serde::{Deserialize, Serialize};
use vmcs_wire::{Op, Timed};

use super::{Dword, FieldKey, ImageKey, MemoryWrite, ProgramError};
use crate::number::Number;

/// An operation: `{"op": "vmwrite", "field": "guest_rip", "value": "0x1000"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
#[allow(missing_docs, reason = "one variant per instruction, its operands by their names")]
pub enum OpLine {
    Vmxon {
        address: Number,
    },
    Vmxoff {},
    Vmclear {
        address: Number,
    },
    Vmptrld {
        address: Number,
    },
    Vmptrst {},
    Vmread {
        field: FieldKey,
    },
    Vmwrite {
        field: FieldKey,
        value: Number,
    },
    Vmlaunch {
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        mov_ss: bool,
    },
    Vmresume {
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        mov_ss: bool,
    },
    Vmcall {},
    Vmfunc {
        eax: Number,
        ecx: Number,
    },
    Invept {
        r#type: Number,
        eptp: Number,
        #[serde(default)]
        reserved: Number,
    },
    Invvpid {
        r#type: Number,
        vpid: Number,
        #[serde(default)]
        address: Number,
    },
    Image {
        image: ImageKey,
    },
    Store(MemoryWrite),
    Diagnose {
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        resume: bool,
    },
    Observe {
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        state: bool,
    },
    Time {
        instruction: TimedName,
        rounds: u16,
    },
}

/// The names of [`Timed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "they are what they are called")]
pub enum TimedName {
    Nothing,
    Vmlaunch,
    Vmresume,
}

impl From<TimedName> for Timed {
    fn from(name: TimedName) -> Self {
        match name {
            TimedName::Nothing => Self::Nothing,
            TimedName::Vmlaunch => Self::Vmlaunch,
            TimedName::Vmresume => Self::Vmresume,
        }
    }
}

impl From<Timed> for TimedName {
    fn from(what: Timed) -> Self {
        match what {
            Timed::Nothing => Self::Nothing,
            Timed::Vmlaunch => Self::Vmlaunch,
            Timed::Vmresume => Self::Vmresume,
        }
    }
}

impl OpLine {
    /// Appends the operations that the line means.
    pub(super) fn push(&self, revision: u32, images: &[&str], ops: &mut Vec<Op>) -> Result<(), ProgramError> {
        ops.push(match self {
            Self::Vmxon { address } => Op::Vmxon { address: address.0 },
            Self::Vmxoff {} => Op::Vmxoff,
            Self::Vmclear { address } => Op::Vmclear { address: address.0 },
            Self::Vmptrld { address } => Op::Vmptrld { address: address.0 },
            Self::Vmptrst {} => Op::Vmptrst,
            Self::Vmread { field } => Op::Vmread { encoding: field.encoding()? },
            Self::Vmwrite { field, value } => Op::Vmwrite { encoding: field.encoding()?, value: value.0 },
            Self::Vmlaunch { mov_ss } => Op::Vmlaunch { after_mov_ss: *mov_ss },
            Self::Vmresume { mov_ss } => Op::Vmresume { after_mov_ss: *mov_ss },
            Self::Vmcall {} => Op::Vmcall,
            Self::Vmfunc { eax, ecx } => Op::Vmfunc { eax: eax.to_u32()?, ecx: ecx.to_u32()? },
            Self::Invept { r#type, eptp, reserved } => Op::Invept { kind: r#type.0, descriptor: [eptp.0, reserved.0] },
            Self::Invvpid { r#type, vpid, address } => Op::Invvpid { kind: r#type.0, descriptor: [vpid.0, address.0] },
            Self::Image { image } => Op::WriteImage { image: image.index(images)? },
            Self::Store(write) => return write.stores(revision, ops),
            Self::Diagnose { resume } => Op::Diagnose { resume: *resume },
            Self::Time { instruction, rounds } => Op::Time { what: (*instruction).into(), rounds: *rounds },
            Self::Observe { state } => Op::Observe { state: *state },
        });
        Ok(())
    }

    /// The line of an operation.
    #[must_use]
    pub fn of(op: &Op) -> Self {
        match *op {
            Op::Vmxon { address } => Self::Vmxon { address: Number(address) },
            Op::Vmxoff => Self::Vmxoff {},
            Op::Vmclear { address } => Self::Vmclear { address: Number(address) },
            Op::Vmptrld { address } => Self::Vmptrld { address: Number(address) },
            Op::Vmptrst => Self::Vmptrst {},
            Op::Vmread { encoding } => Self::Vmread { field: FieldKey::of(encoding) },
            Op::Vmwrite { encoding, value } => Self::Vmwrite { field: FieldKey::of(encoding), value: Number(value) },
            Op::Vmlaunch { after_mov_ss } => Self::Vmlaunch { mov_ss: after_mov_ss },
            Op::Vmresume { after_mov_ss } => Self::Vmresume { mov_ss: after_mov_ss },
            Op::Vmcall => Self::Vmcall {},
            Op::Vmfunc { eax, ecx } => Self::Vmfunc { eax: Number(eax.into()), ecx: Number(ecx.into()) },
            Op::Invept { kind, descriptor: [eptp, reserved] } => {
                Self::Invept { r#type: Number(kind), eptp: Number(eptp), reserved: Number(reserved) }
            }
            Op::Invvpid { kind, descriptor: [vpid, address] } => {
                Self::Invvpid { r#type: Number(kind), vpid: Number(vpid), address: Number(address) }
            }
            Op::WriteImage { image } => Self::Image { image: ImageKey::Index(image) },
            Op::Store { address, size, value } => {
                let mut write = MemoryWrite { address: Number(address), u32: None, u64: None, bytes: None };
                match size {
                    4 => write.u32 = Some(Dword::Number(Number(value))),
                    8 => write.u64 = Some(Number(value)),
                    _ => {
                        let bytes = value.to_le_bytes();
                        write.bytes = Some(bytes.iter().take(size.into()).map(|byte| format!("{byte:02x}")).collect());
                    }
                }
                Self::Store(write)
            }
            Op::Diagnose { resume } => Self::Diagnose { resume },
            Op::Time { what, rounds } => Self::Time { instruction: what.into(), rounds },
            Op::Observe { state } => Self::Observe { state },
        }
    }
}
