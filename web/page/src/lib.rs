//! The page that explains a VMCS in the browser: one HTML file that holds the library as WebAssembly, so that it works from a
//! file as well as from a server, and nothing that is pasted leaves it.
//!
//! [`toolchain::find`] finds a compiler for WebAssembly, [`module::compile`] compiles the crate `vmcs-web`, and [`page::render`]
//! makes the page of it. The command `cargo run -p vmcs-page` does all three.
#![forbid(unsafe_code)]

pub mod module;
pub mod page;
pub mod toolchain;

use std::io;
use std::path::PathBuf;

use vmcs_debian::InstallError;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// A compiler for WebAssembly could not be had.
    #[error(
        "there is no compiler for WebAssembly: `rustup target add {}` adds one to a toolchain of rustup; Debian's packages were \
         tried instead",
        toolchain::TARGET
    )]
    Packages(#[source] InstallError),
    /// The toolchain at hand has no linker for WebAssembly.
    #[error("there is no {0}: expected the linker that comes with a toolchain of rustup")]
    NoLinker(PathBuf),
    /// A program could not be started, or a file not read or written.
    #[error("{what}")]
    Io {
        /// What was done.
        what: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The compiler says that something is wrong; what, it has printed.
    #[error("cargo could not compile vmcs-web for WebAssembly")]
    Compiler,
}

impl PageError {
    /// Makes an error of an I/O error, to say what was done.
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
