//! Builds the programs that this crate embeds: the probe, and the first process of a Linux that executes it under KVM.

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

/// A program that is built with a cargo of its own.
struct EmbeddedProgram {
    package: &'static str,
    feature: &'static str,
    binary: &'static str,
    flags: &'static str,
}

const PROBE: EmbeddedProgram = EmbeddedProgram {
    package: "vmcs-probe",
    feature: "bare-metal",
    binary: "vmcs-probe",
    // Set and empty, it also overrides flags of configuration files, such as instruction sets that need more than the
    // probe switches on.
    flags: "",
};

/// It runs where there is no C library.
const INIT: EmbeddedProgram = EmbeddedProgram {
    package: "vmcs-kvm",
    feature: "init",
    binary: "vmcs-kvm-init",
    flags: "-Ctarget-feature=+crt-static\u{1f}-Cstrip=symbols",
};

fn main() {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    for path in ["build.rs", "probe", "wire", "driver", "kvm", "../vmcs-model/src"] {
        println!("cargo:rerun-if-changed={path}");
    }
    // Profile and dependency versions.
    println!("cargo:rerun-if-changed=../Cargo.toml");
    println!("cargo:rerun-if-changed=../Cargo.lock");

    let can_build = variable("HOST") == TRIPLE && manifest.join("probe/Cargo.toml").exists();
    let (probe, init) = if can_build {
        let probe = build(&manifest, &out.join("probe"), &PROBE).unwrap_or_else(|error| panic!("{error}"));
        // Without a static C library there is a target less.
        let init = build(&manifest, &out.join("init"), &INIT);
        (Some(probe), init.inspect_err(|error| println!("cargo:warning={}", error.replace('\n', " "))).ok())
    } else {
        (None, None)
    };
    for (program, name) in [(probe, "vmcs-probe.elf"), (init, "vmcs-kvm-init.elf")] {
        match program {
            Some(program) => drop(fs::copy(program, out.join(name)).expect("the program is copied")),
            None => fs::write(out.join(name), []).expect("OUT_DIR is writable"),
        }
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

/// Runs cargo for a program and returns where it is.
fn build(manifest: &Path, target: &Path, program: &EmbeddedProgram) -> Result<PathBuf, String> {
    let EmbeddedProgram { package, feature, binary, flags } = program;
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(manifest)
        .args(["build", "--quiet", "--package", package, "--bin", binary, "--features", feature, "--profile", "probe"])
        .args(["--target", TRIPLE, "--target-dir"])
        .arg(target);
    for name in OUTER_SETTINGS {
        cargo.env_remove(name);
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags);
    let output = cargo.output().expect("cargo starts");
    if output.status.success() {
        Ok(target.join(TRIPLE).join("probe").join(binary))
    } else {
        Err(format!("building {package} failed ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
    }
}
