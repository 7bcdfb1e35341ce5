//! The contents of a piece of memory in a program: a dword, a qword or bytes.

use std::ops::Deref;

/// The bytes of a piece of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Those of a dword.
    Dword([u8; 4]),
    /// Those of a qword.
    Qword([u8; 8]),
    /// As many as were written down.
    Bytes(Vec<u8>),
}

impl Deref for Contents {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Dword(bytes) => bytes,
            Self::Qword(bytes) => bytes,
            Self::Bytes(bytes) => bytes,
        }
    }
}
