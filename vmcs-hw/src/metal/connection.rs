//! The connection to a machine at a serial line.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use vmcs_case::TargetError;
use vmcs_wire::batch::{MAX_ANSWER_BYTES, MAX_SESSION_BYTES};
use vmcs_wire::frame::MAX_PAYLOAD;
use vmcs_wire::line::{Interrupted, SerialLine};
use vmcs_wire::serial::{Greeting, VERSION};

use super::port::{HostPort, LineName};

/// A machine at a serial line cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetalError {
    /// The serial line does not answer.
    #[error(
        "nothing answers at {place} for {waited:?}: is the machine started from a boot image with the probe, the line \
         connected, and its speed {baud} baud at both ends?"
    )]
    NoAnswer {
        /// The line.
        place: String,
        /// How long it was tried.
        waited: Duration,
        /// Its speed.
        baud: u32,
    },
    /// The probe at the other end is of another version.
    #[error("the probe speaks version {found} of the protocol, this program {expected}: build the image anew")]
    ProbeVersion {
        /// Version of the probe.
        found: u8,
        /// Version of this program.
        expected: u8,
    },
}

impl From<MetalError> for TargetError {
    fn from(error: MetalError) -> Self {
        Self::Machine(Box::new(error))
    }
}

/// How a [`MetalTarget`] works.
#[derive(Clone, Debug)]
pub struct MetalOptions {
    /// Cases that the machine executes before it answers.
    pub batch: usize,
    /// How long the first greeting is waited for, and that of a machine which has started again.
    pub boot: Duration,
    /// How long an answer is waited for before the machine counts as hung.
    pub patience: Duration,
    /// Is told, in a sentence, when a person has to do something: a machine that hangs has to be reset.
    pub notice: fn(&str),
    /// Set by somebody who wants to stop: whatever is waited for ends in [`TargetError::Stopped`].
    pub stop: Arc<AtomicBool>,
}

impl Default for MetalOptions {
    fn default() -> Self {
        Self {
            batch: 32,
            boot: Duration::from_secs(180),
            patience: Duration::from_secs(15),
            notice: |_| {},
            stop: Arc::default(),
        }
    }
}

impl MetalOptions {
    /// Whether somebody wants to stop.
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A machine with the probe, behind a serial line.
#[derive(Debug)]
pub struct MetalTarget {
    pub(super) name: LineName,
    pub(super) options: MetalOptions,
    pub(super) line: SerialLine<'static, HostPort>,
    /// Number of the connection.
    connection: u32,
    /// The processor, as the probe has greeted.
    pub(super) processor: String,
    pub(super) buffer: Vec<u8>,
}

impl MetalTarget {
    /// Opens the line and waits for the probe's greeting.
    ///
    /// # Errors
    /// [`TargetError::Io`], [`MetalError::NoAnswer`], [`TargetError::Stopped`]; [`TargetError::Probe`] with the probe's
    /// diagnosis when the machine cannot work; [`MetalError::ProbeVersion`].
    pub fn open(name: LineName, options: MetalOptions) -> Result<Self, TargetError> {
        let line = SerialLine::host(HostPort::open(&name)?);
        // Not that of a host before this one: the probe takes the same number for the same connection.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let connection = now.subsec_nanos() ^ std::process::id().rotate_left(16);
        let buffer = vec![0; MAX_SESSION_BYTES.max(MAX_ANSWER_BYTES) + 64];
        let mut target = Self { name, options, line, connection, processor: String::new(), buffer };
        target.connect()?;
        Ok(target)
    }

    /// Opens a connection to a machine that has started.
    pub(super) fn connect(&mut self) -> Result<(), TargetError> {
        self.connection = self.connection.wrapping_add(1).max(1);
        let mut greeting = [0; MAX_PAYLOAD];
        let start = Instant::now();
        let mut patience = waiting(&self.options, start + self.options.boot);
        let length = match self.line.connect(self.connection, &mut greeting, &mut patience) {
            Ok(length) => length,
            Err(Interrupted::BrokenOff) if self.options.stopped() => return Err(TargetError::Stopped),
            Err(Interrupted::BrokenOff) => {
                let (place, baud) = (self.name.path.display().to_string(), self.name.baud);
                return Err(MetalError::NoAnswer { place, waited: self.options.boot, baud }.into());
            }
            Err(Interrupted::Port(error)) => return Err(self.broken(error)),
            Err(Interrupted::StartedAnew | Interrupted::TooLong) => {
                return Err(TargetError::Garbled("the greeting is too long"));
            }
        };
        let garbled = |_| TargetError::Garbled("the greeting does not decode");
        let greeting = Greeting::decode(&greeting[..length]).map_err(garbled)?;
        if greeting.version != VERSION {
            return Err(MetalError::ProbeVersion { found: greeting.version, expected: VERSION }.into());
        }
        let text = String::from_utf8_lossy(greeting.text).into_owned();
        if !greeting.ready {
            return Err(TargetError::Probe(text));
        }
        self.processor = text;
        Ok(())
    }

    /// The line itself has failed.
    pub(super) fn broken(&self, source: std::io::Error) -> TargetError {
        TargetError::Io { action: format!("using {}", self.name), source }
    }
}

/// Patience until `deadline`, or until somebody wants to stop.
pub(super) fn waiting(options: &MetalOptions, deadline: Instant) -> impl FnMut() -> ControlFlow<()> {
    let stop = Arc::clone(&options.stop);
    move || {
        let over = stop.load(Ordering::Relaxed) || Instant::now() >= deadline;
        if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
