//! The answer to a program as JSON: how each of its operations ended.

use serde::{Serialize, Serializer};
use vmcs_wire::StepResult;

use crate::case::{End, Observation, Session};
use crate::number::Number;
use crate::program::{FieldKey, Program, ProgramError, result_text};

/// What became of a program: what `vmcs run` prints for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProgramAnswer {
    /// The program's name.
    pub id: String,
    /// How each of its lines ended. A line of several operations ends as the first that does not succeed.
    pub results: Vec<String>,
    /// The value that each line produced, if it did.
    pub values: Vec<Option<Number>>,
    /// For each line what it has measured, if it did; empty for a program that measures nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Option<Vec<u64>>>,
    /// What each observe has read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<FieldValues>,
    /// What the program did to the machine, if that could not complete it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
}

/// Fields and what they hold, in the order of the session's lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldValues(pub Vec<(FieldKey, Number)>);

impl Serialize for FieldValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(field, value)| (field.to_string(), value)))
    }
}

impl ProgramAnswer {
    /// The answer to `program`, whose case was observed so in `session`.
    ///
    /// # Errors
    /// [`ProgramError`] for what is no program, and has no case.
    pub fn new(program: &Program, observation: &Observation, session: &Session) -> Result<Self, ProgramError> {
        let (setup, lines) = program.extents()?;
        let mut steps = observation.steps.iter().skip(setup);
        let mut results = Vec::with_capacity(lines.len());
        let mut values = Vec::with_capacity(lines.len());
        let mut samples = Vec::with_capacity(lines.len());
        for ops in lines {
            let parts: Vec<_> = steps.by_ref().take(ops).collect();
            let decisive = parts.iter().find(|step| !matches!(step, StepResult::Ok)).or(parts.last());
            results.push(decisive.map_or_else(|| result_text(&StepResult::<()>::NotRun), |step| result_text(step)));
            values.push(match decisive {
                Some(StepResult::Value(value)) => Some(Number(*value)),
                _ => None,
            });
            samples.push(match decisive {
                Some(StepResult::Timed { samples, .. }) => Some(samples.clone()),
                _ => None,
            });
        }
        if samples.iter().all(Option::is_none) {
            samples.clear();
        }
        let end = match &observation.end {
            End::Completed => None,
            End::Crashed { detail } => Some(format!("the machine crashed: {detail}")),
            End::Hung => Some("the machine hung".to_owned()),
        };
        // Without state the list is shorter.
        let key = |encoding| FieldKey::of(u64::from(encoding));
        let fields = |step: &StepResult<Vec<u64>>| match step {
            StepResult::Fields(values) => {
                let named = session.fields_observed(true).zip(values);
                Some(FieldValues(named.map(|(encoding, value)| (key(encoding), Number(*value))).collect()))
            }
            _ => None,
        };
        let observed = observation.steps.iter().filter_map(fields).collect();
        Ok(Self { id: program.id.clone(), results, values, samples, observed, end })
    }
}
