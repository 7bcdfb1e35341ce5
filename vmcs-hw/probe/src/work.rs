//! Executing the cases of batches, and writing their answers.

use vmcs_probe::transport::Transport;
use vmcs_wire::Start;
use vmcs_wire::batch::{ANSWER_TRAILER, AnswerHeader, BatchHeader, Task};
use vmcs_wire::codec::{BufferFull, Reader, Writer};
use vmcs_wire::session::SessionView;

use crate::case::{CaseRunner, Regions};
use crate::memory::{self, Buffer, Region};
use crate::rest::Rest;
use crate::{console, profile};

static SPARE_VMXON: Buffer<4096> = Buffer::new();
static REST: Buffer<4096> = Buffer::new();

/// The memory that work takes.
pub(crate) struct Workplace {
    session: &'static mut [u8],
    batch: &'static mut [u8],
    answer: &'static mut [u8],
    regions: Regions,
}

impl Workplace {
    /// All of it, for a processor with that VMCS revision identifier.
    ///
    /// # Panics
    /// When it is asked for again.
    pub(crate) fn take(revision: u32) -> Self {
        Self {
            session: memory::SESSION.take(),
            batch: memory::BATCH.take(),
            answer: memory::ANSWER.take(),
            regions: Regions {
                revision,
                spare_vmxon: Region::own(SPARE_VMXON.take(), revision),
                rest: Rest::new(Region::own(REST.take(), revision)),
            },
        }
    }
}

/// Does what the host asks for in one session.
///
/// # Panics
/// On anything that the host got wrong.
pub(crate) fn all(transport: &mut dyn Transport, place: &mut Workplace) {
    let Some((task, session)) = transport.begin(place.session) else {
        console::say(format_args!("reset"));
        return;
    };
    let view = SessionView::decode(session).expect("the session decodes");
    let mut machine = CaseRunner::new(view, &mut place.regions);
    let mut answer = Answer { transport, buffer: place.answer, number: 0 };
    match task {
        Task::Profile => {
            let bytes = answer.compose(|out| profile::write(&mut machine, out));
            answer.submit(bytes, true);
        }
        Task::Run => run(&mut machine, session, place.batch, &mut answer),
    }
    machine.retire();
}

fn run(machine: &mut CaseRunner<'_>, session: &[u8], buffer: &mut [u8], answer: &mut Answer<'_>) {
    let checksums = || (memory::image_checksum(), memory::checksum(session));
    let before = checksums();
    while let Some(batch) = answer.transport.next_batch(buffer) {
        let batch_before = memory::checksum(batch);
        let mut reader = Reader::new(batch);
        let header = BatchHeader::decode(&mut reader).expect("the batch header decodes");
        answer.number = header.number;
        let mut used = 0;
        for _ in 0..header.cases {
            used = run_case(machine, &mut reader, answer, used, header.careful);
        }
        // Guests under test can be made to write anywhere.
        let intact = checksums() == before && memory::checksum(batch) == batch_before;
        assert!(intact, "a case has overwritten the probe, its session or its batch");
        answer.submit(used, true);
    }
}

/// Executes one case and appends its answer at `used`; returns the bytes used then.
fn run_case(
    machine: &mut CaseRunner<'_>,
    reader: &mut Reader<'_>,
    answer: &mut Answer<'_>,
    used: usize,
    careful: bool,
) -> usize {
    const FULL: &str = "the answer slot is too small";
    const GARBLED: &str = "the case decodes";
    let start = Start::decode(reader).expect(GARBLED);
    let steps = reader.u16().expect(GARBLED);
    machine.reset(start);
    let first = used;
    let mut used = used + answer.append(used, |out| out.u16(steps)).expect(FULL);
    if !careful {
        return used + answer.append(used, |out| machine.run(steps, reader, out)).expect(FULL);
    }
    for step in 0..steps {
        answer.patch_steps(first, step);
        answer.submit(used, false);
        used += answer.append(used, |out| machine.run(1, reader, out)).expect(FULL);
    }
    answer.patch_steps(first, steps);
    answer.submit(used, false);
    used
}

/// The answer under construction.
struct Answer<'a> {
    transport: &'a mut dyn Transport,
    buffer: &'a mut [u8],
    number: u32,
}

impl Answer<'_> {
    /// The part of the buffer for content: behind the header, with room for the trailer.
    fn content(&mut self) -> &mut [u8] {
        let room = self.transport.answer_room().min(self.buffer.len());
        &mut self.buffer[AnswerHeader::BYTES..room - size_of_val(&ANSWER_TRAILER)]
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

    /// Sets the number of steps of the case that starts at `first`.
    fn patch_steps(&mut self, first: usize, steps: u16) {
        self.content()[first..][..2].copy_from_slice(&steps.to_le_bytes());
    }

    /// Puts a header before `used` bytes of content and a trailer behind them, and hands the answer in.
    fn submit(&mut self, used: usize, complete: bool) {
        let header = AnswerHeader { number: self.number, complete, bytes: used as u32 };
        header.encode(&mut Writer::new(self.buffer)).expect("the buffer is larger than a header");
        let end = AnswerHeader::BYTES + used;
        let bytes = end + size_of_val(&ANSWER_TRAILER);
        self.buffer[end..bytes].copy_from_slice(&ANSWER_TRAILER.to_le_bytes());
        self.transport.submit(self.buffer, bytes, complete);
    }
}
