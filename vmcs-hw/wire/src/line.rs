//! Messages over a serial line that loses, flips and doubles bytes.
//!
//! A message travels in parts, one [`frame`](crate::frame) each. The receiver acknowledges each part; the sender sends it again
//! when something arrives that is no frame, or when nothing arrives for a while. The two ends take turns with messages: one
//! sends, the other receives.
//!
//! The host opens a connection and numbers it. A probe that was reset has no connection and sends a [`FrameKind::Hello`],
//! from which the host sees that the machine has started anew. A host that was started anew opens another connection.

use core::ops::ControlFlow;

use crate::frame::{Deframer, Frame, FrameKind, MAX_FRAME, MAX_PAYLOAD, Received};

/// Bytes to and from the other end.
pub trait Port {
    /// Why it may fail.
    type Error;

    /// Sends bytes.
    ///
    /// # Errors
    /// The port's own.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Takes the next byte; `None` when none arrives for the time after which frames are sent again.
    ///
    /// # Errors
    /// The port's own.
    fn read(&mut self) -> Result<Option<u8>, Self::Error>;

    /// Takes what arrived between frames and is none: text, or a frame that was damaged.
    fn other(&mut self, bytes: &[u8]) {
        let _ = bytes;
    }
}

/// Why a message was not sent or received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupted<E> {
    /// The other end has started anew: what was under way is lost.
    StartedAnew,
    /// The caller has lost its patience.
    BrokenOff,
    /// The message is longer than the receiver's buffer.
    TooLong,
    /// The port failed.
    Port(E),
}

/// Which end of the line this is.
#[derive(Clone, Copy, Debug)]
enum LineEnd<'g> {
    Host,
    /// With its greeting.
    Probe(&'g [u8]),
}

/// One end of a line.
#[derive(Debug)]
pub struct SerialLine<'g, P> {
    port: P,
    end: LineEnd<'g>,
    deframer: Deframer,
    /// 0 while there is none.
    connection: u32,
    /// Sequence number of the part to be sent next, and of the one expected next.
    outgoing: u16,
    incoming: u16,
}

/// What has happened on the line.
enum LineEvent {
    /// Nothing has arrived for a while.
    Silence,
    /// Something that was no frame has arrived.
    Garbled,
    /// The other end has not got what was sent last, or does not know that its own part has been taken.
    Unheard,
    /// The part that was sent last has arrived.
    Acknowledged,
    /// A part was taken, the last one of its message or not.
    Taken { last: bool },
    /// The greeting of the connection that is being opened.
    Hello,
    /// Something that was seen to, or that does not matter.
    Other,
}

/// Is asked again and again while the line is silent.
pub type Patience<'a> = &'a mut dyn FnMut() -> ControlFlow<()>;

/// Takes the payload of a part or greeting; `false` if it is not wanted now.
type Take<'a> = &'a mut dyn FnMut(FrameKind, &[u8]) -> bool;

impl<P: Port> SerialLine<'static, P> {
    /// The host's end.
    pub fn host(port: P) -> Self {
        Self::new(port, LineEnd::Host)
    }

    /// Opens the connection number `connection`, which is not 0 and not that of any connection before, and puts the
    /// probe's greeting into `greeting`. Returns its length.
    ///
    /// # Errors
    /// [`Interrupted::BrokenOff`] by `patience`, [`Interrupted::TooLong`], [`Interrupted::Port`].
    pub fn connect(
        &mut self,
        connection: u32,
        greeting: &mut [u8],
        patience: Patience<'_>,
    ) -> Result<usize, Interrupted<P::Error>> {
        (self.connection, self.outgoing, self.incoming) = (connection, 0, 0);
        self.transmit(FrameKind::Connect, 0, &[])?;
        let mut length = 0;
        loop {
            let mut take = |kind, payload: &[u8]| {
                if kind == FrameKind::Hello {
                    length = payload.len();
                    greeting.iter_mut().zip(payload).for_each(|(place, byte)| *place = *byte);
                }
                false
            };
            match self.event(&mut take) {
                Ok(LineEvent::Hello) if length > greeting.len() => return Err(Interrupted::TooLong),
                Ok(LineEvent::Hello) => return Ok(length),
                // The greeting of a machine that has just started.
                Ok(LineEvent::Silence) | Err(Interrupted::StartedAnew) => {
                    if patience().is_break() {
                        return Err(Interrupted::BrokenOff);
                    }
                    self.connection = connection;
                    self.transmit(FrameKind::Connect, 0, &[])?;
                }
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl<'g, P: Port> SerialLine<'g, P> {
    /// The probe's end, which greets with at most [`MAX_PAYLOAD`] bytes.
    pub fn probe(port: P, greeting: &'g [u8]) -> Self {
        Self::new(port, LineEnd::Probe(&greeting[..greeting.len().min(MAX_PAYLOAD)]))
    }

    fn new(port: P, end: LineEnd<'g>) -> Self {
        Self { port, end, deframer: Deframer::default(), connection: 0, outgoing: 0, incoming: 0 }
    }

    /// The port.
    pub fn port(&mut self) -> &mut P {
        &mut self.port
    }

    /// Gives the port back.
    pub fn into_port(self) -> P {
        self.port
    }

    /// Sends a message, and returns when it has arrived.
    ///
    /// # Errors
    /// [`Interrupted`], but for [`Interrupted::TooLong`].
    pub fn send(&mut self, message: &[u8], patience: Patience<'_>) -> Result<(), Interrupted<P::Error>> {
        let mut rest = message;
        loop {
            let (part, behind) = rest.split_at(rest.len().min(MAX_PAYLOAD));
            let kind = if behind.is_empty() { FrameKind::LastPart } else { FrameKind::Part };
            self.transmit(kind, self.outgoing, part)?;
            loop {
                match self.event(&mut |_, _| false)? {
                    LineEvent::Acknowledged => break,
                    // What was no frame may have been the acknowledgement.
                    LineEvent::Garbled | LineEvent::Unheard => self.transmit(kind, self.outgoing, part)?,
                    LineEvent::Silence if patience().is_break() => return Err(Interrupted::BrokenOff),
                    LineEvent::Silence => self.transmit(kind, self.outgoing, part)?,
                    LineEvent::Taken { .. } | LineEvent::Hello | LineEvent::Other => {}
                }
            }
            self.outgoing = self.outgoing.wrapping_add(1);
            if behind.is_empty() {
                return Ok(());
            }
            rest = behind;
        }
    }

    /// Waits for a message, puts it into `buffer` and returns its length.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn receive(&mut self, buffer: &mut [u8], patience: Patience<'_>) -> Result<usize, Interrupted<P::Error>> {
        let mut length = 0;
        loop {
            let mut fits = true;
            let mut take = |kind, payload: &[u8]| {
                if kind == FrameKind::Hello {
                    return false;
                }
                match buffer.get_mut(length..length + payload.len()) {
                    Some(place) => place.copy_from_slice(payload),
                    None => fits = false,
                }
                length += payload.len();
                fits
            };
            let event = self.event(&mut take)?;
            if !fits {
                return Err(Interrupted::TooLong);
            }
            match event {
                LineEvent::Taken { last: true } => return Ok(length),
                LineEvent::Silence if patience().is_break() => return Err(Interrupted::BrokenOff),
                LineEvent::Garbled => self.transmit(FrameKind::Garbled, self.incoming, &[])?,
                _ => {}
            }
        }
    }

    /// Takes what arrives up to the next event.
    fn event(&mut self, take: Take<'_>) -> Result<LineEvent, Interrupted<P::Error>> {
        loop {
            let Some(byte) = self.port.read().map_err(Interrupted::Port)? else {
                if let (LineEnd::Probe(greeting), 0) = (self.end, self.connection) {
                    self.transmit(FrameKind::Hello, 0, greeting)?;
                }
                return Ok(LineEvent::Silence);
            };
            let frame = match self.deframer.push(byte) {
                None => continue,
                Some(Received::Frame(frame)) => frame,
                Some(Received::Other(bytes)) => {
                    self.port.other(bytes);
                    return Ok(LineEvent::Garbled);
                }
            };
            let Frame { kind, connection, sequence, payload } = frame;
            let ours = connection == self.connection && connection != 0;
            return match (kind, self.end) {
                (FrameKind::Connect, LineEnd::Probe(greeting)) => {
                    if !ours {
                        (self.connection, self.outgoing, self.incoming) = (connection, 0, 0);
                    }
                    self.transmit(FrameKind::Hello, 0, greeting)?;
                    if ours { Ok(LineEvent::Other) } else { Err(Interrupted::StartedAnew) }
                }
                (FrameKind::Hello, LineEnd::Host) if ours => {
                    take(kind, payload);
                    Ok(LineEvent::Hello)
                }
                (FrameKind::Hello, LineEnd::Host) if self.connection != 0 => {
                    self.connection = 0;
                    Err(Interrupted::StartedAnew)
                }
                (FrameKind::Acknowledge, _) if ours && sequence == self.outgoing => Ok(LineEvent::Acknowledged),
                (FrameKind::Garbled, _) if ours => Ok(LineEvent::Unheard),
                (FrameKind::Part | FrameKind::LastPart, _) if ours && sequence == self.incoming => {
                    if !take(kind, payload) {
                        return Ok(LineEvent::Unheard);
                    }
                    self.incoming = self.incoming.wrapping_add(1);
                    self.transmit(FrameKind::Acknowledge, sequence, &[])?;
                    Ok(LineEvent::Taken { last: kind == FrameKind::LastPart })
                }
                // The acknowledgement was lost.
                (FrameKind::Part | FrameKind::LastPart, _) if ours && sequence == self.incoming.wrapping_sub(1) => {
                    self.transmit(FrameKind::Acknowledge, sequence, &[])?;
                    Ok(LineEvent::Other)
                }
                _ => Ok(LineEvent::Other),
            };
        }
    }

    fn transmit(&mut self, kind: FrameKind, sequence: u16, payload: &[u8]) -> Result<(), Interrupted<P::Error>> {
        let mut buffer = [0; MAX_FRAME];
        let frame = Frame { kind, connection: self.connection, sequence, payload };
        // Parts and greetings are cut to the size of a payload.
        let bytes = frame.encode(&mut buffer).map_err(|_| Interrupted::TooLong)?;
        self.port.write(bytes).map_err(Interrupted::Port)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
    use std::thread;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// An end of a channel that damages one of so many bytes that are sent, by chance.
    struct Lossy {
        out: Sender<u8>,
        into: Receiver<u8>,
        one_of: u64,
        state: u64,
    }

    impl Lossy {
        fn pair(one_of: u64, seed: u64) -> (Self, Self) {
            let ((a, from_a), (b, from_b)) = (channel(), channel());
            let end = |out, into, seed| Self { out, into, one_of, state: seed | 1 };
            (end(a, from_b, seed), end(b, from_a, seed.rotate_left(17)))
        }

        fn random(&mut self, below: u64) -> u64 {
            // xorshift64.
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            (self.state >> 16) % below
        }
    }

    impl Port for Lossy {
        type Error = ();

        fn write(&mut self, bytes: &[u8]) -> Result<(), ()> {
            for byte in bytes {
                let copies: &[u8] = match self.random(self.one_of) {
                    0 => match self.random(3) {
                        0 => &[],
                        1 => &[*byte, *byte],
                        _ => &[*byte ^ (1 << self.random(8))],
                    },
                    _ => &[*byte],
                };
                for byte in copies {
                    // The other end may be gone already.
                    let _ = self.out.send(*byte);
                }
            }
            Ok(())
        }

        fn read(&mut self) -> Result<Option<u8>, ()> {
            match self.into.recv_timeout(Duration::from_millis(3)) {
                Ok(byte) => Ok(Some(byte)),
                Err(RecvTimeoutError::Timeout) => Ok(None),
                Err(RecvTimeoutError::Disconnected) => Err(()),
            }
        }
    }

    fn patient() -> impl FnMut() -> ControlFlow<()> {
        || ControlFlow::Continue(())
    }

    /// Answers every message with its bytes in reverse order; after so many messages it starts anew.
    fn echo(port: Lossy, restart_after: Option<usize>) {
        let mut port = Some(port);
        let mut left = restart_after;
        while let Some(taken) = port.take() {
            let mut line = SerialLine::probe(taken, b"hello");
            let mut buffer = [0; 1 << 14];
            loop {
                match line.receive(&mut buffer, &mut patient()) {
                    Ok(length) => {
                        buffer[..length].reverse();
                        if left == Some(0) {
                            left = None;
                            port = Some(line.port);
                            break;
                        }
                        left = left.map(|left| left - 1);
                        match line.send(&buffer[..length], &mut patient()) {
                            Ok(()) | Err(Interrupted::StartedAnew) => {}
                            Err(_) => return,
                        }
                    }
                    Err(Interrupted::StartedAnew) => {}
                    Err(_) => return,
                }
            }
        }
    }

    fn message(size: usize, salt: usize) -> Vec<u8> {
        (0..size).map(|index| (index * 7 + salt).to_le_bytes()[0]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn nothing_is_lost_on_a_lossy_line(
            seed in any::<u64>(),
            one_of in 600u64..20_000,
            sizes in proptest::collection::vec(0usize..6000, 1..8),
        ) {
            let (host, probe) = Lossy::pair(one_of, seed);
            let echo = thread::spawn(move || echo(probe, None));
            let mut line = SerialLine::host(host);
            let mut greeting = [0; MAX_PAYLOAD];
            let length = line.connect(1, &mut greeting, &mut patient()).expect("it connects");
            prop_assert_eq!(&greeting[..length], b"hello");
            for (number, size) in sizes.into_iter().enumerate() {
                let mut expected = message(size, number);
                line.send(&expected, &mut patient()).expect("it arrives");
                expected.reverse();
                let mut buffer = [0; 1 << 14];
                let length = line.receive(&mut buffer, &mut patient()).expect("it comes back");
                prop_assert_eq!(&buffer[..length], &expected[..]);
            }
            drop(line);
            echo.join().expect("the probe's end does not panic");
        }
    }

    #[test]
    fn a_restart_of_the_machine_is_seen_and_survived() {
        let (host, probe) = Lossy::pair(3000, 42);
        let echo = thread::spawn(move || echo(probe, Some(2)));
        let mut line = SerialLine::host(host);
        let mut buffer = [0; 1 << 14];
        let (mut connection, mut answers, mut restarts) = (1, 0, 0);
        line.connect(connection, &mut buffer, &mut patient()).expect("it connects");
        while answers < 5 {
            let text = message(3000, answers);
            let result = line.send(&text, &mut patient()).and_then(|()| line.receive(&mut buffer, &mut patient()));
            match result {
                Ok(length) => {
                    assert!(buffer[..length].iter().rev().eq(&text));
                    answers += 1;
                }
                Err(Interrupted::StartedAnew) => {
                    restarts += 1;
                    connection += 1;
                    line.connect(connection, &mut buffer, &mut patient()).expect("it connects again");
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(restarts, 1);
        drop(line);
        echo.join().expect("the probe's end does not panic");
    }

    #[test]
    fn another_host_takes_over_and_a_silent_line_is_given_up() {
        let (host, probe) = Lossy::pair(u64::MAX, 7);
        let echo = thread::spawn(move || echo(probe, None));
        let mut buffer = [0; 64];
        let mut first = SerialLine::host(host);
        first.connect(1, &mut buffer, &mut patient()).expect("it connects");
        first.send(b"never fetched", &mut patient()).expect("it arrives");
        let mut second = SerialLine::host(first.port);
        second.connect(2, &mut buffer, &mut patient()).expect("it connects");
        second.send(b"abc", &mut patient()).expect("it arrives");
        let length = second.receive(&mut buffer, &mut patient()).expect("it comes back");
        assert_eq!(&buffer[..length], b"cba");
        drop(second);
        echo.join().expect("the probe's end does not panic");

        let (host, _silent) = Lossy::pair(u64::MAX, 7);
        let asked = AtomicBool::new(false);
        let mut patience = || {
            if asked.swap(true, Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let result = SerialLine::host(host).connect(1, &mut buffer, &mut patience);
        assert_eq!(result, Err(Interrupted::BrokenOff));
    }
}
