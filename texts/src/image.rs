//! Image files: the fields of a VMCS, what memory holds, and the processor that executes the entry.

mod fields;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::json;
use vmcs_case::number::Number;
use vmcs_case::program::MemoryWrite;
use vmcs_model::controls::Exit;
use vmcs_model::cpu::CpuState;
use vmcs_model::field::{FieldId, HOST_CR0, HOST_CR4, HOST_IA32_EFER, PRIMARY_VM_EXIT_CONTROLS};
use vmcs_model::registers::{Cr0, Cr4, Efer};
use vmcs_model::{ReadMemory, Vmcs};

use crate::LineError;
use crate::json::{json_object, object};

pub use fields::FieldWrites;

/// A VMCS image with its surroundings.
#[derive(Clone, Debug)]
pub struct Image {
    /// The fields that the file lists.
    pub fields: Vec<(FieldId, u64)>,
    /// What memory holds; it is zero elsewhere.
    pub memory: Vec<MemoryWrite>,
    /// The processor that executes the entry.
    pub cpu: CpuState,
    /// The processor as the file describes it.
    described: Cpu,
}

/// How an image file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// One JSON object.
    Json,
    /// A TOML document.
    Toml,
}

/// The file as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    fields: FieldWrites,
    memory: MemoryWrites,
    #[serde(deserialize_with = "object")]
    cpu: Cpu,
}

/// The processor as far as the file describes it.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Cpu {
    cr0: Option<Number>,
    cr4: Option<Number>,
    efer: Option<Number>,
    cs_l: Option<bool>,
    smm: Option<bool>,
    mov_ss_blocking: Option<bool>,
    vmxon_pointer: Option<Number>,
    vmcs_pointer: Option<Number>,
}

impl Image {
    /// Reads the text of an image file.
    ///
    /// # Errors
    /// [`LineError`].
    pub fn parse(text: &str, syntax: Syntax) -> Result<Self, LineError> {
        match syntax {
            Syntax::Json => from_json(text),
            Syntax::Toml => from_toml(text),
        }
        .map(Self::new)
    }

    fn new(File { fields, memory, cpu }: File) -> Self {
        let mut vmcs = Vmcs::new();
        fields.apply(&mut vmcs);
        let fields = fields.listed().into_iter().map(|field| (field, vmcs.raw(field))).collect();
        Self { fields, memory: memory.0, cpu: cpu.state(&vmcs), described: cpu }
    }

    /// The processor that executes the entry, where fields that are not listed are unknown: a 64-bit host but for what the
    /// file says.
    #[must_use]
    pub fn cpu_of_partial(&self) -> CpuState {
        self.described.state(&host_64(self.fields.iter().copied()))
    }

    /// The VMCS: fields that are not listed are 0.
    #[must_use]
    pub fn to_vmcs(&self) -> Vmcs {
        let mut vmcs = Vmcs::new();
        for &(field, value) in &self.fields {
            vmcs.set_raw(field, value);
        }
        vmcs
    }

    /// Memory, on a processor with that VMCS revision identifier.
    #[must_use]
    pub fn to_memory(&self, revision: u32) -> Memory {
        let mut memory = Memory::default();
        memory.apply(&self.memory, revision);
        memory
    }
}

impl Syntax {
    /// The syntax that the text has, as its beginning shows; `None` if it is no image.
    #[must_use]
    pub fn of_text(text: &str) -> Option<Self> {
        let is_table = |line: &str| ["[fields]", "[cpu]", "[[memory]]"].contains(&line.trim());
        if text.trim_start().starts_with('{') {
            return Some(Self::Json);
        }
        let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
        is_table(first).then_some(Self::Toml)
    }

    /// The syntax of a file by its extension; `None` for any other extension than `json` and `toml`.
    #[must_use]
    pub fn of(file: &Path) -> Option<Self> {
        match file.extension()?.to_ascii_lowercase().to_str()? {
            "json" => Some(Self::Json),
            "toml" => Some(Self::Toml),
            _ => None,
        }
    }
}

/// An image file in JSON: these fields, and memory that holds this. [`Image::parse`] reads it.
pub fn to_json(
    fields: impl IntoIterator<Item = (FieldId, u64)>,
    memory: impl IntoIterator<Item = MemoryWrite>,
) -> serde_json::Value {
    let fields = fields.into_iter().map(|(field, value)| (field.info().name, Number(value)));
    let fields: serde_json::Map<_, _> =
        fields.map(|(name, value)| (name.to_owned(), value.to_string().into())).collect();
    let memory: Vec<_> = memory.into_iter().collect();
    if memory.is_empty() { json!({"fields": fields}) } else { json!({"fields": fields, "memory": memory}) }
}

/// A VMCS whose host state is that of a host which can execute VMX instructions, and as wide as `fields` say: what an entry
/// is attempted from, if all that is known is what it loads.
fn host_64(fields: impl Iterator<Item = (FieldId, u64)>) -> Vmcs {
    let usual = CpuState::host_64();
    let mut vmcs = Vmcs::new();
    vmcs.set(HOST_CR0, usual.cr0);
    vmcs.set(HOST_CR4, usual.cr4);
    vmcs.set(PRIMARY_VM_EXIT_CONTROLS, Exit::HOST_ADDRESS_SPACE_SIZE);
    for (field, value) in fields.filter(|(field, _)| *field == PRIMARY_VM_EXIT_CONTROLS.id()) {
        vmcs.set_raw(field, value);
    }
    let exit = vmcs.get(PRIMARY_VM_EXIT_CONTROLS);
    vmcs.set(PRIMARY_VM_EXIT_CONTROLS, exit & Exit::HOST_ADDRESS_SPACE_SIZE);
    vmcs
}

impl Cpu {
    /// By default a 64-bit host at CPL 0 that is in the state which `vmcs` describes as the host's.
    fn state(&self, vmcs: &Vmcs) -> CpuState {
        let exit = vmcs.get(PRIMARY_VM_EXIT_CONTROLS);
        let efer = if exit.contains(Exit::LOAD_IA32_EFER) {
            vmcs.get(HOST_IA32_EFER)
        } else if exit.contains(Exit::HOST_ADDRESS_SPACE_SIZE) {
            Efer::LMA | Efer::LME
        } else {
            Efer::empty()
        };
        let usual = CpuState::host_64();
        let number = |setting: Option<Number>, default| setting.map_or(default, |number| number.0);
        CpuState {
            cr0: self.cr0.map_or(vmcs.get(HOST_CR0), |cr0| Cr0::from_bits_retain(cr0.0)),
            cr4: self.cr4.map_or(vmcs.get(HOST_CR4), |cr4| Cr4::from_bits_retain(cr4.0)),
            efer: self.efer.map_or(efer, |efer| Efer::from_bits_retain(efer.0)),
            cs_l: self.cs_l.unwrap_or(usual.cs_l),
            smm: self.smm.unwrap_or(usual.smm),
            mov_ss_blocking: self.mov_ss_blocking.unwrap_or(usual.mov_ss_blocking),
            vmxon_pointer: number(self.vmxon_pointer, usual.vmxon_pointer),
            vmcs_pointer: number(self.vmcs_pointer, usual.vmcs_pointer),
            ..usual
        }
    }
}

/// Sparse physical memory, zero where nothing was written.
#[derive(Clone, Debug, Default)]
pub struct Memory(BTreeMap<u64, u32>);

impl Memory {
    /// Makes the writes, on a processor with that VMCS revision identifier.
    pub fn apply(&mut self, writes: &[MemoryWrite], revision: u32) {
        self.write(writes, revision, |_| 0);
    }

    /// Makes the writes; `unwritten` is what the aligned dword at an address holds that was not written before.
    fn write(&mut self, writes: &[MemoryWrite], revision: u32, unwritten: impl Fn(u64) -> u32) {
        for write in writes {
            let contents = write.to_bytes(revision).expect("checked when the write was read");
            let (mut address, mut rest) = (write.address.0, &contents[..]);
            while !rest.is_empty() {
                let (aligned, offset) = (address & !3, (address & 3) as usize);
                let (these, behind) = rest.split_at(rest.len().min(4 - offset));
                let dword = self.0.entry(aligned).or_insert_with(|| unwritten(aligned));
                let mut bytes = dword.to_le_bytes();
                bytes[offset..][..these.len()].copy_from_slice(these);
                *dword = u32::from_le_bytes(bytes);
                // The last piece may end where the address space does.
                (address, rest) = (aligned.wrapping_add(4), behind);
            }
        }
    }
}

/// Memory with changes that do not touch it.
#[derive(Clone, Debug)]
pub struct ChangedMemory<'a> {
    base: &'a Memory,
    changes: Memory,
}

impl<'a> ChangedMemory<'a> {
    /// What `base` becomes by the writes, on a processor with that VMCS revision identifier.
    #[must_use]
    pub fn new(base: &'a Memory, writes: &[MemoryWrite], revision: u32) -> Self {
        let mut changes = Memory::default();
        changes.write(writes, revision, |address| base.0.get(&address).copied().unwrap_or(0));
        Self { base, changes }
    }
}

impl ReadMemory for ChangedMemory<'_> {
    fn read_u32(&self, address: u64) -> Option<u32> {
        self.changes.0.get(&(address & !3)).copied().or_else(|| self.base.read_u32(address))
    }

    fn read_u64(&self, address: u64) -> Option<u64> {
        // Long areas of memory that nobody wrote are read where a count is out of hand.
        if self.changes.0.is_empty() && self.base.0.is_empty() {
            return Some(0);
        }
        let (low, high) = (self.read_u32(address)?, self.read_u32(address.wrapping_add(4))?);
        Some(u64::from(high) << 32 | u64::from(low))
    }
}

/// The processor that executes an entry of which only fields are known.
#[must_use]
pub fn cpu_of(fields: impl Iterator<Item = (FieldId, u64)>) -> CpuState {
    Cpu::default().state(&host_64(fields))
}

impl ReadMemory for Memory {
    fn read_u32(&self, address: u64) -> Option<u32> {
        Some(self.0.get(&(address & !3)).copied().unwrap_or(0))
    }
}

/// Memory contents that [`MemoryWrite::to_bytes`] can resolve and that end within the address space.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct MemoryWrites(#[serde(deserialize_with = "memory_writes")] pub Vec<MemoryWrite>);

fn memory_writes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<MemoryWrite>, D::Error> {
    struct Checked(MemoryWrite);
    impl<'de> Deserialize<'de> for Checked {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Piece;
            impl<'de> Visitor<'de> for Piece {
                type Value = MemoryWrite;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a piece of memory such as {\"address\": \"0x1000\", \"u32\": 1}")
                }

                fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<MemoryWrite, A::Error> {
                    let write = MemoryWrite::deserialize(MapAccessDeserializer::new(map))?;
                    let bytes = write.to_bytes(0).map_err(A::Error::custom)?;
                    let last = (bytes.len() as u64).saturating_sub(1);
                    if write.address.0.checked_add(last).is_none() {
                        let message = format!("memory at {} ends beyond the 64-bit address space", write.address);
                        return Err(A::Error::custom(message));
                    }
                    Ok(write)
                }
            }
            deserializer.deserialize_map(Piece).map(Self)
        }
    }
    let checked = Vec::<Checked>::deserialize(deserializer)?;
    Ok(checked.into_iter().map(|Checked(write)| write).collect())
}

fn from_json(text: &str) -> Result<File, LineError> {
    json_object(text.as_bytes())
}

fn from_toml(text: &str) -> Result<File, LineError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
        LineError { line, message: error.message().to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use vmcs_model::field::{GUEST_RIP, MSR_BITMAP_ADDRESS};

    use super::*;

    fn json(text: &str) -> Result<Image, LineError> {
        Image::parse(text, Syntax::Json)
    }

    fn toml(text: &str) -> Result<Image, LineError> {
        Image::parse(text, Syntax::Toml)
    }

    #[test]
    fn both_formats_say_the_same() {
        let a = json(
            r#"{"fields": {"guest_rip": "0x1000", "0x6C00": 2147483649}, "memory": [{"address": 8, "u32": 5}],
                "cpu": {"smm": true, "efer": "0x500"}}"#,
        )
        .unwrap();
        let b = toml(
            "[fields]\nguest_rip = 0x1000\n0x6C00 = \"0x8000_0001\"\n[[memory]]\naddress = \"8\"\nu32 = 5\n\
             [cpu]\nsmm = true\nefer = 0x500",
        )
        .unwrap();
        assert_eq!(a.fields, b.fields);
        assert_eq!((&a.memory, &a.cpu), (&b.memory, &b.cpu));
        assert_eq!(a.to_vmcs().get(GUEST_RIP), 0x1000);
        assert_eq!(a.cpu.cr0, Cr0::PG | Cr0::PE);
        assert!(a.cpu.smm);
    }

    #[test]
    fn the_high_half_changes_bits_63_to_32_in_any_order() {
        for text in [r#"{"0x2005": 7, "0x2004": "0x1111111122222000"}"#, r#"{"0x2004": "0x22222000", "0x2005": 7}"#] {
            let image = json(&format!("{{\"fields\": {text}}}")).unwrap();
            assert_eq!(image.to_vmcs().get(MSR_BITMAP_ADDRESS), 0x7_2222_2000);
            assert_eq!(image.fields, [(MSR_BITMAP_ADDRESS.id(), 0x7_2222_2000)]);
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let fields = [(MSR_BITMAP_ADDRESS.id(), 0x1000), (GUEST_RIP.id(), u64::MAX)];
        let write = MemoryWrite { address: Number(0x2000), u32: None, u64: Some(Number(7)), bytes: None };
        let image = json(&to_json(fields, [write.clone()]).to_string()).unwrap();
        assert_eq!((&image.fields[..], &image.memory[..]), (&fields[..], &[write][..]));
    }

    #[test]
    fn the_processor_is_in_the_state_of_the_host() {
        let efer = |fields: &str| json(&format!("{{\"fields\": {{{fields}}}}}")).unwrap().cpu.efer.bits();
        assert_eq!(efer(""), 0);
        assert_eq!(efer(r#""primary_vm_exit_controls": "0x200""#), 0x500);
        assert_eq!(efer(r#""primary_vm_exit_controls": "0x200200", "host_ia32_efer": "0xd01""#), 0xD01);
        let cpu = json(r#"{"fields": {"host_cr4": 5}, "cpu": {"cs_l": false, "vmcs_pointer": 4096}}"#).unwrap().cpu;
        assert_eq!((cpu.cr4.bits(), cpu.cs_l, cpu.vmcs_pointer, cpu.cpl), (5, false, 0x1000, 0));
    }

    #[test]
    fn memory_may_be_anywhere() {
        let image = json(
            r#"{"memory": [{"address": "0xfffffffffffffffd", "bytes": "a1b2c3"}, {"address": 3, "u64": "0x0102030405060708"},
                {"address": 4096, "u32": "shadow_revision"}]}"#,
        )
        .unwrap();
        let memory = image.to_memory(0x12);
        let read = |address| memory.read_u32(address).unwrap();
        assert_eq!((read(u64::MAX - 3), read(u64::MAX - 7)), (0xC3B2_A100, 0));
        assert_eq!((read(0), read(4), read(8), read(12)), (0x0800_0000, 0x0405_0607, 0x0001_0203, 0));
        assert_eq!((read(4096), read(8192)), (0x8000_0012, 0));
    }

    #[test]
    fn errors_name_the_line_and_what_was_expected() {
        for (text, line, words) in [
            ("{\"fields\": {\n\"guest_rap\": 1}}", 2, "\"guest_rip\""),
            ("{\"fields\": {\n\"0x6821\": 1}}", 2, "no VMCS field has the encoding 0x6821"),
            ("{\"fields\": {\n\"0x1_0000_6800\": 1}}", 2, "at most 32 bits"),
            ("{\"fields\": {\"guest_cr0\": 1,\n\"0x6800\": 1}}", 2, "gives guest_cr0 a second value"),
            (
                "{\"fields\":\n{\"guest_cs_selector\": 65536\n}}",
                2,
                "0x10000 is too wide for guest_cs_selector, which has 16",
            ),
            ("{\"fields\":\n{\"0x2005\": \"0x100000000\"}}", 2, "bits 63:32 of msr_bitmap_address, which has 32 bits"),
            ("{\"fields\": {\n\"guest_rip\": \"ten\"\n}}", 2, "a number of at most 64 bits for guest_rip"),
            ("{\"fields\": {\"guest_rip\":\n-1}}", 2, "a number of at most 64 bits"),
            ("{\"fields\": {\"guest_rip\": true}}", 1, "a number of at most 64 bits"),
            ("{\"fields\": []}", 1, "field values such as"),
            ("{\n\"field\": {}}", 2, "expected one of `fields`, `memory`, `cpu`"),
            ("{\"cpu\":\n{\"cr3\": 1}}", 2, "`cr3`"),
            ("{\"cpu\":\n{\"smm\": 1}}", 2, "expected a boolean"),
            ("{\"memory\": [\n{\"address\": 0}\n]}", 2, "exactly one of"),
            ("{\"memory\": [\n{\"address\": 0, \"bytes\": \"abc\"}\n]}", 2, "even number of hexadecimal digits"),
            (
                "{\"memory\": [\n{\"address\": \"0xffffffffffffffff\", \"u32\": 1}\n]}",
                2,
                "beyond the 64-bit address space",
            ),
            ("{\"memory\": [\n{\"address\": 0, \"u32\": \"0x100000000\"}\n]}", 2, "32 bits"),
            ("{\"fields\": {}}\n}", 2, "trailing characters"),
            ("[{}, [], {}]", 1, "expected an object"),
            ("{\"cpu\": [1]}", 1, "expected an object"),
            ("{\"memory\": [[1]]}", 1, "expected a piece of memory"),
            ("", 1, "EOF"),
        ] {
            let LineError { line: at, message } = json(text).unwrap_err();
            assert!(message.contains(words) && at == line, "{text}: {at}: {message}");
            assert!(!message.contains(" at line "), "{message}");
        }
    }

    #[test]
    fn errors_in_toml_do_so_too() {
        for (text, line, words) in [
            ("[fields]\nguest_rap = 1", 2, "\"guest_rip\""),
            ("[fields]\nguest_cs_selector = 0x10000", 2, "too wide for guest_cs_selector"),
            ("[fields]\nguest_rip = \"ten\"", 2, "a number of at most 64 bits for guest_rip"),
            ("[fields]\nguest_rip = -1", 2, "a number of at most 64 bits"),
            ("[fields]\nguest_cr0 = 1\n0x6800 = 2", 2, "a second value"),
            ("[fields]\n\n[field]", 3, "`field`"),
            ("[cpu]\nsmm = 1", 2, "boolean"),
            ("[fields]\n[[memory]]\naddress = 0", 2, "exactly one of"),
            ("[fields]\nguest_rip = ", 2, ""),
        ] {
            let LineError { line: at, message } = toml(text).unwrap_err();
            assert!(message.contains(words) && at == line, "{text}: {at}: {message}");
        }
    }
}
