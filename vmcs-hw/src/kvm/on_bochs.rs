//! A KVM of Debian inside Bochs.
//!
//! Bochs boots the kernel; its first process, embedded in this crate, loads kvm_intel and executes the cases as
//! `KvmTarget` does. Work comes and answers go by the disk, as with the probe on bare Bochs.

use std::ops::ControlFlow;
use std::time::Duration;

use vmcs_case::{Case, CpuClock, Implementation, Observation, ProbeReport, Session, Target, TargetError};

use super::kernel::InstalledKernel;
use super::linux::{self, InitramfsFile};
use crate::bochs::{BochsInstall, BochsOptions, BochsTarget, BochsVersion};
use crate::probe_image::{self, EmbeddedError};

/// The first process; empty when the build host could not build it.
static INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vmcs-kvm-init.elf"));

/// Cases between two answers. What brings the virtual machine down does not end the batch; what ends Bochs does.
const BATCH: usize = 64;
/// CPU time of Bochs without an answer after which it counts as hung: a boot takes a third of that, and what hangs a virtual
/// machine is noticed inside.
const PATIENCE: Duration = Duration::from_secs(30);

/// KVM of a Debian kernel in a Bochs.
#[derive(Debug)]
pub struct KvmOnBochs {
    bochs: BochsTarget,
    version: String,
}

impl KvmOnBochs {
    /// The KVM of `kernel` on the CPU model `model` of `install`.
    ///
    /// # Errors
    /// [`EmbeddedError`], [`LinuxError`](super::LinuxError), [`BochsError`](crate::bochs::BochsError), [`TargetError::Io`].
    pub fn new(kernel: &InstalledKernel, install: BochsInstall, model: &str) -> Result<Self, TargetError> {
        if INIT.is_empty() {
            return Err(EmbeddedError::NoInit.into());
        }
        let (payload, entry) = probe_image::payload()?;
        let probe = [&entry.to_le_bytes()[..], &payload].concat();
        let image = kernel.image()?;
        let modules = kernel.modules()?;
        let mut files = vec![
            InitramfsFile { name: "dev", content: &[] },
            InitramfsFile { name: "init", content: INIT },
            InitramfsFile { name: "probe", content: &probe },
        ];
        files.extend(modules.iter().map(|(name, content)| InitramfsFile { name, content }));
        let version = kernel.version();
        let old_bochs = install.version < (BochsVersion { major: 3, minor: 0 });
        let more = if old_bochs && version != "6.1" { linux::WITHOUT_XSAVE } else { "" };
        let guest = linux::guest(&image, &files, more)?;
        let options = BochsOptions { batch: BATCH, patience: PATIENCE, ..BochsOptions::default() };
        let bochs = BochsTarget::with_guest(install, model, options, &guest)?;
        Ok(Self { bochs, version })
    }
}

impl Target for KvmOnBochs {
    fn implementation(&self) -> Implementation {
        let bochs = self.bochs.implementation();
        Implementation {
            name: "KVM".to_owned(),
            version: self.version.clone(),
            model: bochs.model.clone(),
            on: Some(Box::new(bochs)),
        }
    }

    fn capture(&mut self) -> Result<ProbeReport, TargetError> {
        self.bochs.capture()
    }

    fn cpu_clock(&self) -> Option<CpuClock> {
        self.bochs.cpu_clock()
    }

    fn run(
        &mut self,
        session: &Session,
        cases: &mut dyn Iterator<Item = Case>,
        observe: &mut dyn FnMut(usize, Observation) -> ControlFlow<()>,
    ) -> Result<(), TargetError> {
        self.bochs.run(session, cases, observe)
    }
}
