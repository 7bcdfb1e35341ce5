//! A clock that interrupts the thread of the virtual processor from time to time, so that a machine that hangs is noticed.
// UNSAFETY: a signal handler is installed.
#![allow(unsafe_code, reason = "a signal handler is installed")]

use std::time::{Duration, Instant};

use nix::sys::signal::{SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use nix::unistd::gettid;

/// The signal, which nothing else in the programs of this crate uses.
const SIGNAL: Signal = Signal::SIGUSR2;

extern "C" fn ignore(_: std::ffi::c_int) {}

/// Interrupts its thread again and again, so that KVM_RUN comes back; a tick that comes just before KVM_RUN is followed
/// by another one. It stops when it is dropped.
pub(crate) struct StepWatch {
    _timer: Timer,
    since: Instant,
    patience: Duration,
}

impl StepWatch {
    /// For the calling thread.
    pub(crate) fn start(patience: Duration) -> nix::Result<Self> {
        let action = SigAction::new(SigHandler::Handler(ignore), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing, which is async-signal-safe.
        unsafe { sigaction(SIGNAL, &action) }?;
        let notify = SigevNotify::SigevThreadId { signal: SIGNAL, thread_id: gettid().as_raw(), si_value: 0 };
        let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify))?;
        let tick = (patience / 4).max(Duration::from_millis(1));
        timer.set(Expiration::Interval(tick.into()), TimerSetTimeFlags::empty())?;
        Ok(Self { _timer: timer, since: Instant::now(), patience })
    }

    /// Notes progress.
    pub(crate) fn progressed(&mut self) {
        self.since = Instant::now();
    }

    /// Whether there was no progress for too long.
    pub(crate) fn is_over(&self) -> bool {
        self.since.elapsed() > self.patience
    }
}
