//! Case programs as JSON: what `vmcs run` reads and answers, and what recordings hold.

mod contents;
mod key;
mod op_line;

use std::fmt;

use serde::{Deserialize, Serialize};
use vmcs_model::field::{Encoding, FieldId};
use vmcs_model::outcome::{Exception, Outcome};
use vmcs_wire::{Ending, Op, Start, StepResult};

use crate::case::Case;
use crate::number::{NotANumber, Number};

pub use contents::Contents;
pub use op_line::{OpLine, TimedName};

/// One program, one line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// What the answer is called.
    pub id: String,
    /// Where the program starts.
    #[serde(default, skip_serializing_if = "StartState::is_default")]
    pub start: StartState,
    /// What memory holds before the first operation; it is zero elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<MemoryWrite>,
    /// The operations.
    pub ops: Vec<OpLine>,
}

/// The processor's state before the first operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartState {
    /// Outside VMX operation, CR4.VMXE set.
    #[default]
    Outside,
    /// In VMX root operation with the VMXON region at 10000H and without a current VMCS.
    VmxRoot,
}

impl StartState {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A piece of memory and what it holds: exactly one of `u32`, `u64` and `bytes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryWrite {
    /// Physical address.
    pub address: Number,
    /// A little-endian dword, or a name of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub u32: Option<Dword>,
    /// A little-endian qword.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub u64: Option<Number>,
    /// Bytes as hexadecimal digits, two each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}

/// A dword that depends on the processor, or a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Dword {
    /// `"revision"`: the processor's VMCS revision identifier; `"shadow_revision"`: the same with the shadow-VMCS
    /// indicator.
    Named(DwordName),
    /// A number.
    Number(Number),
}

/// The names of [`Dword::Named`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DwordName {
    /// The VMCS revision identifier.
    Revision,
    /// The VMCS revision identifier with bit 31, the shadow-VMCS indicator.
    ShadowRevision,
}

/// A field by name, or anything that VMREAD and VMWRITE can be asked for by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum FieldKey {
    /// The encoding, 64 bits as the register operand has them.
    Encoding(Number),
    /// The canonical name or an alias.
    Name(String),
}

impl fmt::Display for FieldKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding(encoding) => encoding.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl FieldKey {
    /// The key of an encoding: its name if it has one.
    #[must_use]
    pub fn of(encoding: u64) -> Self {
        match u32::try_from(encoding).ok().map(Encoding) {
            Some(e) if !e.is_high() => match e.field() {
                Some(field) => Self::Name(field.info().name.to_owned()),
                None => Self::Encoding(Number(encoding)),
            },
            _ => Self::Encoding(Number(encoding)),
        }
    }

    /// The encoding.
    ///
    /// # Errors
    /// [`ProgramError::UnknownField`].
    pub fn encoding(&self) -> Result<u64, ProgramError> {
        match self {
            Self::Encoding(number) => Ok(number.0),
            Self::Name(name) => FieldId::by_name(name)
                .map(|field| u64::from(field.info().encoding.0))
                .ok_or_else(|| ProgramError::UnknownField(name.clone())),
        }
    }
}

/// An image of the session: its index, or what it is called there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ImageKey {
    /// The index, which depends on the processor.
    Index(u16),
    /// The name.
    Name(String),
}

impl ImageKey {
    fn index(&self, images: &[&str]) -> Result<u16, ProgramError> {
        match self {
            Self::Index(index) => Ok(*index),
            Self::Name(name) => images
                .iter()
                .position(|image| image == name)
                .and_then(|index| u16::try_from(index).ok())
                .ok_or_else(|| ProgramError::UnknownImage { name: name.clone(), known: images.join(", ") }),
        }
    }
}

/// What is wrong with a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// No field has that name.
    #[error("unknown field {0:?}: expected the name of a VMCS field, or an encoding such as \"0x6800\"")]
    UnknownField(String),
    /// No image has that name.
    #[error("there is no image {name:?} for this processor: expected one of {known}")]
    UnknownImage {
        /// The name.
        name: String,
        /// The names of those that there are.
        known: String,
    },
    /// A number does not fit.
    #[error(transparent)]
    Number(#[from] NotANumber),
    /// A piece of memory without contents, or with more than one.
    #[error("memory at {0} needs exactly one of \"u32\", \"u64\" and \"bytes\"")]
    Contents(Number),
    /// `bytes` is not an even number of hexadecimal digits.
    #[error("expected an even number of hexadecimal digits in \"bytes\", found {0:?}")]
    Bytes(String),
    /// A store lies outside of the memory that programs own.
    #[error(
        "memory at {0} does not belong to programs: they own {start:#x}-{end:#x}",
        start = vmcs_wire::layout::ARENA.start,
        end = vmcs_wire::layout::ARENA.end - 1
    )]
    OutsideArena(Number),
}

impl Program {
    /// The program with names instead of what depends on the processor: the images, whose names are `names`, and its
    /// VMCS revision identifier where a dword holds it.
    #[must_use]
    pub fn portable(mut self, revision: u32, names: &[&str]) -> Self {
        let named = |dword: &mut Option<Dword>| {
            if let Some(Dword::Number(number)) = dword {
                let name = [(revision, DwordName::Revision), (revision | 1 << 31, DwordName::ShadowRevision)]
                    .into_iter()
                    .find(|(value, _)| u64::from(*value) == number.0);
                *dword = Some(name.map_or(Dword::Number(*number), |(_, name)| Dword::Named(name)));
            }
        };
        for write in &mut self.memory {
            named(&mut write.u32);
        }
        for line in &mut self.ops {
            match line {
                OpLine::Store(write) => named(&mut write.u32),
                OpLine::Image { image } => {
                    if let ImageKey::Index(index) = *image
                        && let Some(name) = names.get(usize::from(index))
                    {
                        *image = ImageKey::Name((*name).to_owned());
                    }
                }
                _ => {}
            }
        }
        self
    }

    /// The case that the program means on a processor with that VMCS revision identifier, in a session whose images are
    /// called `images`, in their order.
    ///
    /// # Errors
    /// [`ProgramError`] says what is wrong with it.
    pub fn to_case(&self, revision: u32, images: &[&str]) -> Result<Case, ProgramError> {
        let mut ops = Vec::with_capacity(self.memory.len() + self.ops.len());
        for write in &self.memory {
            write.stores(revision, &mut ops)?;
        }
        for line in &self.ops {
            line.push(revision, images, &mut ops)?;
        }
        let start = match self.start {
            StartState::Outside => Start::OutsideVmx,
            StartState::VmxRoot => Start::VmxRoot,
        };
        Ok(Case { start, ops, ..Case::default() })
    }

    /// How many operations of the case set up `memory`, and how many each line of `ops` means.
    ///
    /// # Errors
    /// [`ProgramError`] says what is wrong with the program.
    pub fn extents(&self) -> Result<(usize, Vec<usize>), ProgramError> {
        let mut ops = Vec::new();
        for write in &self.memory {
            write.stores(0, &mut ops)?;
        }
        let setup = ops.len();
        let mut lines = Vec::with_capacity(self.ops.len());
        for line in &self.ops {
            let before = ops.len();
            match line {
                // Whether there is such an image depends on the processor.
                OpLine::Image { .. } => ops.push(Op::WriteImage { image: 0 }),
                _ => line.push(0, &[], &mut ops)?,
            }
            lines.push(ops.len() - before);
        }
        Ok((setup, lines))
    }
}

impl MemoryWrite {
    /// The bytes that the memory holds, on a processor with that VMCS revision identifier.
    ///
    /// # Errors
    /// [`ProgramError`] says what is wrong with the contents.
    pub fn to_bytes(&self, revision: u32) -> Result<Contents, ProgramError> {
        match (&self.u32, &self.u64, &self.bytes) {
            (Some(dword), None, None) => Ok(Contents::Dword(dword.resolve(revision)?.to_le_bytes())),
            (None, Some(qword), None) => Ok(Contents::Qword(qword.0.to_le_bytes())),
            (None, None, Some(digits)) => {
                let wrong = || ProgramError::Bytes(digits.clone());
                if digits.len() % 2 != 0 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return Err(wrong());
                }
                (0..digits.len() / 2)
                    .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).map_err(|_| wrong()))
                    .collect::<Result<_, _>>()
                    .map(Contents::Bytes)
            }
            _ => Err(ProgramError::Contents(self.address)),
        }
    }

    /// Appends the stores that make the memory hold its contents: one where it is a dword or qword within a page.
    fn stores(&self, revision: u32, ops: &mut Vec<Op>) -> Result<(), ProgramError> {
        let bytes = self.to_bytes(revision)?;
        let arena = vmcs_wire::layout::ARENA;
        let start = self.address.0;
        if start < arena.start || start > arena.end || (arena.end - start) < bytes.len() as u64 {
            return Err(ProgramError::OutsideArena(self.address));
        }
        let whole = self.bytes.is_none() && start & 0xFFF <= 0x1000 - bytes.len() as u64;
        let width = if whole { bytes.len() } else { 1 };
        for (i, chunk) in bytes.chunks(width).enumerate() {
            let mut value = [0; 8];
            value[..chunk.len()].copy_from_slice(chunk);
            #[allow(clippy::cast_possible_truncation, reason = "at most 8")]
            let size = width as u8;
            ops.push(Op::Store { address: start + (i * width) as u64, size, value: u64::from_le_bytes(value) });
        }
        Ok(())
    }
}

impl Dword {
    fn resolve(&self, revision: u32) -> Result<u32, NotANumber> {
        match self {
            Self::Named(DwordName::Revision) => Ok(revision),
            Self::Named(DwordName::ShadowRevision) => Ok(revision | 1 << 31),
            Self::Number(number) => number.to_u32(),
        }
    }
}

/// How a step ended, in the words of reports: `ok`, `VMfailInvalid`, `VMfailValid(7)`, `#UD`, `EntryFailed(33, 0)`,
/// `Entered`, `not run`.
#[must_use]
pub fn result_text<F>(result: &StepResult<F>) -> String {
    match result {
        StepResult::Ok
        | StepResult::Value(_)
        | StepResult::Fields(_)
        | StepResult::Timed { ending: Ending::Nothing, .. } => "ok".to_owned(),
        StepResult::NotRun => "not run".to_owned(),
        other => entry_outcome(other).map_or_else(String::new, |outcome| outcome.to_string()),
    }
}

/// The outcome that an observed result is, if it is one of VMLAUNCH or VMRESUME.
#[must_use]
pub fn entry_outcome<F>(result: &StepResult<F>) -> Option<Outcome> {
    match *result {
        StepResult::Ok | StepResult::Value(_) | StepResult::NotRun | StepResult::Fields(_) => None,
        StepResult::FailInvalid => Some(Outcome::FailInvalid),
        StepResult::FailValid(error) => Some(Outcome::fail_valid(error)),
        StepResult::Fault { vector, error_code } => Some(Outcome::Fault(Exception { vector, error_code })),
        StepResult::Exit { reason, qualification, .. } => Some(exit_outcome(reason, qualification)),
        StepResult::Timed { ending, .. } => ending_outcome(ending),
    }
}

/// The outcome of the entries that were measured; `None` if there were none.
#[must_use]
pub fn ending_outcome(ending: Ending) -> Option<Outcome> {
    match ending {
        Ending::Nothing => None,
        Ending::FailInvalid => Some(Outcome::FailInvalid),
        Ending::FailValid(error) => Some(Outcome::fail_valid(error)),
        Ending::Exit { reason, qualification } => Some(exit_outcome(reason, qualification)),
    }
}

/// The outcome of an entry from which control came back through the host-state area.
fn exit_outcome(reason: u32, qualification: u64) -> Outcome {
    /// The VM entry failed.
    const ENTRY_FAILURE: u32 = 1 << 31;
    if reason & ENTRY_FAILURE == 0 {
        return Outcome::Entered;
    }
    #[allow(clippy::cast_possible_truncation, reason = "bits 15:0 are the basic reason")]
    let basic = reason as u16;
    Outcome::EntryFailed { reason: basic, qualification }
}

#[cfg(test)]
mod tests {
    use vmcs_wire::Timed;

    use super::*;

    #[test]
    fn the_documented_line_is_read() {
        let line = r#"{"id": "a", "memory": [{"address": "0x10000", "u32": "revision"}],
            "ops": [{"op": "vmxon", "address": "0x10000"}, {"op": "vmread", "field": "0x6800"},
                    {"op": "vmwrite", "field": "guest_rip", "value": 1}, {"op": "vmlaunch"}]}"#;
        let program: Program = serde_json::from_str(line).unwrap();
        assert_eq!(
            program.to_case(0x2B, &[]).unwrap().ops,
            [
                Op::Store { address: 0x10000, size: 4, value: 0x2B },
                Op::Vmxon { address: 0x10000 },
                Op::Vmread { encoding: 0x6800 },
                Op::Vmwrite { encoding: 0x681E, value: 1 },
                Op::Vmlaunch { after_mov_ss: false },
            ]
        );
    }

    #[test]
    fn unknown_keys_and_fields_are_refused() {
        for line in [
            r#"{"id": "a", "ops": [], "extra": 1}"#,
            r#"{"id": "a", "ops": [{"op": "vmxoff", "address": 1}]}"#,
            r#"{"id": "a", "ops": [{"op": "vmxon"}]}"#,
            r#"{"id": "a", "ops": [{"op": "hlt"}]}"#,
            r#"{"id": "a", "ops": [{"op": "time", "instruction": "vmcall", "rounds": 1}]}"#,
            r#"{"id": "a", "ops": [{"op": "time", "instruction": "vmresume", "rounds": 65536}]}"#,
            r#"{"id": "a", "ops": [], "memory": [{"address": 0, "u16": 1}]}"#,
        ] {
            assert!(serde_json::from_str::<Program>(line).is_err(), "{line}");
        }
        let line = r#"{"id": "a", "ops": [{"op": "vmread", "field": "guest_rax"}]}"#;
        let error = serde_json::from_str::<Program>(line).unwrap().to_case(0, &[]).unwrap_err();
        assert_eq!(error, ProgramError::UnknownField("guest_rax".to_owned()));
    }

    #[test]
    fn what_depends_on_the_processor_has_a_name() {
        let ops = vec![
            OpLine::of(&Op::Store { address: 0x1_1000, size: 4, value: 0x8000_002B }),
            OpLine::of(&Op::WriteImage { image: 1 }),
        ];
        let program = Program { id: "a".to_owned(), start: StartState::VmxRoot, memory: vec![], ops };
        let portable = program.clone().portable(0x2B, &["plain", "rich"]);
        let text = serde_json::to_string(&portable).unwrap();
        assert!(text.contains(r#""u32":"shadow_revision""#) && text.contains(r#""image":"rich""#), "{text}");
        assert_eq!(
            portable.to_case(1, &["plain", "pae", "rich"]).unwrap().ops,
            [Op::Store { address: 0x1_1000, size: 4, value: 0x8000_0001 }, Op::WriteImage { image: 2 }]
        );
        let error = portable.to_case(1, &["plain"]).unwrap_err().to_string();
        assert!(error.contains("\"rich\"") && error.contains("plain"), "{error}");
    }

    #[test]
    fn memory_outside_the_arena_is_refused() {
        for address in [0xFFFF_u64, 0x7_FFFD, u64::MAX] {
            let line = format!(r#"{{"id": "a", "ops": [], "memory": [{{"address": {address}, "u32": 1}}]}}"#);
            let program: Program = serde_json::from_str(&line).unwrap();
            assert!(matches!(program.to_case(0, &[]), Err(ProgramError::OutsideArena(_))), "{address:#x}");
        }
    }

    #[test]
    fn every_operation_survives_its_line() {
        let ops = [
            Op::Vmxon { address: 1 },
            Op::Vmxoff,
            Op::Vmclear { address: 2 },
            Op::Vmptrld { address: 3 },
            Op::Vmptrst,
            Op::Vmread { encoding: 0x1_0000_6800 },
            Op::Vmread { encoding: 0x2801 },
            Op::Vmwrite { encoding: 0x6800, value: u64::MAX },
            Op::Vmlaunch { after_mov_ss: true },
            Op::Vmresume { after_mov_ss: false },
            Op::Vmcall,
            Op::Vmfunc { eax: 1, ecx: 2 },
            Op::Invept { kind: 1, descriptor: [2, 3] },
            Op::Invvpid { kind: 1, descriptor: [2, 3] },
            Op::WriteImage { image: 4 },
            Op::Diagnose { resume: true },
            Op::Time { what: Timed::Nothing, rounds: u16::MAX },
            Op::Time { what: Timed::Vmlaunch, rounds: 0 },
            Op::Time { what: Timed::Vmresume, rounds: 9 },
            Op::Store { address: 0x1_0000, size: 2, value: 0x1234 },
        ];
        let lines: Vec<_> = ops.iter().map(OpLine::of).collect();
        let text = serde_json::to_string(&Program {
            id: String::new(),
            start: StartState::VmxRoot,
            memory: vec![],
            ops: lines,
        })
        .unwrap();
        let back = serde_json::from_str::<Program>(&text).unwrap().to_case(0, &[]).unwrap();
        assert_eq!(back.ops[..19], ops[..19]);
        assert_eq!(
            back.ops[19..],
            [
                Op::Store { address: 0x1_0000, size: 1, value: 0x34 },
                Op::Store { address: 0x1_0001, size: 1, value: 0x12 }
            ]
        );
    }
}
