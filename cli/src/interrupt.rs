//! Stopping on Ctrl-C.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

/// A flag that Ctrl-C sets.
pub(crate) fn stop_on_ctrl_c() -> Arc<AtomicBool> {
    static STOP: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        // If it fails, Ctrl-C ends the program as usual.
        let _ = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed));
        stop
    });
    Arc::clone(&STOP)
}
