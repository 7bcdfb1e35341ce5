//! The host's end of a serial line: a terminal device in raw mode, or a Unix socket.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::termios::{ControlModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use vmcs_wire::line::Port;

use vmcs_case::TargetError;

/// After a silence of so many tenths of a second, frames are sent again.
const SILENCE: u8 = 8;
/// Speed unless another is given.
const BAUD: u32 = 115_200;
/// Text of the probe that is kept.
const TEXT: usize = 4096;

/// A serial line by name: `/dev/ttyS0`, `/dev/ttyUSB0@921600`, or the path of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LineName {
    /// The device or socket.
    pub path: PathBuf,
    /// Speed of the device in baud.
    pub baud: u32,
}

/// The name of a serial line cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no serial line: expected a device or a socket's path, and perhaps @ and a number of baud")]
pub struct BadLine(pub String);

impl FromStr for LineName {
    type Err = BadLine;

    fn from_str(text: &str) -> Result<Self, BadLine> {
        let bad = || BadLine(text.to_owned());
        let (path, baud) = match text.rsplit_once('@') {
            Some((path, baud)) => (path, baud.parse().ok().filter(|baud| *baud > 0).ok_or_else(bad)?),
            None => (text, BAUD),
        };
        if path.is_empty() { Err(bad()) } else { Ok(Self { path: path.into(), baud }) }
    }
}

impl fmt::Display for LineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.baud == BAUD { Ok(()) } else { write!(f, "@{}", self.baud) }
    }
}

/// An open line, which collects the probe's lines of text besides.
#[derive(Debug)]
pub(super) struct HostPort {
    stream: PortStream,
    received: [u8; 4096],
    first: usize,
    end: usize,
    text: String,
}

#[derive(Debug)]
enum PortStream {
    /// A terminal, and how it was set before.
    Terminal(File, Box<Termios>),
    Socket(UnixStream),
}

impl HostPort {
    /// Opens the line: raw, 8 data bits, no parity, no flow control.
    ///
    /// # Errors
    /// [`TargetError::Io`].
    pub(super) fn open(name: &LineName) -> Result<Self, TargetError> {
        let stream = PortStream::open(name).map_err(TargetError::io(format!("opening {}", name.path.display())))?;
        Ok(Self { stream, received: [0; 4096], first: 0, end: 0, text: String::new() })
    }

    /// What the probe has printed since this was asked last.
    pub(super) fn take_text(&mut self) -> String {
        std::mem::take(&mut self.text)
    }
}

impl PortStream {
    fn open(name: &LineName) -> io::Result<Self> {
        if name.path.metadata()?.file_type().is_socket() {
            let socket = UnixStream::connect(&name.path)?;
            socket.set_read_timeout(Some(Duration::from_millis(100) * u32::from(SILENCE)))?;
            return Ok(Self::Socket(socket));
        }
        // Without O_NONBLOCK a device may wait for its carrier; NOCTTY: Ctrl-C on the line is not ours.
        let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).expect("flags of open(2) are an int");
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&name.path)?;
        let before = tcgetattr(&file)?;
        // The custom of programs that use serial lines.
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::new(io::ErrorKind::ResourceBusy, "another program uses it"),
            TryLockError::Error(error) => error,
        })?;
        let mut raw = before.clone();
        raw.make_raw();
        raw.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
        raw.control_modes &= !(ControlModes::CRTSCTS | ControlModes::CSTOPB);
        raw.set_speed(name.baud)?;
        // A read returns nothing after the silence.
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = SILENCE;
        tcsetattr(&file, OptionalActions::Flush, &raw)?;
        let status = rustix::fs::fcntl_getfl(&file)?;
        rustix::fs::fcntl_setfl(&file, status - OFlags::NONBLOCK)?;
        Ok(Self::Terminal(file, Box::new(before)))
    }

    /// Bytes that have arrived; none after a silence.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let closed = || io::Error::new(io::ErrorKind::UnexpectedEof, "the other end has closed the socket");
        loop {
            let result = match self {
                Self::Terminal(file, _) => file.read(buffer),
                Self::Socket(socket) => match socket.read(buffer) {
                    Ok(0) => Err(closed()),
                    result => result,
                },
            };
            return match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                result => result,
            };
        }
    }
}

impl Drop for PortStream {
    fn drop(&mut self) {
        if let Self::Terminal(file, before) = self {
            // The device may be gone; nobody is left to tell.
            let _ = tcsetattr(file, OptionalActions::Flush, before);
        }
    }
}

impl Port for HostPort {
    type Error = io::Error;

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            PortStream::Terminal(file, _) => file.write_all(bytes),
            PortStream::Socket(socket) => socket.write_all(bytes),
        }
    }

    fn read(&mut self) -> io::Result<Option<u8>> {
        if self.first == self.end {
            (self.first, self.end) = (0, self.stream.read(&mut self.received)?);
            if self.end == 0 {
                return Ok(None);
            }
        }
        self.first += 1;
        Ok(Some(self.received[self.first - 1]))
    }

    fn other(&mut self, bytes: &[u8]) {
        self.text.push_str(&String::from_utf8_lossy(bytes));
        let surplus = self.text.len().saturating_sub(TEXT);
        let start = (surplus..=self.text.len()).find(|start| self.text.is_char_boundary(*start)).unwrap_or(0);
        self.text.drain(..start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_named_with_and_without_their_speed() {
        let name = |text: &str| text.parse::<LineName>().map(|name| (name.path.display().to_string(), name.baud));
        assert_eq!(name("/dev/ttyS0").expect("a line"), ("/dev/ttyS0".to_owned(), 115_200));
        assert_eq!(name("/dev/ttyUSB0@921600").expect("a line"), ("/dev/ttyUSB0".to_owned(), 921_600));
        for wrong in ["", "@9600", "/dev/ttyS0@fast", "/dev/ttyS0@0"] {
            assert!(matches!(name(wrong), Err(BadLine(_))), "{wrong}");
        }
        assert_eq!("/dev/ttyUSB0@921600".parse::<LineName>().expect("a line").to_string(), "/dev/ttyUSB0@921600");
    }

    #[test]
    fn what_is_no_line_is_refused_by_name() {
        let open = |path: &str| HostPort::open(&path.parse().expect("a name")).expect_err("no line").to_string();
        assert_eq!(open("/nonexistent/tty"), "opening /nonexistent/tty");
        // A file, but no terminal.
        assert_eq!(open("/dev/null"), "opening /dev/null");
    }
}
