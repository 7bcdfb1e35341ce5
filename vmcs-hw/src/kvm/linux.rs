//! A Linux kernel with an initramfs as a disk from which a ROM of ours starts it, without a BIOS.
//!
//! The ROM copies the whole disk to memory, so the disk is the memory's content: the boot parameters ("zero page"), the
//! command line, the initramfs, the kernel (Documentation/arch/x86/boot.rst of Linux, 32-bit boot protocol).

use vmcs_case::TargetError;
use vmcs_wire::disk::{SECTOR, sectors};

use crate::bochs::Guest;
use crate::probe_image::{self, EmbeddedError};

/// A Linux cannot be started in Bochs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinuxError {
    /// A file is not a Linux kernel that can be started.
    #[error("the kernel cannot be started: {0}")]
    BadKernel(&'static str),
    /// The ROM that starts it.
    #[error(transparent)]
    Rom(#[from] EmbeddedError),
}

impl From<LinuxError> for TargetError {
    fn from(error: LinuxError) -> Self {
        match error {
            LinuxError::Rom(error) => error.into(),
            error @ LinuxError::BadKernel(_) => Self::Machine(Box::new(error)),
        }
    }
}

/// MiB of memory that the machine has.
const MEMORY: u32 = 192;
/// Emulated instructions per second.
const INSTRUCTIONS_PER_SECOND: u32 = 20_000_000;
/// Where the disk is copied to. The boot parameters come first.
const BASE: u64 = 0x100_0000;
const COMMAND_LINE: u64 = BASE + 0x1000;
const INITRAMFS: u64 = BASE + 0x2000;
/// Alignment that a relocatable kernel accepts.
const KERNEL_ALIGNMENT: u64 = 0x20_0000;

/// No self-tests, no calibration and no tables of what is not needed: half of the boot's instructions.
const ARGUMENTS: &str = "console=ttyS0,115200 nokaslr mitigations=off no_timer_check lpj=80000 tsc_early_khz=20000 \
                         cryptomgr.notests quiet panic=-1 reboot=t initcall_blacklist=load_system_certificate_list,\
                         trace_eval_init,cubictcp_register,tracer_init_tracefs";

/// Without XSAVE: kernels after 6.1 notice that the sizes of its state components in older versions of Bochs contradict each
/// other, and do not survive that.
pub(crate) const WITHOUT_XSAVE: &str = " noxsave";

/// Offsets in the setup header of a kernel image, which the boot parameters repeat.
mod header {
    pub(super) const SETUP_SECTORS: usize = 0x1F1;
    pub(super) const END: usize = 0x201;
    pub(super) const MAGIC: usize = 0x202;
    pub(super) const VERSION: usize = 0x20E;
    pub(super) const LOADER: usize = 0x210;
    pub(super) const RAMDISK: usize = 0x218;
    pub(super) const RAMDISK_SIZE: usize = 0x21C;
    pub(super) const COMMAND_LINE: usize = 0x228;
    pub(super) const RELOCATABLE: usize = 0x234;
}

/// Offsets of the memory map in the boot parameters.
const E820_COUNT: usize = 0x1E8;
const E820_TABLE: usize = 0x2D0;

/// A file of the initramfs; one without content is a directory.
pub(crate) struct InitramfsFile<'a> {
    pub(crate) name: &'a str,
    pub(crate) content: &'a [u8],
}

/// The release of a kernel image, such as `6.1.0-56-cloud-amd64`.
pub(crate) fn release(image: &[u8]) -> Option<String> {
    setup(image).ok()?;
    let offset = usize::from(u16::from_le_bytes(image.get(header::VERSION..)?.first_chunk().copied()?)) + SECTOR;
    let text = image.get(offset..)?.split(|byte| *byte == b' ' || *byte == 0).next()?;
    std::str::from_utf8(text).ok().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The first two numbers of a kernel's release: `6.1` of `6.1.0-56-cloud-amd64`.
pub(crate) fn version(release: &str) -> String {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => format!("{major}.{minor}"),
        _ => release.to_owned(),
    }
}

/// The header of a kernel image and what runs in protected mode.
fn setup(image: &[u8]) -> Result<(&[u8], &[u8]), LinuxError> {
    let bad = LinuxError::BadKernel;
    if image.get(header::MAGIC..header::MAGIC + 4) != Some(b"HdrS") {
        return Err(bad("it is not an x86 kernel image (bzImage)"));
    }
    let end = header::MAGIC + usize::from(image[header::END]);
    let sectors = usize::from(image[header::SETUP_SECTORS].max(1)) + 1;
    match (image.get(..end), image.get(sectors * SECTOR..)) {
        (Some(header), Some(kernel)) if end > header::RELOCATABLE && !kernel.is_empty() => {
            if header[header::RELOCATABLE] == 0 { Err(bad("it is not relocatable")) } else { Ok((header, kernel)) }
        }
        _ => Err(bad("the file is cut off")),
    }
}

/// A machine that starts the kernel `image` with `files`, of which `init` is executed, and with `more` arguments.
///
/// # Errors
/// [`LinuxError`].
pub(crate) fn guest(image: &[u8], files: &[InitramfsFile<'_>], more: &str) -> Result<Guest, LinuxError> {
    let (setup_header, kernel) = setup(image)?;
    let initramfs = newc(files);
    let kernel_at = (INITRAMFS + initramfs.len() as u64).next_multiple_of(KERNEL_ALIGNMENT);
    let memory = u64::from(MEMORY) << 20;
    // The kernel unpacks itself in place, to some four times its size.
    if kernel_at + 5 * kernel.len() as u64 > memory {
        return Err(LinuxError::BadKernel("it is too large for the machine's memory"));
    }

    let mut disk = vec![0; offset(kernel_at)];
    let parameters = &mut disk[..offset(COMMAND_LINE)];
    let copied = header::SETUP_SECTORS..setup_header.len();
    parameters[copied.clone()].copy_from_slice(&setup_header[copied]);
    // A loader without a number of its own; the kernel lies high.
    parameters[header::LOADER] = 0xFF;
    parameters[header::LOADER + 1] |= 1;
    put(parameters, header::RAMDISK, &low_half(INITRAMFS));
    put(parameters, header::RAMDISK_SIZE, &low_half(initramfs.len() as u64));
    put(parameters, header::COMMAND_LINE, &low_half(COMMAND_LINE));
    let ram = [(0, 0x9_F000), (0x10_0000, memory - 0x10_0000)];
    parameters[E820_COUNT] = 2;
    for (index, (start, size)) in ram.into_iter().enumerate() {
        let entry = E820_TABLE + 20 * index;
        put(parameters, entry, &u64::to_le_bytes(start));
        put(parameters, entry + 8, &u64::to_le_bytes(size));
        put(parameters, entry + 16, &1u32.to_le_bytes());
    }
    put(&mut disk, offset(COMMAND_LINE), format!("{ARGUMENTS}{more}").as_bytes());
    put(&mut disk, offset(INITRAMFS), &initramfs);
    disk.extend_from_slice(kernel);
    let rom = probe_image::linux_rom(BASE, sectors(disk.len()) as u64, kernel_at)?;
    Ok(Guest { rom, memory: MEMORY, ips: INSTRUCTIONS_PER_SECOND, system: Some(disk) })
}

fn offset(address: u64) -> usize {
    usize::try_from(address - BASE).expect("the machine's memory is below 4 GiB")
}

fn low_half(value: u64) -> [u8; 4] {
    u32::try_from(value).expect("the machine's memory is below 4 GiB").to_le_bytes()
}

fn put(target: &mut [u8], at: usize, bytes: &[u8]) {
    target[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A cpio archive in the format "newc", uncompressed.
fn newc(files: &[InitramfsFile<'_>]) -> Vec<u8> {
    const DIRECTORY: usize = 0o040_755;
    const EXECUTABLE: usize = 0o100_755;
    let mut archive = Vec::new();
    let pad = |archive: &mut Vec<u8>| archive.resize(archive.len().next_multiple_of(4), 0);
    let end = InitramfsFile { name: "TRAILER!!!", content: &[] };
    for (inode, InitramfsFile { name, content }) in files.iter().chain([&end]).enumerate() {
        let mode = if content.is_empty() { DIRECTORY } else { EXECUTABLE };
        // Inode, mode, owner, group, links, time, size, four device numbers, length of the name, checksum.
        let numbers = [inode + 1, mode, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        archive.extend_from_slice(b"070701");
        numbers.iter().for_each(|number| archive.extend_from_slice(format!("{number:08X}").as_bytes()));
        archive.extend_from_slice(name.as_bytes());
        archive.push(0);
        pad(&mut archive);
        archive.extend_from_slice(content);
        pad(&mut archive);
    }
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel image of 3 setup sectors and 600 bytes.
    fn image() -> Vec<u8> {
        let mut image = vec![0; 3 * SECTOR];
        image[header::SETUP_SECTORS] = 2;
        put(&mut image, header::END - 1, &[0xEB, 0x6A]);
        put(&mut image, header::MAGIC, b"HdrS");
        put(&mut image, header::VERSION, &0x100u16.to_le_bytes());
        put(&mut image, 0x300, b"6.1.0-x (who) #1\0");
        image[header::RELOCATABLE] = 1;
        image.extend_from_slice(&[0xCC; 600]);
        image
    }

    #[test]
    fn the_disk_is_the_memory_that_the_kernel_expects() {
        if probe_image::elf().is_err() {
            return;
        }
        let guest = guest(&image(), &[InitramfsFile { name: "init", content: &[7; 5] }], "").expect("a guest");
        let disk = guest.system.expect("a disk");
        assert_eq!(disk[header::MAGIC..][..4], *b"HdrS");
        assert_eq!(disk[header::RAMDISK..][..4], low_half(INITRAMFS));
        assert!(disk[offset(COMMAND_LINE)..].starts_with(b"console="));
        assert!(disk[offset(INITRAMFS)..].starts_with(b"070701"));
        let kernel = offset(BASE + KERNEL_ALIGNMENT);
        assert_eq!(disk[kernel..], [0xCC; 600]);
        let entry = &guest.rom[guest.rom.len() - 0x20 + 12..][..4];
        assert_eq!(entry, low_half(BASE + KERNEL_ALIGNMENT));
    }

    #[test]
    fn a_release_has_a_version() {
        assert_eq!(version("6.1.0-56-cloud-amd64"), "6.1");
        assert_eq!(version("7.2+deb14-cloud-amd64"), "7.2");
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        let refused = |image: &[u8]| matches!(guest(image, &[], ""), Err(LinuxError::BadKernel(_)));
        assert!(refused(b""));
        assert!(refused(&image()[..3 * SECTOR]));
        let mut fixed = image();
        fixed[header::RELOCATABLE] = 0;
        assert!(refused(&fixed));
        assert_eq!(release(&image()).as_deref(), Some("6.1.0-x"));
        assert_eq!(release(b"MZ"), None);
    }

    #[test]
    fn archives_are_those_that_cpio_reads() {
        let archive =
            newc(&[InitramfsFile { name: "a", content: b"xyz" }, InitramfsFile { name: "dev", content: &[] }]);
        let header = std::str::from_utf8(&archive[..110]).expect("ASCII");
        assert_eq!(&header[..22], "07070100000001000081ED");
        assert_eq!(&header[54..62], "00000003");
        assert_eq!(&archive[110..116], b"a\0xyz\0");
        assert!(archive.len().is_multiple_of(4) && archive.windows(10).any(|window| window == b"TRAILER!!!"));
    }
}
