//! Why something could not be installed.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// Why packages could not be installed. Nothing is left behind then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The name cannot be one of a suite.
    #[error("{0:?} is not the name of a Debian suite, such as trixie or sid")]
    BadSuite(String),
    /// There is no place to install to.
    #[error("there is no cache directory: neither XDG_CACHE_HOME nor HOME is set to an absolute path")]
    NoCacheDirectory,
    /// apt has no source that could serve Debian's suites.
    #[error("apt is configured to no Debian mirror in {}", list(.0))]
    NoMirror(Vec<PathBuf>),
    /// A program of Debian's is not there.
    #[error("{0} is not installed (Debian or a derivative of it, with apt and dpkg, is needed)")]
    NoProgram(String),
    /// A program failed.
    #[error("{command} failed ({status}):\n{output}")]
    Command {
        /// Program and arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last lines of errors.
        output: String,
    },
    /// Libraries that programs need are in no package that could be found.
    #[error("{suite} has no package for {}, which its programs need", libraries.join(", "))]
    MissingLibraries {
        /// The suite.
        suite: String,
        /// Sonames.
        libraries: Vec<String>,
    },
    /// A suite's packages lack a file.
    #[error("{suite} has no {what}")]
    MissingFile {
        /// The suite.
        suite: String,
        /// What was looked for.
        what: String,
    },
    /// What was unpacked does not run.
    #[error("what was unpacked does not run")]
    Unusable(#[source] Box<dyn Error + Send + Sync>),
    /// The caller broke off.
    #[error("the installation was cancelled")]
    Cancelled,
    /// A file operation failed.
    #[error("{action}")]
    Io {
        /// What was attempted.
        action: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl InstallError {
    /// For `map_err`: says what was attempted.
    pub fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
}
