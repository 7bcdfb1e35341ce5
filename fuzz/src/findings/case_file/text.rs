//! Reading and writing case files as JSON.

use std::fmt::Write as _;
use std::path::Path;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vmcs_case::Implementation;
use vmcs_case::program::{MemoryWrite, Program};

use super::cause::{NOTHING, name};
use super::finding::{CaseFile, FieldChange, ModelReason};
use crate::oracle::{About, Disagreement, DisagreementError, DisagreementText, ExplanationText};
use crate::step::ParseStepError;

/// What a file calls itself.
const FORMAT: &str = "vmcs case 1";

/// A [`CaseFile`] as it is written. What follows from the rest is there for people, and for programs that do not know
/// this one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseText {
    /// Name and version of the format.
    format: String,
    /// The same for all findings of one cause: instruction, outcomes, and what they follow from.
    cause: String,
    count: u64,
    minimal: bool,
    implementation: Implementation,
    program: Program,
    /// Index of the operation in the program.
    step: usize,
    /// The operation's name.
    instruction: String,
    /// What the machine did.
    observed: String,
    /// What the architecture permits.
    permitted: Vec<String>,
    /// Checks that the entry violates, for an entry.
    violated: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<String>,
    changes: Vec<FieldChange>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    memory: Vec<MemoryWrite>,
    /// An explanation of each violated check in their order, or sentences.
    model: Vec<String>,
    machine: String,
}

impl From<CaseFile> for CaseText {
    fn from(file: CaseFile) -> Self {
        let cause = file.cause().to_string();
        let DisagreementText { step, permitted, observed, violated } = file.disagreement.into();
        Self {
            format: FORMAT.to_owned(),
            cause,
            count: file.count,
            minimal: file.minimal,
            implementation: file.implementation,
            program: file.program,
            step,
            instruction: name(file.instruction).to_owned(),
            observed,
            permitted,
            violated,
            base: file.base,
            changes: file.changes,
            memory: file.memory,
            model: file.model.iter().map(|reason| reason.text().to_owned()).collect(),
            machine: file.machine,
        }
    }
}

/// A text that has the keys of a case file, and is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum CaseTextError {
    #[error("expected the format {FORMAT:?}, found {0:?}")]
    Format(String),
    #[error(transparent)]
    Disagreement(#[from] DisagreementError),
    #[error("{0:?}: {1}")]
    Instruction(String, ParseStepError),
}

impl TryFrom<CaseText> for CaseFile {
    type Error = CaseTextError;

    fn try_from(text: CaseText) -> Result<Self, CaseTextError> {
        let CaseText { format, step, permitted, observed, violated, instruction, model, .. } = text;
        if format != FORMAT {
            return Err(CaseTextError::Format(format));
        }
        let instruction = match &*instruction {
            NOTHING => None,
            name => Some(name.parse().map_err(|error| CaseTextError::Instruction(name.to_owned(), error))?),
        };
        let disagreement = DisagreementText { step, permitted, observed, violated }.try_into()?;
        Ok(Self {
            count: text.count,
            minimal: text.minimal,
            implementation: text.implementation,
            program: text.program,
            instruction,
            model: reasons(model, &disagreement),
            disagreement,
            base: text.base,
            changes: text.changes,
            memory: text.memory,
            machine: text.machine,
        })
    }
}

impl Serialize for CaseFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        CaseText::from(self.clone()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CaseFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        CaseText::deserialize(deserializer)?.try_into().map_err(D::Error::custom)
    }
}

/// The reasons that texts are: explanations where there is one for each violated check.
fn reasons(texts: Vec<String>, disagreement: &Disagreement) -> Vec<ModelReason> {
    let violated = disagreement.violated();
    let explained = texts.len() as u64 == u64::from(violated.len());
    if !explained {
        return texts.into_iter().map(ModelReason::Sentence).collect();
    }
    let explanation = |(check, text)| ModelReason::Check(ExplanationText { about: About::Check(check), text });
    violated.iter().zip(texts).map(explanation).collect()
}

/// A file that holds no cases.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {message}")]
pub struct CaseFileError {
    /// The file.
    pub file: String,
    /// What is wrong, and where.
    pub message: String,
}

impl CaseFile {
    /// A name for the file, without an extension: the cause in letters, digits, dots and hyphens.
    #[must_use]
    pub fn file_stem(&self) -> String {
        /// Longest name; file systems allow 255 bytes.
        const LONGEST: usize = 120;
        let cause = self.cause().to_string();
        let mut stem = String::new();
        for c in cause.chars() {
            match c {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' => stem.push(c),
                _ if stem.ends_with('-') => {}
                _ => stem.push('-'),
            }
        }
        if stem.len() > LONGEST {
            // FNV-1a: the same for ever.
            let hash = cause
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
            stem.truncate(LONGEST - 17);
            let _ = write!(stem, "-{hash:016x}");
        }
        stem.trim_matches('-').to_owned()
    }

    /// The cases of a file: JSON values one after the other, over one line each or several.
    ///
    /// # Errors
    /// [`CaseFileError`] names the first that is not a case.
    pub fn read(path: &Path) -> Result<Vec<Self>, CaseFileError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&file, &text),
            Err(error) => Err(CaseFileError { file, message: error.to_string() }),
        }
    }

    /// The cases of the text of a file; `file` is what errors name.
    ///
    /// # Errors
    /// As [`CaseFile::read`].
    pub fn parse(file: &str, text: &str) -> Result<Vec<Self>, CaseFileError> {
        let wrong = |message: String| CaseFileError { file: file.to_owned(), message };
        let cases: Vec<Self> = serde_json::Deserializer::from_str(text)
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(format!("this is not a case: {error}")))?;
        if cases.is_empty() {
            return Err(wrong("there is no case in it".to_owned()));
        }
        Ok(cases)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::step::OpKind;

    /// A file as this format has been written from the first version on.
    fn file(step: usize, instruction: &str, observed: &str, permitted: &str, violated: Value, cause: &str) -> Value {
        json!({
            "format": "vmcs case 1", "cause": cause, "count": 3, "minimal": true,
            "implementation": {"name": "Metal", "version": "1", "model": "cpu"},
            "program": {"id": "a", "start": "vmx_root", "ops": [{"op": "vmlaunch"}, {"op": "observe", "state": true}]},
            "step": step, "instruction": instruction, "observed": observed, "permitted": [permitted],
            "violated": violated, "base": "rich",
            "changes": [{"field": "guest_rip", "from": "0x1", "to": "0x0", "bits": "bit 0"}],
            "model": ["ctl.vpid.nonzero: VMfailValid(7)\n  The rule."], "machine": "it entered"
        })
    }

    #[test]
    fn what_was_written_is_read_and_written_again() {
        let vpid = json!(["ctl.vpid.nonzero"]);
        for written in [
            file(
                0,
                "vmlaunch",
                "Entered",
                "VMfailValid(7)",
                vpid,
                "vmlaunch Entered instead of VMfailValid(7): ctl.vpid.nonzero",
            ),
            file(
                0,
                "vmlaunch",
                "EntryFailed(34, 3)",
                "Entered",
                json!([]),
                "vmlaunch EntryFailed(34 instead of Entered: guest_rip, rich image",
            ),
            file(
                1,
                "observe",
                "after the exit guest_rip is 0x5",
                "guest_rip is 0x0",
                json!([]),
                "after the exit guest_rip",
            ),
            file(7, "nothing", "crashed", "ok", json!([]), "nothing crashed instead of ok: guest_rip, rich image"),
        ] {
            let text = written.to_string();
            let cases = CaseFile::parse("f", &text).expect("a case file");
            assert_eq!(serde_json::to_value(&cases[0]).expect("it is JSON"), written);
        }
    }

    #[test]
    fn what_it_says_are_values() {
        let vpid = json!(["ctl.vpid.nonzero"]);
        let written = file(0, "vmlaunch", "Entered", "VMfailValid(7)", vpid, "");
        let [case] = &CaseFile::parse("f", &written.to_string()).expect("a case file")[..] else { panic!("one case") };
        assert_eq!(case.instruction, Some(OpKind::Vmlaunch));
        assert!(
            matches!(&case.model[..], [ModelReason::Check(explanation)] if explanation.about.to_string() == "ctl.vpid.nonzero")
        );
        let mut other = written.clone();
        other["instruction"] = json!("vmrun");
        assert!(CaseFile::parse("f", &other.to_string()).is_err());
        other = written;
        other["violated"] = json!(["ctl.no.such"]);
        assert!(CaseFile::parse("f", &other.to_string()).is_err());
    }
}
