//! A real machine, or one that emulates its firmware: started by a boot loader, with a screen and perhaps a serial port.
// UNSAFETY: interrupt controllers are silenced.
#![allow(unsafe_code, reason = "interrupt controllers")]

use core::fmt::{self, Write};

use vmcs_wire::codec::Writer;
use vmcs_wire::frame::MAX_PAYLOAD;
use vmcs_wire::layout::MEMORY_END;
use vmcs_wire::serial::{Greeting, VERSION};
use x86::io::outb;
use x86::msr::IA32_APIC_BASE;

use crate::baked::Baked;
use crate::multiboot::{Information, MemoryExtent};
use crate::processor::{self, ProcessorName, Vmx};
use crate::screen::Screen;
use crate::serial::Serial;
use crate::uart::Uart;
use crate::work::{self, Workplace};
use crate::{console, memory, vmx};

/// Spurious-interrupt vector register in x2APIC mode.
const IA32_X2APIC_SIVR: u32 = 0x80F;
/// First port of COM1.
const COM1: u16 = 0x3F8;
/// Memory at the end of [`MEMORY_END`] that firmware may keep for itself.
const FIRMWARE_SHARE: u64 = 1 << 20;
/// Bytes of a greeting's text.
const GREETING: usize = 300;

/// What the boot loader's command line says.
struct Options {
    /// First port of the UART.
    serial: u16,
    /// By what its clock is divided.
    divisor: u16,
}

impl Options {
    /// Reads words such as `serial=0x3f8` and `divisor=1`; others are for somebody else.
    fn parse(command_line: &str) -> Self {
        let number = |name: &str| {
            let word = command_line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
            match word.strip_prefix("0x") {
                Some(digits) => u16::from_str_radix(digits, 16).ok(),
                None => word.parse().ok(),
            }
        };
        Self { serial: number("serial").unwrap_or(COM1), divisor: number("divisor").unwrap_or(1).max(1) }
    }
}

/// Shows what the machine is, executes the cases of the boot image, and serves hosts on the serial line.
pub(crate) fn run() -> ! {
    silence_interrupts();
    let information = Information::saved();
    let options = Options::parse(information.command_line());
    let uart = Uart::open(options.serial, options.divisor);
    console::attach(information.framebuffer().and_then(Screen::new), uart);
    console::say(format_args!("version {}, {ProcessorName}", env!("CARGO_PKG_VERSION")));

    let vmx = match check(information) {
        Ok(vmx) => vmx,
        Err(unfit) => {
            console::say(format_args!("cannot work: {unfit}"));
            let Some(uart) = uart else { console::power_off() };
            let mut buffer = [0; MAX_PAYLOAD];
            Serial::new(uart, greeting(false, &mut buffer, format_args!("{unfit}")), memory::MESSAGE.take()).refuse()
        }
    };
    let lock = match vmx.feature_control {
        Some(control) if control & 1 == 1 => "locked with VMX on by the firmware",
        Some(_) => "unlocked by the firmware, locked with VMX on by the probe",
        None => "absent",
    };
    console::say(format_args!("VMX with VMCS revision {:#x}; IA32_FEATURE_CONTROL is {lock}", vmx.revision));

    let mut place = Workplace::take(vmx.revision);
    let requests = information.requests();
    if let Some(requests) = requests {
        let mut baked = Baked::new(requests);
        while baked.has_more() {
            work::all(&mut baked, &mut place);
        }
    }
    let Some(uart) = uart else {
        let cases = if requests.is_some() { "that is all" } else { "and there are no cases in the boot image" };
        console::say(format_args!("there is no serial port at {:#x}, {cases}", options.serial));
        console::power_off();
    };
    let Options { serial, divisor } = options;
    console::say(format_args!(
        "ready; the serial line at port {serial:#x} has {} baud, or its clock over 16 over {divisor}",
        115_200 / u32::from(divisor)
    ));
    let mut buffer = [0; MAX_PAYLOAD];
    let greeting = greeting(true, &mut buffer, format_args!("{ProcessorName}"));
    let mut serial = Serial::new(uart, greeting, memory::MESSAGE.take());
    loop {
        work::all(&mut serial, &mut place);
        console::show(format_args!("a session has ended"));
    }
}

/// Why the machine cannot do the work.
enum MachineUnfit {
    /// Memory ends at this address.
    Memory(u64),
    Processor(processor::ProcessorUnfit),
}

impl fmt::Display for MachineUnfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(end) => {
                write!(f, "too little memory: {} MB, the probe needs {} MB", end >> 20, MEMORY_END >> 20)
            }
            Self::Processor(unfit) => unfit.fmt(f),
        }
    }
}

/// Looks whether the machine can do the work, and switches VMX on.
fn check(information: Information) -> Result<Vmx, MachineUnfit> {
    let memory = MemoryExtent::of(information);
    if memory.end < MEMORY_END - FIRMWARE_SHARE {
        return Err(MachineUnfit::Memory(memory.end));
    }
    if let Some(address) = memory.kept {
        console::say(format_args!("note: the firmware has kept memory at {address:#x} for itself, which is used"));
    }
    console::say(format_args!("{} MB of memory or more, {} are needed", memory.end >> 20, MEMORY_END >> 20));
    processor::enable_vmx().map_err(MachineUnfit::Processor)
}

/// Encodes what hosts are greeted with.
fn greeting<'a>(ready: bool, buffer: &'a mut [u8; MAX_PAYLOAD], text: fmt::Arguments<'_>) -> &'a [u8] {
    let mut line = TextLine { text: [0; GREETING], used: 0 };
    // What does not fit is left out.
    let _ = line.write_fmt(text);
    let greeting = Greeting { version: VERSION, ready, text: &line.text[..line.used] };
    let mut writer = Writer::new(buffer);
    greeting.encode(&mut writer).expect("a payload has room for a line");
    let used = writer.len();
    &buffer[..used]
}

/// A line of text.
struct TextLine {
    text: [u8; GREETING],
    used: usize,
}

impl fmt::Write for TextLine {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            *self.text.get_mut(self.used).ok_or(fmt::Error)? = byte;
            self.used += 1;
        }
        Ok(())
    }
}

/// Masks the interrupt controllers: guests under test may have interrupts enabled, and firmware may have left timers
/// running.
fn silence_interrupts() {
    const APIC_ENABLED: u64 = 1 << 11;
    const X2APIC: u64 = 1 << 10;
    const SOFTWARE_ENABLED: u32 = 1 << 8;
    /// Spurious-interrupt vector register.
    const SPURIOUS: u64 = 0xF0;
    // SAFETY: OUT to the mask registers of both 8259s; no interrupt is being served.
    unsafe {
        outb(0x21, 0xFF);
        outb(0xA1, 0xFF);
    }
    let Some(base) = vmx::rdmsr(IA32_APIC_BASE).filter(|base| base & APIC_ENABLED != 0) else { return };
    if base & X2APIC != 0 {
        if let Some(vector) = vmx::rdmsr(IA32_X2APIC_SIVR) {
            // SAFETY: the register exists in x2APIC mode; clearing its bit 8 masks the local vector table.
            unsafe { x86::msr::wrmsr(IA32_X2APIC_SIVR, vector & !u64::from(SOFTWARE_ENABLED)) };
        }
        return;
    }
    let register = (base & 0xFFFF_F000) + SPURIOUS;
    // SAFETY: the local APIC is enabled and its page lies below 4 GiB, where addresses are mapped to themselves (the base is
    // FEE00000H unless firmware has moved it); no Rust object lies there.
    unsafe {
        let register = register as *mut u32;
        register.write_volatile(register.read_volatile() & !SOFTWARE_ENABLED);
    }
}
