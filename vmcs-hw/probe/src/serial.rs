//! Work over the serial line.

use core::convert::Infallible;
use core::ops::ControlFlow;

use vmcs_probe::transport::Transport;
use vmcs_wire::batch::{ANSWER_TRAILER, AnswerHeader, Task};
use vmcs_wire::codec::{Reader, Writer};
use vmcs_wire::line::{Interrupted, SerialLine};
use vmcs_wire::serial::{AnswerPart, Request};

use crate::console;
use crate::uart::{SerialPort, Uart};

/// The line to the host.
pub(crate) struct Serial<'g> {
    line: SerialLine<'g, SerialPort>,
    message: &'static mut [u8],
    /// Bytes that the host has of the unfinished answer.
    sent: usize,
    /// The host has opened another connection.
    started_anew: bool,
}

/// The probe waits for its host for ever.
fn patient() -> ControlFlow<()> {
    ControlFlow::Continue(())
}

impl<'g> Serial<'g> {
    /// The line of `uart`; `message` is room for one message.
    pub(crate) fn new(uart: Uart, greeting: &'g [u8], message: &'static mut [u8]) -> Self {
        Self { line: SerialLine::probe(SerialPort::new(uart), greeting), message, sent: 0, started_anew: false }
    }

    /// Tells every host that asks what the greeting says, and nothing else.
    pub(crate) fn refuse(mut self) -> ! {
        loop {
            let _ = self.line.receive(self.message, &mut patient);
        }
    }

    /// The next request; `None` if the host has started anew.
    fn request(&mut self) -> Option<Request<'_>> {
        if core::mem::take(&mut self.started_anew) {
            return None;
        }
        match self.line.receive(self.message, &mut patient) {
            Ok(length) => Some(Request::decode(&self.message[..length]).expect("the request decodes")),
            Err(interrupted) => {
                lost(interrupted);
                None
            }
        }
    }
}

/// Says so when another host takes over.
///
/// # Panics
/// On a message that is too long.
fn lost(interrupted: Interrupted<Infallible>) {
    match interrupted {
        Interrupted::StartedAnew => console::show(format_args!("a host has connected")),
        Interrupted::BrokenOff => {}
        Interrupted::TooLong => panic!("the host's message is too long"),
        Interrupted::Port(never) => match never {},
    }
}

impl Transport for Serial<'_> {
    fn begin<'a>(&mut self, buffer: &'a mut [u8]) -> Option<(Task, &'a [u8])> {
        loop {
            if let Some(Request::Open { task, session }) = self.request() {
                // From now on the host finds out what a restart means.
                console::restart_on_panic();
                let place = &mut buffer[..session.len()];
                place.copy_from_slice(session);
                return Some((task, place));
            }
        }
    }

    fn next_batch<'a>(&mut self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        self.sent = 0;
        match self.request() {
            Some(Request::Batch(batch)) => {
                let place = &mut buffer[..batch.len()];
                place.copy_from_slice(batch);
                Some(place)
            }
            _ => None,
        }
    }

    fn answer_room(&self) -> usize {
        self.message.len()
    }

    fn submit(&mut self, buffer: &[u8], bytes: usize, complete: bool) {
        if self.started_anew {
            return;
        }
        let header = AnswerHeader::decode(&mut Reader::new(buffer)).expect("an answer starts with its header");
        let content = &buffer[AnswerHeader::BYTES..bytes - size_of_val(&ANSWER_TRAILER)];
        let kept = self.sent.min(content.len());
        let steps = content.first_chunk().map_or(0, |steps| u16::from_le_bytes(*steps));
        let added = &content[kept..];
        let part = AnswerPart { number: header.number, complete, kept: kept as u32, steps, added };
        let mut writer = Writer::new(self.message);
        part.encode_head(&mut writer).and_then(|()| writer.bytes(added)).expect("a message has room for an answer");
        let length = writer.len();
        self.sent = if complete { 0 } else { content.len() };
        if let Err(interrupted) = self.line.send(&self.message[..length], &mut patient) {
            lost(interrupted);
            self.started_anew = true;
        }
    }
}
