//! Bochs from the packages of any Debian suite, in a directory of the user: no root rights, nothing installed.
//!
//! [`install`] asks the machine's configured mirror for Bochs and the libraries that it needs, unpacks them into
//! `vmcs/bochs-SUITE` of the user's cache directory, and makes sure that it runs; [`installed_roots`] lists what is there.
//! A suite that is newer than the machine brings a newer Bochs, with more CPU models. [`install_kernel`] does the same for
//! what it takes of a suite's Linux to run KVM inside Bochs, `install_grub` for what makes boot images.

mod apt;
mod command;
mod error;
mod grub;
mod kernel;
mod libraries;
#[cfg(test)]
mod repository;
mod sources;

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{BochsInstall, BochsVersion};
use crate::error::TargetError;
use apt::{Apt, Machine};
pub(crate) use command::run;
pub use error::InstallError;
pub(crate) use grub::{InstalledGrub, installed_grub, launcher};
pub use kernel::{InstalledKernel, installed_kernels};

/// The packages that are wanted for themselves. The libraries that they need have other names in every release.
const PACKAGES: [&str; 5] = ["bochs", "bochs-term", "bochsbios", "libc6", "vgabios"];
/// What the directory's name of an unpacked Bochs starts with.
const BOCHS: &str = "bochs";
/// What a root holds, at its top.
const MANIFEST: &str = "vmcs-packages.json";
/// How often another process is looked after.
const INTERVAL: Duration = Duration::from_millis(100);

/// What [`install`] is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Another process installs the same suite.
    Wait,
    /// Fetching the suite's index of packages.
    Index,
    /// Downloading packages: bytes of so many. Both are 0 until the size is known.
    Download {
        /// Bytes that have arrived.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Unpacking a package.
    Unpack {
        /// File name of the package.
        package: &'a str,
    },
    /// Looking for libraries and starting Bochs.
    Check,
}

/// What becomes of a suite that is installed already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It stays, provided that it runs.
    #[default]
    Keep,
    /// It is downloaded again and replaced.
    Replace,
}

/// An unpacked Bochs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledRoot {
    /// Name of the Debian suite.
    pub suite: String,
    /// The directory in which the packages are unpacked, for [`BochsInstall::from_root`].
    pub path: PathBuf,
    /// Version of Bochs.
    pub version: BochsVersion,
    /// Names and versions of the packages.
    pub packages: BTreeMap<String, String>,
}

impl InstalledRoot {
    /// The Bochs in it.
    ///
    /// # Errors
    /// Those of [`BochsInstall::from_root`].
    pub fn open(&self) -> Result<BochsInstall, TargetError> {
        BochsInstall::from_root(&self.path)
    }

    /// The root at `path`; `None` if there is none, or none of this form.
    fn read(path: &Path) -> Option<Self> {
        let manifest = fs::read(path.join(MANIFEST)).ok()?;
        let Manifest { suite, bochs, packages } = serde_json::from_slice(&manifest).ok()?;
        let (major, minor) = bochs.split_once('.')?;
        let version = BochsVersion { major: major.parse().ok()?, minor: minor.parse().ok()? };
        Some(Self { suite, path: path.to_owned(), version, packages })
    }
}

/// Contents of [`MANIFEST`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    suite: String,
    bochs: String,
    packages: BTreeMap<String, String>,
}

/// The directory that holds the roots: `vmcs` in `$XDG_CACHE_HOME`, by default in `~/.cache`.
///
/// # Errors
/// [`InstallError::NoCacheDirectory`].
pub fn roots_directory() -> Result<PathBuf, InstallError> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Ok(cache.ok_or(InstallError::NoCacheDirectory)?.join("vmcs"))
}

/// The unpacked Bochs of this user, the newest version first. What is not complete is not listed.
///
/// # Errors
/// [`InstallError::NoCacheDirectory`], [`InstallError::Io`].
pub fn installed_roots() -> Result<Vec<InstalledRoot>, InstallError> {
    roots_in(&roots_directory()?)
}

fn roots_in(directory: &Path) -> Result<Vec<InstalledRoot>, InstallError> {
    let mut roots = all_in(directory, BOCHS, InstalledRoot::read)?;
    roots.sort_by(|a, b| b.version.cmp(&a.version).then_with(|| a.suite.cmp(&b.suite)));
    Ok(roots)
}

/// What is installed in `directory` under names that start with `kind` and a hyphen.
fn all_in<T>(directory: &Path, kind: &str, read: fn(&Path) -> Option<T>) -> Result<Vec<T>, InstallError> {
    let failed = || InstallError::io(format!("reading {}", directory.display()));
    let mut all = Vec::new();
    match fs::read_dir(directory) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry.map_err(failed())?;
                let name = entry.file_name();
                if name.to_str().and_then(|name| name.strip_prefix(kind)).is_some_and(|name| name.starts_with('-')) {
                    all.extend(read(&entry.path()));
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (),
        Err(error) => return Err(failed()(error)),
    }
    Ok(all)
}

/// Unpacks the Bochs of the Debian suite `suite`, such as `trixie` or `sid`, for this user.
///
/// `progress` is told what happens, many times a second, and can break off. Nothing is left behind then, nor after an
/// error: a root appears when it is complete. A process that is killed leaves a directory which the next one removes.
///
/// # Errors
/// [`InstallError`].
pub fn install(
    suite: &str,
    existing: Existing,
    progress: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
) -> Result<InstalledRoot, InstallError> {
    let directory = roots_directory()?;
    install_in(&directory, suite, existing, &mut |tick| Machine::read(tick), progress)
}

/// Reads the machine's configuration.
type ReadMachine<'a> = &'a mut dyn FnMut(&mut dyn FnMut() -> ControlFlow<()>) -> Result<Machine, InstallError>;

/// Takes of a suite's Linux what it takes to run its KVM inside Bochs: the kernel that Debian builds for virtual machines,
/// and its modules for KVM. As [`install`] otherwise.
///
/// # Errors
/// [`InstallError`].
pub fn install_kernel(
    suite: &str,
    existing: Existing,
    progress: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
) -> Result<InstalledKernel, InstallError> {
    let place = Place { directory: &roots_directory()?, kind: kernel::KIND, suite, existing };
    place.install(&mut |tick| Machine::read(tick), progress, InstalledKernel::read, kernel::fill)
}

/// Unpacks GRUB, xorriso and mtools of the release that this machine runs. As [`install`] otherwise.
///
/// # Errors
/// [`InstallError`].
pub(crate) fn install_grub(
    progress: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
) -> Result<InstalledGrub, InstallError> {
    let suite = apt::codename().unwrap_or_else(|| "stable".to_owned());
    let place = Place { directory: &roots_directory()?, kind: grub::KIND, suite: &suite, existing: Existing::Keep };
    let working = |path: &Path| InstalledGrub::read(path).filter(|grub| grub.check().is_ok());
    place.install(&mut |tick| Machine::read(tick), progress, working, |apt, root, progress| {
        let packages = unpack(apt, &grub::PACKAGES, grub::programs, root, &suite, progress)?;
        write_manifest(root, &grub::Manifest { suite: suite.clone(), packages })?;
        InstalledGrub { path: root.to_owned() }.check().map_err(InstallError::Unusable)
    })
}

fn install_in(
    directory: &Path,
    suite: &str,
    existing: Existing,
    machine: ReadMachine<'_>,
    progress: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
) -> Result<InstalledRoot, InstallError> {
    let working = |path: &Path| InstalledRoot::read(path).filter(|root| root.open().is_ok());
    let place = Place { directory, kind: BOCHS, suite, existing };
    place.install(machine, progress, working, |apt, root, progress| {
        let packages = unpack(apt, &PACKAGES, libraries::programs_of_bochs, root, suite, progress)?;
        let bochs = BochsInstall::from_root(root).map_err(InstallError::Unusable)?.version.to_string();
        write_manifest(root, &Manifest { suite: suite.to_owned(), bochs, packages })
    })
}

fn write_manifest(root: &Path, manifest: &impl Serialize) -> Result<(), InstallError> {
    let manifest = serde_json::to_string_pretty(manifest).expect("every key is a string");
    fs::write(root.join(MANIFEST), manifest + "\n").map_err(InstallError::io("writing the list of packages"))
}

type Progress<'a> = &'a mut dyn FnMut(Step<'_>) -> ControlFlow<()>;

/// Where something is installed to.
struct Place<'a> {
    /// The directory of all of them.
    directory: &'a Path,
    /// What it is: its directory's name starts with this.
    kind: &'a str,
    suite: &'a str,
    existing: Existing,
}

impl Place<'_> {
    /// Fills a directory and puts it in its place; `read` says what is there, if it is usable.
    fn install<T>(
        &self,
        machine: ReadMachine<'_>,
        progress: Progress<'_>,
        read: impl Fn(&Path) -> Option<T>,
        fill: impl FnOnce(&Apt, &Path, Progress<'_>) -> Result<(), InstallError>,
    ) -> Result<T, InstallError> {
        let Self { directory, kind, suite, existing } = *self;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if !suite.starts_with(|c: char| c.is_ascii_alphanumeric()) || !suite.chars().all(is_plain) {
            return Err(InstallError::BadSuite(suite.to_owned()));
        }
        let place = directory.join(format!("{kind}-{suite}"));
        fs::create_dir_all(directory).map_err(InstallError::io(format!("creating {}", directory.display())))?;
        let _lock = lock(&directory.join(format!(".{kind}-{suite}.lock")), progress)?;
        if existing == Existing::Keep
            && let Some(installed) = read(&place)
        {
            return Ok(installed);
        }

        let staging = stage(directory, kind, suite)?;
        let machine = machine(&mut || progress(Step::Index))?;
        let apt = Apt::new(&staging.path().join("apt"), &machine, suite, &mut || progress(Step::Index))?;
        let root = staging.path().join("root");
        fs::create_dir(&root).map_err(InstallError::io(format!("creating {}", root.display())))?;
        fill(&apt, &root, progress)?;

        let failed = || InstallError::io(format!("moving what was unpacked to {}", place.display()));
        let old = staging.path().join("old");
        if place.exists() {
            fs::rename(&place, &old).map_err(failed())?;
        }
        if let Err(error) = fs::rename(&root, &place) {
            // Without a new one the old one is better than none; if there was none, this fails as well.
            let _ = fs::rename(&old, &place);
            return Err(failed()(error));
        }
        staging.close().map_err(InstallError::io("removing temporary files"))?;
        read(&place).ok_or_else(|| failed()(io::ErrorKind::InvalidData.into()))
    }
}

/// Takes the lock on a suite; dropping the file gives it back, as does the end of the process.
fn lock(path: &Path, progress: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>) -> Result<File, InstallError> {
    let failed = || InstallError::io(format!("locking {}", path.display()));
    let file = File::create(path).map_err(failed())?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed()(error)),
            Err(TryLockError::WouldBlock) if progress(Step::Wait).is_break() => {
                return Err(InstallError::Cancelled);
            }
            Err(TryLockError::WouldBlock) => thread::sleep(INTERVAL),
        }
    }
}

/// A directory beside the root, to rename from; the lock is held, so what is there of the same name is from a process
/// that was killed.
fn stage(directory: &Path, kind: &str, suite: &str) -> Result<TempDir, InstallError> {
    let failed = || InstallError::io(format!("creating a temporary directory in {}", directory.display()));
    let prefix = format!(".staging-{kind}-{suite}~");
    for entry in fs::read_dir(directory).map_err(failed())?.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
            fs::remove_dir_all(entry.path()).map_err(failed())?;
        }
    }
    tempfile::Builder::new().prefix(&prefix).tempdir_in(directory).map_err(failed())
}

/// Downloads and unpacks packages and the libraries that `programs` of theirs need; returns names and versions.
fn unpack(
    apt: &Apt,
    wanted: &[&str],
    programs: fn(&Path) -> io::Result<Vec<PathBuf>>,
    root: &Path,
    suite: &str,
    progress: Progress<'_>,
) -> Result<BTreeMap<String, String>, InstallError> {
    let known = apt.dependencies(wanted, &mut || progress(Step::Index))?;
    let mut packages = BTreeMap::new();
    let mut wanted: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
    loop {
        for file in apt.download(&wanted, progress)? {
            announce(&file, progress)?;
            packages.extend(unpack_one(&file, root)?);
        }
        if progress(Step::Check).is_break() {
            return Err(InstallError::Cancelled);
        }
        libraries::merge_usr(root).map_err(InstallError::io("merging the unpacked directories"))?;
        let missing = programs(root).and_then(|programs| libraries::missing(root, programs));
        let missing = missing.map_err(InstallError::io("listing the libraries that programs need"))?;
        if missing.is_empty() {
            return Ok(packages);
        }
        wanted = libraries::packages_of(&missing, &known, &packages);
        if wanted.is_empty() {
            return Err(InstallError::MissingLibraries { suite: suite.to_owned(), libraries: missing });
        }
    }
}

fn announce(package: &Path, progress: Progress<'_>) -> Result<(), InstallError> {
    let package = package.file_name().unwrap_or_default().to_string_lossy();
    if progress(Step::Unpack { package: &package }).is_break() { Err(InstallError::Cancelled) } else { Ok(()) }
}

/// Unpacks a package; returns its name and version.
fn unpack_one(package: &Path, root: &Path) -> Result<Option<(String, String)>, InstallError> {
    // Quick, and it has a child of its own: not to be killed half-way.
    let mut finish = || ControlFlow::Continue(());
    run(Command::new("dpkg-deb").arg("-x").arg(package).arg(root), &mut finish)?;
    let format = "--showformat=${Package}\t${Version}\n";
    let shown = run(Command::new("dpkg-deb").arg("--show").arg(format).arg(package), &mut finish)?;
    Ok(shown.trim().split_once('\t').map(|(name, version)| (name.to_owned(), version.to_owned())))
}
