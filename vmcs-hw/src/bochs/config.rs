//! The configuration file of one Bochs process.

use std::path::Path;

use super::BochsInstall;
use super::install::BochsVersion;

/// Heads and sectors per track of the disk; with them a cylinder has [`CYLINDER_SECTORS`] sectors.
const HEADS: u64 = 16;
const SECTORS_PER_TRACK: u64 = 63;
/// Sectors of one cylinder: disks are whole cylinders.
pub(super) const CYLINDER_SECTORS: u64 = HEADS * SECTORS_PER_TRACK;

/// Text of a bochsrc: `model` as CPU, the ROM at `rom`, a disk of `cylinders` cylinders at `disk`.
pub(super) fn bochsrc(install: &BochsInstall, model: &str, rom: &Path, disk: &Path, cylinders: u64) -> String {
    // Version 3 has no such plug-in to switch off.
    let extfpuirq = if install.version < (BochsVersion { major: 3, minor: 0 }) { " extfpuirq=0," } else { "" };
    let vga_bios = install.vga_bios.as_ref();
    let vga_bios = vga_bios.map_or(String::new(), |path| format!("vgaromimage: file={}\n", path.display()));
    // On a triple fault, version 2 ends at once. Version 3 would idle for ever; reset, the probe notices and ends it.
    let reset = u32::from(install.version >= (BochsVersion { major: 3, minor: 0 }));
    // ips sets the emulated seek time in instructions; clock and time0 make runs repeatable.
    format!(
        "config_interface: textconfig
display_library: term
plugin_ctrl: speaker=0, gameport=0,{extfpuirq} parallel=0, biosdev=0
cpu: model={model}, count=1, ips=4000000, reset_on_triple_fault={reset}, ignore_bad_msrs=0
memory: guest=32, host=32
romimage: file={rom}
{vga_bios}ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
ata1-master: type=disk, path={disk}, mode=flat, cylinders={cylinders}, heads={HEADS}, spt={SECTORS_PER_TRACK}
port_e9_hack: enabled=1
clock: sync=none, time0=1
log: /dev/null
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
",
        rom = rom.display(),
        disk = disk.display(),
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
        let text = |install: &BochsInstall| bochsrc(install, "m", Path::new("r"), Path::new("d"), 3);
        assert!(text(&install).contains("extfpuirq=0"));
        assert!(!text(&install).contains("vgaromimage"));
        assert!(text(&install).contains("reset_on_triple_fault=0"));
        install.version = BochsVersion { major: 3, minor: 1 };
        install.vga_bios = Some("v".into());
        assert!(!text(&install).contains("extfpuirq"));
        assert!(text(&install).contains("reset_on_triple_fault=1"));
        assert!(text(&install).contains("\nvgaromimage: file=v\nata1:"));
        assert!(text(&install).contains("path=d, mode=flat, cylinders=3, heads=16, spt=63\n"));
    }
}
