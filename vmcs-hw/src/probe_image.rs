//! The probe as a ROM: the ELF image that build.rs embeds, flattened behind a boot stub.

use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object, ObjectSection};
use vmcs_wire::layout::PROBE;

use crate::error::TargetError;

/// The probe's ELF image; empty when the build host could not build it.
static ELF: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vmcs-probe.elf"));

/// Sizes that a system ROM can have.
const ROM_SIZES: [usize; 4] = [0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000];
/// Bytes of the boot stub, which ends the ROM.
const STUB: usize = 0x100;
/// Where the stub has the source, length in dwords, and entry point of the payload.
const STUB_PARAMETERS: usize = 0xE0;

/// The probe's ELF image, which loaders that read ELF can start.
///
/// # Errors
/// [`TargetError::NoProbe`].
pub fn elf() -> Result<&'static [u8], TargetError> {
    if ELF.is_empty() { Err(TargetError::NoProbe) } else { Ok(ELF) }
}

/// A system ROM that starts the probe at reset: the payload, and in the last 256 bytes the stub that copies it to
/// its place.
///
/// # Errors
/// [`TargetError::NoProbe`], [`TargetError::BadProbe`].
pub fn rom() -> Result<Vec<u8>, TargetError> {
    rom_of(elf()?)
}

fn rom_of(elf: &[u8]) -> Result<Vec<u8>, TargetError> {
    let bad = TargetError::BadProbe;
    let file = ElfFile64::<Endianness>::parse(elf).map_err(|_| bad("it is not an ELF64 file"))?;
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
    let stub = file.section_by_name(".rom_stub").and_then(|section| section.data().ok());
    let stub = stub.filter(|stub| stub.len() == STUB).ok_or(bad("its boot stub has not 256 bytes"))?;

    let size = ROM_SIZES.into_iter().find(|size| payload.len() + STUB <= *size);
    let size = size.ok_or(bad("it does not fit into a ROM"))?;
    let as_u32 = |value: u64| u32::try_from(value).map_err(|_| bad("an address does not fit into 32 bits"));
    let source = as_u32((1 << 32) - size as u64)?;
    let dwords = as_u32(payload.len() as u64 / 4)?;
    let entry = as_u32(file.entry())?;

    let mut rom = payload;
    rom.resize(size - STUB, 0);
    rom.extend_from_slice(stub);
    for (index, number) in [source, dwords, entry].into_iter().enumerate() {
        let place = size - STUB + STUB_PARAMETERS + 4 * index;
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
    fn what_is_no_probe_is_refused() {
        assert!(matches!(rom_of(b"not an ELF file"), Err(TargetError::BadProbe(_))));
    }
}
