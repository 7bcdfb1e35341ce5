//! One-line messages for whoever started the machine, the panic handler, and how the machine ends.
// UNSAFETY: port I/O, and a processor without a usable IDT.
#![allow(unsafe_code, reason = "port I/O, restart")]

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use x86::dtables::{DescriptorTablePointer, lidt};
use x86::io::outb;

use crate::memory::Local;
use crate::screen::Screen;
use crate::uart::Uart;

/// Bochs and QEMU print bytes that are written to this port.
const DEBUG_PORT: u16 = 0xE9;
/// Bochs ends when "Shutdown" is written to this port.
const POWER_PORT: u16 = 0x8900;
/// Reset control register of Intel's chip sets.
const RESET_CONTROL: u16 = 0xCF9;
/// Command port of the keyboard controller, which can reset the processor.
const KEYBOARD_CONTROLLER: u16 = 0x64;

/// The name by which hosts recognise the probe's lines.
const PREFIX: &str = "vmcs-probe: ";

/// Screen and serial port of a machine that was started by a loader.
struct Outlets {
    screen: Option<Screen>,
    uart: Option<Uart>,
}

static OUTLETS: Local<Outlets> = Local::new(Outlets { screen: None, uart: None });
static ON_METAL: AtomicBool = AtomicBool::new(false);
static RESTART: AtomicBool = AtomicBool::new(false);

/// From now on, messages go to screen and serial port too, and the end of the work is not the end of the machine.
pub(crate) fn attach(screen: Option<Screen>, uart: Option<Uart>) {
    ON_METAL.store(true, Ordering::Relaxed);
    OUTLETS.with(|outlets| *outlets = Outlets { screen, uart });
}

/// From now on, a panic restarts the machine, for a host that waits for it.
pub(crate) fn restart_on_panic() {
    RESTART.store(true, Ordering::Relaxed);
}

/// The debug port as a text sink.
struct DebugPort;

impl Write for DebugPort {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the probe runs at CPL 0; no device that touches memory answers at this port.
            unsafe { outb(DEBUG_PORT, byte) };
        }
        Ok(())
    }
}

/// A serial port as a text sink.
struct Lines(Uart);

impl Write for Lines {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for line in text.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(line) => {
                    self.0.send(line.as_bytes(), || {});
                    self.0.send(b"\r\n", || {});
                }
                None => self.0.send(line.as_bytes(), || {}),
            }
        }
        Ok(())
    }
}

/// Prints one line that starts with the probe's name, everywhere.
pub(crate) fn say(message: fmt::Arguments<'_>) {
    // The sinks never fail.
    let _ = writeln!(DebugPort, "{PREFIX}{message}");
    OUTLETS.with(|outlets| {
        if let Some(uart) = outlets.uart {
            let _ = writeln!(Lines(uart), "{PREFIX}{message}");
        }
    });
    show(message);
}

/// Prints one line on the screen alone: the serial line is in use.
pub(crate) fn show(message: fmt::Arguments<'_>) {
    OUTLETS.with(|outlets| {
        if let Some(screen) = &mut outlets.screen {
            let _ = writeln!(screen, "{PREFIX}{message}");
        }
    });
}

/// Ends: an emulator ends its process, another machine stops with its screen as it is.
pub(crate) fn power_off() -> ! {
    if !ON_METAL.load(Ordering::Relaxed) {
        for byte in *b"Shutdown" {
            // SAFETY: as above; the machine ends here.
            unsafe { outb(POWER_PORT, byte) };
        }
    }
    loop {
        // SAFETY: interrupts are off; there is nothing left to do.
        unsafe { x86::halt() };
    }
}

/// Resets the machine, by the ways that machines have for it, one after the other.
fn restart() -> ! {
    // SAFETY: the machine ends here: at the latest, an exception without a handler (a triple fault) resets the processor.
    unsafe {
        outb(RESET_CONTROL, 0x02);
        outb(RESET_CONTROL, 0x06);
        outb(KEYBOARD_CONTROLLER, 0xFE);
        lidt(&DescriptorTablePointer::<u64> { limit: 0, base: core::ptr::null() });
        core::arch::asm!("ud2", options(noreturn));
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    say(format_args!("panic: {}", info.message()));
    if RESTART.load(Ordering::Relaxed) { restart() } else { power_off() }
}
