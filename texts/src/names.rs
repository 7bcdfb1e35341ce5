//! The names that hypervisors, headers and debuggers give to the fields of the VMCS.

use std::collections::HashMap;
use std::sync::LazyLock;

use vmcs_model::field::{Encoding, FIELDS, FieldId, Width};

use crate::similar_names::did_you_mean;

/// A field, or bits 63:32 of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FieldName {
    /// The field.
    pub(crate) field: FieldId,
    /// The name is that of bits 63:32.
    pub(crate) high: bool,
}

/// Names that do not follow from those of the model by spelling: the name of the model, then others, separated by tabs.
const ALIASES: &str = include_str!("names/aliases.tsv");

/// Beginnings of names that say which area a field belongs to, where the rest of the name says it, too.
const AREAS: [&str; 4] = ["ctl", "ro", "exitinfo", "exit"];

/// Words that are spelt in several ways, or that say nothing, as [`key`] writes them.
const WORDS: [(&str, &[&str]); 28] = [
    ("addr", &["address"]),
    ("ar", &["attr", "attribs", "attributes"]),
    ("cpu", &["cpubased"]),
    ("ctl", &["control", "controls", "ctrl", "ctrls", "ctls"]),
    ("desc", &["descriptor"]),
    ("entry", &["vmentry"]),
    ("exec", &["execution", "vmexec"]),
    ("exit", &["exiting", "vmexit"]),
    ("id", &["identifier"]),
    ("info", &["information"]),
    ("instr", &["instruction"]),
    ("intr", &["interruption", "interrupt"]),
    ("len", &["length"]),
    ("notify", &["notification"]),
    ("pdpte", &["pdptr"]),
    ("pf", &["pagefault"]),
    ("pin", &["pinbased"]),
    ("proc", &["processor", "procbased"]),
    ("ptr", &["pointer"]),
    ("qual", &["qualification"]),
    ("sel", &["selector"]),
    ("val", &["value"]),
    ("virt", &["virtual"]),
    ("xcpt", &["exception"]),
    ("xcpts", &["exceptions"]),
    ("", &["based", "field", "state", "reg", "of", "natural", "nw"]),
    ("", &["vm", "vmx", "vmcs", "12", "ia", "x", "86"]),
    ("", &["16", "32", "64", "bit", "u", "k"]),
];

/// Words that belong together, and how [`key`] writes them.
const PHRASES: [(&str, &str); 7] = [
    ("readonly", "ro"),
    ("accessrights", "ar"),
    ("arbytes", "ar"),
    ("errorcode", "error"),
    ("errcode", "error"),
    ("readshadow", "shadow"),
    ("guesthostmask", "mask"),
];

static BY_KEY: LazyLock<HashMap<String, FieldId>> = LazyLock::new(|| {
    let own = FIELDS.iter().map(|info| (info.name, info.id));
    own.chain(aliases()).map(|(name, field)| (key(name).0, field)).collect()
});

/// The aliases with their fields.
fn aliases() -> impl Iterator<Item = (&'static str, FieldId)> {
    ALIASES.lines().filter(|line| !line.starts_with('#')).flat_map(|line| {
        let mut names = line.split('\t');
        let field = names.next().and_then(FieldId::by_name);
        names.filter_map(move |name| Some((name, field?)))
    })
}

/// The field of that name in any of the projects whose names are known. Case, punctuation and such prefixes as `VMX_` do
/// not matter. A name that is an encoding, such as `0x681e`, is none.
pub(crate) fn field(name: &str) -> Option<FieldName> {
    let (key, high) = key(name);
    let area = |area: &str| key.strip_prefix(area).and_then(|rest| BY_KEY.get(rest));
    let field = *BY_KEY.get(&key).or_else(|| AREAS.iter().find_map(|prefix| area(prefix)))?;
    (!high || field.info().width() == Width::Bits64).then_some(FieldName { field, high })
}

/// The field of an encoding that is written with 0x, or in 4 or 8 hexadecimal digits.
pub(crate) fn encoding(text: &str) -> Option<FieldName> {
    let digits = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => digits,
        None if matches!(text.len(), 4 | 8) => text,
        None => return None,
    };
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let encoding = Encoding(u32::from_str_radix(digits, 16).ok()?);
    Some(FieldName { field: encoding.field()?, high: encoding.is_high() })
}

/// The names of the fields, of the model and of other projects.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|info| info.name).chain(aliases().map(|(alias, _)| alias))
}

/// A question for the name of an unknown field: `; did you mean "guest_cr0"?`, or nothing if no name is similar.
pub(crate) fn nearest(name: &str) -> String {
    did_you_mean(name, all())
}

/// The name without case, punctuation and words that say nothing, with one spelling for words that have several; and
/// whether it ends in a word for bits 63:32.
fn key(name: &str) -> (String, bool) {
    let mut words = words(name);
    let half = words.len() > 1 && words.last().is_some_and(|last| matches!(last.as_str(), "full" | "high" | "hi"));
    let high = half && words.pop().is_some_and(|last| last != "full");
    if words.len() > 2 && words.last().is_some_and(|last| last == "msr") {
        words.pop();
    }
    let spelt = words.iter().map(|word| {
        WORDS.iter().find(|(_, others)| others.contains(&word.as_str())).map_or(word.as_str(), |(spelt, _)| spelt)
    });
    let mut key: String = spelt.collect();
    for (phrase, short) in PHRASES {
        if key.contains(phrase) {
            key = key.replace(phrase, short);
        }
    }
    (key, high)
}

/// The words of a name in small letters: numbers, runs of letters, and the parts of `CamelCase`.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut before = ' ';
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        if c.is_ascii_alphanumeric() {
            let follows_in_word = match (before, c) {
                (b, c) if b.is_ascii_digit() || c.is_ascii_digit() => b.is_ascii_digit() && c.is_ascii_digit(),
                (b, c) if c.is_ascii_uppercase() => {
                    b.is_ascii_uppercase() && !rest.peek().is_some_and(char::is_ascii_lowercase)
                }
                (b, _) => b.is_ascii_alphabetic(),
            };
            match words.last_mut() {
                Some(word) if follows_in_word => word.push(c.to_ascii_lowercase()),
                _ => words.push(c.to_ascii_lowercase().to_string()),
            }
        }
        before = c;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Option<(&'static str, bool)> {
        field(name).map(|found| (found.field.info().name, found.high))
    }

    #[test]
    fn every_alias_means_one_field() {
        let mut fields: HashMap<String, FieldId> = HashMap::new();
        for (name, field) in FIELDS.iter().map(|info| (info.name, info.id)).chain(aliases()) {
            let (key, _) = key(name);
            assert!(!key.is_empty(), "{name}");
            assert!(fields.insert(key, field).is_none(), "{name} has the key of another name");
        }
        for line in ALIASES.lines().filter(|line| !line.starts_with('#')) {
            let (name, aliases) = line.split_once('\t').expect("a field and its aliases");
            let field = FieldId::by_name(name).expect("the first column is a field's name");
            assert_eq!(field.info().name, name);
            for alias in aliases.split('\t') {
                let found = super::field(alias).map(|found| found.field);
                assert_eq!(found, Some(field), "{alias}");
            }
        }
        // No name with the word for an area is another field without it.
        for (key, field) in &fields {
            for rest in AREAS.iter().filter_map(|area| key.strip_prefix(area)) {
                assert!(fields.get(rest).is_none_or(|other| other == field), "{key}");
            }
        }
    }

    #[test]
    fn names_of_every_family_are_known() {
        for (name, field) in [
            ("VMX_GUEST_CS_SEL", "guest_cs_selector"),
            ("GUEST_CS_AR_BYTES", "guest_cs_access_rights"),
            ("VMCS_GUEST_LDTR", "guest_ldtr_selector"),
            ("Vmcs::GUEST_CS_AR", "guest_cs_access_rights"),
            ("VMX_VMCS32_CTRL_EXIT", "primary_vm_exit_controls"),
            ("VMCS_CTRL_PIN_BASED", "pin_based_vm_execution_controls"),
            ("vmcs::control::VMENTRY_CONTROLS", "vm_entry_controls"),
            ("x86::vmx::vmcs::guest::IA32_EFER_FULL", "guest_ia32_efer"),
            ("VMCS_64BIT_GUEST_LINK_POINTER", "vmcs_link_pointer"),
            ("VMCS_32BIT_CONTROL_PIN_BASED_EXEC_CONTROLS", "pin_based_vm_execution_controls"),
            ("kGuestEsSelector", "guest_es_selector"),
            ("u32GuestGsAttr", "guest_gs_access_rights"),
            ("Guest IA32_SYSENTER_ESP", "guest_ia32_sysenter_esp"),
            ("guest_pdptr1", "guest_pdpte1"),
            ("GUEST_PDPTE(1)", "guest_pdpte1"),
            ("EOI-exit bitmap 2", "eoi_exit_bitmap_2"),
            ("VMCS12.guest_ldtr_ar_bytes", "guest_ldtr_access_rights"),
            ("VM_EXIT_INFO_IO_ECX", "io_rcx"),
        ] {
            assert_eq!(named(name), Some((field, false)), "{name}");
        }
        assert_eq!(named("IO_BITMAP_A_HIGH"), Some(("io_bitmap_a_address", true)));
        assert_eq!(named("VMCS_64BIT_GUEST_IA32_EFER_HI"), Some(("guest_ia32_efer", true)));
        assert_eq!(named("kIoBitmapAHigh"), Some(("io_bitmap_a_address", true)));
        for name in ["", "rip", "CR0", "entry", "exit", "pin", "cpu", "0x681e", "GUEST_CR0_HIGH", "gast_cr0"] {
            assert_eq!(named(name), None, "{name}");
        }
        assert!(nearest("GUEST_CR_0X").contains("guest_cr0"), "{}", nearest("GUEST_CR_0X"));
    }

    #[test]
    fn encodings_are_read() {
        let read = |text| encoding(text).map(|found| (found.field.info().name, found.high));
        assert_eq!(read("0x681e"), Some(("guest_rip", false)));
        assert_eq!(read("0000681E"), Some(("guest_rip", false)));
        assert_eq!(read("2001"), Some(("io_bitmap_a_address", true)));
        for text in ["", "0x", "681", "0x6821x", "0x9999", "+681"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
