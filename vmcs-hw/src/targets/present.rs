//! Listing the targets of this computer.

use vmcs_case::TargetError;

use super::choose::{ChoiceError, default_model};
use super::machine::Machine;
use super::name::{BochsChoice, TargetName};
use crate::bochs;
use crate::kvm::installed_kernels;
use crate::metal::MetalOptions;

/// A target of this host.
#[derive(Debug)]
pub struct Present {
    /// Its name.
    pub name: TargetName,
    /// What it is and where it lies.
    pub about: String,
    /// Its processors, where there are several or its processor is known.
    pub cpus: Vec<String>,
    /// The one that is taken unless somebody says otherwise, where there are several.
    pub default_cpu: Option<&'static str>,
    /// Why the target cannot be used here; `None` if it can.
    pub missing: Option<TargetError>,
}

/// Each Bochs, the newest first, the kernels for KVM inside Bochs, and the KVM of this host, which may be missing.
///
/// # Errors
/// [`ChoiceError::Target`], [`ChoiceError::Install`].
pub fn present() -> Result<Vec<Present>, ChoiceError> {
    let mut all = Vec::new();
    for install in bochs::installs()?.iter().rev() {
        let place = install.command.last().map_or_else(String::new, |program| program.display().to_string());
        all.push(Present {
            name: TargetName::Bochs(BochsChoice::Version(install.version.to_string())),
            about: format!("Bochs {}, {place}", install.version),
            cpus: install.models()?,
            default_cpu: Some(default_model(install.version)),
            missing: None,
        });
    }
    for kernel in installed_kernels()? {
        all.push(Present {
            name: TargetName::KvmOnBochs(Some(kernel.suite)),
            about: format!("KVM of Linux {} inside Bochs, {}", kernel.release, kernel.path.display()),
            cpus: Vec::new(),
            default_cpu: None,
            missing: None,
        });
    }
    let (cpus, missing) = match Machine::Kvm.open(&MetalOptions::default()) {
        Ok(target) => (vec![target.implementation().model], None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let about = "KVM of this host".to_owned();
    all.push(Present { name: TargetName::Kvm, about, cpus, default_cpu: None, missing });
    Ok(all)
}
