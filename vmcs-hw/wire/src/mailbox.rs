//! The layout of work and answers in the memory of a virtual machine.
//!
//! The host writes the task and the session before it starts the processor. The probe asks for each batch, and hands in
//! each answer, by writing a dword to the port [`DOORBELL`]: the host reads and writes the buffers, at fixed places of the
//! layout, while the processor waits at that instruction. For an unfinished answer the probe does not write to the port:
//! the host finds the answer in its buffer when the machine has stopped.

use crate::batch::{MAX_ANSWER_BYTES, MAX_BATCH_BYTES, MAX_SESSION_BYTES, Task};
use crate::codec::{BufferFull, DecodeError, Reader, Writer};
use crate::layout::{ANSWER_BUFFER, BATCH_BUFFER, MEMORY_END, SESSION_BUFFER};

/// Port of the doorbell.
pub const DOORBELL: u16 = 0x5644;

/// The probe wants the next batch; a batch without cases is the end.
pub const RING_NEXT: u32 = 1;
/// The probe has handed in an answer.
pub const RING_ANSWER: u32 = 2;

const MAGIC: u32 = 0x424D_4D56;

/// What stands before the session in its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionHeader {
    /// What to do.
    pub task: Task,
    /// Bytes of the session.
    pub session: u32,
}

impl SessionHeader {
    /// Bytes it takes.
    pub const BYTES: usize = 9;

    /// Writes it.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn encode(&self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        writer.u32(MAGIC)?;
        writer.u8(u8::from(self.task == Task::Profile))?;
        writer.u32(self.session)
    }

    /// Reads what [`SessionHeader::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        crate::batch::magic(reader, MAGIC)?;
        let task = if reader.flag()? { Task::Profile } else { Task::Run };
        Ok(Self { task, session: reader.u32()? })
    }
}

const _: () = assert!((SessionHeader::BYTES + MAX_SESSION_BYTES) as u64 <= ANSWER_BUFFER - SESSION_BUFFER);
const _: () = assert!(MAX_ANSWER_BYTES as u64 <= BATCH_BUFFER - ANSWER_BUFFER);
const _: () = assert!(BATCH_BUFFER + MAX_BATCH_BYTES as u64 <= MEMORY_END);
