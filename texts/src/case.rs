//! Cases. Each is a line of JSON that says what is changed in an image.

use std::borrow::Cow;

use serde::Deserialize;

use crate::image::{FieldWrites, MemoryWrites};
use crate::json::json_object;

/// One line of the cases: what to change in the base image, and the instruction that asks for the VM entry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case<'a> {
    /// What the answer is called.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Fields that are changed.
    #[serde(default)]
    pub set: FieldWrites,
    /// Memory that is changed.
    #[serde(default)]
    pub memory: MemoryWrites,
    /// The instruction.
    #[serde(default)]
    pub op: Op,
}

/// The instruction that asks for a VM entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// VMLAUNCH, which finds the VMCS clear.
    #[default]
    Vmlaunch,
    /// VMRESUME, which finds the VMCS launched.
    Vmresume,
}

impl<'a> Case<'a> {
    /// The base as it is.
    #[must_use]
    pub fn base() -> Self {
        Self { id: "base".into(), set: FieldWrites::default(), memory: MemoryWrites::default(), op: Op::default() }
    }

    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with the line, and what was expected.
    pub fn parse(line: &'a [u8]) -> Result<Self, String> {
        json_object(line).map_err(|error| error.message)
    }
}
