//! A VMCS of which every field holds a value made of its encoding, as each program prints it.

use std::fs;

use vmcs_model::field::{FieldId, Width};
use vmcs_texts::dump::{self, Dump};

/// The value of a field in the texts.
fn made(field: FieldId) -> u64 {
    let encoding = u64::from(field.info().encoding.0);
    match field.info().width() {
        Width::Bits16 => encoding,
        Width::Bits32 => encoding << 8 | 0x5A,
        Width::Bits64 | Width::Natural => encoding * 0x0001_0001_0001,
    }
}

fn values(dump: &Dump) -> Vec<(FieldId, u64)> {
    FieldId::all().filter_map(|field| Some((field, dump.vmcs.raw(field)?))).collect()
}

#[test]
fn every_field_of_every_shape_is_read() {
    for (file, format, fields) in [
        ("virtualbox-nested", "VirtualBox", 171),
        // VPID is 0, which is also printed where it cannot be read.
        ("barevisor", "barevisor", 180),
        ("matrix-rs", "barevisor", 79),
        ("hvdump", "hvdump", 50),
        ("bhyvectl", "bhyvectl", 74),
        ("openbsd", "OpenBSD", 160),
        ("crash-decimal", "field list", 147),
        ("crash-hex", "field list", 147),
    ] {
        let text = fs::read_to_string(format!("tests/shapes/{file}.txt")).expect("the text is there");
        let dumps = dump::find(&text);
        assert_eq!(
            dumps.iter().map(|dump| (dump.format, dump.known())).collect::<Vec<_>>(),
            [(format, fields)],
            "{file}: {:?}",
            dumps[0].damage
        );
        for (field, value) in values(&dumps[0]) {
            assert_eq!(value, made(field), "{file}: {}", field.info().name);
        }
        // However it is cut, no value is another one.
        let ends = (0..text.len()).step_by(61).chain(text.len() - 300..text.len()).map(|end| text[..end].to_owned());
        let narrow = (4..90)
            .step_by(2)
            .map(|width| -> String { text.lines().flat_map(|line| line.chars().take(width).chain(['\n'])).collect() });
        for part in ends.chain(narrow) {
            for (field, value) in dump::find(&part).iter().flat_map(values) {
                assert_eq!(value, made(field), "{file}: {} in {:?}", field.info().name, part.lines().last());
            }
        }
    }
}
