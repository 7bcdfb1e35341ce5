//! `vmcs bench` as a user calls it.

mod support;

use std::fs;

use support::vmcs;

/// A measurement of one entry, as a file has it.
fn file(directory: &tempfile::TempDir, name: &str, unit: &str, median: u64) -> String {
    let distribution = |value: u64| serde_json::json!({"min": value, "median": value, "p99": value, "max": value, "histogram": [[value, 10]]});
    let row =
        |name: &str, result| serde_json::json!({"name": name, "shows": "", "outcome": "Entered", "result": result});
    let report = serde_json::json!({
        "version": 1,
        "implementation": {"name": "metal", "version": "0x1", "model": name},
        "unit": unit,
        "rounds": 10,
        "overhead": distribution(20),
        "rows": [
            row("vmresume", serde_json::json!({"measured": distribution(median)})),
            row("vmresume-ept", serde_json::json!({"skipped": "the processor has no EPT"})),
        ],
    });
    let file = directory.path().join(name);
    fs::write(&file, report.to_string()).expect("a file");
    file.to_str().expect("a path").to_owned()
}

#[test]
fn what_is_measured_is_listed() {
    let all = vmcs(&["bench", "--list"]);
    assert!(all.status == 0 && all.out.lines().count() > 40, "{all:?}");
    let some = vmcs(&["bench", "--list", "--only", "exit-store"]);
    assert_eq!(some.out.lines().count(), 5, "{some:?}");
    vmcs(&["bench", "--only", "vmcall"]).refused(&["vmcall", "--list"]);
}

#[test]
fn the_emulator_and_recordings_are_no_clock() {
    vmcs(&["bench", "--target", "emu"]).refused(&["the emulator has no time-stamp counter", "cargo bench"]);
    vmcs(&["bench", "--target", "replay"]).refused(&["recording"]);
}

#[test]
fn two_machines_are_compared() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (here, there) = (file(&directory, "here", "cycles", 1000), file(&directory, "there", "cycles", 1500));
    let ran = vmcs(&["bench", "--from", &here, "--compare", &there]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let row: Vec<_> =
        ran.out.lines().find(|line| line.starts_with("vmresume ")).expect("a row").split_whitespace().collect();
    assert_eq!(row, ["vmresume", "1000", "1500", "1.50", "1000", "1500", "1.50"]);
    assert!(ran.out.contains("metal 0x1 there: skipped, the processor has no EPT: vmresume-ept"), "{ran:?}");

    let bochs = file(&directory, "bochs", "emulated instructions", 3);
    vmcs(&["bench", "--from", &here, "--compare", &bochs]).refused(&["bochs", "emulated instructions", "cycles"]);
    fs::write(&bochs, "{\"version\": 2}").expect("a file");
    vmcs(&["bench", "--from", &bochs]).refused(&["version 2"]);
    vmcs(&["bench", "--from", "/nonexistent"]).refused(&["/nonexistent"]);
}

#[test]
fn a_measurement_is_printed_and_kept() {
    if !vmcs(&["targets"]).out.contains("bochs@") {
        println!("skipped: there is no Bochs");
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let kept = directory.path().join("kept.json");
    let kept = kept.to_str().expect("a path");
    let bench = ["bench", "--target", "bochs", "--cpu", "corei7_skylake_x", "--rounds", "20"];
    let ran = vmcs(&[&bench[..], &["-o", kept]].concat());
    assert_eq!(ran.status, 0, "{ran:?}");
    for words in ["emulated instructions, not a time", "20 rounds each", "vmresume-ept-vpid  ", "EntryFailed(34, 64)"] {
        assert!(ran.out.contains(words), "{words} in {ran:?}");
    }
    let json = vmcs(&[&bench[..], &["--json"]].concat()).json();
    assert_eq!(json, serde_json::from_str::<serde_json::Value>(&fs::read_to_string(kept).unwrap()).unwrap());
    assert_eq!(json["unit"], "emulated instructions");
    for row in json["rows"].as_array().expect("rows") {
        assert!(row["result"]["measured"]["median"].as_u64().is_some_and(|median| median > 0), "{row}");
    }
    let compared = vmcs(&[&bench[..], &["--only", "vmresume", "--compare", kept]].concat());
    assert!(compared.status == 0 && compared.out.contains("1.00"), "{compared:?}");
}
