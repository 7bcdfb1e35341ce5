//! The machines that benches ask.

use vmcs_case::Target;
use vmcs_hw::MachineError;
use vmcs_hw::bochs::{self, BochsInstall, BochsTarget};
use vmcs_hw::metal::{LineName, MetalOptions, MetalTarget};

/// The CPU model that every Bochs has.
const MODEL: &str = "corei7_skylake_x";
/// The version that one is asked for first: Debian's stable one, the most used.
const VERSION: &str = "2.7";

/// Names the machine: `bochs`, `bochs@2.7`, `kvm`, `kvm@bochs`, `metal:/dev/ttyS0`.
pub const VARIABLE: &str = "VMCS_BENCH_TARGET";
/// Names its CPU model, if it is a Bochs.
pub const CPU_VARIABLE: &str = "VMCS_BENCH_CPU";

/// The machine that the environment names, else a Bochs 2.7 or the newest.
///
/// # Errors
/// One line that says why there is none.
pub fn machine() -> Result<Box<dyn Target>, String> {
    named(&std::env::var(VARIABLE).unwrap_or_else(|_| "bochs".to_owned()))
}

/// Every machine that can be asked without further ado: each Bochs, the KVM of the host, and the one that the environment
/// names. With their names.
#[must_use]
pub fn machines() -> Vec<(String, Box<dyn Target>)> {
    let mut names: Vec<_> =
        bochs::installs().unwrap_or_default().iter().map(|install| format!("bochs@{}", install.version)).collect();
    names.push("kvm".to_owned());
    names.extend(std::env::var(VARIABLE).ok());
    names.sort();
    names.dedup();
    let open = |name: String| match named(&name) {
        Ok(target) => Some((name, target)),
        Err(why) => {
            println!("skipped: {name}: {why}");
            None
        }
    };
    names.into_iter().filter_map(open).collect()
}

fn named(name: &str) -> Result<Box<dyn Target>, String> {
    let model = std::env::var(CPU_VARIABLE).unwrap_or_else(|_| MODEL.to_owned());
    let installs = || bochs::installs().map_err(|error| error.to_string());
    let missing = || MachineError::BochsMissing.to_string();
    let is = |install: &BochsInstall, version: &str| install.version.to_string() == version;
    let open = |install| Ok(Box::new(BochsTarget::new(install, &model).map_err(|error| error.to_string())?) as _);
    if let Some(line) = name.strip_prefix("metal:") {
        let line: LineName = line.parse().map_err(|error: MachineError| error.to_string())?;
        return Ok(Box::new(MetalTarget::open(line, MetalOptions::default()).map_err(|error| error.to_string())?));
    }
    match name.split_once('@') {
        None if name == "bochs" => {
            let mut all = installs()?;
            let place = all.iter().position(|install| is(install, VERSION)).unwrap_or(all.len().saturating_sub(1));
            if all.is_empty() { Err(missing()) } else { open(all.swap_remove(place)) }
        }
        Some(("bochs", version)) => {
            let install = installs()?
                .into_iter()
                .find(|install| is(install, version))
                .ok_or_else(|| format!("there is no Bochs {version}"))?;
            open(install)
        }
        None if name == "kvm" => kvm::host(),
        Some(("kvm", "bochs")) => kvm::on_bochs(installs()?.into_iter().next().ok_or_else(missing)?, &model),
        _ => Err(format!("expected bochs, bochs@VERSION, kvm, kvm@bochs or metal:LINE, found {name:?}")),
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod kvm {
    use vmcs_hw::kvm::{KvmOnBochs, KvmTarget, installed_kernels};

    use super::{BochsInstall, Target};

    pub(super) fn host() -> Result<Box<dyn Target>, String> {
        Ok(Box::new(KvmTarget::open().map_err(|error| error.to_string())?))
    }

    pub(super) fn on_bochs(install: BochsInstall, model: &str) -> Result<Box<dyn Target>, String> {
        let kernels = installed_kernels().map_err(|error| error.to_string())?;
        let kernel =
            kernels.first().ok_or("there is no kernel (`vmcs targets install kvm-on-bochs --suite bookworm`)")?;
        Ok(Box::new(KvmOnBochs::new(kernel, install, model).map_err(|error| error.to_string())?))
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod kvm {
    use super::{BochsInstall, Target, TargetError};

    pub(super) fn host() -> Result<Box<dyn Target>, String> {
        Err(MachineError::NoProbe.to_string())
    }

    pub(super) fn on_bochs(_: BochsInstall, _: &str) -> Result<Box<dyn Target>, String> {
        host()
    }
}
