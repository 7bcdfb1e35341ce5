//! What `vmcs explain` knows of the processor.

use vmcs_case::profile::{FindProfileError, NamedProfile};
use vmcs_model::{Capabilities, CpuProfile};
use vmcs_texts::diagnosis::{Processor, common};

use crate::error::CliError;

/// What is known of the processor.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What is certain.
    pub(super) profile: CpuProfile,
    /// What it may be able to do.
    pub(super) guess: Option<CpuProfile>,
    /// Where that comes from.
    pub(super) processor: Processor,
}

impl Known {
    /// The VMCS revision identifier, 0 if it is not known.
    pub(super) fn revision(&self) -> u32 {
        Capabilities::new(&self.profile).revision()
    }
}

/// What is known of the processor of that name, or of the file of that name.
pub(super) fn named(name: &str) -> Result<Known, CliError> {
    match NamedProfile::find(name) {
        Ok(found) => {
            Ok(Known { profile: found.profile, guess: None, processor: Processor { named: true, words: Vec::new() } })
        }
        Err(FindProfileError::Name(unknown)) if unknown.ambiguous => {
            let fitting: Vec<_> = NamedProfile::embedded()
                .iter()
                .filter(|profile| unknown.near.contains(&profile.name.as_str()))
                .collect();
            let names: Vec<_> = fitting.iter().map(|profile| format!("“{}”", profile.name)).collect();
            let words = format!(
                "“{name}” is the beginning of {} profiles. What they agree on is taken for known: {}.",
                fitting.len(),
                names.join(", ")
            );
            Ok(Known {
                profile: common(&fitting),
                guess: None,
                processor: Processor { named: true, words: vec![words] },
            })
        }
        Err(error) => Err(error.into()),
    }
}
