//! Unpacking packages.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::Apt;
use super::command::run;
use super::error::InstallError;
use super::libraries::{self, LIBRARIES};
use super::progress::{InstallProgress, InstallStep};

/// Starts a program of packages that were unpacked below `root`, with the libraries there.
#[must_use]
pub fn launcher(root: &Path, program: &str) -> Command {
    let libraries = root.join(LIBRARIES);
    let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(&libraries).arg(root.join("usr/bin").join(program));
    command
}

/// Downloads packages, unpacks them below `root`, and with them those of the libraries that `programs` of theirs need; returns
/// names and versions.
///
/// # Errors
/// [`InstallError`].
pub fn unpack(
    apt: &Apt,
    wanted: &[&str],
    programs: fn(&Path) -> io::Result<Vec<PathBuf>>,
    root: &Path,
    progress: InstallProgress<'_>,
) -> Result<BTreeMap<String, String>, InstallError> {
    let known = apt.dependencies(wanted, &mut || progress(InstallStep::Index))?;
    let mut packages = BTreeMap::new();
    let mut wanted: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
    loop {
        for file in apt.download(&wanted, progress)? {
            announce(&file, progress)?;
            packages.extend(unpack_one(&file, root)?);
        }
        if progress(InstallStep::Check).is_break() {
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
            return Err(InstallError::MissingLibraries { suite: apt.suite().to_owned(), libraries: missing });
        }
    }
}

/// Tells `progress` that a package is unpacked.
///
/// # Errors
/// [`InstallError::Cancelled`].
pub fn announce(package: &Path, progress: InstallProgress<'_>) -> Result<(), InstallError> {
    let package = package.file_name().unwrap_or_default().to_string_lossy();
    if progress(InstallStep::Unpack { package: &package }).is_break() { Err(InstallError::Cancelled) } else { Ok(()) }
}

/// Unpacks a package as it is; returns its name and version.
///
/// # Errors
/// [`InstallError`].
pub fn unpack_one(package: &Path, root: &Path) -> Result<Option<(String, String)>, InstallError> {
    // Quick, and it has a child of its own: not to be killed half-way.
    let mut finish = || ControlFlow::Continue(());
    run(Command::new("dpkg-deb").arg("-x").arg(package).arg(root), &mut finish)?;
    let format = "--showformat=${Package}\t${Version}\n";
    let shown = run(Command::new("dpkg-deb").arg("--show").arg(format).arg(package), &mut finish)?;
    Ok(shown.trim().split_once('\t').map(|(name, version)| (name.to_owned(), version.to_owned())))
}
