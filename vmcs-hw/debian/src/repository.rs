//! Tests with their own package archive. Its packages are like Debian's, but their dynamic loader is a shell script.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::apt::AptSettings;
use super::place::{ReadSettings, lock};
use super::*;

/// Lists a library that another package has.
const LOADER: &str = r#"#!/bin/sh
case "$3" in
--list) if [ -e "$2/libreadline.so.8" ]; then echo "libreadline.so.8 => $2/libreadline.so.8 (0x1)"
        else echo "libreadline.so.8 => not found"; fi;;
*) echo "it runs";;
esac
"#;

/// The packages that are wanted for themselves.
const PACKAGES: [&str; 5] = ["bochs", "bochs-term", "bochsbios", "libc6", "vgabios"];

/// What was unpacked; its own manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Root {
    #[serde(skip)]
    path: PathBuf,
    packages: BTreeMap<String, String>,
}

impl Root {
    fn read(path: &Path) -> Option<Self> {
        let root: Self = serde_json::from_slice(&fs::read(path.join(MANIFEST)).ok()?).ok()?;
        Some(Self { path: path.to_owned(), ..root })
    }

    /// Whether its program starts.
    fn works(&self) -> bool {
        let started = launcher(&self.path, "bochs-bin").output();
        self.path.join("usr/bin/bochs-bin").exists() && started.is_ok_and(|output| output.stdout == b"it runs\n")
    }
}

fn install_in(
    directory: &Path,
    suite: &str,
    existing: Existing,
    settings: ReadSettings<'_>,
    progress: InstallProgress<'_>,
) -> Result<Root, InstallError> {
    let programs = |root: &Path| Ok(vec![root.join("usr/bin/bochs-bin")]);
    let working = |path: &Path| Root::read(path).filter(Root::works);
    let place = UnpackPlace { directory, kind: "bochs", suite, existing };
    place.install_from(settings, progress, working, |apt, root, progress| {
        let packages = unpack(apt, &PACKAGES, programs, root, progress)?;
        write_manifest(root, &Root { path: root.to_owned(), packages })
    })
}

/// An archive with one suite, `sid`, and a directory to install to.
struct Archive {
    directory: TempDir,
}

impl Archive {
    /// `None` where there is no apt.
    fn new() -> Option<Self> {
        let works =
            |program| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
        if !works("apt-get") || !works("dpkg-deb") {
            return None;
        }
        let archive = Self { directory: tempfile::tempdir().expect("a temporary directory") };
        archive.add(
            "bochs",
            "3.1+dfsg-1",
            &[
                ("usr/bin/bochs-bin", ""),
                ("usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so", ""),
                ("usr/share/bochs/keymap", ""),
            ],
        );
        archive.add("bochs-term", "3.1+dfsg-1", &[]);
        archive.add("bochsbios", "3.1+dfsg-1", &[("usr/share/bochs/BIOS-bochs-latest", "")]);
        archive.add("vgabios", "0.9", &[("usr/share/vgabios/vgabios.bin", "")]);
        // As packages were before / and /usr were merged.
        archive.add("libc6", "2.36", &[("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", LOADER)]);
        archive.add("libreadline8t64", "8.2", &[("usr/lib/x86_64-linux-gnu/libreadline.so.8", "")]);
        Some(archive)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    /// Adds a package, or another version of it in the place of the first.
    fn add(&self, name: &str, version: &str, contents: &[(&str, &str)]) {
        let tree = self.path(&format!("trees/{name}"));
        let depends = if name == "bochs" { "Depends: libreadline8t64\n" } else { "" };
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: x\nDescription: x\n{depends}"
        );
        for (path, text) in contents.iter().copied().chain([("DEBIAN/control", control.as_str())]) {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        }
        fs::create_dir_all(self.path("archive")).expect("a directory");
        let file = self.path(&format!("archive/{name}.deb"));
        let mut finish = || ControlFlow::Continue(());
        run(Command::new("dpkg-deb").args(["--root-owner-group", "-b"]).arg(&tree).arg(&file), &mut finish)
            .expect("built");
        let sum = run(Command::new("sha256sum").arg(&file), &mut finish).expect("summed");
        let sum = sum.split_whitespace().next().expect("a sum");
        let size = file.metadata().expect("the package").len();
        let entry = format!("{control}Filename: {name}.deb\nSize: {size}\nSHA256: {sum}\n\n");
        fs::create_dir_all(self.path("entries")).expect("a directory");
        fs::write(self.path(&format!("entries/{name}")), entry).expect("its entry");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(&format!("entries/{name}"))).expect("the entry");
    }

    fn settings(&self) -> AptSettings {
        let index = self.path("archive/dists/sid/main/binary-amd64/Packages");
        fs::create_dir_all(index.parent().expect("a directory")).expect("a directory");
        let entries = fs::read_dir(self.path("entries")).expect("entries");
        let entries = entries.map(|entry| fs::read_to_string(entry.expect("an entry").path()).expect("its text"));
        fs::write(index, entries.collect::<String>()).expect("the index");
        let line = format!("deb [trusted=yes allow-insecure=yes] file:{} sid main", self.path("archive").display());
        AptSettings { sources: sources::parse_list(&line), ..AptSettings::default() }
    }

    fn roots(&self) -> PathBuf {
        self.path("cache/vmcs")
    }

    fn install_with(
        &self,
        suite: &str,
        existing: Existing,
        progress: &mut dyn FnMut(InstallStep<'_>) -> ControlFlow<()>,
    ) -> Result<Root, InstallError> {
        install_in(&self.roots(), suite, existing, &mut |_| Ok(self.settings()), progress)
    }

    fn install(&self, existing: Existing) -> Result<Root, InstallError> {
        self.install_with("sid", existing, &mut |_| ControlFlow::Continue(()))
    }

    /// What there is but for lock files.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.roots()).expect("the directory of the roots");
        let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        names.filter(|name| !name.ends_with(".lock")).collect()
    }
}

#[test]
fn packages_and_their_libraries_are_unpacked() {
    let Some(archive) = Archive::new() else {
        return;
    };
    let mut steps = Vec::new();
    let root = archive.install_with("sid", Existing::Keep, &mut |step| {
        steps.push(format!("{step:?}"));
        ControlFlow::Continue(())
    });
    let root = root.expect("it is installed");
    assert_eq!(root.path, archive.roots().join("bochs-sid"));
    assert_eq!(root.packages["bochs"], "3.1+dfsg-1");
    assert_eq!(root.packages["libreadline8t64"], "8.2");
    assert!(root.works());
    assert_eq!(archive.left(), ["bochs-sid"]);
    assert_eq!(all_in(&archive.roots(), "bochs", Root::read).expect("a list"), [root]);
    for step in ["Index", "Download", "Unpack", "Check"] {
        assert!(steps.iter().any(|seen| seen.starts_with(step)), "{step}");
    }
}

#[test]
fn an_installed_suite_stays_unless_it_is_to_be_replaced_or_broken() {
    let Some(archive) = Archive::new() else {
        return;
    };
    archive.install(Existing::Keep).expect("it is installed");
    archive.add("bochs", "3.1+dfsg-2", &[]);
    let version = |existing| archive.install(existing).expect("it is installed").packages["bochs"].clone();
    assert_eq!(version(Existing::Keep), "3.1+dfsg-1");
    assert_eq!(version(Existing::Replace), "3.1+dfsg-2");
    fs::remove_file(archive.roots().join("bochs-sid/usr/bin/bochs-bin")).expect("the binary");
    archive.add("bochs", "3.1+dfsg-3", &[]);
    assert_eq!(version(Existing::Keep), "3.1+dfsg-3");
    assert_eq!(archive.left(), ["bochs-sid"]);
}

#[test]
fn a_failure_leaves_what_was_there() {
    let Some(archive) = Archive::new() else {
        return;
    };
    archive.remove("libreadline8t64");
    let error = archive.install(Existing::Keep).expect_err("a library is missing");
    assert!(error.to_string().contains("libreadline.so.8"), "{error}");
    assert!(archive.left().is_empty());

    archive.add("libreadline8t64", "8.2", &[]);
    archive.install(Existing::Keep).expect("it is installed");
    fs::write(archive.path("archive/bochs.deb"), "damaged").expect("the package");
    let error = archive.install(Existing::Replace).expect_err("a package is damaged");
    assert!(error.to_string().starts_with("apt-get -q download"), "{error}");
    assert_eq!(archive.left(), ["bochs-sid"]);
    assert!(archive.install(Existing::Keep).is_ok());
}

#[test]
fn an_unknown_suite_is_refused_in_the_words_of_apt() {
    let Some(archive) = Archive::new() else {
        return;
    };
    let mut settings = archive.settings();
    settings.codename = Some("sid".to_owned());
    let mut go_on = |_: InstallStep<'_>| ControlFlow::Continue(());
    let error = install_in(&archive.roots(), "nosuch", Existing::Keep, &mut |_| Ok(settings.clone()), &mut go_on);
    let text = error.expect_err("there is no such suite").to_string();
    assert!(text.starts_with("apt-get -q update failed") && text.contains("nosuch"), "{text}");

    let error = install_in(&archive.roots(), "sid", Existing::Keep, &mut |_| Ok(AptSettings::default()), &mut go_on);
    assert!(matches!(error, Err(InstallError::NoMirror(_))));
    assert!(archive.left().is_empty());
}

#[test]
fn breaking_off_at_any_step_leaves_nothing() {
    let Some(archive) = Archive::new() else {
        return;
    };
    for wanted in ["Index", "Download", "Unpack", "Check"] {
        let error = archive.install_with("sid", Existing::Keep, &mut |step| {
            if format!("{step:?}").starts_with(wanted) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(error, Err(InstallError::Cancelled)), "{wanted}");
        assert!(archive.left().is_empty(), "{wanted}");
    }
}

#[test]
fn remains_of_a_killed_process_are_removed() {
    let Some(archive) = Archive::new() else {
        return;
    };
    fs::create_dir_all(archive.roots().join(".staging-bochs-sid~x/root")).expect("a directory");
    archive.install(Existing::Keep).expect("it is installed");
    assert_eq!(archive.left(), ["bochs-sid"]);
}

#[test]
fn two_at_a_time_install_it_once() {
    let Some(archive) = Archive::new() else {
        return;
    };
    archive.settings();
    let roots = thread::scope(|scope| {
        [0, 1].map(|_| scope.spawn(|| archive.install(Existing::Keep))).map(|thread| thread.join().expect("no panic"))
    });
    let [first, second] = roots.map(|root| root.expect("it is installed"));
    assert_eq!(first, second);
    assert_eq!(archive.left(), ["bochs-sid"]);
}

#[test]
fn who_waits_for_another_process_can_give_up() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("lock");
    let held = lock(&path, &mut |_| ControlFlow::Break(())).expect("nobody has it");
    assert!(matches!(lock(&path, &mut |_| ControlFlow::Break(())), Err(InstallError::Cancelled)));
    drop(held);
    assert!(lock(&path, &mut |_| ControlFlow::Break(())).is_ok());
}

#[test]
fn names_that_lead_elsewhere_are_no_suites() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for suite in ["", "..", "../x", "a/b", "-x", "a b", "a\n"] {
        let mut go_on = |_: InstallStep<'_>| ControlFlow::Continue(());
        let error =
            install_in(directory.path(), suite, Existing::Keep, &mut |_| Ok(AptSettings::default()), &mut go_on);
        assert!(matches!(error, Err(InstallError::BadSuite(name)) if name == suite));
    }
}

#[test]
fn without_a_directory_there_are_no_roots() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    assert_eq!(all_in(&directory.path().join("none"), "bochs", Root::read).expect("no error"), []);
}
