//! `vmcs check` from the outside.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use support::{Ran, vmcs, vmcs_with};

/// A 64-bit guest and host with the fewest controls.
const GUEST: &str = r#"
[fields]
pin_based_vm_execution_controls = 0x16
primary_processor_based_vm_execution_controls = 0x04006172
primary_vm_exit_controls = 0x36ffb
vm_entry_controls = 0x13fb
vmcs_link_pointer = "0xffff_ffff_ffff_ffff"
guest_cr0 = 0x80000031
guest_cr3 = 0x5000
guest_cr4 = 0x2020
guest_rflags = 2
guest_cs_selector = 8
guest_cs_access_rights = 0xa09b
guest_cs_limit = 0xffffffff
guest_ss_selector = 16
guest_ss_access_rights = 0xc093
guest_ss_limit = 0xffffffff
guest_ds_access_rights = 0x10000
guest_es_access_rights = 0x10000
guest_fs_access_rights = 0x10000
guest_gs_access_rights = 0x10000
guest_ldtr_access_rights = 0x10000
guest_tr_selector = 24
guest_tr_access_rights = 0x8b
guest_tr_limit = 0x67
"0x6C00" = 0x80000031
host_cr3 = 0x6000
host_cr4 = 0x2020
host_cs_selector = 8
host_tr_selector = 24
"#;

/// A profile without a gap, but for what no profile file holds.
const PROFILE: &str = "tiger lake";

/// A directory with the base image.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().expect("a temporary directory"));
        files.write("guest.toml", GUEST);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).expect("the file is written");
        self.path(name)
    }

    /// Judges cases that come over standard input.
    fn check(&self, cases: &str) -> Ran {
        let base = self.path("guest.toml");
        vmcs_with(&["check", "--profile", PROFILE, "--base", text(&base), "--cases", "-", "--json"], cases)
    }

    /// Judges a base image alone.
    fn base(&self, base: &Path) -> Ran {
        vmcs(&["check", "--profile", PROFILE, "--base", text(base), "--json"])
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn without_cases_the_base_is_judged() {
    let files = Files::new();
    let ran = files.base(&files.path("guest.toml"));
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(ran.json(), json!({"id": "base", "permitted": ["Entered"], "violated": [], "undecidable": []}));
    let ran = vmcs(&["check", "--profile", PROFILE, "--base", text(&files.path("guest.toml"))]);
    assert_eq!((ran.status, ran.out.as_str()), (0, "base: Entered\n"));
}

#[test]
fn json_images_are_read_too() {
    let files = Files::new();
    let image = files.write("empty.json", r#"{"cpu": {"cr0": "0x80000031", "cr4": "0x2020"}}"#);
    let ran = files.base(&image);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert_eq!(ran.json()["permitted"], json!(["VMfailValid(7)", "VMfailValid(8)"]));
}

#[test]
fn cases_are_answered_in_order() {
    let files = Files::new();
    let cases = [
        r#"{"id": "plain"}"#,
        r#"{"id": "rflags", "set": {"guest_rflags": 0}}"#,
        "",
        r#"{"id": "resumed", "op": "vmresume"}"#,
        r#"{"id": "host", "set": {"0x6C06": "0x8000000000000000"}}"#,
    ];
    let ran = files.check(&cases.join("\n"));
    assert_eq!(ran.status, 1, "{ran:?}");
    let answers = ran.json_lines();
    let ids: Vec<_> = answers.iter().map(|answer| &answer["id"]).collect();
    assert_eq!(ids, ["plain", "rflags", "resumed", "host"]);
    assert_eq!(answers[0]["permitted"], json!(["Entered"]));
    assert_eq!(answers[1]["permitted"], json!(["EntryFailed(33, 0)"]));
    assert_eq!(answers[1]["violated"], json!(["guest.rflags.bit1"]));
    assert_eq!(answers[2]["permitted"], json!(["Entered"]));
    assert_eq!(answers[3]["permitted"], json!(["VMfailValid(8)"]));
}

#[test]
fn a_case_changes_nothing_for_the_next() {
    let files = Files::new();
    let load = r#""set": {"vm_entry_msr_load_count": 1, "vm_entry_msr_load_address": "0x7000"}"#;
    let cases = [
        format!(r#"{{"id": "fs base", {load}, "memory": [{{"address": "0x7000", "u32": "0xc0000100"}}]}}"#),
        format!(r#"{{"id": "reserved", {load}, "memory": [{{"address": "0x7000", "u64": "0x100000000"}}]}}"#),
        r#"{"id": "plain"}"#.to_owned(),
    ];
    let answers = files.check(&cases.join("\n")).json_lines();
    assert_eq!(answers[0]["permitted"], json!(["EntryFailed(34, 1)"]));
    assert_eq!(answers[0]["violated"], json!(["msrload.fs-gs-base"]));
    assert_eq!(answers[1]["violated"], json!(["msrload.reserved-63-32"]));
    assert_eq!(answers[2]["permitted"], json!(["Entered"]));
}

#[test]
fn the_processor_comes_from_the_base() {
    let files = Files::new();
    for (cpu, permitted) in [
        ("mov_ss_blocking = true", "VMfailValid(26)"),
        ("vmcs_pointer = \"0xffffffffffffffff\"", "VMfailInvalid"),
        ("cr0 = 0", "#UD"),
        ("cs_l = false", "#UD"),
    ] {
        let image = files.write("image.toml", &format!("{GUEST}\n[cpu]\n{cpu}\n"));
        assert_eq!(files.base(&image).json()["permitted"], json!([permitted]), "{cpu}");
    }
    // A case that changes host CR0 does not change the processor's.
    let answers = files.check(r#"{"id": "a", "set": {"host_cr0": 0}}"#).json_lines();
    assert_eq!(answers[0]["permitted"], json!(["VMfailValid(8)"]));
}

#[test]
fn the_indicator_in_memory_makes_a_shadow_vmcs() {
    let files = Files::new();
    let memory = "[[memory]]\naddress = 0x9000\nu32 = \"shadow_revision\"\n[cpu]\nvmcs_pointer = 0x9000\n";
    let ran = files.base(&files.write("image.toml", &format!("{GUEST}{memory}")));
    assert_eq!(ran.json()["violated"], json!(["pre.shadow-vmcs"]));
}

#[test]
fn what_the_profile_leaves_out_is_undecidable() {
    let files = Files::new();
    // Bit 17 of the primary controls is allowed; IA32_VMX_PROCBASED_CTLS3 was not read.
    let set = r#"{"primary_processor_based_vm_execution_controls": "0x04026172",
                  "tertiary_processor_based_vm_execution_controls": 1}"#;
    let ran = files.check(&format!(r#"{{"id": "a", "set": {}}}"#, set.replace('\n', " ")));
    assert_eq!(ran.status, 0, "{ran:?}");
    let answer = &ran.json_lines()[0];
    assert_eq!(answer["violated"], json!([]));
    assert_eq!(answer["undecidable"][0], "ctl.proc3.reserved-bits");
    assert_eq!(answer["permitted"], json!(["VMfailValid(7)", "Entered"]));
}

#[test]
fn the_text_names_outcomes_and_checks() {
    let files = Files::new();
    let cases = files.write("cases.jsonl", "{\"id\": \"a\\nb\", \"set\": {\"guest_rflags\": 0}}\n");
    let base = files.path("guest.toml");
    let ran = vmcs(&["check", "--profile", PROFILE, "--base", text(&base), "--cases", text(&cases)]);
    assert_eq!(ran.status, 1, "{ran:?}");
    let mut lines = ran.out.lines();
    assert_eq!(lines.next(), Some("a\\nb: EntryFailed(33, 0) | violated: guest.rflags.bit1"));
    assert_eq!(lines.next(), Some("  guest.rflags.bit1: EntryFailed(33, 0)"));
    assert!(lines.any(|line| line.trim() == "guest_rflags (6820H) = 0x0"), "{ran:?}");
}

#[test]
fn a_bad_line_ends_the_run_and_leaves_the_answers_before_it() {
    let files = Files::new();
    for (line, words) in [
        (r#"{"id": "b", "set": {"guest_rap": 1}}"#, &["unknown VMCS field", "guest_rip"][..]),
        (r#"{"id": "b", "set": {"0x7822": 1}}"#, &["no VMCS field has the encoding 0x7822"]),
        (r#"{"id": "b", "set": {"guest_cs_selector": "0x10000"}}"#, &["too wide for guest_cs_selector", "16 bits"]),
        (r#"{"id": "b", "set": {"guest_rip": "ten"}}"#, &["a number of at most 64 bits for guest_rip"]),
        (r#"{"id": "b", "set": {"guest_cr0": 1, "0x6800": 2}}"#, &["guest_cr0 a second value"]),
        (r#"{"id": "b", "op": "vmcall"}"#, &["`vmcall`", "`vmlaunch` or `vmresume`"]),
        (r#"{"id": "b", "colour": 1}"#, &["`colour`", "`set`"]),
        (r#"{"id": 5}"#, &["expected a string"]),
        (r#"{"set": {}}"#, &["missing field `id`"]),
        (r#"{"id": "b", "memory": [{"address": 1}]}"#, &["exactly one of"]),
        (r#"{"id": "b", "memory": [{"address": 1, "u16": 1}]}"#, &["`u16`"]),
        (r#"{"id": "b""#, &["EOF", "column 10"]),
        (r#"{"id": "b"} {}"#, &["trailing characters"]),
        (r#"["b", {}]"#, &["expected an object"]),
        ("VMCS", &["expected value", "column 1"]),
    ] {
        let ran = files.check(&format!("{{\"id\": \"a\"}}\n\n{line}\n{{\"id\": \"c\"}}\n"));
        ran.refused(words);
        assert!(ran.err.starts_with("vmcs: -:3: "), "{ran:?}");
        assert!(!ran.err.contains("at line"), "{ran:?}");
        assert_eq!(ran.json_lines().len(), 1, "{ran:?}");
    }
}

#[test]
fn an_answer_does_not_wait_for_the_next_case() {
    let files = Files::new();
    let base = files.path("guest.toml");
    let mut child = Command::new(env!("CARGO_BIN_EXE_vmcs"))
        .args(["check", "--profile", PROFILE, "--base", text(&base), "--cases", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command runs");
    let mut cases = child.stdin.take().expect("a pipe");
    let mut answers = BufReader::new(child.stdout.take().expect("a pipe"));
    for id in ["a", "b"] {
        writeln!(cases, r#"{{"id": "{id}"}}"#).expect("the case is written");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("the answer is read");
        assert_eq!(answer, format!("{id}: Entered\n"));
    }
    drop(cases);
    assert!(child.wait().expect("the command ends").success());
}

#[test]
fn lines_have_a_limit() {
    let ran = Files::new().check(&" ".repeat((16 << 20) + 1));
    ran.refused(&["vmcs: -:1: ", "too long"]);
}

#[test]
fn a_wrong_image_is_refused_with_its_line() {
    let files = Files::new();
    for (name, contents, words) in [
        ("a.toml", "[fields]\nguest_rap = 1\n", &["a.toml:2: ", "unknown VMCS field"][..]),
        ("a.toml", "[fields]\nguest_cs_selector = 65536\n", &["a.toml:2: ", "16 bits"]),
        ("a.toml", "[fields\n", &["a.toml:1: "]),
        ("a.toml", "\n[cpu]\ncr3 = 1\n", &["a.toml:3: ", "`cr3`"]),
        (
            "a.json",
            "{\"fields\": {\n\"guest_rip\": null}}",
            &["a.json:2: ", "a number of at most 64 bits for guest_rip"],
        ),
        ("a.json", "{}\n{}", &["a.json:2: ", "trailing characters"]),
        ("a.yaml", "fields:", &["a.yaml: ", ".json or .toml"]),
    ] {
        files.base(&files.write(name, contents)).refused(words);
    }
    files.base(&files.path("missing.toml")).refused(&["missing.toml: ", "No such file"]);
    files.base(&files.path("missing")).refused(&["missing: ", "No such file"]);
    files.base(&files.path("")).refused(&["Is a directory"]);
}

#[test]
fn wrong_arguments_are_refused() {
    let files = Files::new();
    let base = files.path("guest.toml");
    vmcs(&["check", "--profile", "tigr lake", "--base", text(&base)])
        .refused(&["no profile \"tigr lake\"", "Tiger Lake"]);
    let missing = files.path("missing.json");
    vmcs(&["check", "--profile", text(&missing), "--base", text(&base)]).refused(&["missing.json"]);
    vmcs(&["check", "--profile", text(&files.path("")), "--base", text(&base)]).refused(&["Is a directory"]);
    let missing = files.path("missing.jsonl");
    vmcs(&["check", "--profile", PROFILE, "--base", text(&base), "--cases", text(&missing)])
        .refused(&["missing.jsonl: ", "No such file"]);
    let empty = files.write("empty.jsonl", "\n");
    vmcs(&["check", "--profile", PROFILE, "--base", text(&base), "--cases", text(&empty)])
        .refused(&["empty.jsonl: there is no case in it"]);
    assert_eq!(files.check("").status, 0, "a pipe may have nothing to ask");
    assert_eq!(vmcs(&["check", "--profile", PROFILE]).status, 2);
}

#[test]
fn a_profile_file_is_used() {
    let files = Files::new();
    let caps = vmcs(&["caps", "--profile", PROFILE, "--json"]);
    let profile = files.write("profile.json", &caps.out);
    let ran = vmcs(&["check", "--profile", text(&profile), "--base", text(&files.path("guest.toml"))]);
    assert_eq!((ran.status, ran.out.as_str()), (0, "base: Entered\n"));
}

#[test]
fn every_image_to_start_from_is_entered() {
    let profile = "sapphire-rapids";
    let refused = vmcs(&["generate", "--profile", profile, "--base", "?"]);
    refused.refused(&["\"?\"", "expected one of plain, rich"]);
    let names = refused.err.trim().rsplit_once("one of ").expect("a list").1;
    let files = Files::new();
    for name in names.split(", ") {
        let image = vmcs(&["generate", "--profile", profile, "--base", name]);
        let file = files.write("base.json", &image.out);
        let judged = vmcs(&["check", "--profile", profile, "--base", text(&file)]);
        // Of this processor a few capability MSRs are not known.
        assert_eq!((judged.status, judged.out.contains("Entered")), (0, true), "{name}: {judged:?}");
        // Nothing that the checks look at is left out, but for memory.
        let explained = vmcs(&["explain", "--profile", profile, text(&file)]);
        assert_eq!(explained.status, 0, "{name}: {explained:?}");
    }
}
