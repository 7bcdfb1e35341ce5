//! The progress of an installation, which is reported to the caller.

use std::ops::ControlFlow;

/// What an installation is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallStep<'a> {
    /// Another process installs the same suite.
    Wait,
    /// Fetching the suite's index of packages.
    Index,
    /// Downloading packages: bytes of so many. Both are 0 until the size is known.
    Download {
        /// Bytes that have arrived.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Unpacking a package.
    Unpack {
        /// File name of the package.
        package: &'a str,
    },
    /// Looking for libraries and starting what was unpacked.
    Check,
}

/// Is told what an installation does, many times a second, and can break it off.
pub type InstallProgress<'a> = &'a mut dyn FnMut(InstallStep<'_>) -> ControlFlow<()>;
