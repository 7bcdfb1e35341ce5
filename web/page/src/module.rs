//! The library as a WebAssembly module.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::PageError;
use crate::toolchain::{TARGET, Toolchain};

/// Compiles `vmcs-web` and returns the module.
///
/// # Errors
/// [`PageError`].
pub fn compile(toolchain: &Toolchain) -> Result<Vec<u8>, PageError> {
    let workspace = workspace();
    // What another compiler made is not mixed with what the workspace's own makes.
    let target = workspace.join("target/web");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(&workspace)
        .args(["build", "--quiet", "--locked", "--package", "vmcs-web", "--profile", "web", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target)
        .envs(toolchain.environment.iter().map(|(name, value)| (name, value)))
        // Meant for another compiler and another target.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    let status = cargo.status().map_err(PageError::io("starting cargo"))?;
    if !status.success() {
        return Err(PageError::Compiler);
    }
    let module = target.join(TARGET).join("web/vmcs_web.wasm");
    fs::read(&module).map_err(PageError::io(format!("reading {}", module.display())))
}

/// The directory of the workspace, in which this crate was built.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("web/page lies in the workspace").to_owned()
}
