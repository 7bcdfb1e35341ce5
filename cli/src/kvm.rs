//! Opening the targets that are KVM.

use vmcs_case::{Target, TargetError};
use vmcs_hw::MachineError;
use vmcs_hw::bochs::{self, BochsInstall};
use vmcs_hw::kvm::{InstalledKernel, installed_kernels};

use crate::error::CliError;

/// Before the name of the kernel's suite: which kernels there are to be had.
const INSTALL: &str =
    "`vmcs targets install kvm-on-bochs --suite SUITE` gets one: bookworm has 6.1, trixie 6.12, sid the newest";

/// Under KVM the differences between Bochs' CPU models hardly show; on this one every kernel boots.
const MODEL: &str = "corei7_skylake_x";

/// The kernel of that version or suite, or the newest.
fn kernel(wanted: Option<&str>) -> Result<InstalledKernel, CliError> {
    let mut all = installed_kernels()?;
    all.sort_by_key(|kernel| version(&kernel.release));
    let Some(wanted) = wanted else {
        return all.pop().ok_or_else(|| CliError::Usage(format!("there is no kernel for kvm@bochs here; {INSTALL}")));
    };
    let known: Vec<_> = all.iter().map(|kernel| format!("{} ({})", kernel.release, kernel.suite)).collect();
    let is_wanted = |kernel: &InstalledKernel| {
        kernel.suite == wanted
            || kernel.release.strip_prefix(wanted).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    all.into_iter().rev().find(is_wanted).ok_or_else(|| {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        CliError::Usage(format!("there is no kernel {wanted} for kvm@bochs here (there is: {known}); {INSTALL}"))
    })
}

/// The numbers with which a release begins.
fn version(release: &str) -> Vec<u32> {
    let numbers = release.split(['.', '-', '+', '~']).map_while(|number| number.parse().ok());
    numbers.collect()
}

/// A kernel, the Bochs that it runs in, and the CPU model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OnBochs {
    kernel: InstalledKernel,
    install: BochsInstall,
    model: String,
}

impl OnBochs {
    /// That kernel in the oldest Bochs with the CPU model: it is the one that every Debian has, and the fastest at this.
    pub(crate) fn choose(version: Option<&str>, model: Option<&str>) -> Result<Self, CliError> {
        let kernel = kernel(version)?;
        let mut installs = bochs::installs()?;
        if installs.is_empty() {
            return Err(MachineError::BochsMissing.into());
        }
        let model = model.unwrap_or(MODEL).to_owned();
        let has_model = |install: &BochsInstall| install.models().is_ok_and(|all| all.contains(&model));
        let install = installs.swap_remove(installs.iter().position(has_model).unwrap_or(0));
        Ok(Self { kernel, install, model })
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod machines {
    use vmcs_hw::kvm::{KvmOnBochs, KvmTarget};

    use super::{OnBochs, Target, TargetError};

    pub(crate) fn host() -> Result<Box<dyn Target>, TargetError> {
        Ok(Box::new(KvmTarget::open()?))
    }

    impl OnBochs {
        pub(crate) fn open(&self) -> Result<Box<dyn Target>, TargetError> {
            Ok(Box::new(KvmOnBochs::new(&self.kernel, self.install.clone(), &self.model)?))
        }
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod machines {
    use super::{OnBochs, Target, TargetError};

    pub(crate) fn host() -> Result<Box<dyn Target>, TargetError> {
        Err(MachineError::NoProbe.into())
    }

    impl OnBochs {
        pub(crate) fn open(&self) -> Result<Box<dyn Target>, TargetError> {
            Err(MachineError::NoProbe.into())
        }
    }
}

pub(crate) use machines::host;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_by_their_numbers() {
        assert_eq!(version("6.12.1-cloud"), [6, 12, 1]);
        assert!(version("6.1.0-56-cloud-amd64") < version("6.12.1-1-cloud-amd64"));
        assert!(version("6.12.1-1-cloud-amd64") < version("7.2+deb14-cloud-amd64"));
    }
}
