//! Bochs from the packages of any Debian suite, in a directory of the user.
//!
//! [`unpack`] unpacks Bochs and the libraries that it needs into `vmcs/bochs-SUITE` of the user's cache directory, and makes
//! sure that it runs; [`unpacked`] lists what is there. A suite that is newer than the machine brings a newer Bochs, with more
//! CPU models.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vmcs_case::TargetError;
use vmcs_debian::{
    Existing, InstallError, InstallProgress, LIBRARIES, MANIFEST, UnpackPlace, all_in, roots_directory, write_manifest,
};

use super::install::BochsInstall;
use super::version::BochsVersion;

/// The packages that are wanted for themselves. The libraries that they need have other names in every release.
const PACKAGES: [&str; 5] = ["bochs", "bochs-term", "bochsbios", "libc6", "vgabios"];
/// What the directory's name of an unpacked Bochs starts with.
const KIND: &str = "bochs";

/// An unpacked Bochs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnpackedBochs {
    /// Name of the Debian suite.
    pub suite: String,
    /// The directory in which the packages are unpacked, for [`BochsInstall::from_root`].
    pub path: PathBuf,
    /// Version of Bochs.
    pub version: BochsVersion,
    /// Names and versions of the packages.
    pub packages: BTreeMap<String, String>,
}

impl UnpackedBochs {
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
        let BochsManifest { suite, bochs, packages } = serde_json::from_slice(&manifest).ok()?;
        let (major, minor) = bochs.split_once('.')?;
        let version = BochsVersion { major: major.parse().ok()?, minor: minor.parse().ok()? };
        Some(Self { suite, path: path.to_owned(), version, packages })
    }
}

/// Contents of [`MANIFEST`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BochsManifest {
    suite: String,
    bochs: String,
    packages: BTreeMap<String, String>,
}

/// The unpacked Bochs of this user, the newest version first. What is not complete is not listed.
///
/// # Errors
/// [`InstallError::NoCacheDirectory`], [`InstallError::Io`].
pub fn unpacked() -> Result<Vec<UnpackedBochs>, InstallError> {
    let mut roots = all_in(&roots_directory()?, KIND, UnpackedBochs::read)?;
    roots.sort_by(|a, b| b.version.cmp(&a.version).then_with(|| a.suite.cmp(&b.suite)));
    Ok(roots)
}

/// Unpacks the Bochs of the Debian suite `suite`, such as `trixie` or `sid`, for this user; [`UnpackPlace::install`] says what
/// `progress` can do.
///
/// # Errors
/// [`InstallError`].
pub fn unpack(suite: &str, existing: Existing, progress: InstallProgress<'_>) -> Result<UnpackedBochs, InstallError> {
    let working = |path: &Path| UnpackedBochs::read(path).filter(|root| root.open().is_ok());
    let place = UnpackPlace { directory: &roots_directory()?, kind: KIND, suite, existing };
    place.install(progress, working, |apt, root, progress| {
        let packages = vmcs_debian::unpack(apt, &PACKAGES, programs, root, progress)?;
        let unusable = |error| InstallError::Unusable(Box::new(error));
        let bochs = BochsInstall::from_root(root).map_err(unusable)?.version.to_string();
        write_manifest(root, &BochsManifest { suite: suite.to_owned(), bochs, packages })
    })
}

/// Plug-ins whose libraries are not wanted: sound drivers, and the displays of other packages than bochs-term.
fn is_wanted(plugin: &str) -> bool {
    !plugin.starts_with("libbx_sound") && (!plugin.ends_with("_gui.so") || plugin == "libbx_term_gui.so")
}

/// The binary of Bochs and its plug-ins.
fn programs(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = vec![root.join("usr/bin/bochs-bin")];
    for entry in fs::read_dir(root.join(LIBRARIES).join("bochs/plugins"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(".so") && is_wanted(name) {
            files.push(path);
        }
    }
    Ok(files)
}
