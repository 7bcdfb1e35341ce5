//! A compiler for WebAssembly: that of the toolchain at hand if it has the target, else the one of Debian's packages, unpacked
//! into a directory of the user.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use vmcs_debian::{Existing, InstallProgress, LIBRARIES, UnpackPlace, roots_directory};

use crate::PageError;

/// The target, as Rust names it.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// The packages that are wanted for themselves: the compiler, and the standard library for this machine, which build scripts
/// and macros need, and for WebAssembly.
const PACKAGES: [&str; 4] = ["rustc", "libstd-rust-dev", "libstd-rust-dev-wasm32", "libc6"];

/// How cargo is told to compile for WebAssembly.
#[derive(Debug)]
pub struct Toolchain {
    /// Names and values of environment variables.
    pub environment: Vec<(&'static str, OsString)>,
    /// A script that the variables name lies there, as long as it is needed.
    _directory: Option<tempfile::TempDir>,
}

/// Finds or unpacks a compiler; `progress` is told what is unpacked, and can break it off.
///
/// # Errors
/// [`PageError`].
pub fn find(progress: InstallProgress<'_>) -> Result<Toolchain, PageError> {
    let sysroot = sysroot()?;
    if sysroot.join("lib/rustlib").join(TARGET).is_dir() {
        return Ok(Toolchain { environment: Vec::new(), _directory: None });
    }
    let linker = sysroot.join("lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld");
    if !linker.is_file() {
        return Err(PageError::NoLinker(linker));
    }
    let compiler = |root: &Path| root.join("usr/bin/rustc");
    let directory = roots_directory().map_err(PageError::Packages)?;
    let place = UnpackPlace { directory: &directory, kind: "wasm", suite: "sid", existing: Existing::Keep };
    let root = place
        .install(
            progress,
            |root| compiler(root).is_file().then(|| root.to_owned()),
            |apt, root, progress| {
                let programs = |root: &Path| Ok(vec![root.join("usr/bin/rustc")]);
                vmcs_debian::unpack(apt, &PACKAGES, programs, root, progress).map(drop)
            },
        )
        .map_err(PageError::Packages)?;
    let directory = tempfile::tempdir().map_err(PageError::io("making a temporary directory"))?;
    let script = script(directory.path(), &root).map_err(PageError::io("writing a script that starts the compiler"))?;
    let environment =
        vec![("RUSTC", script.into()), ("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker.into_os_string())];
    Ok(Toolchain { environment, _directory: Some(directory) })
}

/// Where the toolchain at hand lies.
fn sysroot() -> Result<PathBuf, PageError> {
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--print", "sysroot"])
        .output()
        .map_err(PageError::io("starting rustc"))?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// A script that starts the unpacked compiler with the libraries that were unpacked with it.
fn script(directory: &Path, root: &Path) -> std::io::Result<PathBuf> {
    let path = directory.join("rustc");
    let mut file = fs::File::create(&path)?;
    let libraries = root.join(LIBRARIES);
    writeln!(
        file,
        "#!/bin/sh\nexec '{0}/ld-linux-x86-64.so.2' --library-path '{0}' '{1}/usr/bin/rustc' --sysroot '{1}/usr' \"$@\"",
        libraries.display(),
        root.display()
    )?;
    file.set_permissions(fs::Permissions::from_mode(0o755))?;
    Ok(path)
}
