//! `vmcs checks` from the outside.

mod support;

use std::collections::BTreeSet;

use serde_json::json;
use support::vmcs;
use vmcs_model::checks::{CHECK_COUNT, NOT_CHECKS};

#[test]
fn every_check_is_listed() {
    let ran = vmcs(&["checks"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    for line in ["27.2.1.1 VM-Execution Control Fields", "Rules that no image violates"] {
        assert!(ran.out.lines().any(|printed| printed == line), "{line} in\n{}", ran.out);
    }
    let starts = |id: &str| ran.out.lines().filter(|line| line.split(' ').next() == Some(id)).count();
    assert_eq!((starts("ctl.pin.reserved-bits.allowed0"), starts("nocheck.pml-index")), (1, 1));
}

#[test]
fn checks_as_json() {
    let listing = vmcs(&["checks", "--json"]).json();
    let checks = listing["checks"].as_array().expect("an array");
    assert_eq!(checks.len(), CHECK_COUNT);
    assert_eq!(listing["not_checks"].as_array().map(Vec::len), Some(NOT_CHECKS.len()));
    let ids: BTreeSet<_> = checks.iter().map(|check| check["id"].as_str().expect("a string")).collect();
    assert_eq!(ids.len(), CHECK_COUNT);
    let check = checks.iter().find(|check| check["id"] == "pre.vmresume-after-vmxoff").expect("the check");
    assert_eq!(
        [&check["section"], &check["outcome"], &check["alternatives"], &check["optional"], &check["fields"]],
        [&json!("27.1"), &json!("VMfailValid(6)"), &json!(["VMfailValid(5)"]), &json!(true), &json!([])]
    );
    for check in checks {
        for key in ["id", "section", "title", "rule", "phase", "outcome"] {
            assert!(check[key].as_str().is_some_and(|text| !text.is_empty()), "{key} of {check}");
        }
    }
}

#[test]
fn named_checks_are_printed_in_full() {
    let ran = vmcs(&["checks", "ctl.pin.reserved-bits.allowed0", "nocheck.pml-index"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    for line in [
        "ctl.pin.reserved-bits.allowed0",
        "  section     27.2.1.1 VM-Execution Control Fields",
        "  fields      pin_based_vm_execution_controls (0x4000)",
        "  fails with  VMfailValid(7)",
        "nocheck.pml-index",
        "  no check    any value is valid",
    ] {
        assert!(ran.out.lines().any(|printed| printed == line), "{line} in\n{}", ran.out);
    }
    let json = vmcs(&["checks", "--json", "pre.cpl"]).json();
    assert_eq!(json["checks"].as_array().map(Vec::len), Some(1));
    assert_eq!(json["checks"][0]["outcome"], "#GP(0)");
    assert_eq!(json["not_checks"], json!([]));
}

#[test]
fn an_unknown_check_is_refused() {
    vmcs(&["checks", "ctl.pin.reserved"])
        .refused(&["unknown check \"ctl.pin.reserved\"", "ctl.pin.reserved-bits.allowed0"]);
    vmcs(&["checks", "pre.cpl", "xyzzy"]).refused(&["unknown check \"xyzzy\"", "vmcs checks"]);
}

/// docs/checks.md is what the command prints; `vmcs checks --markdown > docs/checks.md` makes it so.
#[test]
fn the_document_is_up_to_date() {
    let committed = include_str!("../../docs/checks.md");
    let printed = vmcs(&["checks", "--markdown"]);
    assert_eq!(printed.status, 0, "{printed:?}");
    for (n, (committed, printed)) in committed.lines().zip(printed.out.lines()).enumerate() {
        assert_eq!(committed, printed, "docs/checks.md:{}", n + 1);
    }
    assert_eq!(committed, printed.out, "docs/checks.md has another length");
}

#[test]
fn every_rule_is_a_row_of_the_document() {
    let rows = vmcs(&["checks", "--markdown"]).out.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, CHECK_COUNT + NOT_CHECKS.len());
    let some = vmcs(&["checks", "--markdown", "guest.pat.valid"]).out;
    assert!(some.contains("| `guest_ia32_pat`, `vm_entry_controls` | EntryFailed(33, 0) |"), "{some}");
}
