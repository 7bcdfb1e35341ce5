//! One CPU model of a Bochs, ready to be started.

use std::ffi::OsString;
use std::time::Duration;

use vmcs_case::{CpuClock, TargetError};

use super::config::Guest;
use super::error::BochsError;
use super::install::BochsInstall;
use super::process::{self, MachineDirectory};
use crate::probe_image;

/// How a [`BochsTarget`] works; the defaults suit campaigns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BochsOptions {
    /// Cases between two writes to the disk: more are faster, fewer lose less when a case stops the machine.
    pub batch: usize,
    /// Most cases per Bochs process.
    pub cases_per_boot: usize,
    /// CPU time without progress after which a case counts as hung.
    pub patience: Duration,
}

impl Default for BochsOptions {
    fn default() -> Self {
        Self { batch: 256, cases_per_boot: 50_000, patience: Duration::from_millis(150) }
    }
}

/// One CPU model of a Bochs.
#[derive(Debug)]
pub struct BochsTarget {
    pub(super) install: BochsInstall,
    pub(super) model: String,
    pub(super) options: BochsOptions,
    pub(super) wrapper: Vec<OsString>,
    pub(super) files: MachineDirectory,
    pub(super) clock: CpuClock,
}

impl BochsTarget {
    /// The CPU model `model` of `install`, with the default options.
    ///
    /// # Errors
    /// [`BochsError::UnknownModel`], [`crate::probe_image::EmbeddedError`], [`TargetError::Io`].
    pub fn new(install: BochsInstall, model: &str) -> Result<Self, TargetError> {
        Self::with_options(install, model, BochsOptions::default())
    }

    /// As [`BochsTarget::new`], with options.
    ///
    /// # Errors
    /// Those of [`BochsTarget::new`].
    pub fn with_options(install: BochsInstall, model: &str, options: BochsOptions) -> Result<Self, TargetError> {
        let guest = Guest { rom: probe_image::rom()?, memory: 32, ips: 4_000_000, system: None };
        Self::with_guest(install, model, options, &guest)
    }

    /// As [`BochsTarget::with_options`], with another guest that takes work from the disk.
    pub(crate) fn with_guest(
        install: BochsInstall,
        model: &str,
        options: BochsOptions,
        guest: &Guest,
    ) -> Result<Self, TargetError> {
        let models = install.models()?;
        if !models.iter().any(|known| known == model) {
            let version = install.version;
            return Err(BochsError::UnknownModel { version, model: model.to_owned(), models }.into());
        }
        let files = MachineDirectory::new(guest)?;
        Ok(Self {
            install,
            model: model.to_owned(),
            options,
            wrapper: process::wrapper(),
            files,
            clock: CpuClock::default(),
        })
    }
}
