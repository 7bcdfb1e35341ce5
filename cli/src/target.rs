//! Naming and opening targets and profiles.

use std::fmt;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use vmcs_case::profile::NamedProfile;
use vmcs_case::recording::{self, Recording};
use vmcs_case::{FieldReport, ProbeReport, Target, TargetError};
use vmcs_fuzz::emulator::EmulatorTarget;
use vmcs_hw::MachineError;
use vmcs_hw::bochs::{self, BochsInstall, BochsTarget, BochsVersion};
use vmcs_hw::metal::{LineName, MetalOptions, MetalTarget};

use crate::diff::stop_on_ctrl_c;
use crate::error::CliError;
use crate::kvm;

/// Which machine is asked.
#[derive(clap::Args, Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetArgs {
    /// The machine: `bochs` (the newest there is), `bochs@2.7`, `kvm` (that of this host), `kvm@bochs` (a KVM inside Bochs),
    /// `kvm@bochs:6.1`, `metal:/dev/ttyS0` (a machine that was started from the image of `vmcs metal iso`, at a serial line;
    /// with its speed: `metal:/dev/ttyUSB0@921600`), `emu`, `replay` (the recordings that come with this program) or `replay:FILE`
    #[arg(long, value_name = "TARGET")]
    pub(crate) target: Option<TargetSpec>,
    /// The processor: a CPU model of Bochs (see `vmcs targets`), or for `emu` a profile's name or file
    #[arg(long, value_name = "MODEL", alias = "profile")]
    pub(crate) cpu: Option<String>,
}

/// A target by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TargetSpec {
    /// The emulator.
    Emu,
    /// A Bochs, the newest unless a version is given.
    Bochs(Option<String>),
    /// The KVM of this host.
    Kvm,
    /// A KVM inside Bochs, of the newest kernel unless a version is given.
    KvmOnBochs(Option<String>),
    /// A machine at a serial line.
    Metal(LineName),
    /// A recording, those of this program unless a file is given.
    Replay(Option<PathBuf>),
}

impl FromStr for TargetSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "emu" => Ok(Self::Emu),
            "bochs" => Ok(Self::Bochs(None)),
            "kvm" => Ok(Self::Kvm),
            "kvm@bochs" => Ok(Self::KvmOnBochs(None)),
            "replay" => Ok(Self::Replay(None)),
            _ => {
                let rest = |prefix| text.strip_prefix(prefix).filter(|rest| !rest.is_empty());
                if let Some(version) = rest("bochs@") {
                    Ok(Self::Bochs(Some(version.to_owned())))
                } else if let Some(version) = rest("kvm@bochs:") {
                    Ok(Self::KvmOnBochs(Some(version.to_owned())))
                } else if let Some(line) = rest("metal:") {
                    line.parse().map(Self::Metal).map_err(|error: MachineError| error.to_string())
                } else if let Some(file) = rest("replay:") {
                    Ok(Self::Replay(Some(file.into())))
                } else {
                    Err("expected emu, bochs, bochs@VERSION, kvm, kvm@bochs, kvm@bochs:KERNEL, metal:LINE, replay or replay:FILE"
                        .to_owned())
                }
            }
        }
    }
}

impl fmt::Display for TargetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Emu => f.write_str("emu"),
            Self::Bochs(None) => f.write_str("bochs"),
            Self::Bochs(Some(version)) => write!(f, "bochs@{version}"),
            Self::Kvm => f.write_str("kvm"),
            Self::KvmOnBochs(None) => f.write_str("kvm@bochs"),
            Self::KvmOnBochs(Some(version)) => write!(f, "kvm@bochs:{version}"),
            Self::Metal(line) => write!(f, "metal:{line}"),
            Self::Replay(None) => f.write_str("replay"),
            Self::Replay(Some(file)) => write!(f, "replay:{}", file.display()),
        }
    }
}

/// A target that can be asked.
pub(crate) struct Opened {
    /// The target.
    pub(crate) target: Box<dyn Target>,
    /// The profile, for a target whose profile is given to it.
    given: Option<NamedProfile>,
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
    /// Reads the profile out of the machine.
    pub(crate) fn capture(&mut self) -> Result<Captured, CliError> {
        let report: ProbeReport = self.target.capture()?;
        let implementation = self.target.implementation();
        let profile = self.given.clone().unwrap_or_else(|| {
            NamedProfile::captured(implementation.to_string(), "read out of the machine by the probe", &report)
        });
        Ok(Captured { profile, fields: report.fields })
    }
}

/// Why KVM takes no CPU model.
pub(crate) const HOSTS_PROCESSOR: &str = "the target kvm has the processor of this host: leave --cpu out";

/// Why a real machine takes no CPU model.
pub(crate) const REAL_PROCESSOR: &str = "the processor of a real machine is what it is: --cpu says nothing";

/// The machine at a serial line.
pub(crate) fn metal(line: &LineName) -> Result<Box<dyn Target>, TargetError> {
    let notice = |text: &str| eprintln!("vmcs: {text}");
    let options = MetalOptions { notice, stop: stop_on_ctrl_c(), ..MetalOptions::default() };
    if io::stderr().is_terminal() {
        eprintln!("waiting for the probe at {line}");
    }
    Ok(Box::new(MetalTarget::open(line.clone(), options)?))
}

/// Opens a target other than a recording.
pub(crate) fn open(args: &TargetArgs) -> Result<Opened, CliError> {
    match args.target.clone().unwrap_or(TargetSpec::Bochs(None)) {
        TargetSpec::Emu => {
            let name = args.cpu.as_deref().unwrap_or(DEFAULT_EMULATED);
            let given = profile(name)?;
            let target = Box::new(EmulatorTarget::new(given.profile.clone(), given.name.clone()));
            Ok(Opened { target, given: Some(given) })
        }
        TargetSpec::Bochs(version) => {
            let install = bochs_install(version.as_deref())?;
            let model = args.cpu.clone().unwrap_or_else(|| default_model(install.version).to_owned());
            Ok(Opened { target: Box::new(BochsTarget::new(install, &model)?), given: None })
        }
        TargetSpec::Kvm => {
            if args.cpu.is_some() {
                return Err(CliError::Usage(HOSTS_PROCESSOR.to_owned()));
            }
            Ok(Opened { target: kvm::host()?, given: None })
        }
        TargetSpec::KvmOnBochs(version) => {
            Ok(Opened { target: kvm::OnBochs::choose(version.as_deref(), args.cpu.as_deref())?.open()?, given: None })
        }
        TargetSpec::Metal(line) => {
            if args.cpu.is_some() {
                return Err(CliError::Usage(REAL_PROCESSOR.to_owned()));
            }
            Ok(Opened { target: metal(&line)?, given: None })
        }
        TargetSpec::Replay(_) => Err(CliError::Usage(
            "a recording answers only the cases that are in it: use `vmcs diff --target replay` or `vmcs replay`"
                .to_owned(),
        )),
    }
}

/// The profile that the emulator has unless one is named.
pub(crate) const DEFAULT_EMULATED: &str = "sapphire-rapids";

/// The CPU model of a Bochs unless one is named: the most complete one that is common.
pub(crate) fn default_model(version: BochsVersion) -> &'static str {
    if version.major >= 3 { "wildcat_lake" } else { "corei7_skylake_x" }
}

/// The Bochs of that version, or the newest.
pub(crate) fn bochs_install(version: Option<&str>) -> Result<BochsInstall, CliError> {
    let mut all = bochs::installs()?;
    match version {
        None => all.pop().ok_or_else(|| MachineError::BochsMissing.into()),
        Some(version) => {
            let known: Vec<_> = all.iter().map(|install| install.version.to_string()).collect();
            all.into_iter().rev().find(|install| install.version.to_string() == version).ok_or_else(|| {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                CliError::Usage(format!(
                    "there is no Bochs {version} here (there is: {known}); `vmcs targets install bochs --suite SUITE` \
                     unpacks one: bookworm has 2.7, trixie 3.0, sid 3.1"
                ))
            })
        }
    }
}

/// The recordings that a replay target means.
pub(crate) fn recordings(file: Option<&Path>) -> Result<Vec<Recording>, CliError> {
    match file {
        Some(file) => Ok(vec![Recording::load(file)?]),
        None => Ok(recording::embedded()?),
    }
}

/// The profile in that file or, if there is no such file, of that name.
pub(crate) fn profile(name_or_file: &str) -> Result<NamedProfile, CliError> {
    let file = Path::new(name_or_file);
    if file.is_file() || file.extension().is_some_and(|extension| extension == "json") {
        return Ok(NamedProfile::load(file)?);
    }
    Ok(NamedProfile::by_name(name_or_file)?.clone())
}
