//! An entry of which a part is known.

use std::collections::BTreeMap;

use vmcs_model::field::FieldId;
use vmcs_model::formats::RegionHeader;
use vmcs_model::{Capabilities, CpuState, EntryAttempt, ReadMemory};

use crate::dump::{Dump, Reported};
use crate::image::{Image, cpu_of};

/// A VMCS of which a part is known, and what is known of the entry that was attempted with it.
///
/// ```
/// use vmcs_model::Capabilities;
/// use vmcs_texts::diagnosis::PartialEntry;
/// use vmcs_texts::image::{Image, Syntax};
///
/// let image = Image::parse(r#"{"fields": {"guest_rflags": 0}}"#, Syntax::Json)?;
/// let capabilities = Capabilities::new(&Default::default());
/// let entry = PartialEntry::of_image(&image, capabilities.revision());
/// let diagnosis = entry.diagnose(&capabilities);
/// let violated: Vec<_> = diagnosis.verdict().violated.iter().map(|check| check.to_string()).collect();
/// assert_eq!(violated, ["guest.rflags.bit1"]);
/// # Ok::<(), vmcs_texts::LineError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PartialEntry {
    /// The fields that are known, who printed them, and how the entry ended if that is known.
    pub dump: Dump,
    /// The bytes of memory that are known.
    pub memory: KnownMemory,
    /// The processor that attempted the entry.
    pub cpu: CpuState,
}

/// Memory of which only some bytes are known.
#[derive(Clone, Debug, Default)]
pub struct KnownMemory(BTreeMap<u64, u8>);

impl KnownMemory {
    /// Notes what memory holds at an address.
    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) {
        self.0.extend((address..=u64::MAX).zip(bytes.iter().copied()));
    }
}

impl ReadMemory for KnownMemory {
    fn read_u32(&self, address: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        for (byte, offset) in bytes.iter_mut().zip(0..) {
            *byte = *self.0.get(&address.checked_add(offset)?)?;
        }
        Some(u32::from_le_bytes(bytes))
    }
}

impl PartialEntry {
    /// That of an image, on a processor with that VMCS revision identifier. Fields that it does not list are unknown, and so
    /// is memory.
    #[must_use]
    pub fn of_image(image: &Image, revision: u32) -> Self {
        let mut dump = Dump { format: "image", ..Dump::default() };
        for &(field, value) in &image.fields {
            dump.vmcs.set_raw(field, value);
        }
        dump.reported = Reported::of_fields(&dump.vmcs);
        let mut memory = KnownMemory::default();
        for write in &image.memory {
            let bytes = write.to_bytes(revision).expect("checked when the write was read");
            memory.write(write.address.0, &bytes);
        }
        Self { dump, memory, cpu: image.cpu_of_partial() }
    }

    /// That of a dump out of a log. The entry is taken to have been attempted by a host at CPL 0 in VMX root operation, outside
    /// of SMM, on a current VMCS of the right launch state.
    #[must_use]
    pub fn of_dump(mut dump: Dump) -> Self {
        let vmcs = &dump.vmcs;
        let known = FieldId::all().filter_map(|field| vmcs.raw(field).map(|value| (field, value)));
        let cpu = cpu_of(known);
        dump.notes.push(
            "assumed: the entry was attempted by a host at CPL 0 in VMX root operation, outside of SMM, on a current VMCS of \
             the right launch state"
                .to_owned(),
        );
        Self { dump, memory: KnownMemory::default(), cpu }
    }

    /// The attempt at the entry on a processor with those capabilities.
    pub(crate) fn attempt<'a>(&'a self, capabilities: &'a Capabilities) -> EntryAttempt<'a> {
        let header = self.memory.read_u32(self.cpu.vmcs_pointer).map_or(RegionHeader::new(), RegionHeader::from_bits);
        EntryAttempt::vmlaunch(&self.cpu, capabilities).with_shadow(header.shadow())
    }
}
