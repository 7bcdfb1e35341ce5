//! `vmcs replay`, `vmcs minimize` and `vmcs deviations` as a user calls them.

mod support;

use std::fs;

use serde_json::{Value, json};
use support::vmcs;

/// A case that someone saw on a machine that is none of ours.
fn case() -> Value {
    json!({
        "format": "vmcs case 1", "cause": "vmlaunch Entered instead of VMfailValid(7): ctl.vpid.nonzero", "count": 3,
        "minimal": true, "implementation": {"name": "Metal", "version": "1", "model": "cpu"},
        "program": {"id": "a", "start": "vmx_root", "ops": [
            {"op": "store", "address": "0x11000", "u32": "revision"}, {"op": "vmclear", "address": "0x11000"},
            {"op": "vmptrld", "address": "0x11000"}, {"op": "image", "image": "rich"},
            {"op": "vmwrite", "field": "virtual_processor_identifier", "value": "0x0"}, {"op": "vmlaunch"}]},
        "step": 5, "instruction": "vmlaunch", "observed": "Entered", "permitted": ["VMfailValid(7)"],
        "violated": ["ctl.vpid.nonzero"], "base": "rich",
        "changes": [{"field": "virtual_processor_identifier", "from": "0x1", "to": "0x0", "bits": "bit 0"}],
        "model": [], "machine": "it entered"
    })
}

fn written(directory: &tempfile::TempDir, name: &str, text: &str) -> String {
    let file = directory.path().join(name);
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_case_runs_on_another_machine() {
    let directory = tempfile::tempdir().unwrap();
    let two = format!("{}\n{:#}\n", case(), case());
    written(&directory, "two.jsonl", &two);
    let ran = vmcs(&["replay", "--target", "emu", "--json", directory.path().to_str().unwrap()]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let answers = ran.json_lines();
    assert_eq!(answers.len(), 2);
    assert!(answers.iter().all(|answer| answer["result"] == "agrees"), "{answers:?}");
    let file = written(&directory, "one.json", &case().to_string());
    let ran = vmcs(&["minimize", "--target", "emu", &file]);
    assert_eq!((ran.status, &ran.out[..]), (0, ""), "{ran:?}");
    assert!(ran.err.contains("agrees"), "{ran:?}");
}

#[test]
fn what_is_no_case_is_refused_with_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let with = |key: &str, value: Value| {
        let mut case = case();
        case[key] = value;
        case.to_string()
    };
    let mut unknown_image = case();
    unknown_image["program"]["ops"][3]["image"] = json!("no-such-image");
    for (text, words) in [
        ("", &["there is no case in it"][..]),
        ("{\"id\": 1}", &["this is not a case"]),
        (&with("format", json!("vmcs case 7"))[..], &["vmcs case 1", "vmcs case 7"]),
        (&with("extra", json!(1)), &["extra"]),
        (&unknown_image.to_string(), &["no-such-image", "plain"]),
    ] {
        let file = written(&directory, "case.json", text);
        vmcs(&["replay", "--target", "emu", &file]).refused(words);
    }
    let file = written(&directory, "case.json", &case().to_string());
    vmcs(&["replay", &file]).refused(&["Metal 1 cpu", "--target"]);
    vmcs(&["replay", empty.path().to_str().unwrap()]).refused(&["no case file", "*.json"]);
    vmcs(&["replay", "/nonexistent"]).refused(&["/nonexistent"]);
    vmcs(&["deviations", "--deviations", "/nonexistent"]).refused(&["/nonexistent"]);
}

/// A deviation that is taken for none is found, made small and written; what is written shows it again.
#[test]
fn a_known_deviation_of_bochs_is_found_again() {
    if !vmcs(&["targets"]).out.contains("bochs@2.7") {
        println!("skipped: there is no Bochs 2.7 here");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let nothing = written(&directory, "none.toml", "");
    let findings = directory.path().join("findings");
    let path = findings.to_str().unwrap();
    let campaign = ["diff", "--target", "bochs@2.7", "--generator", "state", "--cases", "1500"];
    let ran = vmcs(&[&campaign[..], &["--deviations", &nothing, "--findings", path]].concat());
    assert_eq!(ran.status, 1, "{ran:?}");
    let files: Vec<_> = fs::read_dir(&findings).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty(), "{ran:?}");
    for file in &files {
        let case: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        assert!(case["changes"].as_array().unwrap().len() <= 3, "{case:#}");
    }
    let ran = vmcs(&["replay", "--json", "--deviations", &nothing, path]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.json_lines().iter().all(|answer| answer["result"] == "disagrees"), "{ran:?}");
    let ran = vmcs(&["replay", "--json", path]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.json_lines().iter().all(|answer| answer["result"] == "known deviation"), "{ran:?}");
}

/// A deviation whose case does not deviate is stale.
#[test]
fn a_stale_deviation_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let deviation = "[[deviation]]\nid = 'never'\nimplementation = 'vmcs-emu'\nomits = ['ctl.vpid.nonzero']\nbehaviour = ''\n\
                     sdm = ''\nevidence = ''\ncase = {version = 'VERSION', model = 'Sapphire Rapids', ops = [{op = 'vmxoff'}]}\n";
    let file = written(&directory, "d.toml", &deviation.replace("VERSION", env!("CARGO_PKG_VERSION")));
    let ran = vmcs(&["deviations", "--deviations", &file, "--target", "emu", "--json"]);
    let line = ran.json();
    assert_eq!((&line["id"], &line["instead"]), (&json!("never"), &json!("agrees with the model")), "{ran:?}");
    assert_eq!((&line["state"], ran.status), (&json!("stale"), 1), "{ran:?}");
    let file = written(&directory, "old.toml", &deviation.replace("VERSION", "0.0").replace("vmcs-emu", "Bochs"));
    let ran = vmcs(&["deviations", "--deviations", &file]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.starts_with("not here"), "{ran:?}");
}
