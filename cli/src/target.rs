//! The arguments that name a target, and opening it.

use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::Path;

use vmcs_case::profile::NamedProfile;
use vmcs_case::recording::{self, Recording};
use vmcs_case::{FieldReport, Target, TargetError};
use vmcs_hw::metal::MetalOptions;
use vmcs_hw::targets::{BochsChoice, Cpus, Machine, TargetName};
use vmcs_machines::{CapturedMachine, MachineChoice, TestedMachine, capture_each};

use crate::error::CliError;
use crate::interrupt::stop_on_ctrl_c;

/// Which machine is asked.
#[derive(clap::Args, Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetArgs {
    /// The machine: `bochs` (the newest there is), `bochs@2.7`, `kvm` (that of this host), `kvm@bochs` (a KVM inside Bochs),
    /// `kvm@bochs:6.1`, `metal:/dev/ttyS0` (a machine that was started from the image of `vmcs metal iso`, at a serial line;
    /// with its speed: `metal:/dev/ttyUSB0@921600`), `emu`, `replay` (the recordings that come with this program) or `replay:FILE`
    #[arg(long, value_name = "TARGET")]
    pub(crate) target: Option<TargetName>,
    /// The processor: a CPU model of Bochs (see `vmcs targets`), or for `emu` a profile's name or file
    #[arg(long, value_name = "MODEL", alias = "profile")]
    pub(crate) cpu: Option<String>,
}

/// A target that can be asked.
pub(crate) struct Opened {
    /// The target.
    pub(crate) target: Box<dyn Target>,
    choice: MachineChoice,
}

/// What a target's processor is.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    /// Its capabilities.
    pub(crate) profile: NamedProfile,
    /// How it answers for the VMCS encodings.
    pub(crate) fields: Vec<FieldReport>,
}

impl Opened {
    /// Opens a machine.
    pub(crate) fn new(choice: MachineChoice) -> Result<Self, CliError> {
        Ok(Self { target: open_choice(&choice)?, choice })
    }

    /// Reads the profile out of the machine.
    pub(crate) fn capture(&mut self) -> Result<Captured, CliError> {
        let (profile, fields) = self.choice.capture(self.target.as_mut())?;
        Ok(Captured { profile, fields })
    }
}

impl TargetArgs {
    /// The machine that is meant: the newest Bochs unless one is named.
    pub(crate) fn choose(&self) -> Result<MachineChoice, CliError> {
        let name = self.target.clone().unwrap_or(TargetName::Bochs(BochsChoice::Newest));
        Ok(MachineChoice::one(&name, self.cpu.as_deref())?)
    }
}

/// Opens the target that is meant.
pub(crate) fn open(args: &TargetArgs) -> Result<Opened, CliError> {
    Opened::new(args.choose()?)
}

/// Opens a machine; what a person has to do for it is said on standard error, and Ctrl-C ends the waiting.
pub(crate) fn open_choice(choice: &MachineChoice) -> Result<Box<dyn Target>, TargetError> {
    let notice = |text: &str| eprintln!("vmcs: {text}");
    let options = MetalOptions { notice, stop: stop_on_ctrl_c(), ..MetalOptions::default() };
    if let MachineChoice::Hardware(Machine::Metal(line)) = choice
        && io::stderr().is_terminal()
    {
        eprintln!("waiting for the probe at {line}");
    }
    choice.open(&options)
}

/// Opens a machine, so that its answers can be judged.
pub(crate) fn tested(choice: &MachineChoice) -> Result<TestedMachine, CliError> {
    Ok(TestedMachine::new(choice, open_choice(choice)?)?)
}

/// The word that means every CPU model.
const ALL: &str = "all";

/// The machines that `targets` and `cpus` mean, as they report themselves; `all` stands for every CPU model with VMX.
/// `jobs` machines are asked at the same time.
pub(crate) fn capture(
    targets: &[TargetName],
    cpus: &[String],
    jobs: NonZeroUsize,
) -> Result<Vec<CapturedMachine>, CliError> {
    let all = cpus.iter().any(|cpu| cpu == ALL);
    let cpus = match cpus {
        _ if all => Cpus::All,
        [] => Cpus::Default,
        named => Cpus::Named(named),
    };
    let mut choices = Vec::new();
    for target in targets {
        for choice in MachineChoice::named(target, cpus)? {
            if !choices.contains(&choice) {
                choices.push(choice);
            }
        }
    }
    let mut machines = Vec::new();
    let mut without = 0;
    for captured in capture_each(&choices, jobs, &open_choice) {
        match captured {
            Ok(machine) => machines.push(machine),
            // Models of old processors and of other makers have no VMX, and one of them does not start at all.
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

/// The recordings that a replay target means.
pub(crate) fn recordings(file: Option<&Path>) -> Result<Vec<Recording>, CliError> {
    match file {
        Some(file) => Ok(vec![Recording::load(file)?]),
        None => Ok(recording::embedded()?),
    }
}
