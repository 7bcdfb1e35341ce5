//! Cases. Each is a line of JSON that says what is changed in an image.

use std::borrow::Cow;

use serde::Deserialize;
use vmcs_model::EntryInstruction;

use crate::image::{FieldWrites, MemoryWrites};
use crate::json::json_object;

/// One line of the cases: what to change in the base image, and the instruction that asks for the VM entry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageCase<'a> {
    /// What the answer is called.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Fields that are changed.
    #[serde(default)]
    pub set: FieldWrites,
    /// Memory that is changed.
    #[serde(default)]
    pub memory: MemoryWrites,
    /// The instruction: VMLAUNCH, which finds the VMCS clear, or VMRESUME, which finds it launched.
    #[serde(rename = "op", with = "InstructionName", default = "vmlaunch")]
    pub instruction: EntryInstruction,
}

/// The instruction as a line names it.
#[derive(Deserialize)]
#[serde(remote = "EntryInstruction", rename_all = "lowercase")]
enum InstructionName {
    Vmlaunch,
    Vmresume,
}

/// The instruction of a line that names none.
const fn vmlaunch() -> EntryInstruction {
    EntryInstruction::Vmlaunch
}

impl<'a> ImageCase<'a> {
    /// The base as it is.
    #[must_use]
    pub fn base() -> Self {
        let (set, memory) = (FieldWrites::default(), MemoryWrites::default());
        Self { id: "base".into(), set, memory, instruction: vmlaunch() }
    }

    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with the line, and what was expected.
    pub fn parse(line: &'a [u8]) -> Result<Self, String> {
        json_object(line).map_err(|error| error.message)
    }
}
