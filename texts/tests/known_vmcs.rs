//! A VMCS that is known, printed in the names of every project and in many notations, is read back with exactly its values.

use std::collections::BTreeMap;

use vmcs_model::field::{FieldId, Width};
use vmcs_model::{Capabilities, Vmcs, baseline};
use vmcs_texts::diagnosis::PartialEntry;
use vmcs_texts::dump::{self, Dump};

const ALIASES: &str = include_str!("../src/names/aliases.tsv");

/// How a list is written: of a name and a value makes a line.
type Notation = fn(&str, u64, Width) -> String;

const NOTATIONS: [Notation; 9] = [
    |name, value, width| format!("{name} = {value:#0digits$x}\n", digits = digits(width) + 2),
    |name, value, width| format!("{name}: {value:#0digits$x},\n", digits = digits(width) + 2),
    |name, value, width| format!("{name:<60} : {value:0digits$X}h\n", digits = digits(width)),
    |name, value, width| format!("[  12.345678] hv: {name} -> 0x{value:0digits$x}\n", digits = digits(width)),
    |name, value, width| format!("{name}\t\t0x{value:0digits$X}\n", digits = digits(width)),
    |name, value, width| format!("# {name} = {value:0digits$x}\n", digits = digits(width)),
    |name, value, _| format!("{name} = 0x{:08x}_{:08x}\n", value >> 32, value & 0xFFFF_FFFF),
    |name, value, _| format!("{name}: {:08x}`{:08x}\n", value >> 32, value & 0xFFFF_FFFF),
    |name, value, _| format!("\t.{name} = (natural_width){value},\n"),
];

const fn digits(width: Width) -> usize {
    width.bits() as usize / 4
}

/// Lists of names, one for each field: together they hold every name and alias.
fn names() -> Vec<BTreeMap<FieldId, String>> {
    let mut all: BTreeMap<FieldId, Vec<String>> =
        FieldId::all().map(|field| (field, vec![field.info().name.to_owned()])).collect();
    for line in ALIASES.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split('\t');
        let field = words.next().and_then(FieldId::by_name).expect("a field's name");
        all.get_mut(&field).expect("every field is there").extend(words.map(str::to_owned));
    }
    let longest = all.values().map(Vec::len).max().unwrap_or(0);
    let list = |i: usize| all.iter().map(|(field, names)| (*field, names[i % names.len()].clone())).collect();
    (0..longest).map(list).collect()
}

fn printed(vmcs: &Vmcs, names: &BTreeMap<FieldId, String>, notation: Notation) -> String {
    names.iter().map(|(field, name)| notation(name, vmcs.raw(*field), field.info().width())).collect()
}

/// Values without a pattern, as wide as their fields.
fn arbitrary() -> Vmcs {
    let mut vmcs = Vmcs::new();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for field in FieldId::all() {
        state = state.rotate_left(17).wrapping_mul(0xD129_0F4B_7E6F_0B15) ^ 0x5A5A;
        vmcs.set_raw(field, state & field.info().width().mask());
    }
    vmcs
}

fn only(text: &str) -> Dump {
    let mut dumps = dump::find(text);
    assert_eq!(dumps.len(), 1, "{:?}", text.lines().next());
    dumps.remove(0)
}

/// The checks that the dumps of a text violate on any processor.
fn violated(text: &str) -> Vec<String> {
    let capabilities = Capabilities::new(&Default::default());
    let entries = dump::find(text).into_iter().map(PartialEntry::of_dump);
    let checks = entries.flat_map(|entry| entry.diagnose(&capabilities).verdict().violated.iter().collect::<Vec<_>>());
    checks.map(|check| check.to_string()).collect()
}

/// The fields to which a text gives another value than the VMCS has.
fn wrong(text: &str, vmcs: &Vmcs) -> Vec<&'static str> {
    let dumps = dump::find(text);
    let differs =
        |field: &FieldId| dumps.iter().any(|dump| dump.vmcs.raw(*field).is_some_and(|value| value != vmcs.raw(*field)));
    FieldId::all().filter(differs).map(|field| field.info().name).collect()
}

#[test]
fn every_name_in_every_notation_is_read() {
    let vmcs = arbitrary();
    for names in names() {
        for notation in NOTATIONS {
            let text = printed(&vmcs, &names, notation);
            let dump = only(&text);
            for (field, name) in &names {
                assert_eq!(
                    dump.vmcs.raw(*field),
                    Some(vmcs.raw(*field)),
                    "{name} in {:?} {:?}",
                    text.lines().next(),
                    (dump.format, dump.known(), &dump.damage)
                );
            }
            assert_eq!((dump.damage.len(), dump.notes.len()), (0, 0), "{:?} {:?}", dump.damage, dump.notes);
        }
    }
}

#[test]
fn a_list_of_encodings_is_read() {
    let vmcs = arbitrary();
    let notations: [fn(u32, u64) -> String; 3] = [
        |encoding, value| format!("{encoding:#06x}: {value:#x}\n"),
        |encoding, value| format!("{encoding:08x} = {value:016x}\n"),
        |encoding, value| format!("FIELD({encoding:#06x}) = {value:#018x}\n"),
    ];
    for notation in notations {
        let text: String = FieldId::all().map(|field| notation(field.info().encoding.0, vmcs.raw(field))).collect();
        let dump = only(&text);
        for field in FieldId::all() {
            let value = dump.vmcs.raw(field);
            let named = dump.damage.iter().any(|damage| damage.field == field);
            assert!(value == Some(vmcs.raw(field)) || value.is_none() && named, "{} {value:?}", field.info().name);
        }
        assert!(dump.damage.len() < 12, "{:?}", dump.damage);
    }
}

#[test]
fn fields_in_two_halves_are_read() {
    let vmcs = arbitrary();
    let text: String = FieldId::all()
        .map(|field| {
            let (name, value) = (field.info().name.to_ascii_uppercase(), vmcs.raw(field));
            match field.info().width() {
                Width::Bits64 => {
                    format!("{name}_FULL = {:#x}\n{name}_HIGH = {:#x}\n", value & 0xFFFF_FFFF, value >> 32)
                }
                width => format!("{name} = {value:#0digits$x}\n", digits = digits(width) + 2),
            }
        })
        .collect();
    let dump = only(&text);
    for field in FieldId::all() {
        assert_eq!(dump.vmcs.raw(field), Some(vmcs.raw(field)), "{}", field.info().name);
    }
}

#[test]
fn no_value_is_wrong_wherever_the_text_is_cut() {
    let vmcs = baseline::plain_64bit(&Capabilities::new(&Default::default()));
    let lists = names();
    // Without leading zeros: here a number does not show that it is whole.
    let bare: Notation = |name, value, _| format!("{name} = {value:#x}\n");
    for (notation, names) in NOTATIONS.into_iter().chain([bare]).zip(lists.iter().cycle()) {
        let text = printed(&vmcs, names, notation);
        assert_eq!(violated(&text), [""; 0], "{:?}", text.lines().next());
        // Every byte of some lines, and a byte of every line.
        let dense = text.len() / 2..text.len() / 2 + 120;
        for (end, _) in text.char_indices().filter(|(at, _)| dense.contains(at) || at % 97 == 0) {
            assert_eq!(wrong(&text[..end], &vmcs), [""; 0], "cut at {end}: {:?}", text[..end].lines().last());
        }
        for width in (8..90).step_by(3) {
            let cut: String = text.lines().map(|line| format!("{}\n", &line[..line.len().min(width)])).collect();
            assert_eq!(
                wrong(&cut, &vmcs),
                [""; 0],
                "lines cut at {width}: {:?}",
                cut.lines().filter(|l| l.contains("= ")).collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn one_wrong_value_is_the_only_violation() {
    let mut vmcs = baseline::plain_64bit(&Capabilities::new(&Default::default()));
    vmcs.set_raw(FieldId::by_name("guest_rflags").expect("a field"), 0);
    for (notation, names) in NOTATIONS.into_iter().zip(names().iter().cycle()) {
        let text = printed(&vmcs, names, notation);
        assert_eq!(violated(&text), ["guest.rflags.bit1"], "{:?}", text.lines().next());
    }
}
