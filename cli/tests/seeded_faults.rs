//! A test that campaigns find faults. It makes a copy of the workspace with every fault of `seeded_faults/faults.toml` in
//! it. An environment variable says which of the faults is in force, and a campaign compares the faulty model with a
//! machine.
//!
//! The test builds the command anew and asks Bochs for hundreds of thousands of cases, so it runs only when asked for:
//! `cargo test -p vmcs-cli --test seeded_faults -- --ignored --nocapture`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{iter, thread};

use serde::Deserialize;
use serde_json::Value;

/// Cases within which a fault has to be found.
const CASES: &str = "200000";
/// Fields that the smallest finding of a fault changes, at most.
const MOST_FIELDS: usize = 3;
/// What puts a fault in force, by its number from 1 in the order of the file.
const VARIABLE: &str = "VMCS_SEEDED_FAULT";

/// The file of faults.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Faults {
    fault: Vec<Fault>,
}

/// A fault: one expression of a source file, and what stands there instead where it is in force.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    name: String,
    kind: Kind,
    file: PathBuf,
    /// What stands before `old`, where that alone does not say which is meant.
    #[serde(default)]
    after: String,
    old: String,
    new: String,
    #[serde(default)]
    campaign: Campaign,
}

/// What kind of mistake a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    CheckRemoved,
    Mask,
    Gate,
    Bound,
    ErrorNumber,
    Qualification,
    Width,
    WrongConstant,
    WrongControl,
    WrongField,
    WrongMsr,
    Canonicality,
}

/// What is compared with what.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Campaign {
    target: String,
    cpu: String,
    generator: String,
}

impl Default for Campaign {
    fn default() -> Self {
        let [target, cpu, generator] = ["bochs@2.7", "corei7_skylake_x", "boundary"].map(str::to_owned);
        Self { target, cpu, generator }
    }
}

#[test]
#[ignore = "builds the command anew and runs Bochs for minutes"]
fn every_seeded_fault_is_found() {
    let Faults { fault: faults } =
        toml::from_str(include_str!("seeded_faults/faults.toml")).expect("the file of faults");
    let kinds: BTreeSet<_> = faults.iter().map(|fault| fault.kind).collect();
    assert!(faults.len() >= 30 && kinds.len() >= 10, "{} faults of {kinds:?}", faults.len());
    let vmcs = build(&faults);

    let controls: BTreeSet<_> = faults.iter().map(|fault| fault.campaign.clone()).collect();
    let controls = controls.into_iter().map(|campaign| (0, "no fault".to_owned(), campaign));
    let seeded = faults.iter().zip(1..).map(|(fault, n)| (n, fault.name.clone(), fault.campaign.clone()));
    let runs: Vec<_> = controls.chain(seeded).collect();
    let next = AtomicUsize::new(0);
    let failures: Vec<String> = thread::scope(|scope| {
        let worker = || {
            iter::from_fn(|| runs.get(next.fetch_add(1, Ordering::Relaxed)))
                .filter_map(|(number, name, campaign)| run(&vmcs, *number, name, campaign).err())
                .collect::<Vec<_>>()
        };
        let workers: Vec<_> =
            (0..thread::available_parallelism().map_or(1, Into::into)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker ends")).collect()
    });
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Runs the campaign with that fault in force; the error says what is wrong with its result.
fn run(vmcs: &Path, number: u32, name: &str, campaign: &Campaign) -> Result<(), String> {
    let findings = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the scratch directory is writable");
    let output = Command::new(vmcs)
        .args(["diff", "--json", "--jobs", "1", "--cases", CASES, "--max-findings", "1", "--findings"])
        .arg(findings.path())
        .args(["--target", &campaign.target, "--cpu", &campaign.cpu, "--generator", &campaign.generator])
        .env(VARIABLE, number.to_string())
        .output()
        .expect("the command runs");
    let error = |_| format!("{name}: {}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).map_err(error)?;
    let first = &report[0]["findings"][0]["program"]["id"];
    match (number, first.is_null()) {
        (0, true) => {
            println!("no fault: no finding in {CASES} cases of {}", campaign.generator);
            return Ok(());
        }
        (0, false) => return Err(format!("no fault, and yet a finding: {first}")),
        (_, true) => return Err(format!("{name}: no finding in {CASES} cases")),
        (_, false) => {}
    }
    let files = fs::read_dir(findings.path()).expect("findings are written").map(|file| file.expect("a file").path());
    let mut fewest = usize::MAX;
    for file in files {
        let text = fs::read_to_string(&file).expect("a case file");
        let finding: Value = serde_json::from_str(&text).expect("a case file");
        let fields = finding["changes"].as_array().map_or(usize::MAX, Vec::len);
        println!("{name}: {first}, {fields} fields changed, {}", finding["cause"]);
        if finding["minimal"] != true {
            return Err(format!("{name}: this is not minimal: {text}"));
        }
        fewest = fewest.min(fields);
    }
    // A fault may show in several ways, some of which take more.
    if fewest > MOST_FIELDS { Err(format!("{name}: the smallest finding changes {fewest} fields")) } else { Ok(()) }
}

/// Builds the command of a copy of the workspace with `faults` in it.
fn build(faults: &[Fault]) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("seeded-faults");
    let copy = scratch.join("workspace");
    let mut sources = BTreeMap::new();
    read_sources(workspace, Path::new(""), &mut sources);
    let errors = seed(&mut sources, faults);
    assert!(errors.is_empty(), "faults.toml no longer fits the sources:\n{}", errors.join("\n"));
    fs::create_dir_all(&copy).expect("the copy is writable");
    let mut old = BTreeMap::new();
    read_sources(&copy, Path::new(""), &mut old);
    for path in old.keys().filter(|path| !sources.contains_key(*path)) {
        fs::remove_file(copy.join(path)).expect("the copy is writable");
    }
    // What has not changed is not built again.
    for (path, text) in sources.iter().filter(|(path, text)| old.get(*path) != Some(*text)) {
        let path = copy.join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("the copy is writable");
        fs::write(path, text).expect("the copy is writable");
    }

    let target = scratch.join("target");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(&copy)
        .args(["build", "--release", "--quiet", "--package", "vmcs-cli", "--target-dir"])
        .arg(&target)
        // Built once, run for a minute.
        .args(
            ["lto=false", "debug=false", "codegen-units=16", "package.\"*\".opt-level=1"]
                .map(|s| format!("--config=profile.release.{s}")),
        );
    // The lints are not for a broken copy.
    cargo.env("RUSTFLAGS", "-Awarnings");
    let status = cargo.status().expect("cargo starts");
    assert!(status.success(), "the copy with the faults does not build");
    target.join("release").join("vmcs")
}

/// Reads the files of the workspace below `directory`, but for what is built or hidden.
fn read_sources(workspace: &Path, directory: &Path, sources: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(workspace.join(directory)).expect("a directory of the workspace") {
        let name = entry.expect("an entry of the directory").file_name();
        let path = directory.join(&name);
        let full = workspace.join(&path);
        if name.to_string_lossy().starts_with('.') || full.join("CACHEDIR.TAG").exists() {
            continue;
        }
        if full.is_dir() {
            read_sources(workspace, &path, sources);
        } else {
            sources.insert(path, fs::read(&full).expect("a file of the workspace"));
        }
    }
}

/// Puts the faults into the sources, and what switches them. Returns what does not fit.
fn seed(sources: &mut BTreeMap<PathBuf, Vec<u8>>, faults: &[Fault]) -> Vec<String> {
    let switch = "vmcs-model/src/seeded_fault.rs";
    sources.insert(switch.into(), include_bytes!("seeded_faults/seeded_fault.rs").into());
    let setting = format!(
        "fn main() -> ExitCode {{\n    let fault = std::env::var({VARIABLE:?}).expect({VARIABLE:?});\n    \
         vmcs_model::seeded_fault::set(fault.parse().expect({VARIABLE:?}));\n"
    );
    let mut edits = vec![
        Edit::new("the switch", "cli/src/main.rs", "", "fn main() -> ExitCode {\n", setting),
        Edit::new("the switch", "vmcs-model/src/lib.rs", "", "pub mod baseline;\n", {
            "pub mod baseline;\npub mod seeded_fault;\n".to_owned()
        }),
    ];
    for (Fault { name, file, after, old, new, .. }, number) in faults.iter().zip(1..) {
        let model = if file.starts_with("vmcs-model") { "crate" } else { "vmcs_model" };
        let switched = format!("(if {model}::seeded_fault::is({number}) {{ {new} }} else {{ {old} }})");
        edits.push(Edit::new(name, file, after, old, switched));
    }
    // Places are looked up in the sources as they are, whatever other faults put there.
    let mut errors = Vec::new();
    let mut places: BTreeMap<PathBuf, Vec<(usize, Edit)>> = BTreeMap::new();
    for edit in edits {
        let text = sources.get(&edit.file).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
        match edit.place(&text) {
            Ok(place) => places.entry(edit.file.clone()).or_default().push((place, edit)),
            Err(error) => errors.push(format!("{}: {}: {error}", edit.name, edit.file.display())),
        }
    }
    for (file, mut edits) in places {
        let text = sources.get_mut(&file).expect("a place is in a source");
        edits.sort_by_key(|(place, _)| usize::MAX - place);
        let mut end = text.len();
        for (place, Edit { name, old, new, .. }) in edits {
            if place + old.len() > end {
                errors.push(format!("{name}: {}: two faults are in one place", file.display()));
                continue;
            }
            text.splice(place..place + old.len(), new.into_bytes());
            end = place;
        }
    }
    errors
}

/// A replacement in a file.
struct Edit {
    name: String,
    file: PathBuf,
    after: String,
    old: String,
    new: String,
}

impl Edit {
    fn new(name: &str, file: impl Into<PathBuf>, after: &str, old: &str, new: String) -> Self {
        Self { name: name.to_owned(), file: file.into(), after: after.to_owned(), old: old.to_owned(), new }
    }

    /// Where in `text` the replacement takes place.
    fn place(&self, text: &str) -> Result<usize, String> {
        let wanted = format!("{}{}", self.after, self.old);
        match text.matches(&wanted).count() {
            1 => Ok(text.find(&wanted).unwrap_or_default() + self.after.len()),
            count => Err(format!("occurs {count} times, expected once: {wanted}")),
        }
    }
}
