//! A serial port: a 16550 or one of its kind, polled.
// UNSAFETY: port I/O.
#![allow(unsafe_code, reason = "port I/O")]

use core::convert::Infallible;

use vmcs_wire::line::Port;
use x86::io::{inb, outb};

// Registers, as offsets from the first port.
const DATA: u16 = 0;
const DIVISOR_LOW: u16 = 0;
const INTERRUPTS: u16 = 1;
const DIVISOR_HIGH: u16 = 1;
const FIFO: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const SCRATCH: u16 = 7;

const EIGHT_BITS: u8 = 0x03;
const DIVISOR_ACCESS: u8 = 0x80;
/// On, and both emptied.
const FIFOS_ON: u8 = 0xC7;
/// Bits of the interrupt identification register that say the FIFOs are on.
const FIFOS_WORK: u8 = 0xC0;
/// DTR and RTS.
const READY: u8 = 0x03;
const RECEIVED: u8 = 0x01;
const TRANSMITTER_EMPTY: u8 = 0x20;

/// Reading a register takes about a microsecond, on machines of every age: so many without a byte are a silence.
const SILENCE: u32 = 500_000;
/// So many reads without room are a port that does not work: what is to be sent is dropped.
const STUCK: u32 = 200_000;

/// A port that is there and set up.
#[derive(Clone, Copy)]
pub(crate) struct Uart {
    base: u16,
    /// Bytes that can be written when the transmitter is empty.
    room: usize,
}

impl Uart {
    /// Sets up the port at `base` for 8 data bits, no parity, and 115200 baud divided by `divisor` where the clock is the
    /// usual one. `None` if there is none.
    pub(crate) fn open(base: u16, divisor: u16) -> Option<Self> {
        let mut uart = Self { base, room: 1 };
        for pattern in [0x5A, 0xA5] {
            uart.write(SCRATCH, pattern);
            if uart.read(SCRATCH) != pattern {
                return None;
            }
        }
        let [low, high] = divisor.to_le_bytes();
        uart.write(INTERRUPTS, 0);
        uart.write(LINE_CONTROL, DIVISOR_ACCESS);
        uart.write(DIVISOR_LOW, low);
        uart.write(DIVISOR_HIGH, high);
        uart.write(LINE_CONTROL, EIGHT_BITS);
        uart.write(FIFO, FIFOS_ON);
        uart.write(MODEM_CONTROL, READY);
        if uart.read(FIFO) & FIFOS_WORK == FIFOS_WORK {
            uart.room = 16;
        }
        Some(uart)
    }

    /// A byte that has arrived.
    fn receive(self) -> Option<u8> {
        (self.read(LINE_STATUS) & RECEIVED != 0).then(|| self.read(DATA))
    }

    /// Sends bytes; `meanwhile` is called while there is no room for them.
    pub(crate) fn send(self, bytes: &[u8], mut meanwhile: impl FnMut()) {
        for part in bytes.chunks(self.room) {
            let mut left = STUCK;
            while self.read(LINE_STATUS) & TRANSMITTER_EMPTY == 0 {
                left -= 1;
                if left == 0 {
                    return;
                }
                meanwhile();
            }
            part.iter().for_each(|byte| self.write(DATA, *byte));
        }
    }

    fn read(self, register: u16) -> u8 {
        // SAFETY: the ports of a UART, or of nothing; reading them touches no memory.
        unsafe { inb(self.base + register) }
    }

    fn write(self, register: u16, value: u8) {
        // SAFETY: as above; interrupts of the port stay off, and it has no DMA.
        unsafe { outb(self.base + register, value) };
    }
}

/// A [`Uart`] as the port of a line: it goes on receiving while it sends.
pub(crate) struct SerialPort {
    uart: Uart,
    received: [u8; 4096],
    first: usize,
    count: usize,
}

impl SerialPort {
    pub(crate) fn new(uart: Uart) -> Self {
        Self { uart, received: [0; 4096], first: 0, count: 0 }
    }
}

impl Port for SerialPort {
    type Error = Infallible;

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        let Self { uart, received, first, count } = self;
        uart.send(bytes, || {
            if *count < received.len()
                && let Some(byte) = uart.receive()
            {
                received[(*first + *count) % received.len()] = byte;
                *count += 1;
            }
        });
        Ok(())
    }

    fn read(&mut self) -> Result<Option<u8>, Infallible> {
        if self.count > 0 {
            let byte = self.received[self.first];
            self.first = (self.first + 1) % self.received.len();
            self.count -= 1;
            return Ok(Some(byte));
        }
        Ok((0..SILENCE).find_map(|_| self.uart.receive()))
    }
}
