//! The configuration file of one Bochs process.

use std::path::Path;

use super::install::BochsInstall;
use super::version::BochsVersion;

/// Heads and sectors per track of the disk; with them a cylinder has [`CYLINDER_SECTORS`] sectors.
const HEADS: u64 = 16;
const SECTORS_PER_TRACK: u64 = 63;
/// Sectors of one cylinder: disks are whole cylinders.
pub(super) const CYLINDER_SECTORS: u64 = HEADS * SECTORS_PER_TRACK;

/// What a Bochs boots, and on what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    /// The system ROM.
    pub(crate) rom: Vec<u8>,
    /// MiB of memory.
    pub(crate) memory: u32,
    /// Instructions per emulated second; the clock and the disk's seek time follow it.
    pub(crate) ips: u32,
    /// The first disk of a guest that is a whole operating system: such a one also has a serial port, and MSRs that Bochs
    /// leaves out.
    pub(crate) system: Option<Vec<u8>>,
}

/// MSRs that Linux reads and that Bochs does not have, as Bochs reads them: number, type, and three numbers as high and
/// low half: value at reset, reserved bits, ignored bits. IA32_MISC_ENABLE has fast strings; IA32_DEBUGCTL is 0.
pub(super) const MORE_MSRS: &str = "\
0x1a0 0 0x00000000 0x00000001 0x00000000 0x00000000 0x00000000 0x00000000
0x1d9 0 0x00000000 0x00000000 0x00000000 0x00000000 0x00000000 0x00000000
";

/// Files of one machine.
pub(super) struct MachineFiles<'a> {
    pub(super) rom: &'a Path,
    pub(super) memory: u32,
    pub(super) ips: u32,
    /// The disk with work.
    pub(super) disk: &'a Path,
    pub(super) cylinders: u64,
    pub(super) system: Option<System<'a>>,
}

/// Files of a machine that boots an operating system.
pub(super) struct System<'a> {
    pub(super) disk: &'a Path,
    pub(super) cylinders: u64,
    /// [`MORE_MSRS`].
    pub(super) msrs: &'a Path,
    /// Output of the serial port.
    pub(super) serial: &'a Path,
}

/// Text of a bochsrc with `model` as CPU.
pub(super) fn bochsrc(install: &BochsInstall, model: &str, machine: &MachineFiles<'_>) -> String {
    // Version 3 has no such plug-in to switch off.
    let extfpuirq = if install.version < (BochsVersion { major: 3, minor: 0 }) { " extfpuirq=0," } else { "" };
    let vga_bios = install.vga_bios.as_ref();
    let vga_bios = vga_bios.map_or(String::new(), |path| format!("vgaromimage: file={}\n", path.display()));
    // On a triple fault, version 2 ends at once. Version 3 would idle for ever; reset, the probe notices and ends it.
    let reset = u32::from(install.version >= (BochsVersion { major: 3, minor: 0 }));
    let MachineFiles { rom, memory, ips, disk, cylinders, system } = machine;
    let geometry = |cylinders: &u64| format!("cylinders={cylinders}, heads={HEADS}, spt={SECTORS_PER_TRACK}");
    let (msrs, devices) = match system {
        None => ("ignore_bad_msrs=0".to_owned(), String::new()),
        Some(system) => (
            format!("ignore_bad_msrs=1, msrs={}", system.msrs.display()),
            format!(
                "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path={}, mode=flat, {}
com1: enabled=1, mode=file, dev={}
",
                system.disk.display(),
                geometry(&system.cylinders),
                system.serial.display()
            ),
        ),
    };
    // ips sets the emulated seek time in instructions; clock and time0 make runs repeatable.
    format!(
        "config_interface: textconfig
display_library: term
plugin_ctrl: speaker=0, gameport=0,{extfpuirq} parallel=0, biosdev=0
cpu: model={model}, count=1, ips={ips}, reset_on_triple_fault={reset}, {msrs}
memory: guest={memory}, host={memory}
romimage: file={rom}
{vga_bios}ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
ata1-master: type=disk, path={disk}, mode=flat, {geometry}
{devices}port_e9_hack: enabled=1
clock: sync=none, time0=1
log: /dev/null
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
",
        rom = rom.display(),
        disk = disk.display(),
        geometry = geometry(cylinders),
    )
}

/// Commands for the debugger that Debian builds in: go, and leave when the machine stops.
pub(super) const DEBUGGER_COMMANDS: &str = "c\nq\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_depends_on_the_version() {
        let mut install = BochsInstall {
            command: vec!["bochs".into()],
            share: None,
            plugins: None,
            vga_bios: None,
            version: BochsVersion { major: 2, minor: 7 },
        };
        let mut machine = MachineFiles {
            rom: Path::new("r"),
            memory: 32,
            ips: 4_000_000,
            disk: Path::new("d"),
            cylinders: 3,
            system: None,
        };
        let text = |install: &BochsInstall| bochsrc(install, "m", &machine);
        assert!(text(&install).contains("extfpuirq=0"));
        assert!(!text(&install).contains("vgaromimage"));
        assert!(text(&install).contains("reset_on_triple_fault=0"));
        install.version = BochsVersion { major: 3, minor: 1 };
        install.vga_bios = Some("v".into());
        assert!(!text(&install).contains("extfpuirq"));
        assert!(text(&install).contains("reset_on_triple_fault=1"));
        assert!(text(&install).contains("\nvgaromimage: file=v\nata1:"));
        assert!(text(&install).contains("path=d, mode=flat, cylinders=3, heads=16, spt=63\n"));
        assert!(!text(&install).contains("com1"));
        let file = Path::new("f");
        machine.system = Some(System { disk: file, cylinders: 2, msrs: file, serial: file });
        let text = bochsrc(&install, "m", &machine);
        assert!(text.contains("\nata0-master: type=disk, path=f, mode=flat, cylinders=2, heads=16, spt=63\ncom1: "));
        assert!(text.contains("ignore_bad_msrs=1, msrs=f\n"));
    }
}
