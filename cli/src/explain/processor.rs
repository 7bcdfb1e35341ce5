//! What `vmcs explain` knows of the processor.

use std::fs;
use std::path::Path;

use vmcs_case::profile::{FindProfileError, NamedProfile};
use vmcs_model::{Capabilities, CpuProfile};
use vmcs_texts::diagnosis::{Processor, common};
use vmcs_texts::processor::{CpuModel, ProcessorText};

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
    if let Some(text) = text_of(Path::new(name))? {
        let mut known = of_lines(text.lines());
        known.processor.named = true;
        if known.processor.words.is_empty() {
            let message = "there is neither a profile in it nor anything that says which processor it is: expected a profile in \
                           JSON, or what cpuid -r, rdmsr, InstLatX64, VirtualBox or /proc/cpuinfo print";
            return Err(CliError::File { file: name.into(), message: message.to_owned() });
        }
        return Ok(known);
    }
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

/// The text of the file, if there is one and it is no profile in JSON.
fn text_of(file: &Path) -> Result<Option<String>, CliError> {
    if !file.is_file() {
        return Ok(None);
    }
    let text = fs::read(file).map_err(|error| CliError::file(file, &error))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok((!text.trim_start().starts_with('{')).then_some(text))
}

/// What the lines of a text say of the processor.
pub(super) fn of_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Known {
    let read = ProcessorText::read(lines);
    let mut known = Known::default();
    let (msrs, leaves) = read.facts();
    if msrs + leaves > 0 {
        let values = format!("{} and {}", counted(msrs, "MSR"), counted(leaves, "CPUID leaf"));
        if read.of_virtualbox_host {
            known.guess = Some(read.profile());
            known.processor.words.push(format!(
                "VirtualBox' log holds {values} of its host. Its guests see another processor, so that what hangs on them is not \
                 certain."
            ));
        } else {
            known.profile = read.profile();
            known.processor.words.push(format!("The text holds {values} of the processor."));
        }
    }
    let Some((guess, profiles)) = read.guess() else { return known };
    known.guess = Some(guess);
    let mut said = Vec::new();
    if let Some(CpuModel { family, model, stepping }) = read.model.filter(|_| !profiles.is_empty()) {
        let stepping = stepping.map_or_else(String::new, |stepping| format!(", stepping {stepping}"));
        let names: Vec<_> = profiles.iter().map(|profile| format!("“{}”", profile.name)).collect();
        let verb = if names.len() == 1 { "is" } else { "are" };
        said.push(format!("a processor of family {family}, model {model}{stepping}, as {verb} {}", names.join(", ")));
    }
    said.extend(
        read.address_bits
            .map(|(physical, linear)| format!("addresses of {physical} bits physical and {linear} bits linear")),
    );
    known.processor.words.push(format!(
        "The text names {}. What hangs on that is not certain, because microcode, firmware and hypervisors change what a \
         processor can do.",
        said.join(", and ")
    ));
    known
}

fn counted(count: usize, what: &str) -> String {
    let plural = if what.ends_with("leaf") { what.replace("leaf", "leaves") } else { format!("{what}s") };
    format!("{count} {}", if count == 1 { what } else { &plural })
}
