//! Choosing a machine by its name.

use vmcs_case::profile::{FindProfileError, NamedProfile};
use vmcs_case::{FieldReport, Implementation, Target, TargetError};
use vmcs_fuzz::emulator::EmulatorTarget;
use vmcs_hw::metal::MetalOptions;
use vmcs_hw::targets::{ChoiceError, Cpus, Machine, TargetName};

/// The profile that the emulator has unless one is named.
const DEFAULT_EMULATED: &str = "sapphire-rapids";

/// A machine that can be opened as often as needed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "a command opens few of them, and none is moved often")]
pub enum MachineChoice {
    /// One that executes the real VMX instructions.
    Hardware(Machine),
    /// The emulator with a profile.
    Emulator(Box<NamedProfile>),
}

/// The error that no machine is the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum MachineChoiceError {
    /// One that executes the real VMX instructions.
    #[error(transparent)]
    Hardware(#[from] ChoiceError),
    /// The profile of the emulator.
    #[error(transparent)]
    Profile(#[from] FindProfileError),
}

impl MachineChoice {
    /// The machines of that name with those processors, one at least. For the emulator a processor is a profile, by its name
    /// or in a file.
    ///
    /// # Errors
    /// [`MachineChoiceError`].
    pub fn named(name: &TargetName, cpus: Cpus<'_>) -> Result<Vec<Self>, MachineChoiceError> {
        if *name != TargetName::Emulator {
            return Ok(name.machines(cpus)?.into_iter().map(Self::Hardware).collect());
        }
        let profiles = match cpus {
            Cpus::Default => vec![NamedProfile::find(DEFAULT_EMULATED)?],
            Cpus::Named(names) => names.iter().map(|name| NamedProfile::find(name)).collect::<Result<_, _>>()?,
            Cpus::All => NamedProfile::embedded().to_vec(),
        };
        Ok(profiles.into_iter().map(|profile| Self::Emulator(Box::new(profile))).collect())
    }

    /// The machine of that name, with the processor `cpu` or its default.
    ///
    /// # Errors
    /// [`MachineChoiceError`].
    pub fn one(name: &TargetName, cpu: Option<&str>) -> Result<Self, MachineChoiceError> {
        match (name, cpu) {
            (TargetName::Emulator, _) => {
                let profile = NamedProfile::find(cpu.unwrap_or(DEFAULT_EMULATED))?;
                Ok(Self::Emulator(Box::new(profile)))
            }
            _ => Ok(Self::Hardware(name.machine(cpu)?)),
        }
    }

    /// The machine here that is that implementation: of the same versions, with the same CPU model.
    ///
    /// # Errors
    /// [`MachineChoiceError`].
    pub fn of(implementation: &Implementation) -> Result<Self, MachineChoiceError> {
        if implementation.name == EmulatorTarget::NAME {
            return Self::one(&TargetName::Emulator, Some(&implementation.model));
        }
        Ok(Self::Hardware(Machine::of(implementation)?))
    }

    /// Opens it; `metal` says how, if it is one at a serial line.
    ///
    /// # Errors
    /// Those of the machine.
    pub fn open(&self, metal: &MetalOptions) -> Result<Box<dyn Target>, TargetError> {
        match self {
            Self::Hardware(machine) => machine.open(metal),
            Self::Emulator(given) => Ok(Box::new(EmulatorTarget::new(given.profile.clone(), given.name.clone()))),
        }
    }

    /// What the processor of `target`, which is this machine opened, is and how it answers for the VMCS encodings. The
    /// emulator's profile is the one that it was given, with its name and its source.
    ///
    /// # Errors
    /// Those of the machine.
    pub fn capture(&self, target: &mut dyn Target) -> Result<(NamedProfile, Vec<FieldReport>), TargetError> {
        let report = target.capture()?;
        let profile = match self {
            Self::Hardware(_) => {
                let name = target.implementation().to_string();
                NamedProfile::captured(name, "read out of the machine by the probe", &report)
            }
            Self::Emulator(given) => NamedProfile::clone(given),
        };
        Ok((profile, report.fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_emulator_is_opened_by_its_name_and_found_again() {
        let name: TargetName = "emu".parse().expect("a name");
        let choice = MachineChoice::one(&name, Some("tiger-lake")).expect("there is such a profile");
        let mut target = choice.open(&MetalOptions::default()).expect("it opens");
        let (profile, fields) = choice.capture(target.as_mut()).expect("it reports");
        assert_eq!(profile.name, "Tiger Lake");
        assert!(profile.source.starts_with("https://") && fields.len() > 100);
        assert_eq!(MachineChoice::of(&target.implementation()).expect("it is found"), choice);
    }

    #[test]
    fn every_profile_is_a_processor_of_the_emulator() {
        let name: TargetName = "emu".parse().expect("a name");
        let all = MachineChoice::named(&name, Cpus::All).expect("all of them");
        assert_eq!(all.len(), NamedProfile::embedded().len());
        let named = MachineChoice::named(&name, Cpus::Named(&["no such processor".to_owned()]));
        assert!(matches!(named, Err(MachineChoiceError::Profile(FindProfileError::Name(_)))));
        let recording: TargetName = "replay".parse().expect("a name");
        let error = MachineChoice::one(&recording, None).expect_err("it has no processor");
        assert!(matches!(error, MachineChoiceError::Hardware(ChoiceError::NoMachine(_))));
    }
}
