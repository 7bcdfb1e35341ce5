//! Finds the machines that a target's name means on this computer.

use vmcs_case::{Implementation, TargetError};
use vmcs_debian::InstallError;

use super::machine::Machine;
use super::name::{BochsChoice, TargetName};
use crate::bochs::{self, BochsError, BochsInstall, BochsVersion};
use crate::kvm::{InstalledKernel, installed_kernels};

/// The CPU model of the Bochs that runs KVM. Under KVM the CPU models of Bochs hardly differ, and on this one every kernel
/// boots.
const MODEL_FOR_KVM: &str = "corei7_skylake_x";

/// Which processors of a target are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpus<'a> {
    /// The one that is taken unless somebody says otherwise.
    Default,
    /// The CPU models of those names.
    Named(&'a [String]),
    /// Every CPU model, VMX-capable or not.
    All,
}

/// Why no machine is the one that was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChoiceError {
    /// There is no Bochs of that version.
    #[error("there is no Bochs {version} here (there is: {})", list(known))]
    NoSuchBochs {
        /// The version that was asked for.
        version: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// There is no kernel for KVM inside Bochs.
    #[error("there is no kernel for kvm@bochs here")]
    NoKernel,
    /// There is none of that version or suite.
    #[error("there is no kernel {wanted} for kvm@bochs here (there is: {})", list(known))]
    NoSuchKernel {
        /// The version or suite that was asked for.
        wanted: String,
        /// Those that there are, with their suites.
        known: Vec<String>,
    },
    /// The target's processor cannot be chosen.
    #[error("no CPU model can be chosen for the target {0}: its processor is given")]
    FixedProcessor(TargetName),
    /// The name means several machines, and one was asked for.
    #[error("{0} means several machines: name one")]
    Several(TargetName),
    /// An observation does not say enough of its machine to find it again: of one at a serial line, not which line.
    #[error("it is not known where {0} is, so that it cannot be opened again")]
    NotFoundAgain(Implementation),
    /// The name means no machine that executes VMX instructions.
    #[error("{0} is no machine that executes VMX instructions")]
    NoMachine(TargetName),
    /// What is there cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// What is unpacked cannot be listed.
    #[error(transparent)]
    Install(#[from] InstallError),
}

fn list(known: &[String]) -> String {
    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
}

impl TargetName {
    /// The machine of that name, with the CPU model `cpu` or its default.
    ///
    /// # Errors
    /// [`ChoiceError`].
    pub fn machine(&self, cpu: Option<&str>) -> Result<Machine, ChoiceError> {
        let named = cpu.map(|cpu| [cpu.to_owned()]);
        let mut machines = self.machines(named.as_ref().map_or(Cpus::Default, |named| Cpus::Named(named)))?;
        match (machines.pop(), machines.is_empty()) {
            (Some(machine), true) => Ok(machine),
            _ => Err(ChoiceError::Several(self.clone())),
        }
    }

    /// The machines of that name with those processors, one at least.
    ///
    /// # Errors
    /// [`ChoiceError`].
    pub fn machines(&self, cpus: Cpus<'_>) -> Result<Vec<Machine>, ChoiceError> {
        match self {
            Self::Bochs(choice) => {
                let installs = match choice {
                    BochsChoice::All => all_bochs()?,
                    BochsChoice::Newest => vec![find_bochs(None)?],
                    BochsChoice::Version(version) => vec![find_bochs(Some(version))?],
                };
                let mut machines = Vec::new();
                for install in installs {
                    let models = match cpus {
                        Cpus::Default => vec![default_model(install.version).to_owned()],
                        Cpus::Named(models) => models.to_vec(),
                        Cpus::All => install.models()?,
                    };
                    machines.extend(models.into_iter().map(|model| Machine::Bochs { install: install.clone(), model }));
                }
                Ok(machines)
            }
            Self::KvmOnBochs(version) => {
                let kernel = kernel(version.as_deref())?;
                let models = match cpus {
                    Cpus::Named(models) => models.to_vec(),
                    // The others would show nothing else.
                    Cpus::Default | Cpus::All => vec![MODEL_FOR_KVM.to_owned()],
                };
                models.into_iter().map(|model| kvm_on_bochs(kernel.clone(), model)).collect()
            }
            Self::Kvm | Self::Metal(_) if matches!(cpus, Cpus::Named(_)) => {
                Err(ChoiceError::FixedProcessor(self.clone()))
            }
            Self::Kvm => Ok(vec![Machine::Kvm]),
            Self::Metal(line) => Ok(vec![Machine::Metal(line.clone())]),
            Self::Emulator | Self::Replay(_) => Err(ChoiceError::NoMachine(self.clone())),
        }
    }
}

impl Machine {
    /// The machine here that is that implementation: of the same versions, with the same CPU model.
    ///
    /// # Errors
    /// [`ChoiceError`].
    pub fn of(implementation: &Implementation) -> Result<Self, ChoiceError> {
        let Implementation { name, version, model, on } = implementation;
        match (name.as_str(), on.as_deref()) {
            ("Bochs", None) => Ok(Self::Bochs { install: find_bochs(Some(version))?, model: model.clone() }),
            ("KVM", Some(on)) if on.name == "Bochs" => Ok(Self::KvmOnBochs {
                kernel: kernel(Some(version))?,
                install: find_bochs(Some(&on.version))?,
                model: model.clone(),
            }),
            _ => Err(ChoiceError::NotFoundAgain(implementation.clone())),
        }
    }
}

/// The CPU model of a Bochs unless one is named: the most complete one that is common.
#[must_use]
pub fn default_model(version: BochsVersion) -> &'static str {
    if version.major >= 3 { "wildcat_lake" } else { "corei7_skylake_x" }
}

/// Every Bochs that there is, the oldest version first; one at least.
fn all_bochs() -> Result<Vec<BochsInstall>, ChoiceError> {
    let all = bochs::installs()?;
    if all.is_empty() { Err(TargetError::from(BochsError::Missing).into()) } else { Ok(all) }
}

/// The Bochs of that version, or the newest.
///
/// # Errors
/// [`ChoiceError`].
pub fn find_bochs(version: Option<&str>) -> Result<BochsInstall, ChoiceError> {
    let Some(version) = version else {
        return all_bochs()?.pop().ok_or_else(|| TargetError::from(BochsError::Missing).into());
    };
    let all = bochs::installs()?;
    let known = all.iter().map(|install| install.version.to_string()).collect();
    let found = all.into_iter().rev().find(|install| install.version.to_string() == version);
    found.ok_or_else(|| ChoiceError::NoSuchBochs { version: version.to_owned(), known })
}

/// The kernel of that version or suite, or the newest.
fn kernel(wanted: Option<&str>) -> Result<InstalledKernel, ChoiceError> {
    let mut all = installed_kernels()?;
    all.sort_by_key(|kernel| numbers(&kernel.release));
    let Some(wanted) = wanted else {
        return all.pop().ok_or(ChoiceError::NoKernel);
    };
    let known = all.iter().map(|kernel| format!("{} ({})", kernel.release, kernel.suite)).collect();
    let found = all.into_iter().rev().find(|kernel| kernel.suite == wanted || has_version(&kernel.release, wanted));
    found.ok_or_else(|| ChoiceError::NoSuchKernel { wanted: wanted.to_owned(), known })
}

/// Whether a release begins with the numbers of `version`.
fn has_version(release: &str, version: &str) -> bool {
    release.strip_prefix(version).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The numbers with which a release begins.
fn numbers(release: &str) -> Vec<u32> {
    let numbers = release.split(['.', '-', '+', '~']).map_while(|number| number.parse().ok());
    numbers.collect()
}

/// That kernel in the oldest Bochs with the CPU model: it is the one that every Debian has, and the fastest at this.
fn kvm_on_bochs(kernel: InstalledKernel, model: String) -> Result<Machine, ChoiceError> {
    let mut installs = all_bochs()?;
    let has_model = |install: &BochsInstall| install.models().is_ok_and(|all| all.contains(&model));
    let install = installs.swap_remove(installs.iter().position(has_model).unwrap_or(0));
    Ok(Machine::KvmOnBochs { kernel, install, model })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_by_their_numbers() {
        assert_eq!(numbers("6.12.1-cloud"), [6, 12, 1]);
        assert!(numbers("6.1.0-56-cloud-amd64") < numbers("6.12.1-1-cloud-amd64"));
        assert!(numbers("6.12.1-1-cloud-amd64") < numbers("7.2+deb14-cloud-amd64"));
        assert!(has_version("6.1.0-56-cloud-amd64", "6.1"));
        assert!(!has_version("6.12.1-1-cloud-amd64", "6.1"));
    }

    #[test]
    fn a_processor_that_is_what_it_is_is_not_chosen() {
        for name in ["kvm", "metal:/dev/ttyS0"] {
            let name: TargetName = name.parse().expect("a name");
            assert!(matches!(name.machine(Some("x")), Err(ChoiceError::FixedProcessor(of)) if of == name));
            assert!(name.machine(None).is_ok());
            assert_eq!(name.machines(Cpus::All).expect("there is one").len(), 1);
            assert!(!name.has_cpu_models());
        }
    }

    #[test]
    fn what_executes_no_vmx_instructions_is_no_machine() {
        for name in ["emu", "replay", "replay:x"] {
            let name: TargetName = name.parse().expect("a name");
            assert!(matches!(name.machine(None), Err(ChoiceError::NoMachine(of)) if of == name));
        }
    }

    #[test]
    fn a_machine_is_found_again_by_what_it_said_of_itself() {
        let bochs = |version: &str| Implementation {
            name: "Bochs".to_owned(),
            version: version.to_owned(),
            model: "x".to_owned(),
            on: None,
        };
        for install in bochs::installs().expect("they are usable") {
            let found = Machine::of(&bochs(&install.version.to_string())).expect("it is here");
            assert!(
                matches!(found, Machine::Bochs { install: again, model } if again.version == install.version && model == "x")
            );
        }
        assert!(matches!(Machine::of(&bochs("0.1")), Err(ChoiceError::NoSuchBochs { .. })));
        for name in ["metal", "KVM", "vmcs-emu"] {
            let other = Implementation { name: name.to_owned(), ..bochs("1") };
            assert!(matches!(Machine::of(&other), Err(ChoiceError::NotFoundAgain(of)) if of == other));
        }
    }

    #[test]
    fn a_version_that_is_not_here_is_refused_with_those_that_are() {
        let name: TargetName = "bochs@0.1".parse().expect("a name");
        match name.machine(None) {
            Err(ChoiceError::NoSuchBochs { version, known }) => {
                assert_eq!(version, "0.1");
                let here = bochs::installs().expect("they are usable");
                assert_eq!(known, here.iter().map(|install| install.version.to_string()).collect::<Vec<_>>());
            }
            other => panic!("{other:?}"),
        }
        let name: TargetName = "kvm@bochs:0.1".parse().expect("a name");
        assert!(matches!(name.machine(None), Err(ChoiceError::NoSuchKernel { .. })));
    }
}
