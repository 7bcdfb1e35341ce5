//! The names of targets, as a person types them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::metal::{BadLine, LineName};

/// A target by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TargetName {
    /// `bochs`, `bochs@2.7`, `bochs@all`: a Bochs.
    Bochs(BochsChoice),
    /// `kvm`: the KVM of this host.
    Kvm,
    /// `kvm@bochs`, `kvm@bochs:6.1`: a KVM inside Bochs, of the newest kernel unless a version or the name of a suite is given.
    KvmOnBochs(Option<String>),
    /// `metal:/dev/ttyS0`, `metal:/dev/ttyUSB0@921600`: a machine at a serial line.
    Metal(LineName),
    /// `emu`: the emulator.
    Emulator,
    /// `replay`, `replay:FILE`: a recording, those that come with `vmcs-case` unless a file is given.
    Replay(Option<PathBuf>),
}

/// Which Bochs is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BochsChoice {
    /// The newest.
    Newest,
    /// The one of that version.
    Version(String),
    /// Each that there is.
    All,
}

/// A text that names no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotATarget {
    /// It has none of the forms.
    #[error(
        "expected emu, bochs, bochs@VERSION, bochs@all, kvm, kvm@bochs, kvm@bochs:KERNEL, metal:LINE, replay or replay:FILE, \
         found {0:?}"
    )]
    Form(String),
    /// It names a machine at a serial line, and the line is none.
    #[error(transparent)]
    Line(#[from] BadLine),
}

/// What stands for every version.
const ALL: &str = "all";

impl FromStr for TargetName {
    type Err = NotATarget;

    fn from_str(text: &str) -> Result<Self, NotATarget> {
        let rest = |prefix| text.strip_prefix(prefix).filter(|rest: &&str| !rest.is_empty());
        Ok(match text {
            "emu" => Self::Emulator,
            "bochs" => Self::Bochs(BochsChoice::Newest),
            "kvm" => Self::Kvm,
            "kvm@bochs" => Self::KvmOnBochs(None),
            "replay" => Self::Replay(None),
            _ => {
                if let Some(version) = rest("bochs@") {
                    Self::Bochs(if version == ALL {
                        BochsChoice::All
                    } else {
                        BochsChoice::Version(version.to_owned())
                    })
                } else if let Some(version) = rest("kvm@bochs:") {
                    Self::KvmOnBochs(Some(version.to_owned()))
                } else if let Some(line) = rest("metal:") {
                    Self::Metal(line.parse()?)
                } else if let Some(file) = rest("replay:") {
                    Self::Replay(Some(file.into()))
                } else {
                    return Err(NotATarget::Form(text.to_owned()));
                }
            }
        })
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Emulator => f.write_str("emu"),
            Self::Bochs(BochsChoice::Newest) => f.write_str("bochs"),
            Self::Bochs(BochsChoice::Version(version)) => write!(f, "bochs@{version}"),
            Self::Bochs(BochsChoice::All) => write!(f, "bochs@{ALL}"),
            Self::Kvm => f.write_str("kvm"),
            Self::KvmOnBochs(None) => f.write_str("kvm@bochs"),
            Self::KvmOnBochs(Some(version)) => write!(f, "kvm@bochs:{version}"),
            Self::Metal(line) => write!(f, "metal:{line}"),
            Self::Replay(None) => f.write_str("replay"),
            Self::Replay(Some(file)) => write!(f, "replay:{}", file.display()),
        }
    }
}

impl TargetName {
    /// Whether a CPU model can be chosen.
    #[must_use]
    pub fn has_cpu_models(&self) -> bool {
        match self {
            Self::Bochs(_) | Self::KvmOnBochs(_) | Self::Emulator => true,
            Self::Kvm | Self::Metal(_) | Self::Replay(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        let names = ["bochs", "bochs@2.7", "bochs@all", "kvm", "kvm@bochs", "kvm@bochs:6.1", "emu", "replay"];
        for name in names.into_iter().chain(["replay:a/b.gz", "metal:/dev/ttyS0", "metal:/dev/ttyUSB0@921600"]) {
            assert_eq!(name.parse::<TargetName>().expect("a name").to_string(), name);
        }
        assert_eq!("bochs@all".parse(), Ok(TargetName::Bochs(BochsChoice::All)));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in ["", "bochs@", "box", "kvm@bochs:", "kvm@box", "replay:", "emu:x", "metal:"] {
            assert_eq!(name.parse::<TargetName>(), Err(NotATarget::Form(name.to_owned())), "{name}");
        }
        assert!(matches!("metal:/dev/ttyS0@fast".parse::<TargetName>(), Err(NotATarget::Line(_))));
    }
}
