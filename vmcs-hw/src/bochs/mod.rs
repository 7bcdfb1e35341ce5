//! Bochs: an emulator whose VMX instructions a host without VT-x can execute.
//!
//! [`BochsInstall`] is a Bochs on this machine, [`BochsTarget`] one CPU model of it as a [`Target`]. Each run boots
//! the probe from a ROM, with the cases on a raw disk; answers are read from the disk while it runs.

mod config;
mod image;
mod install;
pub mod packages;
mod process;
mod run;
mod scratch;

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::time::Duration;

pub(crate) use config::Guest;
pub use install::{BochsInstall, BochsVersion, installs};

use crate::error::MachineError;
use crate::probe_image;
use process::Files;
use vmcs_case::TargetError;
use vmcs_case::{Case, Observation, Session};
use vmcs_case::{CpuClock, Implementation, ProbeReport, Target};

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
    install: BochsInstall,
    model: String,
    options: BochsOptions,
    wrapper: Vec<OsString>,
    files: Files,
    clock: CpuClock,
}

impl BochsTarget {
    /// The CPU model `model` of `install`, with the default options.
    ///
    /// # Errors
    /// [`MachineError::UnknownModel`], [`MachineError::NoProbe`], [`MachineError::BadProbe`], [`TargetError::Io`].
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
            return Err(MachineError::UnknownModel { version, model: model.to_owned(), models }.into());
        }
        let files = Files::new(guest)?;
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

impl Target for BochsTarget {
    fn implementation(&self) -> Implementation {
        Implementation {
            name: "Bochs".to_owned(),
            version: self.install.version.to_string(),
            model: self.model.clone(),
            on: None,
        }
    }

    fn capture(&mut self) -> Result<ProbeReport, TargetError> {
        self.capture_profile()
    }

    fn cpu_clock(&self) -> Option<CpuClock> {
        Some(self.clock.clone())
    }

    fn run(
        &mut self,
        session: &Session,
        cases: &mut dyn Iterator<Item = Case>,
        observe: &mut dyn FnMut(usize, Observation) -> ControlFlow<()>,
    ) -> Result<(), TargetError> {
        self.run_cases(session, cases, observe)
    }
}
