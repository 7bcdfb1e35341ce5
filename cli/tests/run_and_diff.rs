//! `vmcs run`, `vmcs diff`, `vmcs generate` and `vmcs targets` as a user calls them.

mod support;

use std::fs;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use support::vmcs;

fn gunzip(bytes: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

fn gzip(text: &str) -> Vec<u8> {
    let mut stream = GzEncoder::new(Vec::new(), Compression::fast());
    stream.write_all(text.as_bytes()).unwrap();
    stream.finish().unwrap()
}

/// A file of one program line.
fn program(directory: &tempfile::TempDir, line: &str) -> String {
    let file = directory.path().join("program.jsonl");
    fs::write(&file, line).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn launch_states_on_the_emulator() {
    let directory = tempfile::tempdir().unwrap();
    let file = program(
        &directory,
        r#"{"id": "a", "memory": [{"address": "0x10000", "u32": "revision"}, {"address": "0x11000", "u32": "revision"}],
            "ops": [{"op": "vmxon", "address": "0x10000"}, {"op": "vmlaunch"}, {"op": "vmclear", "address": "0x11000"},
                    {"op": "vmptrld", "address": "0x11000"}, {"op": "vmptrst"}, {"op": "vmresume"},
                    {"op": "vmread", "field": "vm_instruction_error"}, {"op": "image", "image": 0}, {"op": "vmlaunch"},
                    {"op": "vmlaunch"}, {"op": "vmresume"}, {"op": "vmclear", "address": "0x11000"}, {"op": "vmresume"},
                    {"op": "vmptrld", "address": "0x11000"}, {"op": "vmlaunch"}]}"#
            .replace('\n', " ")
            .as_str(),
    );
    let ran = vmcs(&["run", "--target", "emu", "--profile", "sapphire-rapids", &file]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let answer = ran.json();
    let results: Vec<_> = answer["results"].as_array().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
    assert_eq!(
        results,
        [
            "ok",
            "VMfailInvalid",
            "ok",
            "ok",
            "ok",
            "VMfailValid(5)",
            "ok",
            "ok",
            "Entered",
            "VMfailValid(4)",
            "Entered",
            "ok",
            "VMfailInvalid",
            "ok",
            "Entered"
        ]
    );
    assert_eq!(answer["values"][4], "0x11000");
    assert_eq!(answer["values"][6], "0x5");
}

#[test]
fn bad_programs_are_refused_before_anything_runs() {
    let directory = tempfile::tempdir().unwrap();
    let good = r#"{"id": "good", "ops": [{"op": "vmxoff"}]}"#;
    for (line, expected) in [
        (r#"{"id": "a", "ops": [{"op": "vmread", "field": "guest_rax"}]}"#, "guest_rax"),
        (r#"{"id": "a", "ops": [{"op": "hlt"}]}"#, "unknown variant `hlt`"),
        (r#"{"id": "a", "ops": [{"op": "vmxon"}]}"#, "missing field `address`"),
        (r#"{"id": "a", "ops": [], "operations": []}"#, "unknown field `operations`"),
        (r#"{"id": "a", "ops": [], "memory": [{"address": 0, "u32": 1}]}"#, "does not belong to programs"),
        ("{", "EOF"),
    ] {
        let file = program(&directory, &format!("{good}\n{line}\n"));
        let ran = vmcs(&["run", "--target", "emu", "--profile", "sapphire-rapids", &file]);
        assert_eq!(ran.status, 2, "{ran:?}");
        assert_eq!(ran.out, "", "{line}");
        ran.refused(&[&format!("{file}:2: "), expected]);
    }
    let empty = program(&directory, "\n");
    for command in ["run", "minimize"] {
        vmcs(&[command, "--target", "emu", "--cpu", "sapphire-rapids", &empty]).refused(&["there is no program in it"]);
    }
}

#[test]
fn what_does_not_exist_is_refused_with_one_line() {
    for (arguments, expected) in [
        (&["run", "--target", "emu", "--profile", "no-such-cpu", "-"][..], "no-such-cpu"),
        (&["run", "--target", "emu", "/nonexistent"], "/nonexistent"),
        (&["diff", "--target", "replay:/nonexistent"], "/nonexistent"),
        (&["diff", "--target", "replay", "--deviations", "/nonexistent"], "/nonexistent"),
        (&["diff", "--target", "bochs@0.1"], "0.1"),
        (&["generate", "--profile", "no-such-cpu"], "no-such-cpu"),
        (&["targets", "install", "bochs", "--suite", "../etc"], "../etc"),
    ] {
        let ran = vmcs(arguments);
        assert_eq!(ran.status, 2, "{ran:?}");
        ran.refused(&[expected]);
    }
    let ran = vmcs(&["diff", "--target", "cray"]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(ran.err.contains("bochs@VERSION"), "{ran:?}");
}

#[test]
fn the_emulator_agrees_with_the_model_and_the_recordings_too() {
    let ran = vmcs(&["diff", "--target", "emu", "--profile", "sapphire-rapids", "--cases", "300", "--json"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let report = ran.json();
    assert_eq!(report[0]["agreed"], 300);
    assert_eq!(report[0]["unreachable"]["as.host32.fred"], "it needs a host that is not in IA-32e mode");

    let ran = vmcs(&["diff", "--target", "replay"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.contains("Bochs 2.7 corei7_skylake_x"), "{ran:?}");
}

#[test]
fn a_recording_replays_and_a_false_one_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("r.jsonl.gz");
    let path = file.to_str().unwrap();
    let emulator = ["diff", "--target", "emu", "--profile", "sapphire-rapids"];
    let ran = vmcs(&[&emulator[..], &["--generator", "controls", "--cases", "50", "--record", path]].concat());
    assert_eq!(ran.status, 0, "{ran:?}");
    let replay = format!("replay:{path}");
    let ran = vmcs(&["diff", "--target", &replay]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.contains("50 cases of the generator controls"), "{ran:?}");

    // Every outcome that is error 7 becomes error 9.
    let text = gunzip(&fs::read(&file).unwrap());
    fs::write(&file, gzip(&text.replace(" v7", " v9"))).unwrap();
    let ran = vmcs(&["diff", "--target", &replay]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.out.contains("ended in VMfailValid(9), permitted: VMfailValid(7)"), "{ran:?}");

    fs::write(&file, gzip(&text.replacen(" v7", " okay", 1))).unwrap();
    let ran = vmcs(&["diff", "--target", &replay]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(ran.err.contains("okay"), "{ran:?}");
}

#[test]
fn generated_programs_are_the_same_for_the_same_seed_and_can_be_run() {
    let arguments = ["generate", "--profile", "sapphire-rapids", "--cases", "40", "--seed", "9"];
    let (first, second) = (vmcs(&arguments), vmcs(&arguments));
    assert_eq!(first.out, second.out);
    let directory = tempfile::tempdir().unwrap();
    let file = program(&directory, &first.out);
    let ran = vmcs(&["run", "--target", "emu", "--profile", "sapphire-rapids", &file]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(ran.out.lines().count(), 40);
}
