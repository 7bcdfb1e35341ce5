//! Debian packages unpacked into a directory of the user: no root rights, nothing installed.
//!
//! An [`UnpackPlace`] is a directory `KIND-SUITE` in `vmcs` of the user's cache directory. [`UnpackPlace::install`] asks the machine's
//! configured mirror for a suite's packages and hands the caller an [`Apt`] that downloads them; [`unpack`] takes packages
//! with the libraries that their programs need. A suite that is newer than the machine brings newer programs, which run with
//! the libraries of that suite ([`launcher`]). [`all_in`] lists what is there.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use std::path::Path;
//!
//! use vmcs_debian::{Existing, UnpackPlace, launcher, roots_directory, unpack};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = roots_directory()?;
//! let place = UnpackPlace { directory: &directory, kind: "hello", suite: "sid", existing: Existing::Keep };
//! let program = |root: &Path| root.join("usr/bin/hello");
//! let root = place.install(
//!     &mut |_| ControlFlow::Continue(()),
//!     |root| program(root).exists().then(|| root.to_owned()),
//!     |apt, root, progress| {
//!         unpack(apt, &["hello", "libc6"], |root| Ok(vec![root.join("usr/bin/hello")]), root, progress).map(drop)
//!     },
//! )?;
//! launcher(&root, "hello").status()?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod apt;
mod command;
mod error;
mod libraries;
mod place;
mod progress;
#[cfg(test)]
mod repository;
mod sources;
mod unpack;

pub use apt::{Apt, codename};
pub use command::{last_lines, run};
pub use error::InstallError;
pub use libraries::LIBRARIES;
pub use place::{Existing, MANIFEST, UnpackPlace, all_in, roots_directory, write_manifest};
pub use progress::{InstallProgress, InstallStep};
pub use unpack::{announce, launcher, unpack, unpack_one};
