//! The host's end of a serial line, with a probe that executes nothing.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use vmcs_case::{Case, End, Observation, Op, Session, StepResult, Target, TargetError};
use vmcs_hw::metal::{LineName, MetalError, MetalOptions, MetalTarget};
use vmcs_wire::batch::BatchHeader;
use vmcs_wire::codec::{Reader, Writer};
use vmcs_wire::line::{Interrupted, Port, SerialLine};
use vmcs_wire::serial::{AnswerPart, Greeting, Request, VERSION};

/// The machine's end of a line.
struct Device<T>(T);

impl<T: Read + Write + AsFd> Port for Device<T> {
    type Error = io::Error;

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn read(&mut self) -> io::Result<Option<u8>> {
        let silence = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        if poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&silence))? == 0 {
            return Ok(None);
        }
        let mut byte = [0];
        match self.0.read(&mut byte)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(Some(byte[0])),
        }
    }
}

fn greeting(version: u8, ready: bool, text: &str) -> Vec<u8> {
    let mut bytes = vec![0; 2 + text.len()];
    let greeting = Greeting { version, ready, text: text.as_bytes() };
    greeting.encode(&mut Writer::new(&mut bytes)).expect("it fits");
    bytes
}

/// A machine on which the first case of a session hangs until `reset`. It answers every other case with one result.
fn machine<T: Read + Write + AsFd>(mut device: Device<T>, greeting: &[u8], reset: &AtomicUsize) -> io::Result<()> {
    let mut patient = || ControlFlow::Continue(());
    let mut restarts = 0;
    loop {
        let mut line = SerialLine::probe(device, greeting);
        let mut buffer = [0; 1024];
        while reset.load(Ordering::Relaxed) == restarts {
            let length = match line.receive(&mut buffer, &mut || match reset.load(Ordering::Relaxed) == restarts {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }) {
                Ok(length) => length,
                Err(Interrupted::Port(error)) => return Err(error),
                Err(_) => continue,
            };
            let Ok(Request::Batch(batch)) = Request::decode(&buffer[..length]) else { continue };
            let header = BatchHeader::decode(&mut Reader::new(batch)).expect("it decodes");
            let hangs = header.number == 0;
            let results = if hangs { 0 } else { 1 };
            let mut content = Vec::new();
            for _ in 0..header.cases {
                content.extend([results, 0]);
                // Ok.
                content.extend(vec![0; results.into()]);
            }
            if hangs && header.cases > 1 {
                continue;
            }
            let part =
                AnswerPart { number: header.number, complete: !hangs, kept: 0, steps: results.into(), added: &[] };
            let mut message = vec![0; AnswerPart::OVERHEAD];
            part.encode_head(&mut Writer::new(&mut message)).expect("it fits");
            message.extend(content);
            if let Err(Interrupted::Port(error)) = line.send(&message, &mut patient) {
                return Err(error);
            }
        }
        restarts = reset.load(Ordering::Relaxed);
        device = Device(line.into_port().0);
    }
}

fn cases(count: usize) -> Vec<Case> {
    vec![Case { ops: vec![Op::Vmxoff], ..Case::default() }; count]
}

fn observe(target: &mut MetalTarget, count: usize) -> Result<Vec<Observation>, TargetError> {
    let mut observations = Vec::new();
    target.run(&Session::default(), &mut cases(count).into_iter(), &mut |_, observation| {
        observations.push(observation);
        ControlFlow::Continue(())
    })?;
    Ok(observations)
}

/// How often a person has been asked to reset the machine, and has done so.
static RESETS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn a_machine_that_hangs_is_waited_for_and_costs_one_case() {
    // A terminal, as a serial port is one.
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("its other end");
    let path = ptsname(&master, Vec::new()).expect("its name");
    // Open all the while: a terminal whose other end nobody has open reads as closed.
    let name = path.to_str().expect("a path");
    let _open = File::options().read(true).write(true).open(name).expect("the other end");
    thread::spawn(move || machine(Device(File::from(master)), &greeting(VERSION, true, "a processor"), &RESETS));

    let notice = |text: &str| {
        assert!(text.contains("reset it"), "{text}");
        RESETS.fetch_add(1, Ordering::Relaxed);
    };
    let options = MetalOptions { batch: 2, patience: Duration::from_secs(2), notice, ..MetalOptions::default() };
    let mut target = MetalTarget::open(name.parse().expect("a line"), options).expect("the probe greets");
    assert_eq!(target.implementation().to_string(), "metal unknown a processor");
    let observations = observe(&mut target, 5).expect("it goes on");
    let completed = Observation { steps: vec![StepResult::Ok], end: End::Completed };
    assert_eq!(observations[0], Observation { steps: Vec::new(), end: End::Hung });
    assert_eq!(observations[1..], vec![completed; 4]);
    // Once for the batch, once for the case in it.
    assert_eq!(RESETS.load(Ordering::Relaxed), 2);
}

/// What opening a line to a machine with that greeting ends in.
fn refusal(greeting: Vec<u8>) -> TargetError {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("line");
    let listener = UnixListener::bind(&path).expect("a socket");
    thread::spawn(move || {
        let (device, _) = listener.accept().expect("a host");
        machine(Device(device), &greeting, &AtomicUsize::new(0))
    });
    let name = LineName { path, baud: 115_200 };
    MetalTarget::open(name, MetalOptions::default()).expect_err("it is refused")
}

#[test]
fn what_a_machine_says_of_itself_can_be_a_refusal() {
    let error = refusal(greeting(VERSION, false, "the processor has no VMX"));
    assert_eq!(error.to_string(), "the probe gave up: the processor has no VMX");
    let error = refusal(greeting(VERSION + 1, true, "a processor"));
    assert!(
        matches!(error.machine(), Some(MetalError::ProbeVersion { found, .. }) if *found == VERSION + 1),
        "{error}"
    );
}

#[test]
fn nobody_waits_for_a_silent_line_for_ever() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("line");
    let _silent = UnixListener::bind(&path).expect("a socket");
    let open = |options| MetalTarget::open(LineName { path: path.clone(), baud: 9600 }, options).expect_err("silence");
    let error = open(MetalOptions { boot: Duration::from_millis(10), ..MetalOptions::default() }).to_string();
    assert!(error.contains("nothing answers at") && error.contains("9600 baud"), "{error}");
    let stop = Arc::new(AtomicBool::new(true));
    let start = Instant::now();
    assert!(matches!(open(MetalOptions { stop, ..MetalOptions::default() }), TargetError::Stopped));
    assert!(start.elapsed() < MetalOptions::default().boot);
}
