//! The directories that hold unpacked packages.

use std::env;
use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use tempfile::TempDir;

use super::apt::{Apt, AptSettings};
use super::error::InstallError;
use super::progress::{InstallProgress, InstallStep};

/// What a directory with unpacked packages holds, at its top: which packages they are.
pub const MANIFEST: &str = "vmcs-packages.json";
/// How often another process is looked after.
const INTERVAL: Duration = Duration::from_millis(100);

/// What becomes of a suite that is installed already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It stays, provided that it runs.
    #[default]
    Keep,
    /// It is downloaded again and replaced.
    Replace,
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

/// What is installed in `directory` under names that start with `kind` and a hyphen, as far as `read` takes it.
///
/// # Errors
/// [`InstallError::Io`].
pub fn all_in<T>(directory: &Path, kind: &str, read: fn(&Path) -> Option<T>) -> Result<Vec<T>, InstallError> {
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

/// Writes the list of packages of a directory: [`MANIFEST`].
///
/// # Errors
/// [`InstallError::Io`].
///
/// # Panics
/// If `manifest` cannot be JSON: a map of it has keys that are no strings.
pub fn write_manifest(root: &Path, manifest: &impl Serialize) -> Result<(), InstallError> {
    let manifest = serde_json::to_string_pretty(manifest).expect("every key is a string");
    fs::write(root.join(MANIFEST), manifest + "\n").map_err(InstallError::io("writing the list of packages"))
}

/// Reads the machine's configuration of apt.
pub(super) type ReadSettings<'a> =
    &'a mut dyn FnMut(&mut dyn FnMut() -> ControlFlow<()>) -> Result<AptSettings, InstallError>;

/// Where packages are unpacked to: the directory `KIND-SUITE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpackPlace<'a> {
    /// The directory of all of them: [`roots_directory`].
    pub directory: &'a Path,
    /// What it is for: its name starts with this.
    pub kind: &'a str,
    /// Name of the Debian suite, such as `trixie` or `sid`.
    pub suite: &'a str,
    /// What becomes of what is there already.
    pub existing: Existing,
}

impl UnpackPlace<'_> {
    /// Has `fill` put a suite's packages into a directory, and puts that in its place. `read` says what is there, if it is
    /// usable; if it was before, that is all.
    ///
    /// Nothing is left behind when `progress` breaks off, nor after an error: a directory appears when it is complete. A
    /// process that is killed leaves a directory which the next one removes.
    ///
    /// # Errors
    /// [`InstallError`].
    pub fn install<T>(
        &self,
        progress: InstallProgress<'_>,
        read: impl Fn(&Path) -> Option<T>,
        fill: impl FnOnce(&Apt, &Path, InstallProgress<'_>) -> Result<(), InstallError>,
    ) -> Result<T, InstallError> {
        self.install_from(&mut |tick| AptSettings::read(tick), progress, read, fill)
    }

    /// As [`UnpackPlace::install`], with the configuration of apt that `settings` returns.
    pub(super) fn install_from<T>(
        &self,
        settings: ReadSettings<'_>,
        progress: InstallProgress<'_>,
        read: impl Fn(&Path) -> Option<T>,
        fill: impl FnOnce(&Apt, &Path, InstallProgress<'_>) -> Result<(), InstallError>,
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
        let settings = settings(&mut || progress(InstallStep::Index))?;
        let apt = Apt::new(&staging.path().join("apt"), &settings, suite, &mut || progress(InstallStep::Index))?;
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
pub(super) fn lock(path: &Path, progress: InstallProgress<'_>) -> Result<File, InstallError> {
    let failed = || InstallError::io(format!("locking {}", path.display()));
    let file = File::create(path).map_err(failed())?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed()(error)),
            Err(TryLockError::WouldBlock) if progress(InstallStep::Wait).is_break() => {
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
