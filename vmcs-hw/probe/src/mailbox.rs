//! Work in memory, which the host reads and writes while the processor waits at the OUT instruction to the doorbell port.
// UNSAFETY: port I/O.
#![allow(unsafe_code, reason = "port I/O")]

use core::arch::asm;

use vmcs_probe::transport::Transport;
use vmcs_wire::batch::{BatchHeader, Task};
use vmcs_wire::codec::Reader;
use vmcs_wire::mailbox::{DOORBELL, RING_ANSWER, RING_NEXT, SessionHeader};

/// The mailbox.
pub(crate) struct Mailbox;

impl Transport for Mailbox {
    fn begin<'a>(&mut self, buffer: &'a mut [u8]) -> Option<(Task, &'a [u8])> {
        let mut reader = Reader::new(buffer);
        let header = SessionHeader::decode(&mut reader).expect("the session's buffer starts with the task");
        Some((header.task, &reader.rest()[..header.session as usize]))
    }

    fn next_batch<'a>(&mut self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        ring(RING_NEXT, buffer.as_mut_ptr());
        let header = BatchHeader::decode(&mut Reader::new(buffer)).expect("the batch header decodes");
        (header.cases != 0).then_some(buffer)
    }

    fn answer_room(&self) -> usize {
        usize::MAX
    }

    fn submit(&mut self, buffer: &[u8], _bytes: usize, complete: bool) {
        if complete {
            ring(RING_ANSWER, buffer.as_ptr().cast_mut());
        }
    }
}

/// Lets the host look at `buffer` or, for [`RING_NEXT`], write it.
fn ring(what: u32, buffer: *mut u8) {
    // SAFETY: OUT at CPL 0. What the host writes while the processor stands here is in the batch buffer, which the caller
    // holds exclusively and whose pointer the assembly takes as if it wrote there itself.
    unsafe {
        asm!("out dx, eax", "/* {buffer} */", in("dx") DOORBELL, in("eax") what, buffer = in(reg) buffer,
            options(nostack, preserves_flags));
    }
}
