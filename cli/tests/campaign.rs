//! `vmcs diff` with several machines, killed, resumed, in parts; and `vmcs merge`.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use support::{Ran, vmcs};

/// A campaign on two emulated processors.
const CAMPAIGN: [&str; 7] =
    ["diff", "--target", "emu", "--cpu", "sapphire-rapids,penryn-yorkfield", "--json", "--cases"];

fn campaign(cases: &str, arguments: &[&str]) -> Ran {
    vmcs(&[&CAMPAIGN[..], &[cases], arguments].concat())
}

/// The command, not waited for. A pipe that nobody reads stops it once it is full.
fn start(arguments: &[&str], out: Stdio) -> Child {
    Command::new(env!("CARGO_BIN_EXE_vmcs"))
        .args(arguments)
        .stdout(out)
        .stderr(Stdio::null())
        .spawn()
        .expect("the command runs")
}

/// What a state directory holds.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // What is being written is no part of it.
    let names = names.filter(|name| name.ends_with(".json"));
    let mut files: Vec<_> =
        names.filter_map(|name| fs::read(directory.join(&name)).ok().map(|content| (name, content))).collect();
    files.sort();
    files
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
}

/// Cases that a state directory holds.
fn saved_cases(state: &Path) -> u64 {
    let cases = |(_, content): (String, Vec<u8>)| {
        let saved: Value = serde_json::from_slice(&content).unwrap();
        let pieces = saved["pieces"].as_array().into_iter().flatten();
        let reports = pieces.map(|piece| &piece["report"]).chain([&saved["report"]]);
        reports.filter_map(|report| report["cases"].as_u64()).sum::<u64>()
    };
    files(state).into_iter().map(cases).sum()
}

/// A running campaign that has just saved some cases; or else it has ended.
fn started_and_saved(campaign: &[&str], state: &Path, out: Stdio) -> Child {
    let before = saved_cases(state);
    let mut child = start(&[campaign, &["--jobs", "2", "--state", state.to_str().unwrap()]].concat(), out);
    while child.try_wait().unwrap().is_none() && saved_cases(state) == before {
        thread::sleep(Duration::from_millis(20));
    }
    child
}

fn cases_of(report: &Value) -> u64 {
    report.as_array().unwrap().iter().map(|report| report["cases"].as_u64().unwrap()).sum()
}

#[test]
fn killed_again_and_again_it_gives_the_same_report() {
    let cases = "40000";
    let whole = campaign(cases, &["--jobs", "1"]);
    assert_eq!(whole.status, 0, "{whole:?}");
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let mut kills = 0;
    loop {
        let mut child = started_and_saved(&[&CAMPAIGN[..], &[cases]].concat(), &state, Stdio::null());
        // At once, and in the middle of something.
        thread::sleep(Duration::from_millis(37 * kills % 200));
        if child.try_wait().unwrap().is_some() || kills == 8 {
            child.kill().unwrap();
            child.wait().unwrap();
            break;
        }
        signal(&child, "KILL");
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills >= 1);
    let resumed = campaign(cases, &["--jobs", "3", "--state", state.to_str().unwrap()]);
    assert_eq!(resumed.status, 0, "{resumed:?}");
    assert_eq!(resumed.out, whole.out);
}

#[test]
fn interrupted_it_reports_what_it_has_and_goes_on_later() {
    let directory = tempfile::tempdir().unwrap();
    let child = started_and_saved(&[&CAMPAIGN[..], &["20000"]].concat(), directory.path(), Stdio::piped());
    signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cases = cases_of(&report);
    assert!(cases > 0 && cases < 40_000, "{cases}");
    assert_eq!(report[0]["interrupted"], true);
    // All of it is in the state.
    let kept = vmcs(&["merge", "--json", directory.path().to_str().unwrap()]);
    assert_eq!(cases_of(&kept.json()), cases, "{kept:?}");
}

#[test]
fn the_state_of_another_campaign_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().to_str().unwrap();
    let ran = campaign("1100", &["--state", state]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let kept = files(directory.path());
    for (arguments, expected) in [
        (&["--seed", "2"][..], "the seed 1, and this is one with the seed 2"),
        (&["--generator", "state"], "the generator boundary"),
        (&["--shard", "2/2"], "the part 1/1"),
        (&["--cpu", "core-2-conroe"], "the processors"),
        (&["--deviations", "/dev/null"], ""),
    ] {
        let ran = campaign("1200", &[&["--state", state][..], arguments].concat());
        // There are no deviations of the emulator: those of others may change.
        if expected.is_empty() {
            assert_eq!(ran.status, 0, "{ran:?}");
        } else {
            ran.refused(&[state, expected]);
            assert_eq!(ran.out, "");
            assert_eq!(files(directory.path()), kept);
        }
    }
    let other = directory.path().join("campaign.json");
    let good = fs::read_to_string(&other).unwrap();
    for (from, to, expected) in [
        (r#""version":""#, r#""version":"9."#, "version 9."),
        ("vmcs state 1", "vmcs state 2", "vmcs state 2"),
        (r#""0x480":"0x"#, r#""0x480":"0x1"#, "another profile of vmcs-emu"),
        (r#""stream":"#, r#""stream":7,"was":"#, "a generator of that name that makes other cases"),
        ("{", "", "damaged"),
    ] {
        assert!(good.contains(from), "{good}");
        fs::write(&other, good.replacen(from, to, 1)).unwrap();
        campaign("1200", &["--state", state]).refused(&[state, expected]);
    }
    fs::write(&other, good).unwrap();

    // A count that was changed, a file that was cut off.
    let (name, content) = files(directory.path()).swap_remove(0);
    let file = directory.path().join(name);
    let text = String::from_utf8(content).unwrap();
    for damaged in [text.replacen(r#""agreed":"#, r#""agreed":1"#, 1), text[..text.len() / 2].to_owned()] {
        fs::write(&file, damaged).unwrap();
        campaign("1200", &["--state", state]).refused(&[file.to_str().unwrap(), "damaged"]);
    }

    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("letter.txt"), "").unwrap();
    campaign("10", &["--state", elsewhere.path().to_str().unwrap()]).refused(&["neither empty nor a state directory"]);
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
}

#[test]
fn two_campaigns_do_not_share_a_state() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = started_and_saved(&[&CAMPAIGN[..], &["1000000"]].concat(), directory.path(), Stdio::null());
    let ran = campaign("10", &["--state", directory.path().to_str().unwrap()]);
    child.kill().unwrap();
    child.wait().unwrap();
    ran.refused(&["another campaign is using this state directory"]);
}

#[test]
fn a_full_disk_ends_it_and_what_was_kept_stays() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().to_str().unwrap();
    assert_eq!(campaign("1", &["--state", state]).status, 0);
    let kept = files(directory.path());
    let largest = kept.iter().map(|(_, content)| content.len()).max().unwrap();
    // No file may grow beyond what there is; a write beyond it fails like one on a full disk.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", largest.div_ceil(512));
    let output = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_vmcs")])
        .args(CAMPAIGN)
        .args(["5000", "--state", state])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.contains(state) && errors.contains("cannot write"), "{errors}");
    // The report has what was observed, and the state what fitted.
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(cases_of(&report) > 2, "{report}");
    let merged = vmcs(&["merge", state, "--json"]);
    assert!(cases_of(&merged.json()) >= 2, "{merged:?}");
    let resumed = campaign("1100", &["--state", state]);
    assert_eq!(resumed.out, campaign("1100", &[]).out);
}

#[test]
fn parts_are_merged() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("one");
    let state = state.to_str().unwrap();
    let file = directory.path().join("two.json");
    let one = campaign("1100", &["--shard", "1/2", "--state", state]);
    let two = campaign("1100", &["--shard", "2/2"]);
    fs::write(&file, &two.out).unwrap();
    let file = file.to_str().unwrap();

    let merged = vmcs(&["merge", file, state, "--json"]);
    assert_eq!((merged.status, merged.err.as_str()), (0, ""), "{merged:?}");
    let (one, two, merged) = (one.json(), two.json(), merged.json());
    for index in 0..2 {
        assert_eq!(merged[index]["cases"], 2200);
        assert_eq!(merged[index]["shards"], serde_json::json!([1, 2]));
        let outcomes = merged[index]["outcomes"].as_object().unwrap();
        for (outcome, count) in outcomes {
            let of = |report: &Value| report[index]["outcomes"][outcome].as_u64().unwrap_or(0);
            assert_eq!(count.as_u64(), Some(of(&one) + of(&two)), "{outcome}");
        }
    }
    assert_ne!(one[0]["checks"], two[0]["checks"]);

    let half = vmcs(&["merge", file]);
    assert!(half.err.contains("of 2 parts these are missing: 1"), "{half:?}");
    assert_eq!(half.status, 0, "{half:?}");
    vmcs(&["merge", state, file, state]).refused(&["part 1/2", "twice"]);
    let other = directory.path().join("other.json");
    fs::write(&other, campaign("10", &["--shard", "1/2", "--seed", "3"]).out).unwrap();
    vmcs(&["merge", file, other.to_str().unwrap()]).refused(&["not parts of one campaign", "seed"]);
    vmcs(&["merge", "/nonexistent"]).refused(&["/nonexistent"]);
    fs::write(&other, "[1]").unwrap();
    vmcs(&["merge", other.to_str().unwrap()]).refused(&["other.json", "expected reports"]);
    fs::create_dir(directory.path().join("empty")).unwrap();
    vmcs(&["merge", directory.path().join("empty").to_str().unwrap()]).refused(&["expected a state directory"]);
}

#[test]
fn a_corpus_is_fed_to_a_target() {
    let directory = tempfile::tempdir().unwrap();
    let corpus = directory.path().to_str().unwrap();
    let feed = ["diff", "--target", "emu", "--profile", "sapphire-rapids", "--json", "--corpus"];
    let fed = |path: &str| vmcs(&[&feed[..], &[path]].concat());
    fed(corpus).refused(&[corpus, "the directory is empty"]);
    fed("/nonexistent").refused(&["/nonexistent"]);
    for index in 0..20_u8 {
        fs::write(directory.path().join(format!("case-{index}")), vec![index; usize::from(index) * 40]).unwrap();
    }
    let ran = fed(corpus);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(ran.json()[0]["agreed"], 20);
    let large = directory.path().join("large");
    fs::File::create(&large).unwrap().set_len((1 << 20) + 1).unwrap();
    fed(corpus).refused(&[large.to_str().unwrap(), "1048577 bytes"]);
    fs::remove_file(&large).unwrap();
    fs::create_dir(&large).unwrap();
    fed(corpus).refused(&[large.to_str().unwrap(), "not a case"]);
}

#[test]
fn bochs_gives_the_same_report_however_many_there_are_and_after_a_kill() {
    let targets = vmcs(&["targets"]);
    if !targets.out.contains("bochs@") {
        println!("skipped: there is no Bochs here");
        return;
    }
    let arguments = ["diff", "--target", "bochs", "--cpu", "corei7_skylake_x,tigerlake", "--cases", "5000", "--json"];
    let one = vmcs(&[&arguments[..], &["--jobs", "1"]].concat());
    let three = vmcs(&[&arguments[..], &["--jobs", "3"]].concat());
    assert_eq!(one.status, 0, "{one:?}");
    assert_eq!(one.out, three.out);
    assert_eq!(cases_of(&one.json()), 10_000);

    let directory = tempfile::tempdir().unwrap();
    let mut killed = started_and_saved(&arguments, directory.path(), Stdio::null());
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(saved_cases(directory.path()) < 10_000, "it was killed too late");
    let resumed = vmcs(&[&arguments[..], &["--jobs", "1", "--state", directory.path().to_str().unwrap()]].concat());
    assert_eq!(resumed.status, 0, "{resumed:?}");
    assert_eq!(resumed.out, one.out);
}
