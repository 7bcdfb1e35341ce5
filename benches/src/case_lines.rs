//! Lines of cases as `vmcs check` reads them, for benches.

use std::fmt::Write;

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use vmcs_model::field::{self, FIELDS, FieldInfo};
use vmcs_model::{Capabilities, Vmcs, baseline};
use vmcs_texts::image::{Image, Syntax};

/// A base image and cases that change it.
#[derive(Clone, Debug)]
pub struct CaseLines {
    /// The plain 64-bit guest.
    pub base: Image,
    /// The cases, one a line: between one and four fields set, every sixteenth with an MSR-load area in memory. Three of
    /// four violate nothing, the others up to a dozen checks.
    pub lines: Vec<String>,
}

impl CaseLines {
    /// `count` lines, the same in every run.
    ///
    /// # Panics
    /// Never: the image names only fields that exist.
    #[must_use]
    pub fn new(capabilities: &Capabilities, count: usize) -> Self {
        let plain = baseline::plain_64bit(capabilities);
        let fields: Vec<_> = plain.iter().map(|(field, value)| pair(field.info().name, &hex(value))).collect();
        let text = format!("{{\"fields\": {{{}}}}}", fields.join(", "));
        let base = Image::parse(&text, Syntax::Json).expect("the fields are those of the model");
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        Self { base, lines: (0..count).map(|number| line(number, &plain, &mut random)).collect() }
    }
}

/// MSRs that are loaded, with their values: IA32_SYSENTER_CS, IA32_LSTAR, IA32_KERNEL_GS_BASE.
const LOADED: [(u64, u64); 3] = [(0x174, 0x10), (0xC000_0082, 0xFFFF_8000_0010_0000), (0xC000_0102, 0x7000)];
/// The physical address of the MSR-load area that names these MSRs.
const AREA: u64 = 0x7000;

fn line(number: usize, plain: &Vmcs, random: &mut Xoshiro256PlusPlus) -> String {
    let mut set: Vec<_> = (0..1 + random.next_u64() % 4).map(|_| field_of_a_case(plain, random)).collect();
    set.sort_unstable_by_key(|(info, _)| info.id);
    set.dedup_by_key(|(info, _)| info.id);
    let mut pairs: Vec<_> = set.iter().map(|(info, value)| written(info, *value, random)).collect();
    let mut memory = Vec::new();
    let loads =
        [(field::VM_ENTRY_MSR_LOAD_COUNT.id(), LOADED.len() as u64), (field::VM_ENTRY_MSR_LOAD_ADDRESS.id(), AREA)];
    if number.is_multiple_of(16) && !set.iter().any(|(info, _)| loads.iter().any(|(id, _)| info.id == *id)) {
        pairs.extend(loads.iter().map(|(id, value)| pair(id.info().name, &hex(*value))));
        for (address, (msr, value)) in (AREA..).step_by(16).zip(LOADED) {
            memory.push(format!("{{\"address\": {}, \"u32\": {}}}", hex(address), hex(msr)));
            memory.push(format!("{{\"address\": {}, \"u64\": {}}}", hex(address + 8), hex(value)));
        }
    }
    let mut line = format!("{{\"id\": \"case-{number}\", \"set\": {{{}}}", pairs.join(", "));
    if !memory.is_empty() {
        let _ = write!(line, ", \"memory\": [{}]", memory.join(", "));
    }
    if number % 8 == 1 {
        line.push_str(", \"op\": \"vmresume\"");
    }
    line + "}"
}

/// A field that a VMWRITE can reach, with a value: that of the base, one bit next to it, or any.
fn field_of_a_case(plain: &Vmcs, random: &mut Xoshiro256PlusPlus) -> (&'static FieldInfo, u64) {
    loop {
        let Some(info) = usize::try_from(random.next_u64() % 256).ok().and_then(|i| FIELDS.get(i)) else { continue };
        if info.area() == field::Area::ExitInformation {
            continue;
        }
        let old = plain.raw(info.id);
        let value = match random.next_u64() % 8 {
            0..3 => old,
            3..7 => old ^ 1 << (random.next_u64() % u64::from(info.width().bits())),
            _ => random.next_u64() & info.width().mask(),
        };
        return (info, value);
    }
}

/// A field and its value as a case writes them: mostly by the field's name, and in hexadecimal digits.
fn written(info: &FieldInfo, value: u64, random: &mut Xoshiro256PlusPlus) -> String {
    match random.next_u64() % 8 {
        0 => pair(&format!("{:#06x}", info.encoding.0), &hex(value)),
        1 => pair(info.name, &value.to_string()),
        _ => pair(info.name, &hex(value)),
    }
}

fn pair(key: &str, value: &str) -> String {
    format!("\"{key}\": {value}")
}

fn hex(value: u64) -> String {
    format!("\"{value:#x}\"")
}
