//! The question and the answer as JSON.

use serde::{Deserialize, Serialize};
use vmcs_texts::diagnosis::{self, Manner, Point};
use vmcs_texts::explanation::{Explained, explain};
use vmcs_texts::input::Log;
use vmcs_texts::known_processor::KnownProcessor;
use vmcs_texts::question;

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

/// Answers a question about a text, which may be compressed.
#[must_use]
pub fn reply(text: &[u8], question: &Question) -> Reply {
    let processor = match question.processor.as_str() {
        "" => None,
        name => match KnownProcessor::by_name(name) {
            Ok(known) => Some(known),
            Err(error) => return Reply::error(error.to_string()),
        },
    };
    let log = match Log::read(text) {
        Ok(log) => log,
        Err(error) => return Reply::error(error.to_string()),
    };
    let asked = match question::Question::new(log, None, None) {
        Ok(asked) => asked,
        Err(nothing) => return Reply::error(nothing.to_string()),
    };
    let manner = Manner { verbose: question.verbose, options: false };
    let explained = explain(&asked, processor.as_ref(), manner, question.fix);
    let answer = |explained: Explained| Answer {
        status: explained.status,
        sections: explained.sections.into_iter().map(Section::from).collect(),
    };
    Reply { answers: explained.into_iter().map(answer).collect(), error: None }
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
