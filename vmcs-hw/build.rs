//! Builds the probe, which this crate embeds.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// What an outer cargo, clippy, a coverage tool or a fuzzer sets for its own build and the probe must not see.
const OUTER_SETTINGS: [&str; 15] = [
    "RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_TARGET_DIR",
    "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
    "CLIPPY_ARGS",
    "LLVM_PROFILE_FILE",
    "CARGO_LLVM_COV",
    "RUSTC_BOOTSTRAP",
    "CARGO_MAKEFLAGS",
];

fn main() {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    let embedded = out.join("vmcs-probe.elf");
    for path in ["build.rs", "probe", "wire", "../vmcs-model/src"] {
        println!("cargo:rerun-if-changed={path}");
    }
    // Profile and dependency versions.
    println!("cargo:rerun-if-changed=../Cargo.toml");
    println!("cargo:rerun-if-changed=../Cargo.lock");

    if variable("HOST") == TRIPLE && manifest.join("probe/Cargo.toml").exists() {
        fs::copy(build(&manifest, &out.join("probe")), embedded).expect("the probe is copied");
    } else {
        fs::write(embedded, []).expect("OUT_DIR is writable");
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

/// Runs cargo for the probe and returns the program.
fn build(manifest: &Path, target: &Path) -> PathBuf {
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(manifest)
        .args(["build", "--quiet", "--package", "vmcs-probe", "--features", "bare-metal", "--profile", "probe"])
        .args(["--target", TRIPLE, "--target-dir"])
        .arg(target);
    for name in OUTER_SETTINGS {
        cargo.env_remove(name);
    }
    // Set and empty, it also overrides flags of configuration files, such as instruction sets that need more than the
    // probe switches on.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "");
    let output = cargo.output().expect("cargo starts");
    assert!(
        output.status.success(),
        "building the probe failed ({}):\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    target.join(TRIPLE).join("probe").join("vmcs-probe")
}
