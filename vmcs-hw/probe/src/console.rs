//! One-line messages for whoever started the machine, the panic handler, and the way to switch the machine off.
// UNSAFETY: port I/O.
#![allow(unsafe_code, reason = "port I/O")]

use core::fmt::{self, Write};

use x86::io::outb;

/// Bochs and QEMU print bytes that are written to this port.
const DEBUG_PORT: u16 = 0xE9;
/// Bochs ends when "Shutdown" is written to this port.
const POWER_PORT: u16 = 0x8900;

/// The debug port as a text sink.
pub(crate) struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the probe runs at CPL 0; no device that touches memory answers at this port.
            unsafe { outb(DEBUG_PORT, byte) };
        }
        Ok(())
    }
}

/// Prints one line that starts with the name by which hosts recognise the probe's lines.
pub(crate) fn say(message: fmt::Arguments<'_>) {
    // The sink never fails.
    let _ = writeln!(Console, "vmcs-probe: {message}");
}

/// Switches the machine off.
pub(crate) fn power_off() -> ! {
    for byte in *b"Shutdown" {
        // SAFETY: as above; the machine ends here.
        unsafe { outb(POWER_PORT, byte) };
    }
    loop {
        core::hint::spin_loop();
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    say(format_args!("panic: {}", info.message()));
    power_off()
}
