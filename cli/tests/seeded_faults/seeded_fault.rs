//! Which fault is in force. This file belongs only to the copy of the workspace that has the faults in it.

use core::sync::atomic::{AtomicU32, Ordering};

/// The number of the fault; no fault has number 0.
static FAULT: AtomicU32 = AtomicU32::new(0);

/// Puts a fault in force.
pub fn set(number: u32) {
    FAULT.store(number, Ordering::Relaxed);
}

/// Whether that fault is in force.
#[inline(always)]
pub fn is(number: u32) -> bool {
    FAULT.load(Ordering::Relaxed) == number
}
