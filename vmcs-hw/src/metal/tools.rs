//! The programs that make a boot image: GRUB's, xorriso and mtools, installed or unpacked from Debian's packages.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use vmcs_debian::{InstallError, InstallProgress, LIBRARIES, launcher};

use super::grub;

/// Its name with GRUB's own packages, and in other distributions.
const MKRESCUE: [&str; 2] = ["grub-mkrescue", "grub2-mkrescue"];
/// What `grub-mkrescue` starts.
const HELPERS: [&str; 3] = ["xorriso", "mformat", "mcopy"];
/// GRUB's modules for BIOS and UEFI.
const PLATFORMS: [&str; 2] = ["i386-pc", "x86_64-efi"];
/// Below a root or `/`, the directory of the platforms.
const MODULES: &str = "usr/lib/grub";

/// What makes boot images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tools {
    /// `grub-mkrescue` of the system, which finds the others in PATH.
    Installed(PathBuf),
    /// Packages that were unpacked below this directory.
    Unpacked(PathBuf),
}

impl Tools {
    /// Those of the system, or those that [`Tools::unpack`] has brought before; `None` if something is missing.
    #[must_use]
    pub fn find() -> Option<Self> {
        Self::installed().or_else(|| Some(Self::Unpacked(grub::installed_grub()?.path)))
    }

    fn installed() -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let find =
            |name: &str| env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file());
        let complete = HELPERS.iter().all(|name| find(name).is_some())
            && PLATFORMS.iter().all(|platform| Path::new("/").join(MODULES).join(platform).is_dir());
        if complete { MKRESCUE.iter().find_map(|name| find(name)).map(Self::Installed) } else { None }
    }

    /// Unpacks the packages of this machine's own release for this user. [`vmcs_debian::UnpackPlace::install`]
    /// says what `progress` can do.
    ///
    /// # Errors
    /// [`InstallError`].
    pub fn unpack(progress: InstallProgress<'_>) -> Result<Self, InstallError> {
        Ok(Self::Unpacked(grub::install_grub(progress)?.path))
    }

    /// `grub-mkrescue`, with what it needs; `directory` is for temporary files and outlives it.
    ///
    /// # Errors
    /// Those of writing there.
    pub(super) fn mkrescue(&self, directory: &Path) -> io::Result<Command> {
        let mut command = match self {
            Self::Installed(program) => Command::new(program),
            Self::Unpacked(root) => unpacked(root, directory)?,
        };
        command.env("TMPDIR", directory);
        Ok(command)
    }
}

/// `grub-mkrescue` of a root. It starts the others by their names: scripts in a directory of PATH lead to them.
fn unpacked(root: &Path, directory: &Path) -> io::Result<Command> {
    const SCRIPT: &str = "#!/bin/sh\nexec \"$VMCS_TOOLS/LIBRARIES/ld-linux-x86-64.so.2\" --library-path \
                          \"$VMCS_TOOLS/LIBRARIES\" \"$VMCS_TOOLS/usr/bin/NAME\" \"$@\"\n";
    let scripts = directory.join("bin");
    fs::create_dir(&scripts)?;
    for name in HELPERS {
        let script = scripts.join(name);
        fs::write(&script, SCRIPT.replace("LIBRARIES", LIBRARIES).replace("NAME", name))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([scripts].into_iter().chain(env::split_paths(&path))).map_err(io::Error::other)?;
    let mut command = launcher(root, MKRESCUE[0]);
    command.env("PATH", path).env("VMCS_TOOLS", root);
    // What the programs would look for below /usr.
    command.env("pkglibdir", root.join(MODULES)).env("pkgdatadir", root.join("usr/share/grub"));
    command.env("GCONV_PATH", root.join(LIBRARIES).join("gconv"));
    Ok(command)
}

/// Arguments of `grub-mkrescue` that leave out what the probe does not need.
pub(super) fn frugal() -> impl Iterator<Item = OsString> {
    const NEEDED: &str =
        "normal configfile multiboot2 iso9660 fat part_msdos part_gpt search search_fs_file test echo all_video wrmsr";
    ["--fonts=", "--themes=", "--locales=", "--compress=no"]
        .map(OsString::from)
        .into_iter()
        .chain([OsString::from(format!("--install-modules={NEEDED}"))])
}
