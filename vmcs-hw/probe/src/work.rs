//! From the disk to answers on the disk.

use vmcs_wire::codec::{BufferFull, Reader, Writer};
use vmcs_wire::disk::{
    ANSWER_TRAILER, AnswerHeader, BatchHeader, Control, Extent, MAX_ANSWER_BYTES, MAX_BATCH_BYTES, MAX_SESSION_BYTES,
    SECTOR, Task, sectors,
};
use vmcs_wire::session::SessionView;
use vmcs_wire::{Op, Start, StepResult};

use crate::case::Machine;
use crate::memory::{self, Buffer};
use crate::{console, disk, profile};

static SESSION: Buffer<MAX_SESSION_BYTES> = Buffer::new();
static BATCH: Buffer<MAX_BATCH_BYTES> = Buffer::new();
static ANSWER: Buffer<MAX_ANSWER_BYTES> = Buffer::new();

/// Does what the control block asks for.
///
/// # Panics
/// On anything that the host got wrong.
pub(crate) fn all(revision: u32) {
    let mut sector = [0; SECTOR];
    disk::read(0, &mut sector);
    let control = Control::decode(&mut Reader::new(&sector)).expect("sector 0 holds a control block");
    if control.started {
        console::say(format_args!("reset"));
        return;
    }
    let started = Control { started: true, ..control };
    started.encode(&mut Writer::new(&mut sector)).expect("a sector has room for it");
    disk::write(0, &sector);
    let session = disk::read_extent(control.session, SESSION.take());
    let session = SessionView::decode(session).expect("the session decodes");
    let mut machine = Machine::new(session, revision);
    let mut answer = Answer { buffer: ANSWER.take(), slot: control.first, number: 0 };
    match control.task {
        Task::Profile => {
            let bytes = answer.compose(|out| profile::write(&mut machine, revision, out));
            answer.submit(bytes, true);
        }
        Task::Run => run(&mut machine, control.first, &mut answer),
    }
}

fn run(machine: &mut Machine<'_>, mut next: Extent, answer: &mut Answer) {
    let buffer = BATCH.take();
    let checksum = memory::image_checksum();
    while next.sectors != 0 {
        let mut reader = Reader::new(disk::read_extent(next, buffer));
        let header = BatchHeader::decode(&mut reader).expect("the batch header decodes");
        (answer.slot, answer.number) = (header.answer, header.number);
        let mut used = 0;
        for _ in 0..header.cases {
            used = run_case(machine, &mut reader, answer, used, header.careful);
        }
        // Guests under test can be made to write anywhere.
        assert!(memory::image_checksum() == checksum, "a case has overwritten the probe");
        answer.submit(used, true);
        next = header.next;
    }
}

/// Executes one case and appends its answer at `used`; returns the bytes used then.
fn run_case(
    machine: &mut Machine<'_>,
    reader: &mut Reader<'_>,
    answer: &mut Answer,
    used: usize,
    careful: bool,
) -> usize {
    const FULL: &str = "the answer slot is too small";
    const GARBLED: &str = "the case decodes";
    let start = Start::decode(reader).expect(GARBLED);
    let steps = reader.u16().expect(GARBLED);
    machine.reset(start);
    let mut used = used + answer.append(used, |out| out.u16(steps)).expect(FULL);
    let mut going_on = true;
    for step in 0..steps {
        let op = Op::decode(reader).expect(GARBLED);
        if careful {
            answer.patch_steps(used, step);
            answer.submit(used, false);
            answer.patch_steps(used, steps);
        }
        used += answer
            .append(used, |out| {
                if going_on {
                    going_on = machine.step(op, out)?;
                    Ok(())
                } else {
                    StepResult::NotRun.map_fields(|()| core::iter::empty()).encode(out)
                }
            })
            .expect(FULL);
    }
    used
}

/// The answer under construction.
struct Answer {
    buffer: &'static mut [u8; MAX_ANSWER_BYTES],
    slot: Extent,
    number: u32,
}

impl Answer {
    /// The part of the buffer for content: behind the header, with room for the trailer.
    fn content(&mut self) -> &mut [u8] {
        let slot = (self.slot.sectors as usize * SECTOR).min(MAX_ANSWER_BYTES);
        &mut self.buffer[AnswerHeader::BYTES..slot - 4]
    }

    fn append(
        &mut self,
        used: usize,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), BufferFull>,
    ) -> Result<usize, BufferFull> {
        let mut out = Writer::new(self.content().get_mut(used..).ok_or(BufferFull)?);
        write(&mut out)?;
        Ok(out.len())
    }

    fn compose(&mut self, write: impl FnOnce(&mut Writer<'_>) -> Result<(), BufferFull>) -> usize {
        self.append(0, write).expect("the answer slot is too small")
    }

    /// Sets the number of steps of the only case of a careful batch.
    fn patch_steps(&mut self, used: usize, steps: u16) {
        self.content()[..used][..2].copy_from_slice(&steps.to_le_bytes());
    }

    /// Writes header, content and trailer to the slot.
    fn submit(&mut self, used: usize, complete: bool) {
        let header = AnswerHeader { number: self.number, complete, bytes: used as u32 };
        header.encode(&mut Writer::new(&mut self.buffer[..])).expect("the buffer is larger than a header");
        let end = AnswerHeader::BYTES + used;
        self.buffer[end..end + 4].copy_from_slice(&ANSWER_TRAILER.to_le_bytes());
        disk::write(self.slot.lba, &self.buffer[..sectors(end + 4) * SECTOR]);
    }
}
