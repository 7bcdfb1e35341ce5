//! Processors as files: raw capability MSRs and CPUID leaves with a name and where they were read.
//!
//! ```json
//! {
//!   "name": "Example", "source": "where it was read", "confidence": "exact",
//!   "msrs": {"0x480": "0xda040000000010", "0x491": null},
//!   "cpuid": {"0x7.0x1": ["0x0", "0x0", "0x0", "0x0"]},
//!   "quirks": {"access_rights_drop_reserved": true}
//! }
//! ```
//!
//! - `msrs`: by number, the MSRs of [`CapabilityMsr::ALL`]: the VMX capability MSRs 0x480-0x493, 0x3a
//!   (IA32_FEATURE_CONTROL), 0x345 (IA32_PERF_CAPABILITIES) and 0x982 (IA32_TME_ACTIVATE). `null` means that RDMSR raises
//!   #GP; an MSR that is not listed is unknown, unless CPUID says that it does not exist.
//! - `cpuid`: by leaf and subleaf, both hexadecimal with or without 0x as in CPUID tables: `0x14.0x1`, `14.1`; a subleaf
//!   of 0 can be left out. EAX, EBX, ECX, EDX; all zero for a leaf that the processor does not have. Any leaf can be
//!   listed; those of [`CpuidLeaf::ALL`] count. One that is not listed is unknown, unless it lies above the highest leaf
//!   that leaf 0x0 or 0x80000000 names.
//! - `confidence` and `quirks` are optional. Numbers are strings such as `"0x10"` or integers; any other key is an error.

mod embedded;
mod json;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use vmcs_model::Capabilities;
use vmcs_model::field::{Encoding, FIELDS, FieldSet};
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::profile::{CpuProfile, CpuidLeaf, MsrValue};

pub use embedded::{FindProfileError, UnknownProfile};
pub use vmcs_profiles::Confidence;

use crate::target::ProbeReport;
use vmcs_wire::StepResult;
use vmcs_wire::profile::FieldReport;

/// A processor with a name and a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedProfile {
    /// Its name.
    pub name: String,
    /// Where the values come from.
    pub source: String,
    /// How far they can be trusted, when the file says so.
    pub confidence: Option<Confidence>,
    /// The values.
    pub profile: CpuProfile,
}

impl NamedProfile {
    /// Reads one profile; `file` is what errors name.
    ///
    /// # Errors
    /// [`ProfileError::Json`].
    pub fn from_json(text: &str, file: &Path) -> Result<Self, ProfileError> {
        serde_json::from_str(text).map_err(|error| ProfileError::json(&error, file, 0))
    }

    /// Reads a file that holds one profile.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn load(file: &Path) -> Result<Self, ProfileError> {
        let text = fs::read_to_string(file);
        let text = text.map_err(|source| ProfileError::Read { file: file.to_owned(), source })?;
        Self::from_json(&text, file)
    }

    /// The profile as one line of JSON, in the form that [`NamedProfile::from_json`] reads.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("every key is a string")
    }

    /// A short form of the name that suits file names and command lines: lower case, words joined by `-`.
    #[must_use]
    pub fn slug(&self) -> String {
        slug(&self.name)
    }

    /// What a target's processor reported. Leaves and MSRs that no check depends on are left out; a VMCS component that
    /// exists without being promised by a capability, or does not although it is, becomes a quirk.
    #[must_use]
    pub fn captured(name: impl Into<String>, source: impl Into<String>, report: &ProbeReport) -> Self {
        let mut profile = CpuProfile::default();
        for &(number, value) in &report.msrs {
            if let Some(msr) = CapabilityMsr::by_number(number) {
                profile.set_msr(msr, value.map_or(MsrValue::Absent, MsrValue::Value));
            }
        }
        for reading in &report.cpuid {
            if let Some(leaf) = CpuidLeaf::by_query(reading.leaf, reading.subleaf) {
                profile.set_cpuid(leaf, reading.registers.unwrap_or_default());
            }
        }
        let found = |field: &FieldReport| matches!(field.read, StepResult::Value(_));
        let found = report.fields.iter().filter(|field| found(field));
        let found: FieldSet = found.filter_map(|field| Encoding(field.encoding).field()).collect();
        let capabilities = Capabilities::new(&profile);
        for info in &FIELDS {
            match (capabilities.promises_field(info), found.contains(info.id)) {
                (false, true) => profile.quirks.fields_extra.insert(info.id),
                (true, false) => profile.quirks.fields_missing.insert(info.id),
                _ => {}
            }
        }
        Self { name: name.into(), source: source.into(), confidence: Some(Confidence::Exact), profile }
    }
}

/// Lower case, with one `-` for each run of other characters than letters and digits.
fn slug(name: &str) -> String {
    let lower = name.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

/// A profile cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not a profile.
    #[error("{}:{line}:{column}: {message}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// Column, counted from 1; 0 at the end of a line.
        column: usize,
        /// The key and what was expected.
        message: String,
    },
}

impl ProfileError {
    /// Where and what, for text that begins behind `lines` lines of its file.
    fn json(error: &serde_json::Error, file: &Path, lines: usize) -> Self {
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = error.to_string();
        let message = message.strip_suffix(&place).unwrap_or(&message);
        let expected = if error.is_data() { "" } else { "; expected a processor's profile in JSON" };
        Self::Json {
            file: file.to_owned(),
            line: lines + error.line(),
            column: error.column(),
            message: format!("{message}{expected}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::CpuidReading;

    #[test]
    fn a_report_becomes_a_profile() {
        let cpuid = |leaf, subleaf, registers| CpuidReading { leaf, subleaf, registers };
        let report = ProbeReport {
            msrs: vec![(0x3A, Some(5)), (0x480, Some(0x10)), (0x491, None), (0x982, Some(1))],
            cpuid: vec![cpuid(0, 0, Some([1; 4])), cpuid(7, 1, Some([2; 4])), cpuid(0x23, 0, None)],
            fields: Vec::new(),
        };
        let captured = NamedProfile::captured("a", "b", &report).profile;
        assert_eq!(captured.msr(CapabilityMsr::Basic), MsrValue::Value(0x10));
        assert_eq!(captured.msr(CapabilityMsr::Vmfunc), MsrValue::Absent);
        assert_eq!(captured.msr(CapabilityMsr::Misc), MsrValue::Unknown);
        assert_eq!(captured.msr(CapabilityMsr::TmeActivate), MsrValue::Value(1));
        assert_eq!(captured.msr(CapabilityMsr::FeatureControl), MsrValue::Value(5));
        assert_eq!(captured.cpuid(CpuidLeaf::Extended1), Some([2; 4]));
        assert_eq!(captured.cpuid(CpuidLeaf::PerformanceExtended), Some([0; 4]));
        assert_eq!(captured.cpuid(CpuidLeaf::Features), None);
    }

    #[test]
    fn slugs() {
        assert_eq!(slug("Sandy Bridge-E/EP i7-3930K"), "sandy-bridge-e-ep-i7-3930k");
        assert_eq!(slug("Core 2 (Conroe)"), "core-2-conroe");
    }
}
