//! A machine that was chosen and can be opened.

use vmcs_case::{Target, TargetError};

use crate::bochs::{BochsInstall, BochsTarget};
use crate::kvm::{InstalledKernel, KvmOnBochs};
use crate::metal::{LineName, MetalOptions, MetalTarget};

/// A machine that can be opened as often as needed; one at a serial line, one at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Machine {
    /// A CPU model of a Bochs.
    Bochs {
        /// The Bochs.
        install: BochsInstall,
        /// The CPU model.
        model: String,
    },
    /// The KVM of this host.
    Kvm,
    /// A KVM inside a Bochs.
    KvmOnBochs {
        /// The Linux whose KVM it is.
        kernel: InstalledKernel,
        /// The Bochs.
        install: BochsInstall,
        /// The CPU model of the Bochs.
        model: String,
    },
    /// The machine at a serial line.
    Metal(LineName),
}

impl Machine {
    /// Opens it; `metal` says how, if it is one at a serial line.
    ///
    /// # Errors
    /// Those of the machine.
    pub fn open(&self, metal: &MetalOptions) -> Result<Box<dyn Target>, TargetError> {
        Ok(match self {
            Self::Bochs { install, model } => Box::new(BochsTarget::new(install.clone(), model)?),
            Self::Kvm => return kvm(),
            Self::KvmOnBochs { kernel, install, model } => Box::new(KvmOnBochs::new(kernel, install.clone(), model)?),
            Self::Metal(line) => Box::new(MetalTarget::open(line.clone(), metal.clone())?),
        })
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn kvm() -> Result<Box<dyn Target>, TargetError> {
    Ok(Box::new(crate::kvm::KvmTarget::open()?))
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn kvm() -> Result<Box<dyn Target>, TargetError> {
    Err(crate::probe_image::EmbeddedError::NoProbe.into())
}
