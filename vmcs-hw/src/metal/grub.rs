//! Getting the programs that make boot images from Debian's packages: GRUB's programs and modules, xorriso, mtools.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vmcs_debian::{
    Existing, InstallError, InstallProgress, MANIFEST, UnpackPlace, codename, last_lines, launcher, roots_directory,
    unpack, write_manifest,
};

/// What the directory's name starts with.
const KIND: &str = "grub";
/// The packages that are wanted for themselves.
const PACKAGES: [&str; 6] = ["grub-common", "grub-pc-bin", "grub-efi-amd64-bin", "libc6", "mtools", "xorriso"];
/// The programs that are started, the first of them by us.
const PROGRAMS: [&str; 4] = ["grub-mkrescue", "grub-mkimage", "xorriso", "mtools"];

/// A program that was unpacked does not work.
#[derive(Debug, thiserror::Error)]
#[error("{tool} does not work: {output}")]
struct ToolFailed {
    /// The program.
    tool: &'static str,
    /// What it says.
    output: String,
}

/// The unpacked packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InstalledGrub {
    /// The directory that holds them.
    pub(super) path: PathBuf,
}

/// Contents of [`MANIFEST`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrubManifest {
    suite: String,
    packages: BTreeMap<String, String>,
}

impl InstalledGrub {
    fn read(path: &Path) -> Option<Self> {
        let manifest = fs::read(path.join(MANIFEST)).ok()?;
        serde_json::from_slice::<GrubManifest>(&manifest).ok()?;
        Some(Self { path: path.to_owned() })
    }

    /// Whether all programs start.
    fn check(&self) -> Result<(), ToolFailed> {
        for name in PROGRAMS {
            let failed = |output: String| ToolFailed { tool: name, output };
            let result = launcher(&self.path, name).arg("--version").output();
            let result = result.map_err(|error| failed(error.to_string()))?;
            if !result.status.success() {
                return Err(failed(last_lines(&String::from_utf8_lossy(&result.stderr), 3)));
            }
        }
        Ok(())
    }
}

/// Unpacks GRUB, xorriso and mtools of the release that this machine runs; [`UnpackPlace::install`] says what `progress` can do.
///
/// # Errors
/// [`InstallError`].
pub(super) fn install_grub(progress: InstallProgress<'_>) -> Result<InstalledGrub, InstallError> {
    let suite = codename().unwrap_or_else(|| "stable".to_owned());
    let place = UnpackPlace { directory: &roots_directory()?, kind: KIND, suite: &suite, existing: Existing::Keep };
    let working = |path: &Path| InstalledGrub::read(path).filter(|grub| grub.check().is_ok());
    place.install(progress, working, |apt, root, progress| {
        let packages = unpack(apt, &PACKAGES, programs, root, progress)?;
        write_manifest(root, &GrubManifest { suite: suite.clone(), packages })?;
        InstalledGrub { path: root.to_owned() }.check().map_err(|error| InstallError::Unusable(Box::new(error)))
    })
}

/// That of the release which this machine runs, if it was installed for this user.
pub(super) fn installed_grub() -> Option<InstalledGrub> {
    InstalledGrub::read(&roots_directory().ok()?.join(format!("{KIND}-{}", codename()?)))
}

fn programs(root: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(PROGRAMS.map(|name| root.join("usr/bin").join(name)).into())
}
