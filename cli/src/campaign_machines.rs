//! The machines of a campaign.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use vmcs_case::profile::NamedProfile;
use vmcs_case::{Implementation, Session, Target, TargetError};
use vmcs_fuzz::TestProcessor;
use vmcs_fuzz::emulator::EmulatorTarget;
use vmcs_hw::MachineError;
use vmcs_hw::bochs::{self, BochsInstall, BochsTarget};
use vmcs_hw::metal::LineName;

use crate::error::CliError;
use crate::kvm::{self, OnBochs};
use crate::target::{self, DEFAULT_EMULATED, HOSTS_PROCESSOR, REAL_PROCESSOR, TargetSpec};

/// What stands for every model, or every version.
const ALL: &str = "all";

/// A machine that can be opened as often as needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MachineChoice {
    /// A CPU model of a Bochs.
    Bochs(BochsInstall, String),
    /// The KVM of this host.
    Kvm,
    /// A KVM inside Bochs.
    KvmOnBochs(OnBochs),
    /// The machine at a serial line.
    Metal(LineName),
    /// The emulator with a profile.
    Emulator(Box<NamedProfile>),
}

impl MachineChoice {
    /// Opens one.
    pub(crate) fn open(&self) -> Result<Box<dyn Target>, TargetError> {
        Ok(match self {
            Self::Bochs(install, model) => Box::new(BochsTarget::new(install.clone(), model)?),
            Self::Kvm => kvm::host()?,
            Self::KvmOnBochs(on_bochs) => on_bochs.open()?,
            Self::Metal(line) => target::metal(line)?,
            Self::Emulator(given) => Box::new(EmulatorTarget::new(given.profile.clone(), given.name.clone())),
        })
    }
}

/// A machine that was asked what its processor is, and what cases for it start from.
#[derive(Clone, Debug)]
pub(crate) struct CampaignMachine {
    pub(crate) choice: MachineChoice,
    pub(crate) implementation: Implementation,
    pub(crate) profile: NamedProfile,
    pub(crate) processor: TestProcessor,
    pub(crate) session: Session,
}

/// The machines that `targets` and `cpus` mean, as they report themselves; `all` stands for every CPU model with VMX.
/// So many are asked at the same time.
pub(crate) fn capture(
    targets: &[TargetSpec],
    cpus: &[String],
    jobs: NonZeroUsize,
) -> Result<Vec<CampaignMachine>, CliError> {
    let all = cpus.iter().any(|cpu| cpu == ALL);
    let mut choices = Vec::new();
    for target in targets {
        for choice in choices_of(target, cpus, all)? {
            if !choices.contains(&choice) {
                choices.push(choice);
            }
        }
    }
    let mut machines = Vec::new();
    let mut without = 0;
    for captured in capture_each(&choices, jobs) {
        match captured {
            Ok(machine) => machines.push(machine),
            // Old processors and those of other makers. One does not start at all.
            Err(TargetError::Probe(_) | TargetError::DiedAtStart { .. }) if all => without += 1,
            Err(error) => return Err(error.into()),
        }
    }
    if without > 0 {
        eprintln!("{without} CPU models without VMX were left out");
    }
    if machines.is_empty() {
        return Err(CliError::Usage("no CPU model of these targets has VMX".to_owned()));
    }
    Ok(machines)
}

/// The machines of one target.
fn choices_of(target: &TargetSpec, cpus: &[String], all: bool) -> Result<Vec<MachineChoice>, CliError> {
    let installs = match target {
        TargetSpec::Replay(_) => {
            return Err(CliError::Usage(
                "a recording answers only the cases that are in it: it cannot be a target beside others".to_owned(),
            ));
        }
        TargetSpec::Emu => {
            let profiles = if all {
                NamedProfile::embedded().to_vec()
            } else if cpus.is_empty() {
                vec![target::profile(DEFAULT_EMULATED)?]
            } else {
                cpus.iter().map(|cpu| target::profile(cpu)).collect::<Result<_, _>>()?
            };
            return Ok(profiles.into_iter().map(|profile| MachineChoice::Emulator(Box::new(profile))).collect());
        }
        TargetSpec::Metal(line) if cpus.is_empty() => return Ok(vec![MachineChoice::Metal(line.clone())]),
        TargetSpec::Metal(_) => return Err(CliError::Usage(REAL_PROCESSOR.to_owned())),
        TargetSpec::Kvm if cpus.is_empty() => return Ok(vec![MachineChoice::Kvm]),
        TargetSpec::Kvm => return Err(CliError::Usage(HOSTS_PROCESSOR.to_owned())),
        TargetSpec::KvmOnBochs(version) if cpus.is_empty() => {
            return Ok(vec![MachineChoice::KvmOnBochs(OnBochs::choose(version.as_deref(), None)?)]);
        }
        TargetSpec::KvmOnBochs(version) => {
            let machines =
                cpus.iter().map(|cpu| OnBochs::choose(version.as_deref(), Some(cpu)).map(MachineChoice::KvmOnBochs));
            return machines.collect();
        }
        TargetSpec::Bochs(Some(version)) if version == ALL => {
            let installs = bochs::installs()?;
            if installs.is_empty() {
                return Err(MachineError::BochsMissing.into());
            }
            installs
        }
        TargetSpec::Bochs(version) => vec![target::bochs_install(version.as_deref())?],
    };
    let mut machines = Vec::new();
    for install in installs {
        let models = if all {
            install.models()?
        } else if cpus.is_empty() {
            vec![target::default_model(install.version).to_owned()]
        } else {
            cpus.to_vec()
        };
        machines.extend(models.into_iter().map(|model| MachineChoice::Bochs(install.clone(), model)));
    }
    Ok(machines)
}

/// Asks each machine, several at the same time.
fn capture_each(choices: &[MachineChoice], jobs: NonZeroUsize) -> Vec<Result<CampaignMachine, TargetError>> {
    let next = AtomicUsize::new(0);
    let captured = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs.get().min(choices.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(choice) = choices.get(index) else { break };
                    let machine = capture_one(choice);
                    captured.lock().expect("nobody panics with the lock").push((index, machine));
                }
            });
        }
    });
    let mut captured = captured.into_inner().expect("nobody panicked");
    captured.sort_by_key(|(index, _)| *index);
    captured.into_iter().map(|(_, machine)| machine).collect()
}

fn capture_one(choice: &MachineChoice) -> Result<CampaignMachine, TargetError> {
    let mut target = choice.open()?;
    let implementation = target.implementation();
    let profile = match choice {
        MachineChoice::Emulator(given) => NamedProfile::clone(given),
        MachineChoice::Bochs(..) | MachineChoice::Kvm | MachineChoice::KvmOnBochs(_) | MachineChoice::Metal(_) => {
            let report = target.capture()?;
            NamedProfile::captured(implementation.to_string(), "read out of the machine by the probe", &report)
        }
    };
    let processor = TestProcessor::new(&profile.profile);
    let session = processor.session();
    Ok(CampaignMachine { choice: choice.clone(), implementation, profile, processor, session })
}
