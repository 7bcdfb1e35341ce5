//! One running Bochs.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use vmcs_case::TargetError;
use vmcs_debian::last_lines;
use vmcs_wire::disk::SECTOR;

use super::config::{CYLINDER_SECTORS, DEBUGGER_COMMANDS, Guest, MORE_MSRS, MachineFiles, System, bochsrc};
use super::install::BochsInstall;
use super::scratch::Scratch;

/// Lines of the probe on the console start like this.
const PROBE_PREFIX: &str = "vmcs-probe: ";

/// The files of one target. The directory is deleted with the value.
#[derive(Debug)]
pub(super) struct MachineDirectory {
    directory: Scratch,
    memory: u32,
    ips: u32,
    /// Cylinders of the operating system's disk.
    system: Option<u64>,
}

impl MachineDirectory {
    /// A directory with what `guest` boots, and the debugger's commands.
    pub(super) fn new(guest: &Guest) -> Result<Self, TargetError> {
        let action = "preparing a temporary directory for Bochs";
        let directory = Scratch::new().map_err(TargetError::io(action))?;
        let mut files = Self { directory, memory: guest.memory, ips: guest.ips, system: None };
        let write = |name: &str, bytes: &[u8]| fs::write(files.path(name), bytes).map_err(TargetError::io(action));
        write("probe.rom", &guest.rom)?;
        write("debugger.rc", DEBUGGER_COMMANDS.as_bytes())?;
        if let Some(disk) = &guest.system {
            write("msrs.def", MORE_MSRS.as_bytes())?;
            write("serial", &[])?;
            let cylinder = CYLINDER_SECTORS * SECTOR as u64;
            let cylinders = (disk.len() as u64).div_ceil(cylinder);
            let file = File::create(files.path("system.img"));
            file.and_then(|mut file| {
                file.write_all(disk)?;
                file.set_len(cylinders * cylinder)
            })
            .map_err(TargetError::io(action))?;
            files.system = Some(cylinders);
        }
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The disk image.
    pub(super) fn disk(&self) -> PathBuf {
        self.path("disk.img")
    }

    /// Text of the configuration file.
    fn bochsrc(&self, install: &BochsInstall, model: &str, cylinders: u64) -> String {
        let [system, msrs, serial] = ["system.img", "msrs.def", "serial"].map(|name| self.path(name));
        let system = self.system.map(|cylinders| System { disk: &system, cylinders, msrs: &msrs, serial: &serial });
        let (rom, disk) = (self.path("probe.rom"), self.disk());
        let machine = MachineFiles { rom: &rom, memory: self.memory, ips: self.ips, disk: &disk, cylinders, system };
        bochsrc(install, model, &machine)
    }
}

/// Words before the command: kill Bochs when this program dies, and switch off address randomisation (Bochs shows
/// uninitialised memory of its own in places). Tools that are missing or not permitted are left out.
pub(super) fn wrapper() -> Vec<OsString> {
    let tools: [&[&str]; 2] = [&["setpriv", "--pdeathsig", "KILL"], &["setarch", "-R"]];
    let works = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    tools.into_iter().filter(|words| works(words)).flatten().map(OsString::from).collect()
}

/// A running Bochs. It is killed when the value is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    console: PathBuf,
    /// Output of the operating system's serial port.
    serial: PathBuf,
    locks: [PathBuf; 2],
    /// CPU time and wall time at the last sign of progress.
    progress: (Option<Duration>, Instant),
    /// CPU time when it last grew, and the wall time then.
    alive: (Option<Duration>, Instant),
}

/// What a [`Process`] is found doing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ProcessStatus {
    Running,
    /// It has used its CPU time without progress.
    Hung,
    Exited(ExitStatus),
}

/// Wall time without any use of the CPU after which the machinery counts as broken.
const STALL: Duration = Duration::from_secs(120);

impl Process {
    /// Starts Bochs with the disk that lies in `files`.
    ///
    /// # Errors
    /// [`TargetError::Io`].
    pub(super) fn start(
        install: &BochsInstall,
        wrapper: &[OsString],
        model: &str,
        files: &MachineDirectory,
        cylinders: u64,
    ) -> Result<Self, TargetError> {
        let config = files.path("bochsrc");
        let text = files.bochsrc(install, model, cylinders);
        let console = files.path("console");
        let serial = files.path("serial");
        let locks = ["disk.img.lock", "system.img.lock"].map(|name| files.path(name));
        let open = || -> io::Result<(File, File)> {
            locks.iter().try_for_each(|lock| remove(lock))?;
            fs::write(&config, text)?;
            let output = File::create(&console)?;
            Ok((output.try_clone()?, output))
        };
        let (output, errors) = open().map_err(TargetError::io("writing the configuration of Bochs"))?;
        let child = install
            .start(wrapper)
            .args(["-q", "-f"])
            .arg(&config)
            .arg("-rc")
            .arg(files.path("debugger.rc"))
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(TargetError::io(format!("starting {:?}", install.command)))?;
        let now = (Some(Duration::ZERO), Instant::now());
        Ok(Self { child, console, serial, locks, progress: now, alive: now })
    }

    /// Notes that the machine has done something.
    pub(super) fn progressed(&mut self) {
        self.progress = (self.cpu_time(), Instant::now());
    }

    /// Looks at it; `patience` is the CPU time that it may use without progress.
    ///
    /// # Errors
    /// [`TargetError::Stalled`], [`TargetError::Io`].
    pub(super) fn status(&mut self, patience: Duration) -> Result<ProcessStatus, TargetError> {
        let exited = self.child.try_wait().map_err(TargetError::io("waiting for Bochs"))?;
        if let Some(status) = exited {
            return Ok(ProcessStatus::Exited(status));
        }
        let cpu = self.cpu_time();
        if cpu != self.alive.0 {
            self.alive = (cpu, Instant::now());
        } else if self.alive.1.elapsed() > STALL {
            return Err(TargetError::Stalled(STALL));
        }
        let used = match (cpu, self.progress.0) {
            (Some(now), Some(then)) => now.saturating_sub(then),
            // Without /proc there is only the clock on the wall, which a busy host may hold up.
            _ => self.progress.1.elapsed() / 10,
        };
        Ok(if used > patience { ProcessStatus::Hung } else { ProcessStatus::Running })
    }

    /// User and system time that it has used, where the host tells.
    pub(super) fn cpu_time(&self) -> Option<Duration> {
        // Clock ticks of /proc are hundredths of a second on every Linux port of x86.
        const TICK: Duration = Duration::from_millis(10);
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        // The name in parentheses may hold spaces; utime and stime are the 12th and 13th words behind it.
        let mut words = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let ticks = words.next()?.parse::<u32>().ok()?.checked_add(words.next()?.parse().ok()?)?;
        Some(TICK * ticks)
    }

    /// CPU time that it had used when [`Process::status`] last found it running.
    pub(super) fn used(&self) -> Duration {
        self.alive.0.unwrap_or_default()
    }

    /// What it has printed.
    pub(super) fn console(&self) -> Console {
        let text = |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        Console(text(&self.serial) + &text(&self.console))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Bochs ignores SIGTERM; `kill` sends SIGKILL. All three fail only when there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for lock in &self.locks {
            let _ = remove(lock);
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What a Bochs has printed, with the probe's lines among it.
#[derive(Debug)]
pub(super) struct Console(String);

impl Console {
    /// Whether the probe got as far as reading its work.
    pub(super) fn ready(&self) -> bool {
        self.0.contains("vmcs-probe: ready")
    }

    /// Why the probe gave up, if it did.
    pub(super) fn panic(&self) -> Option<&str> {
        let start = self.0.find("vmcs-probe: panic: ")?;
        self.0[start + PROBE_PREFIX.len()..].lines().next().map(|line| line.trim_start_matches("panic: "))
    }

    /// Last lines.
    pub(super) fn tail(&self) -> String {
        last_lines(&self.0, 12)
    }

    /// The sentence with which a Bochs that gave up explains itself, or its last lines.
    pub(super) fn last_words(&self) -> String {
        if let Some(reason) = self.panic() {
            return format!("the probe gave up: {reason}");
        }
        if self.0.contains("vmcs-probe: reset") {
            return "the processor was reset (a triple fault outside of a guest)".to_owned();
        }
        let mut lines = self.0.lines().skip_while(|line| !line.contains("exiting with the following message"));
        match lines.nth(1) {
            Some(reason) => reason.trim().to_owned(),
            None => last_lines(&self.0, 3),
        }
    }
}
