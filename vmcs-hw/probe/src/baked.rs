//! Executing the cases that the boot image contains, and printing their results.

use core::fmt;

use vmcs_probe::transport::Transport;
use vmcs_wire::StepResult;
use vmcs_wire::batch::{ANSWER_TRAILER, AnswerHeader, Task};
use vmcs_wire::codec::Reader;
use vmcs_wire::program::RawFields;
use vmcs_wire::serial::{Request, requests};
use vmcs_wire::session::SessionView;

use crate::console;

/// The requests of a boot image, and what has become of them.
pub(crate) struct Baked {
    rest: &'static [u8],
    /// Observed fields of the session.
    fields: usize,
    cases: u32,
    /// CRC-32 of the checksums of all cases.
    checksum: u32,
}

impl Baked {
    /// All of `file`.
    pub(crate) fn new(file: &'static [u8]) -> Self {
        Self { rest: file, fields: 0, cases: 0, checksum: 0 }
    }

    /// Whether there is another request.
    pub(crate) fn has_more(&self) -> bool {
        !self.rest.is_empty()
    }

    fn request(&mut self) -> Option<Request<'static>> {
        let request = requests(self.rest).next()?.expect("the request decodes");
        let mut reader = Reader::new(self.rest);
        let length = reader.u32().expect("a request has a length");
        self.rest = &self.rest[size_of::<u32>() + length as usize..];
        Some(request)
    }

    fn print(&mut self, mut content: &[u8]) {
        while !content.is_empty() {
            let mut reader = Reader::new(content);
            let steps = reader.u16().expect("an answer starts with the number of steps");
            let mut last = None;
            for _ in 0..steps {
                let result = StepResult::decode(&mut reader, self.fields).expect("a result decodes");
                if result != StepResult::NotRun {
                    last = Some(result);
                }
            }
            let (case, behind) = content.split_at(content.len() - reader.rest().len());
            let checksum = crc32fast::hash(case);
            console::say(format_args!("case {}: {}, {checksum:08x}", self.cases, Brief(last)));
            let mut both = [0; 8];
            both[..4].copy_from_slice(&self.checksum.to_le_bytes());
            both[4..].copy_from_slice(&checksum.to_le_bytes());
            self.checksum = crc32fast::hash(&both);
            self.cases += 1;
            content = behind;
        }
    }
}

impl Transport for Baked {
    fn begin<'a>(&mut self, buffer: &'a mut [u8]) -> Option<(Task, &'a [u8])> {
        let Some(Request::Open { task, session }) = self.request() else {
            panic!("the boot image's cases do not start with a session")
        };
        let place = &mut buffer[..session.len()];
        place.copy_from_slice(session);
        self.fields = SessionView::decode(place).expect("the session decodes").observed().len();
        Some((task, place))
    }

    fn next_batch<'a>(&mut self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        match self.request() {
            Some(Request::Batch(batch)) => {
                let place = &mut buffer[..batch.len()];
                place.copy_from_slice(batch);
                Some(place)
            }
            _ => {
                console::say(format_args!("{} cases, {:08x}", self.cases, self.checksum));
                None
            }
        }
    }

    fn answer_room(&self) -> usize {
        usize::MAX
    }

    fn submit(&mut self, buffer: &[u8], bytes: usize, complete: bool) {
        if complete {
            self.print(&buffer[AnswerHeader::BYTES..bytes - size_of_val(&ANSWER_TRAILER)]);
        }
    }
}

/// The last result of a case, in few letters.
struct Brief<'a>(Option<StepResult<RawFields<'a>>>);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("not run"),
            Some(StepResult::Ok) => f.write_str("ok"),
            Some(StepResult::Value(value)) => write!(f, "{value:#x}"),
            Some(StepResult::FailInvalid) => f.write_str("VMfailInvalid"),
            Some(StepResult::FailValid(number)) => write!(f, "VMfailValid({number})"),
            Some(StepResult::Fault { vector, error_code: None }) => write!(f, "fault {vector}"),
            Some(StepResult::Fault { vector, error_code: Some(code) }) => write!(f, "fault {vector}({code:#x})"),
            Some(StepResult::Exit { reason, qualification, .. }) => {
                // Bit 31: the entry failed.
                let kind = if reason >> 31 == 1 { "EntryFailed" } else { "exit" };
                write!(f, "{kind}({}, {qualification:#x})", reason & 0xFFFF)
            }
            Some(StepResult::Timed { samples, .. }) => {
                let (rounds, least) = (samples.iter().len(), samples.iter().min().unwrap_or(0));
                write!(f, "{rounds} rounds, the fastest in {least} cycles")
            }
            Some(StepResult::NotRun) => f.write_str("not run"),
            Some(StepResult::Fields(fields)) => write!(f, "{} fields", fields.iter().len()),
        }
    }
}
