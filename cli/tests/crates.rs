//! A test that docs/architecture.md says correctly which crate of the workspace uses which.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

const DOCUMENT: &str = include_str!("../../docs/architecture.md");

/// What `cargo metadata --no-deps` prints.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
    targets: Vec<BuildTarget>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or nothing for what the crate itself uses.
    kind: Option<String>,
}

#[derive(Deserialize)]
struct BuildTarget {
    kind: Vec<String>,
}

type Arrows = BTreeMap<String, BTreeSet<String>>;

fn packages() -> Vec<Package> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let output = cargo.current_dir(workspace).args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let output = output.output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Metadata>(&output.stdout).expect("cargo prints JSON").packages
}

/// What each crate uses of the workspace, tests aside.
fn arrows(packages: &[Package]) -> Arrows {
    let ours: BTreeSet<_> = packages.iter().map(|package| package.name.as_str()).collect();
    let used = |package: &Package| {
        let used = package.dependencies.iter().filter(|dependency| dependency.kind.as_deref() != Some("dev"));
        used.map(|dependency| dependency.name.clone()).filter(|name| ours.contains(name.as_str())).collect()
    };
    packages.iter().map(|package| (package.name.clone(), used(package))).collect()
}

/// The lines `crate -> crates it uses # what it is` of the document.
fn drawn() -> Arrows {
    let lines = DOCUMENT.lines().filter(|line| line.starts_with("vmcs-"));
    let lines = lines.filter_map(|line| line.split('#').next()?.split_once("->"));
    lines.map(|(name, used)| (name.trim().to_owned(), used.split_whitespace().map(str::to_owned).collect())).collect()
}

/// A crate and all that it uses, directly or not.
fn reach(arrows: &Arrows, name: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![name.to_owned()];
    while let Some(name) = next.pop() {
        next.extend(arrows[&name].iter().cloned());
        reached.insert(name);
    }
    reached
}

#[test]
fn the_drawing_is_true() {
    let (drawn, found) = (drawn(), arrows(&packages()));
    let mut wrong = String::new();
    for name in drawn.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let (drawn, found) = (drawn.get(name), found.get(name));
        if drawn != found {
            let list = |used: Option<&BTreeSet<String>>| match used {
                Some(used) => format!("{name} -> {}", used.iter().cloned().collect::<Vec<_>>().join(" ")),
                None => "no such crate".to_owned(),
            };
            wrong += &format!("drawn: {}\nfound: {}\n", list(drawn), list(found));
        }
    }
    assert!(wrong.is_empty(), "docs/architecture.md, \"Who may use whom\":\n{wrong}");
}

#[test]
fn what_needs_no_machine_builds_no_probe() {
    let packages = packages();
    let arrows = arrows(&packages);
    let builds = |name: &String| {
        let package = packages.iter().find(|package| package.name == *name).expect("a crate of the workspace");
        package.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "custom-build"))
    };
    assert!(reach(&arrows, "vmcs-hw").iter().any(builds), "the probe is built by a build script");
    for name in ["vmcs-texts", "vmcs-fuzz", "vmcs-report", "vmcs-fuzz-targets"] {
        let built: Vec<_> = reach(&arrows, name).into_iter().filter(builds).collect();
        assert!(built.is_empty(), "{name} needs {built:?}, which has a build script");
    }
}

#[test]
fn the_model_and_its_data_need_nothing_else_and_machines_need_no_emulator() {
    let arrows = arrows(&packages());
    assert_eq!(reach(&arrows, "vmcs-model").len(), 1);
    assert_eq!(reach(&arrows, "vmcs-profiles").into_iter().collect::<Vec<_>>(), ["vmcs-model", "vmcs-profiles"]);
    assert!(!reach(&arrows, "vmcs-hw").contains("vmcs-emu"));
    assert!(!reach(&arrows, "vmcs-emu").contains("vmcs-wire"));
}
