//! `vmcs caps` from the outside.

mod support;

use std::fs;

use support::vmcs;

#[test]
fn the_profiles_are_listed() {
    let list = vmcs(&["caps", "list"]);
    assert_eq!(list.status, 0, "{list:?}");
    assert!(
        list.out.lines().any(|line| line.starts_with("tiger-lake ") && line.contains("Tiger Lake")),
        "{}",
        list.out
    );
    assert_eq!(vmcs(&["caps", "--target", "list"]).out, list.out);
    let hinted = vmcs(&["caps"]);
    assert!(hinted.out.starts_with(&list.out) && hinted.out.contains("vmcs caps --profile"), "{}", hinted.out);
}

#[test]
fn the_list_as_json() {
    let list = vmcs(&["caps", "list", "--json"]).json();
    let list = list.as_array().expect("an array");
    assert!(list.len() >= 90);
    for profile in list {
        for key in ["name", "slug", "confidence", "source"] {
            assert!(profile[key].is_string(), "{key} of {profile}");
        }
    }
    // What is listed can be asked for.
    let slug = list[0]["slug"].as_str().expect("a string");
    assert_eq!(vmcs(&["caps", "--profile", slug, "--json"]).json()["name"], list[0]["name"]);
    assert_eq!(vmcs(&["caps", "--json"]).json().as_array().map(Vec::len), Some(list.len()));
}

#[test]
fn a_profile_is_explained() {
    let ran = vmcs(&["caps", "--profile", "tiger lake"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    for line in [
        "Pin-based VM-execution controls (IA32_VMX_TRUE_PINBASED_CTLS)",
        "   1  must be 1  (reserved)",
        "   7  may be 1   process posted interrupts",
        "  14  must be 0  VMCS shadowing",
        "Tertiary processor-based VM-execution controls (IA32_VMX_PROCBASED_CTLS3): the profile leaves it out",
        "Secondary VM-exit controls (IA32_VMX_EXIT_CTLS2): none",
        "  must be 1  PE, NE, PG (0x80000021)",
        "  must be 1  VMXE (0x2000)",
        "  VMCS revision identifier                 0x13",
        "  CR3-target values                                  4",
        "  physical               39 bits",
        "  linear                 48 bits",
        "  0x491 IA32_VMX_VMFUNC               unknown",
    ] {
        assert!(ran.out.lines().any(|printed| printed == line), "{line:?} in\n{}", ran.out);
    }
}

#[test]
fn what_is_printed_as_json_can_be_read() {
    let printed = vmcs(&["caps", "--profile", "tiger lake", "--json"]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("profile.json");
    fs::write(&file, &printed.out).expect("the file is written");
    let again = vmcs(&["caps", "--profile", file.to_str().expect("UTF-8"), "--json"]);
    assert_eq!((again.status, again.out), (0, printed.out));
}

#[test]
fn a_target_is_asked() {
    let emulated = vmcs(&["caps", "--target", "emu", "--cpu", "tiger lake", "--json"]);
    assert_eq!(emulated.json()["msrs"]["0x480"], "0x1da050000000013", "{emulated:?}");
}

#[test]
fn wrong_arguments_are_refused() {
    vmcs(&["caps", "--profile", "tigr lake"]).refused(&["no profile \"tigr lake\"", "Tiger Lake"]);
    vmcs(&["caps", "--profile", "skylake client"]).refused(&["could be any of"]);
    vmcs(&["caps", "--profile", "missing.json"]).refused(&["missing.json"]);
    for args in [
        &["caps", "all"][..],
        &["caps", "--cpu", "tigerlake"],
        &["caps", "list", "--profile", "tiger lake"],
        &["caps", "--target", "simics"],
    ] {
        let ran = vmcs(args);
        assert!(ran.status == 2 && ran.out.is_empty() && ran.err.starts_with("error: "), "{args:?}: {ran:?}");
    }
}
