//! The question and the answer as JSON.

use serde::{Deserialize, Serialize};
use vmcs_case::profile::NamedProfile;
use vmcs_model::{Capabilities, CpuProfile};
use vmcs_texts::diagnosis::{self, Manner, PartialEntry, Point, Processor};
use vmcs_texts::dump;

/// What is asked about a text.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Question {
    /// The name of a profile, or the beginning of several; empty if the processor is not known.
    pub processor: String,
    /// With permitted outcomes, all that is undecided, and notes.
    pub verbose: bool,
    /// With changes after which the state enters.
    pub fix: bool,
}

/// The answers to a text.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reply {
    /// An answer for each dump, failed entries first.
    pub answers: Vec<Answer>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The answer for one dump.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// 0 if no check is violated, 1 if one is, 3 if an entry failed and nothing explains it.
    pub status: u8,
    /// The answer: its first section is the first sentence.
    pub sections: Vec<Section>,
}

/// A part of an answer.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Section {
    /// A paragraph.
    Paragraph {
        /// Its text.
        paragraph: String,
    },
    /// Points under a sentence.
    Points {
        /// The sentence.
        heading: String,
        /// The points: a title, and lines under it.
        points: Vec<SectionPoint>,
    },
}

/// A point of a section.
#[derive(Clone, Debug, Serialize)]
pub struct SectionPoint {
    /// What it is about.
    pub title: String,
    /// What is said of it.
    pub lines: Vec<String>,
}

impl Reply {
    /// The reply that there is no answer.
    #[must_use]
    pub fn error(error: String) -> Self {
        Self { answers: Vec::new(), error: Some(error) }
    }
}

/// Answers a question about a text.
#[must_use]
pub fn reply(text: &[u8], question: &Question) -> Reply {
    let text = String::from_utf8_lossy(text);
    let profile = match question.processor.as_str() {
        "" => CpuProfile::default(),
        name => match NamedProfile::by_name(name) {
            Ok(named) => named.profile.clone(),
            Err(error) => return Reply::error(error.to_string()),
        },
    };
    let dumps = dump::find(&text);
    let answers = dumps.into_iter().map(|dump| {
        let entry = PartialEntry::of_dump(dump);
        let capabilities = Capabilities::new(&entry.processor(&profile));
        let diagnosis = entry.diagnose(&capabilities);
        let fix = question.fix.then(|| diagnosis.fix());
        let manner = Manner { verbose: question.verbose, fix: fix.as_ref() };
        let sections = diagnosis.sections(&Processor::default(), manner).into_iter().map(Section::from).collect();
        Answer { status: diagnosis.status(), sections }
    });
    Reply { answers: answers.collect(), error: None }
}

impl From<diagnosis::Section> for Section {
    fn from(section: diagnosis::Section) -> Self {
        match section {
            diagnosis::Section::Paragraph(paragraph) => Self::Paragraph { paragraph },
            diagnosis::Section::Points { heading, points } => Self::Points {
                heading,
                points: points.into_iter().map(|Point { title, lines }| SectionPoint { title, lines }).collect(),
            },
        }
    }
}
