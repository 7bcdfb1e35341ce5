//! The results of a measurement, and the file that holds them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Distribution, Sampled, Samples, Scenario};
use crate::target::Implementation;

/// Version of the files that are written, and the only one that is read.
const VERSION: u32 = 1;

/// What the time-stamp counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Cycles of a processor's time-stamp counter.
    #[serde(rename = "cycles")]
    Cycles,
    /// Instructions that an emulator has executed.
    #[serde(rename = "emulated instructions")]
    EmulatedInstructions,
}

impl Unit {
    /// What it is on that implementation: Bochs counts instructions, also for what runs on it.
    #[must_use]
    pub fn of(implementation: &Implementation) -> Self {
        let mut layers = std::iter::successors(Some(implementation), |layer| layer.on.as_deref());
        if layers.any(|layer| layer.name == "Bochs") { Self::EmulatedInstructions } else { Self::Cycles }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cycles => "cycles of the time-stamp counter",
            Self::EmulatedInstructions => "emulated instructions, not a time",
        })
    }
}

/// What was measured on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyReport {
    /// Version of the file.
    pub version: u32,
    /// The machine.
    pub implementation: Implementation,
    /// What the numbers are.
    pub unit: Unit,
    /// Rounds that were counted of each scenario.
    pub rounds: u16,
    /// What the measurement itself takes; its median is subtracted from every sample.
    pub overhead: Distribution,
    /// The scenarios.
    pub rows: Vec<LatencyRow>,
}

/// What was measured of a scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyRow {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub shows: String,
    /// How its entries end.
    pub outcome: String,
    /// What came out.
    pub result: LatencyResult,
}

/// What came out of a scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatencyResult {
    /// It was measured.
    Measured(Distribution),
    /// The processor lacks something: what.
    Skipped(String),
    /// It did not go as it should: how.
    Failed(String),
}

/// A file that is no report of this version.
#[derive(Debug, thiserror::Error)]
pub enum LatencyReportError {
    /// It is of another version.
    #[error("it has version {0}, and this program reads version {VERSION}: measure anew")]
    Version(u64),
    /// It is something else.
    #[error("it is no report of measured entries")]
    Json(#[from] serde_json::Error),
}

impl LatencyReport {
    /// What [`super::sample`] has measured of `scenarios`.
    #[must_use]
    pub fn new(implementation: Implementation, rounds: u16, scenarios: &[&Scenario], samples: &Samples) -> Self {
        let row = |(scenario, sampled): (&&Scenario, &Sampled)| LatencyRow {
            name: scenario.name.to_owned(),
            shows: scenario.shows.to_owned(),
            outcome: scenario.outcome().to_string(),
            result: match sampled {
                Sampled::Measured(samples) => LatencyResult::Measured(Distribution::new(samples.iter().copied())),
                Sampled::Skipped(missing) => LatencyResult::Skipped(missing.to_string()),
                Sampled::Failed(how) => LatencyResult::Failed(how.clone()),
            },
        };
        Self {
            version: VERSION,
            unit: Unit::of(&implementation),
            implementation,
            rounds,
            overhead: Distribution::new(samples.overhead.iter().copied()),
            rows: scenarios.iter().zip(&samples.scenarios).map(row).collect(),
        }
    }

    /// The file.
    ///
    /// # Panics
    /// Never: everything in it can be written.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a report is JSON")
    }

    /// Reads what [`LatencyReport::to_json`] wrote.
    ///
    /// # Errors
    /// [`LatencyReportError`].
    pub fn from_json(text: &str) -> Result<Self, LatencyReportError> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version != u64::from(VERSION) => Err(LatencyReportError::Version(version)),
            _ => Ok(serde_json::from_value(value)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn implementation(name: &str, on: Option<Implementation>) -> Implementation {
        Implementation { name: name.to_owned(), version: "1".to_owned(), model: "m".to_owned(), on: on.map(Box::new) }
    }

    fn report() -> LatencyReport {
        let scenarios: Vec<_> = Scenario::all().iter().take(3).collect();
        let samples = Samples {
            overhead: vec![20; 3],
            scenarios: vec![
                Sampled::Measured(vec![1000, 1010, 1020]),
                Sampled::Skipped(super::super::Missing("EPT")),
                Sampled::Failed("the machine hung".to_owned()),
            ],
        };
        LatencyReport::new(implementation("metal", None), 3, &scenarios, &samples)
    }

    #[test]
    fn a_report_survives_its_file() {
        let text = report().to_json();
        assert_eq!(LatencyReport::from_json(&text).expect("it is one"), report(), "{text}");
        for part in
            [r#""version":1"#, r#""unit":"cycles""#, r#""median":1010"#, r#""skipped":"the processor has no EPT""#]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn other_files_are_refused() {
        let text = report().to_json();
        let newer = text.replace(r#""version":1"#, r#""version":2"#);
        assert!(matches!(LatencyReport::from_json(&newer), Err(LatencyReportError::Version(2))));
        for wrong in ["", "{}", "[1]", &text.replace("metal", "\u{0}"), &text.replace(r#""cycles""#, r#""seconds""#)] {
            assert!(matches!(LatencyReport::from_json(wrong), Err(LatencyReportError::Json(_))), "{wrong}");
        }
    }

    #[test]
    fn what_runs_on_bochs_counts_instructions() {
        let bochs = || implementation("Bochs", None);
        assert_eq!(Unit::of(&bochs()), Unit::EmulatedInstructions);
        assert_eq!(Unit::of(&implementation("KVM", Some(bochs()))), Unit::EmulatedInstructions);
        assert_eq!(Unit::of(&implementation("KVM", None)), Unit::Cycles);
    }
}
