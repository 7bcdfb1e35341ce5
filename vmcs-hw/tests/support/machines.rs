//! Machines that start from a boot image, their serial ports, and lines that damage bytes.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use vmcs_hw::bochs::{BochsInstall, BochsVersion};

/// How long a machine may take to say something.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process that is killed with the value.
pub(crate) struct RunningMachine(Child);

impl Drop for RunningMachine {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the boot image is.
#[derive(Clone, Copy)]
pub(crate) enum Medium {
    Cd,
    /// A disk, as a USB stick is one.
    Disk,
}

/// A Bochs with a BIOS.
pub(crate) struct BochsMachine<'a> {
    pub(crate) install: &'a BochsInstall,
    pub(crate) model: &'a str,
    pub(crate) memory: u32,
    /// A BIOS that is older than VMX.
    pub(crate) old_bios: bool,
    pub(crate) medium: Medium,
}

impl BochsMachine<'_> {
    /// Starts it with its first serial port at `serial`, a TCP port.
    pub(crate) fn start(&self, directory: &Path, image: &Path, serial: u16) -> RunningMachine {
        let Self { install, model, memory, .. } = self;
        let bios = if self.old_bios { "BIOS-bochs-legacy" } else { "BIOS-bochs-latest" };
        let bios = install.share.clone().unwrap_or_else(|| "/usr/share/bochs".into()).join(bios);
        let vga = install.vga_bios.clone().unwrap_or_else(|| "/usr/share/bochs/VGABIOS-lgpl-latest".into());
        let extfpuirq = if install.version < (BochsVersion { major: 3, minor: 0 }) { " extfpuirq=0," } else { "" };
        let (medium, boot) = match self.medium {
            Medium::Cd => (format!("type=cdrom, path={}, status=inserted", image.display()), "cdrom"),
            Medium::Disk => {
                // A disk has whole cylinders.
                let disk = directory.join("disk");
                fs::copy(image, &disk).expect("the image is copied");
                let cylinders = disk.metadata().expect("the disk").len().div_ceil(16 * 63 * 512);
                let file = fs::OpenOptions::new().write(true).open(&disk).expect("the disk");
                file.set_len(cylinders * 16 * 63 * 512).expect("its size");
                let path = disk.display();
                (format!("type=disk, path={path}, mode=flat, cylinders={cylinders}, heads=16, spt=63"), "disk")
            }
        };
        let text = format!(
            "config_interface: textconfig
display_library: term
plugin_ctrl: speaker=0, gameport=0,{extfpuirq} parallel=0
cpu: model={model}, count=1, ips=2000000, reset_on_triple_fault=1, ignore_bad_msrs=0
memory: guest={memory}, host={memory}
romimage: file={}
vgaromimage: file={}
ata0-master: {medium}
boot: {boot}
com1: enabled=1, mode=socket-client, dev=127.0.0.1:{serial}
clock: sync=none, time0=1
log: /dev/null
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
",
            bios.display(),
            vga.display()
        );
        let configuration = directory.join("bochsrc");
        let debugger = directory.join("debugger.rc");
        fs::write(&configuration, text).expect("the configuration");
        // The debugger that Debian builds in stops at each reset.
        fs::write(&debugger, "c\n".repeat(1000) + "q\n").expect("the debugger's commands");
        let mut command = Command::new(&install.command[0]);
        command.args(&install.command[1..]).arg("-q").arg("-f").arg(configuration).arg("-rc").arg(debugger);
        if let Some(share) = &install.share {
            command.env("BXSHARE", share);
        }
        if let Some(plugins) = &install.plugins {
            command.env("LTDL_LIBRARY_PATH", plugins);
        }
        started(command.env("TERM", "vt100"))
    }
}

/// QEMU without hardware acceleration, started by BIOS or UEFI.
pub(crate) struct QemuMachine {
    pub(crate) firmware: Option<Firmware>,
    pub(crate) cpu: &'static str,
    pub(crate) medium: Medium,
}

/// UEFI as Debian packages it.
pub(crate) struct Firmware {
    code: PathBuf,
    variables: PathBuf,
}

impl Firmware {
    /// Prints why there is none.
    pub(crate) fn find() -> Option<Self> {
        let file = |name: &str| Path::new("/usr/share/OVMF").join(name);
        let found = [("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"), ("OVMF_CODE.fd", "OVMF_VARS.fd")]
            .into_iter()
            .map(|(code, variables)| Self { code: file(code), variables: file(variables) })
            .find(|firmware| firmware.code.exists() && firmware.variables.exists());
        if found.is_none() {
            println!("skipped: there is no OVMF (Debian: `apt-get install ovmf`)");
        }
        found
    }
}

impl QemuMachine {
    /// Whether there is a QEMU. Prints that there is none.
    pub(crate) fn exists() -> bool {
        let version = Command::new("qemu-system-x86_64").arg("--version").stdout(Stdio::null()).status();
        let exists = version.is_ok_and(|status| status.success());
        if !exists {
            println!("skipped: there is no QEMU (Debian: `apt-get install qemu-system-x86`)");
        }
        exists
    }

    /// Starts it with its first serial port at `serial`, a TCP port.
    pub(crate) fn start(&self, directory: &Path, image: &Path, serial: u16) -> RunningMachine {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-machine", "q35,accel=tcg", "-m", "128", "-display", "none", "-nic", "none", "-cpu", self.cpu]);
        command.args(["-serial", &format!("tcp:127.0.0.1:{serial}")]);
        if let Some(Firmware { code, variables }) = &self.firmware {
            let own = directory.join("variables");
            fs::copy(variables, &own).expect("the variables are copied");
            let flash = |path: &Path, only: &str| format!("if=pflash,format=raw{only},file={}", path.display());
            command.args(["-drive", &flash(code, ",readonly=on"), "-drive", &flash(&own, "")]);
        }
        match self.medium {
            Medium::Cd => command.arg("-cdrom").arg(image),
            Medium::Disk => {
                let drive = format!("if=none,id=stick,format=raw,readonly=on,file={}", image.display());
                command.args(["-drive", &drive, "-device", "qemu-xhci", "-device", "usb-storage,drive=stick"])
            }
        };
        started(&mut command)
    }
}

fn started(command: &mut Command) -> RunningMachine {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    RunningMachine(command.spawn().expect("the machine starts"))
}

/// A wire between a machine's serial port and a host's socket.
pub(crate) struct Wire {
    /// TCP port for the machine.
    pub(crate) machine: u16,
    /// Socket for the host.
    pub(crate) host: PathBuf,
    /// What the machine has sent.
    sent: Arc<Mutex<Vec<u8>>>,
    /// Bytes that were damaged.
    damaged: Arc<Mutex<usize>>,
}

impl Wire {
    /// A wire that drops, doubles or flips one of `one_of` bytes in each direction, by chance; none if it is 0.
    pub(crate) fn new(directory: &Path, one_of: u64) -> Self {
        let machine = TcpListener::bind(("127.0.0.1", 0)).expect("a TCP port");
        let port = machine.local_addr().expect("its number").port();
        let path = directory.join("line");
        let host = UnixListener::bind(&path).expect("a socket");
        let (sent, damaged) = (Arc::default(), Arc::default());
        let wire = Self { machine: port, host: path, sent: Arc::clone(&sent), damaged: Arc::clone(&damaged) };
        // The threads end with the sockets' other ends, at the latest with the test.
        thread::spawn(move || {
            let Ok((machine, _)) = machine.accept() else { return };
            machine.set_nodelay(true).expect("a socket option");
            let current: Arc<Mutex<Option<UnixStream>>> = Arc::default();
            let to_host = Arc::clone(&current);
            let (from_machine, dirt) = (machine.try_clone().expect("another handle"), Arc::clone(&damaged));
            thread::spawn(move || pump_to_host(from_machine, &to_host, &sent, &mut Noise::new(one_of, 1, dirt)));
            let mut noise = Noise::new(one_of, 2, damaged);
            for host in host.incoming() {
                let Ok(host) = host else { return };
                *current.lock().expect("no panic") = host.try_clone().ok();
                pump_to_machine(host, &machine, &mut noise);
                *current.lock().expect("no panic") = None;
            }
        });
        wire
    }

    /// Waits until the machine has sent `text`, and returns all that it has sent.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let sent = String::from_utf8_lossy(&self.sent.lock().expect("no panic")).into_owned();
            if sent.contains(text) {
                return sent;
            }
            assert!(start.elapsed() < PATIENCE, "the machine does not say {text:?} but {sent:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Bytes that were damaged.
    pub(crate) fn damaged(&self) -> usize {
        *self.damaged.lock().expect("no panic")
    }
}

/// Damages bytes by chance.
struct Noise {
    one_of: u64,
    state: u64,
    damaged: Arc<Mutex<usize>>,
}

impl Noise {
    fn new(one_of: u64, seed: u64, damaged: Arc<Mutex<usize>>) -> Self {
        Self { one_of, state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15), damaged }
    }

    fn random(&mut self, below: u64) -> u64 {
        // xorshift64.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 16) % below
    }

    fn damage(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if self.one_of == 0 || self.random(self.one_of) != 0 {
                out.push(byte);
                continue;
            }
            *self.damaged.lock().expect("no panic") += 1;
            match self.random(3) {
                0 => {}
                1 => out.extend([byte, byte]),
                _ => out.push(byte ^ (1 << self.random(8))),
            }
        }
        out
    }
}

fn pump_to_host(mut machine: TcpStream, host: &Mutex<Option<UnixStream>>, sent: &Mutex<Vec<u8>>, noise: &mut Noise) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = machine.read(&mut buffer) {
        sent.lock().expect("no panic").extend_from_slice(&buffer[..count]);
        let bytes = noise.damage(&buffer[..count]);
        if let Some(host) = host.lock().expect("no panic").as_mut() {
            // The host may be gone: then nobody listens.
            let _ = host.write_all(&bytes);
        }
    }
    if let Some(host) = host.lock().expect("no panic").take() {
        let _ = host.shutdown(std::net::Shutdown::Both);
    }
}

fn pump_to_machine(mut host: UnixStream, mut machine: &TcpStream, noise: &mut Noise) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = host.read(&mut buffer) {
        if machine.write_all(&noise.damage(&buffer[..count])).is_err() {
            return;
        }
    }
}
