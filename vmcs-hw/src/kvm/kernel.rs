//! The Linux of a suite: a kernel image, and the modules of KVM.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use vmcs_case::TargetError;
use vmcs_debian::{
    Apt, Existing, InstallError, InstallProgress, InstallStep, MANIFEST, UnpackPlace, all_in, announce,
    roots_directory, run, unpack_one, write_manifest,
};

use super::linux;

/// What the directory's name starts with.
const KIND: &str = "kvm";
/// The package that depends on the newest kernel for virtual machines.
const PACKAGE: &str = "linux-image-cloud-amd64";
/// The modules in the order in which they need each other.
const MODULES: [&str; 3] = ["irqbypass.ko", "kvm.ko", "kvm-intel.ko"];
const IMAGE: &str = "vmlinuz";

/// An unpacked kernel with its modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledKernel {
    /// Name of the Debian suite.
    pub suite: String,
    /// The directory that holds it.
    pub path: PathBuf,
    /// Its release, such as `6.1.0-56-cloud-amd64`.
    pub release: String,
    /// Names and versions of the packages.
    pub packages: BTreeMap<String, String>,
}

impl InstalledKernel {
    fn read(path: &Path) -> Option<Self> {
        let manifest = fs::read(path.join(MANIFEST)).ok()?;
        let KernelManifest { suite, release, packages } = serde_json::from_slice(&manifest).ok()?;
        let complete = MODULES.iter().chain([&IMAGE]).all(|name| path.join(name).is_file());
        complete.then(|| Self { suite, path: path.to_owned(), release, packages })
    }

    /// Its version, such as `6.1`.
    #[must_use]
    pub fn version(&self) -> String {
        linux::version(&self.release)
    }

    /// The kernel image.
    pub(crate) fn image(&self) -> Result<Vec<u8>, TargetError> {
        self.file(IMAGE)
    }

    /// Names and contents of the modules, in the order in which they need each other.
    pub(crate) fn modules(&self) -> Result<Vec<(&'static str, Vec<u8>)>, TargetError> {
        MODULES.into_iter().map(|name| Ok((name, self.file(name)?))).collect()
    }

    fn file(&self, name: &str) -> Result<Vec<u8>, TargetError> {
        let path = self.path.join(name);
        fs::read(&path).map_err(TargetError::io(format!("reading {}", path.display())))
    }
}

/// Contents of [`MANIFEST`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KernelManifest {
    suite: String,
    release: String,
    packages: BTreeMap<String, String>,
}

/// The kernels that were installed for this user, by suite.
///
/// # Errors
/// [`InstallError::NoCacheDirectory`], [`InstallError::Io`].
pub fn installed_kernels() -> Result<Vec<InstalledKernel>, InstallError> {
    let mut kernels = all_in(&roots_directory()?, KIND, InstalledKernel::read)?;
    kernels.sort_by(|a, b| a.suite.cmp(&b.suite));
    Ok(kernels)
}

/// Installs the parts of a suite's Linux that KVM inside Bochs needs: the kernel that Debian builds for virtual machines,
/// and its modules for KVM. [`UnpackPlace::install`] says what `progress` can do.
///
/// # Errors
/// [`InstallError`].
pub fn install_kernel(
    suite: &str,
    existing: Existing,
    progress: InstallProgress<'_>,
) -> Result<InstalledKernel, InstallError> {
    let place = UnpackPlace { directory: &roots_directory()?, kind: KIND, suite, existing };
    place.install(progress, InstalledKernel::read, fill)
}

/// Downloads the kernel and puts what is needed of it into `root`.
fn fill(apt: &Apt, root: &Path, progress: InstallProgress<'_>) -> Result<(), InstallError> {
    let known = apt.dependencies(&[PACKAGE], &mut || progress(InstallStep::Index))?;
    // The image, and the modules where they have a package of their own.
    let parts = ["linux-image-", "linux-modules-", "linux-binary-"];
    let is_part = |name: &&String| name.contains("cloud-amd64") && parts.iter().any(|part| name.starts_with(part));
    let wanted: Vec<_> = known.iter().filter(is_part).filter(|name| *name != PACKAGE).cloned().collect();
    let missing = |what: &str| InstallError::MissingFile { suite: apt.suite().to_owned(), what: what.to_owned() };
    if wanted.is_empty() {
        return Err(missing("Linux for virtual machines"));
    }
    let unpacked = root.join("unpacked");
    let mut packages = BTreeMap::new();
    for file in apt.download(&wanted, progress)? {
        announce(&file, progress)?;
        packages.extend(unpack_one(&file, &unpacked)?);
    }
    if progress(InstallStep::Check).is_break() {
        return Err(InstallError::Cancelled);
    }
    let files = files_below(&unpacked).map_err(InstallError::io("reading what was unpacked"))?;
    let find = |is_it: &dyn Fn(&str) -> bool| {
        files.iter().find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_it))
    };
    let image = find(&|name| name.starts_with(IMAGE)).ok_or_else(|| missing("image of its Linux"))?;
    let image = fs::read(image).map_err(InstallError::io("reading the kernel"))?;
    let release = linux::release(&image).ok_or_else(|| missing("image of a Linux that says its release"))?;
    fs::write(root.join(IMAGE), image).map_err(InstallError::io("writing the kernel"))?;
    for module in MODULES {
        let packed = format!("{module}.xz");
        let file = find(&|name| name == module || name == packed)
            .ok_or_else(|| missing(&format!("module {module} of its Linux")))?;
        let target = root.join(module);
        unpack_module(file, &target).map_err(InstallError::io(format!("unpacking {}", file.display())))?;
        // Symbols are a third of what the emulated kernel has to read. Without the tool they stay.
        match run(Command::new("strip").arg("--strip-unneeded").arg(&target), &mut || ControlFlow::Continue(())) {
            Ok(_) | Err(InstallError::NoProgram(_)) => {}
            Err(error) => return Err(error),
        }
    }
    fs::remove_dir_all(&unpacked).map_err(InstallError::io("removing what is not needed"))?;
    write_manifest(root, &KernelManifest { suite: apt.suite().to_owned(), release, packages })
}

/// All files below a directory.
fn files_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// Copies a module, unpacked if its name ends in `.xz`.
fn unpack_module(file: &Path, target: &Path) -> io::Result<()> {
    let mut bytes = fs::read(file)?;
    if file.extension().is_some_and(|extension| extension == "xz") {
        let mut unpacked = Vec::new();
        lzma_rust2::XzReader::new(&bytes[..], false).read_to_end(&mut unpacked)?;
        bytes = unpacked;
    }
    fs::write(target, bytes)
}
