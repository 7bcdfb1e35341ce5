//! What is known of the processor that attempted an entry, by its name or by what a text says of it.

use vmcs_case::profile::{NamedProfile, UnknownProfile};
use vmcs_model::{Capabilities, CpuProfile};

use crate::diagnosis::{Processor, common};
use crate::processor::{CpuModel, ProcessorText};

/// What is known of the processor.
#[derive(Clone, Debug, Default)]
pub struct KnownProcessor {
    /// What is certain.
    pub profile: CpuProfile,
    /// What it may be able to do.
    pub guess: Option<CpuProfile>,
    /// Where that comes from.
    pub source: Processor,
}

impl KnownProcessor {
    /// The VMCS revision identifier, 0 if it is not known.
    #[must_use]
    pub fn revision(&self) -> u32 {
        Capabilities::new(&self.profile).revision()
    }

    /// A processor of which everything in the profile is known.
    #[must_use]
    pub fn of_profile(profile: CpuProfile) -> Self {
        Self { profile, guess: None, source: Processor { named: true, words: Vec::new() } }
    }

    /// The processor of that name among those that come with the program. If several have names that begin so, what they agree
    /// on is known.
    ///
    /// # Errors
    /// No name begins so.
    pub fn by_name(name: &str) -> Result<Self, UnknownProfile> {
        let unknown = match NamedProfile::by_name(name) {
            Ok(found) => return Ok(Self::of_profile(found.profile.clone())),
            Err(unknown) if unknown.ambiguous => unknown,
            Err(unknown) => return Err(unknown),
        };
        let fitting: Vec<_> =
            NamedProfile::embedded().iter().filter(|profile| unknown.near.contains(&profile.name.as_str())).collect();
        let names: Vec<_> = fitting.iter().map(|profile| format!("“{}”", profile.name)).collect();
        let words = format!(
            "“{name}” is the beginning of {} profiles. What they agree on is taken for known: {}.",
            fitting.len(),
            names.join(", ")
        );
        let source = Processor { named: true, words: vec![words] };
        Ok(Self { profile: common(&fitting), guess: None, source })
    }

    /// What the lines of a text say of the processor.
    #[must_use]
    pub fn of_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let read = ProcessorText::read(lines);
        let mut known = Self::default();
        let (msrs, leaves) = read.facts();
        if msrs + leaves > 0 {
            let values = format!("{} and {}", counted(msrs, "MSR"), counted(leaves, "CPUID leaf"));
            if read.of_virtualbox_host {
                known.guess = Some(read.profile());
                known.source.words.push(format!(
                    "VirtualBox' log holds {values} of its host. Its guests see another processor, so that what hangs on them is not \
                     certain."
                ));
            } else {
                known.profile = read.profile();
                known.source.words.push(format!("The text holds {values} of the processor."));
            }
        }
        let Some((guess, profiles)) = read.guess() else { return known };
        known.guess = Some(guess);
        let mut said = Vec::new();
        if let Some(CpuModel { family, model, stepping }) = read.model.filter(|_| !profiles.is_empty()) {
            let stepping = stepping.map_or_else(String::new, |stepping| format!(", stepping {stepping}"));
            let names: Vec<_> = profiles.iter().map(|profile| format!("“{}”", profile.name)).collect();
            let verb = if names.len() == 1 { "is" } else { "are" };
            said.push(format!(
                "a processor of family {family}, model {model}{stepping}, as {verb} {}",
                names.join(", ")
            ));
        }
        said.extend(
            read.address_bits
                .map(|(physical, linear)| format!("addresses of {physical} bits physical and {linear} bits linear")),
        );
        known.source.words.push(format!(
            "The text names {}. What hangs on that is not certain, because microcode, firmware and hypervisors change what a \
             processor can do.",
            said.join(", and ")
        ));
        known
    }
}

fn counted(count: usize, what: &str) -> String {
    let plural = if what.ends_with("leaf") { what.replace("leaf", "leaves") } else { format!("{what}s") };
    format!("{count} {}", if count == 1 { what } else { &plural })
}
