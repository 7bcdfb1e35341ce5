//! The probe as memory and as a ROM, made from the ELF image that build.rs embeds, and the ROM that starts Linux.

use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object, ObjectSection};
use vmcs_wire::layout::PROBE;

use vmcs_case::TargetError;

/// A program that is embedded in this crate is missing or is not what it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// The probe is built on x86-64 Linux only, and this program was not.
    #[error("this program was built on a host that cannot build the probe (that needs x86-64 Linux)")]
    NoProbe,
    /// The embedded probe is not what the ROM's maker expects.
    #[error("the embedded probe cannot be made into a ROM: {0}")]
    BadProbe(&'static str),
    /// The first process of a Linux in Bochs is built where there is a static C library, and this program was not.
    #[error(
        "this program was built without the part that runs under KVM inside Bochs: building it needs x86-64 Linux and a \
         static C library (Debian: `apt-get install libc6-dev`)"
    )]
    NoInit,
}

impl From<EmbeddedError> for TargetError {
    fn from(error: EmbeddedError) -> Self {
        Self::Machine(Box::new(error))
    }
}

/// The probe's ELF image; empty when the build host could not build it.
static ELF: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vmcs-probe.elf"));

/// Sizes that a system ROM can have.
const ROM_SIZES: [usize; 4] = [0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000];
/// Bytes of the boot stub, which ends the ROM.
const STUB: usize = 0x100;
/// Bytes of the boot stub that starts Linux.
const LINUX_STUB: usize = 0x200;
/// Where the stubs have their numbers, counted from the end of the ROM. The probe's: source, length in dwords, and entry
/// point of the payload.
const STUB_PARAMETERS: usize = 0x20;

/// The probe's ELF image, which loaders that read ELF can start.
///
/// # Errors
/// [`EmbeddedError::NoProbe`].
pub fn elf() -> Result<&'static [u8], EmbeddedError> {
    if ELF.is_empty() { Err(EmbeddedError::NoProbe) } else { Ok(ELF) }
}

/// What of the probe lies in memory, from [`PROBE`] on, and its 32-bit entry point.
///
/// # Errors
/// [`EmbeddedError::NoProbe`], [`EmbeddedError::BadProbe`].
pub fn payload() -> Result<(Vec<u8>, u64), EmbeddedError> {
    payload_of(elf()?)
}

fn payload_of(elf: &[u8]) -> Result<(Vec<u8>, u64), EmbeddedError> {
    let bad = EmbeddedError::BadProbe;
    let file = parse(elf)?;
    let endian = file.endian();
    let mut payload = Vec::new();
    for segment in file.elf_program_headers() {
        if segment.p_type(endian) != object::elf::PT_LOAD {
            continue;
        }
        let data = segment.data(endian, elf).map_err(|()| bad("a segment lies outside of the file"))?;
        let offset = segment.p_paddr(endian).checked_sub(PROBE).and_then(|offset| usize::try_from(offset).ok());
        let offset = offset.ok_or(bad("a segment lies below its load address"))?;
        if offset + data.len() > ROM_SIZES[3] {
            return Err(bad("it does not fit into a ROM"));
        }
        payload.resize(payload.len().max(offset + data.len()), 0);
        payload[offset..offset + data.len()].copy_from_slice(data);
    }
    payload.resize(payload.len().next_multiple_of(4), 0);
    Ok((payload, file.entry()))
}

fn parse(elf: &[u8]) -> Result<ElfFile64<'_, Endianness>, EmbeddedError> {
    ElfFile64::parse(elf).map_err(|_| EmbeddedError::BadProbe("it is not an ELF64 file"))
}

/// A section of `size` bytes that is not loaded: the end of a ROM.
fn stub<'a>(elf: &'a [u8], name: &str, size: usize) -> Result<&'a [u8], EmbeddedError> {
    let stub = parse(elf)?.section_by_name(name).and_then(|section| section.data().ok());
    stub.filter(|stub| stub.len() == size).ok_or(EmbeddedError::BadProbe("a boot stub has not its size"))
}

/// A system ROM that starts the probe at reset: the payload, and in the last 256 bytes the stub that copies it to
/// its place.
///
/// # Errors
/// [`EmbeddedError::NoProbe`], [`EmbeddedError::BadProbe`].
pub fn rom() -> Result<Vec<u8>, EmbeddedError> {
    rom_of(elf()?)
}

fn rom_of(elf: &[u8]) -> Result<Vec<u8>, EmbeddedError> {
    let (payload, entry) = payload_of(elf)?;
    let stub = stub(elf, ".rom_stub", STUB)?;
    let size = ROM_SIZES.into_iter().find(|size| payload.len() + STUB <= *size);
    let size = size.ok_or(EmbeddedError::BadProbe("it does not fit into a ROM"))?;
    let parameters = [(1 << 32) - size as u64, payload.len() as u64 / 4, entry];
    finish(payload, size, stub, &parameters)
}

/// A system ROM that copies `sectors` sectors of the first disk to `target` and enters a Linux kernel there at `entry`,
/// in 32-bit mode, with its boot parameters at `target`.
///
/// # Errors
/// [`EmbeddedError::NoProbe`], [`EmbeddedError::BadProbe`].
pub(crate) fn linux_rom(target: u64, sectors: u64, entry: u64) -> Result<Vec<u8>, EmbeddedError> {
    let stub = stub(elf()?, ".linux_rom", LINUX_STUB)?;
    finish(Vec::new(), ROM_SIZES[0], stub, &[target, sectors, target, entry])
}

/// Fills a ROM up to `size`, with the stub at its end and numbers in the stub.
fn finish(mut rom: Vec<u8>, size: usize, stub: &[u8], parameters: &[u64]) -> Result<Vec<u8>, EmbeddedError> {
    rom.resize(size - stub.len(), 0);
    rom.extend_from_slice(stub);
    for (index, number) in parameters.iter().enumerate() {
        let number =
            u32::try_from(*number).map_err(|_| EmbeddedError::BadProbe("an address does not fit into 32 bits"))?;
        let place = size - STUB_PARAMETERS + 4 * index;
        rom[place..place + 4].copy_from_slice(&number.to_le_bytes());
    }
    Ok(rom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rom_ends_in_a_jump_at_the_reset_vector() {
        let Ok(elf) = elf() else { return };
        let rom = rom_of(elf).expect("the embedded probe makes a ROM");
        assert!(ROM_SIZES.contains(&rom.len()));
        let stub = &rom[rom.len() - STUB..];
        // CLI; CLD at the start of the stub, and a near jump back to it at the reset vector.
        assert_eq!(stub[..2], [0xFA, 0xFC]);
        assert!(matches!(stub[0xF0], 0xE9 | 0xEB));
        let source = u32::from_le_bytes(stub[0xE0..0xE4].try_into().expect("four bytes"));
        assert_eq!(source as usize, (1usize << 32) - rom.len());
    }

    #[test]
    fn the_rom_for_linux_holds_its_numbers() {
        if elf().is_err() {
            return;
        }
        let rom = linux_rom(0x100_0000, 7, 0x120_0000).expect("the embedded stub makes a ROM");
        let numbers: Vec<_> = rom[rom.len() - STUB_PARAMETERS..][..16].as_chunks::<4>().0.to_vec();
        assert_eq!(numbers, [0x100_0000u32, 7, 0x100_0000, 0x120_0000].map(u32::to_le_bytes));
        assert!(matches!(rom[rom.len() - 0x10], 0xE9 | 0xEB));
    }

    #[test]
    fn what_is_no_probe_is_refused() {
        assert!(matches!(rom_of(b"not an ELF file"), Err(EmbeddedError::BadProbe(_))));
    }
}
