//! `vmcs fields` from the outside.

mod support;

use std::fs;

use serde_json::{Value, json};
use support::{Ran, vmcs};

/// The field of that name.
fn field(ran: &Ran, name: &str) -> Value {
    let listing = ran.json();
    let fields = listing["fields"].as_array().expect("an array");
    fields.iter().find(|field| field["name"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
}

#[test]
fn every_field_is_listed() {
    let ran = vmcs(&["fields"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(ran.out.lines().count(), 1 + 206);
    let line = ran.out.lines().find(|line| line.contains(" ept_pointer ")).expect("a line");
    for word in ["0x201a", "64", "control", "read-write", "IA32_VMX_PROCBASED_CTLS2[33]", "eptp"] {
        assert!(line.contains(word), "{word} in {line}");
    }
}

#[test]
fn fields_as_json() {
    let ran = vmcs(&["fields", "--json"]);
    assert_eq!(ran.json()["fields"].as_array().map(Vec::len), Some(206));
    assert_eq!(
        field(&ran, "virtual_processor_identifier"),
        json!({
            "encoding": "0x0000", "name": "virtual_processor_identifier", "aliases": ["vpid"], "width": "16",
            "area": "control", "access": "read-write", "exists_if": ["IA32_VMX_PROCBASED_CTLS2[37]"],
            "about": "Virtual processor identifier.",
        })
    );
    assert_eq!(field(&ran, "exit_reason")["access"], "read-only");
    assert_eq!(field(&ran, "guest_rip")["width"], "natural");
}

#[test]
fn a_profile_says_which_exist() {
    let ran = vmcs(&["fields", "--profile", "tiger lake", "--json"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(ran.json()["profile"], "Tiger Lake");
    assert_eq!(field(&ran, "guest_rip")["exists"], "yes");
    assert_eq!(field(&ran, "guest_uinv")["exists"], "no");
    // IA32_VMX_PROCBASED_CTLS3 exists there, and was not read.
    assert_eq!(field(&ran, "hlat_prefix_size")["exists"], "unknown");
    let text = vmcs(&["fields", "--profile", "tiger lake"]);
    assert!(text.out.lines().next().expect("a header").contains(" EXISTS "), "{}", text.out);
}

/// A profile file that says whether tertiary controls exist, so that the emulator and the capabilities know the same.
fn complete_profile(directory: &tempfile::TempDir) -> String {
    let mut profile = vmcs(&["caps", "--profile", "tiger lake", "--json"]).json();
    for msr in ["0x491", "0x492", "0x493"] {
        profile["msrs"][msr] = json!("0x0");
    }
    let file = directory.path().join("profile.json");
    fs::write(&file, profile.to_string()).expect("the file is written");
    file.to_str().expect("UTF-8").to_owned()
}

#[test]
fn the_emulator_has_what_it_promises() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let profile = complete_profile(&directory);
    let ran = vmcs(&["fields", "--target", "emu", "--cpu", &profile, "--json"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(ran.json()["differences"], json!([]));
    assert_eq!(field(&ran, "guest_rip")["found"], true);
    assert_eq!(field(&ran, "guest_uinv")["found"], false);
    let text = vmcs(&["fields", "--target", "emu", "--cpu", &profile]);
    assert!(text.out.contains("has the fields that its capabilities promise"), "{}", text.out);
}

#[test]
fn wrong_arguments_are_refused() {
    vmcs(&["fields", "--profile", "tigr lake"]).refused(&["no profile \"tigr lake\"", "Tiger Lake"]);
    vmcs(&["fields", "--target", "replay"]).refused(&["recording"]);
    for args in [&["fields", "--target", "simics"][..], &["fields", "--cpu", "tigerlake"], &["fields", "guest_rip"]] {
        let ran = vmcs(args);
        assert!(ran.status == 2 && ran.out.is_empty() && ran.err.starts_with("error: "), "{args:?}: {ran:?}");
    }
}
