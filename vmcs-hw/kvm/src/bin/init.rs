//! The first process of a Linux inside Bochs. It loads KVM, and then takes work from the disk and writes the answers there,
//! as the bare-metal probe does. It executes the cases in a virtual machine of KVM.
// UNSAFETY: the disk is driven from here, which takes the right to use I/O ports.
#![allow(unsafe_code, reason = "port I/O")]

use std::error::Error;
use std::ffi::CString;
use std::fmt::Display;
use std::fs::{self, File};
use std::panic;
use std::time::Duration;

use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use vmcs_kvm::{Executor, Payload};
use vmcs_probe::disk::Disk;
use vmcs_probe::transport::Transport;
use vmcs_wire::batch::{ANSWER_TRAILER, AnswerHeader, BatchHeader, MAX_ANSWER_BYTES, MAX_BATCH_BYTES, Task};
use vmcs_wire::codec::{Reader, Writer};
use vmcs_wire::disk::SECTOR;
use vmcs_wire::session::SessionView;
use x86::io::outb;

/// The file of the probe: its entry point in eight bytes, then what is loaded.
const PROBE: &str = "/probe";
/// Modules of the kernel, in the order in which they need each other.
const MODULES: [&str; 3] = ["/irqbypass.ko", "/kvm.ko", "/kvm-intel.ko"];
/// Time of the emulated clock that a step may take. It counts instructions: this is some ten million.
const PATIENCE: Duration = Duration::from_millis(500);
/// The session has a megabyte at most.
const SESSION_BYTES: usize = 1 << 20;

fn main() {
    // SAFETY: this is the only process of an emulated machine; no driver of the kernel owns the ports that it uses.
    if unsafe { nix::libc::iopl(3) } != 0 {
        return;
    }
    panic::set_hook(Box::new(|info| say(format_args!("panic: {}", info.to_string().replace('\n', " ")))));
    if let Err(reason) = serve() {
        say(format_args!("panic: {reason}"));
    }
    power_off()
}

fn serve() -> Result<(), String> {
    let failed = |action: &'static str| move |error: &dyn Display| format!("{action}: {error}");
    mount(Some("dev"), "/dev", Some("devtmpfs"), MsFlags::empty(), None::<&str>)
        .map_err(|error| failed("mounting /dev")(&error))?;
    for module in MODULES {
        let file = File::open(module).map_err(|error| format!("{module}: {error}"))?;
        finit_module(&file, &CString::default(), ModuleInitFlags::empty())
            .map_err(|error| format!("loading {module}: {error}"))?;
    }
    let probe = fs::read(PROBE).map_err(|error| failed("reading the probe")(&error))?;
    let (entry, bytes) = probe.split_first_chunk().ok_or("the probe is empty")?;
    let payload = Payload { entry: u64::from_le_bytes(*entry), bytes: bytes.to_vec() };
    vmcs_kvm::open().map_err(|error| words(&error))?;

    say(format_args!("ready"));
    let mut disk = Disk::default();
    let Some((task, session)) = disk.begin(vec![0; SESSION_BYTES].leak()) else {
        say(format_args!("reset"));
        return Ok(());
    };
    // The session lies in whole sectors.
    let fields = SessionView::decode(session).map_err(|error| failed("the session")(&error))?.observed().len();
    let mut executor = Executor::new(payload, session.to_vec(), fields, PATIENCE).map_err(|error| words(&error))?;
    let mut answer = vec![0; MAX_ANSWER_BYTES];
    match task {
        Task::Profile => {
            let content = executor.profile().map_err(|error| words(&error))?;
            submit(&mut disk, &mut answer, 0, &content);
        }
        Task::Run => {
            let mut buffer = vec![0; MAX_BATCH_BYTES];
            while let Some(batch) = disk.next_batch(&mut buffer) {
                let header = BatchHeader::decode(&mut Reader::new(batch)).map_err(|error| words(&error))?;
                let content = executor.batch(batch).map_err(|error| words(&error))?;
                submit(&mut disk, &mut answer, header.number, &content);
            }
        }
    }
    say(format_args!("done after {} virtual machines", executor.machines_started()));
    Ok(())
}

/// An error with its causes.
fn words(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", words(cause)),
        None => error.to_string(),
    }
}

/// Writes an answer to the disk.
fn submit(disk: &mut Disk, buffer: &mut [u8], number: u32, content: &[u8]) {
    let header = AnswerHeader { number, complete: true, bytes: u32::try_from(content.len()).expect("below 1 MiB") };
    let mut writer = Writer::new(buffer);
    header
        .encode(&mut writer)
        .and_then(|()| writer.bytes(content))
        .and_then(|()| writer.u32(ANSWER_TRAILER))
        .expect("the answer fits into its slot");
    let bytes = writer.len();
    assert!(bytes.next_multiple_of(SECTOR) <= disk.answer_room(), "the answer fits into its slot");
    disk.submit(buffer, bytes, true);
}

/// Prints a line like those of the probe, on Bochs' debug port.
fn say(message: impl Display) {
    for byte in format!("vmcs-probe: {message}\n").bytes() {
        // SAFETY: `main` got the right to use the port; nothing but Bochs' console answers there.
        unsafe { outb(0xE9, byte) };
    }
}

/// Ends Bochs.
fn power_off() -> ! {
    for byte in *b"Shutdown" {
        // SAFETY: as above; the machine ends here.
        unsafe { outb(0x8900, byte) };
    }
    loop {
        std::thread::park();
    }
}
