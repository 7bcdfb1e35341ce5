//! A test that the data of `vmcs-profiles` is what `intel.jsonl` says.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use vmcs_case::profile::{Confidence, NamedProfile};
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::profile::{CpuidLeaf, MsrValue, Quirks};

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vmcs-model/profiles");

fn read() -> Vec<NamedProfile> {
    let file = Path::new(DIRECTORY).join("intel.jsonl");
    let text = fs::read_to_string(&file).expect("the file is there");
    text.lines().map(|line| NamedProfile::from_json(line, &file).expect("a profile")).collect()
}

/// The profiles as the text of a Rust source file.
fn source(profiles: &[NamedProfile]) -> String {
    let mut text = String::from(
        "//! The processors of `intel.jsonl`, from which this file is made.\n\nuse super::shipped::Confidence::{Exact, Partial};\n\
         use super::shipped::ShippedProfile;\n\n#[rustfmt::skip]\npub(super) const INTEL: &[ShippedProfile] = &[\n",
    );
    for named in profiles {
        assert_eq!(named.profile.quirks, Quirks::default(), "{}: a processor's data has no quirks yet", named.name);
        let confidence = match named.confidence {
            Some(Confidence::Exact) => "Exact",
            Some(Confidence::Partial) => "Partial",
            None => panic!("{}: it takes a confidence", named.name),
        };
        let NamedProfile { name, source, profile, .. } = named;
        write!(
            text,
            "    ShippedProfile {{ name: {name:?}, source: {source:?}, confidence: {confidence},\n        msrs: &["
        )
        .expect("room");
        for (number, value) in CapabilityMsr::ALL.iter().map(|msr| (msr.number(), profile.msr(*msr))) {
            match value {
                MsrValue::Unknown => Ok(()),
                MsrValue::Absent => write!(text, "({number:#x}, None), "),
                MsrValue::Value(value) => write!(text, "({number:#x}, Some({value:#x})), "),
            }
            .expect("room");
        }
        text.push_str("],\n        cpuid: &[");
        for leaf in CpuidLeaf::ALL {
            if let Some([eax, ebx, ecx, edx]) = profile.cpuid(leaf) {
                let (leaf, subleaf) = leaf.query();
                write!(text, "({leaf:#x}, {subleaf}, [{eax:#x}, {ebx:#x}, {ecx:#x}, {edx:#x}]), ").expect("room");
            }
        }
        text.push_str("] },\n");
    }
    text.push_str("];\n");
    text.replace(", ]", "]")
}

#[test]
fn the_data_are_those_of_the_file() {
    let profiles = read();
    let generated = Path::new(DIRECTORY).join("src/intel.rs");
    let expected = source(&profiles);
    if env::var_os("VMCS_WRITE_PROFILES").is_some() {
        fs::write(&generated, &expected).expect("the file is written");
    }
    let found = fs::read_to_string(&generated).expect("the file is there");
    assert!(
        found == expected,
        "vmcs-model/profiles/src/intel.rs is not what intel.jsonl says: run this test with VMCS_WRITE_PROFILES=1"
    );
    assert_eq!(NamedProfile::embedded(), profiles);
}

#[test]
fn the_file_is_in_the_form_that_is_written() {
    let text = fs::read_to_string(Path::new(DIRECTORY).join("intel.jsonl")).expect("the file is there");
    for (profile, line) in read().iter().zip(text.lines()) {
        assert_eq!(profile.to_json(), line);
    }
}
