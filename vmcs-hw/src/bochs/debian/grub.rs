//! What makes boot images: GRUB's programs and modules, xorriso, mtools.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::{MANIFEST, apt, roots_directory};
use crate::bochs::{LIBRARIES, last_lines};
use crate::error::TargetError;

/// What the directory's name starts with.
pub(super) const KIND: &str = "grub";
/// The packages that are wanted for themselves.
pub(super) const PACKAGES: [&str; 6] =
    ["grub-common", "grub-pc-bin", "grub-efi-amd64-bin", "libc6", "mtools", "xorriso"];
/// The programs that are started, the first of them by us.
const PROGRAMS: [&str; 4] = ["grub-mkrescue", "grub-mkimage", "xorriso", "mtools"];

/// The unpacked packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstalledGrub {
    /// The directory that holds them.
    pub(crate) path: PathBuf,
}

/// Contents of [`MANIFEST`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) suite: String,
    pub(super) packages: BTreeMap<String, String>,
}

impl InstalledGrub {
    pub(super) fn read(path: &Path) -> Option<Self> {
        let manifest = fs::read(path.join(MANIFEST)).ok()?;
        serde_json::from_slice::<Manifest>(&manifest).ok()?;
        Some(Self { path: path.to_owned() })
    }

    /// Whether all programs start.
    pub(super) fn check(&self) -> Result<(), TargetError> {
        for name in PROGRAMS {
            let failed = |output: String| TargetError::ToolFailed { tool: name.to_owned(), output };
            let result = launcher(&self.path, name).arg("--version").output();
            let result = result.map_err(|error| failed(error.to_string()))?;
            if !result.status.success() {
                return Err(failed(last_lines(&String::from_utf8_lossy(&result.stderr), 3)));
            }
        }
        Ok(())
    }
}

/// That of the release which this machine runs, if it was installed for this user.
pub(crate) fn installed_grub() -> Option<InstalledGrub> {
    InstalledGrub::read(&roots_directory().ok()?.join(format!("{KIND}-{}", apt::codename()?)))
}

pub(super) fn programs(root: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(PROGRAMS.map(|name| root.join("usr/bin").join(name)).into())
}

/// Starts a program below `root` with the libraries there.
pub(crate) fn launcher(root: &Path, program: &str) -> Command {
    let libraries = root.join(LIBRARIES);
    let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(&libraries).arg(root.join("usr/bin").join(program));
    command
}
