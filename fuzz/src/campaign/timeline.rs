//! How many cases a campaign executed over time. This does not belong to a
//! [`CampaignReport`](crate::campaign::CampaignReport), because a report depends only on the cases and the target's answers.

use serde::{Deserialize, Serialize};

/// How far a campaign was at one moment. Samples of one report are in the order of time, and nothing in them decreases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Wall time since the command began, in seconds. Where it was interrupted and resumed the pause does not count.
    pub seconds: f64,
    /// Cases of the report that were observed until then.
    pub cases: u64,
    /// CPU time of the target's processes until then, in seconds; 0 where nobody could tell.
    pub cpu_seconds: f64,
}

/// How one report came about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeline {
    /// The command line. Reports that one command made share it.
    pub command: String,
    /// Now and then, and at the end.
    pub samples: Vec<Sample>,
}

/// Samples that a timeline has at most.
const MOST: usize = 1000;

impl Timeline {
    /// Adds a sample that is not before the last one. Samples that lie close together are thinned out.
    pub fn add(&mut self, sample: Sample) {
        // The last sample is always kept, and a later one may take its place.
        if let [.., before, last] = self.samples.as_mut_slice()
            && sample.seconds - before.seconds < sample.seconds / (MOST as f64)
        {
            *last = sample;
            return;
        }
        self.samples.push(sample);
        if self.samples.len() > MOST {
            let mut keep = false;
            self.samples.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// The last sample: what the whole took.
    #[must_use]
    pub fn end(&self) -> Sample {
        self.samples.last().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_timeline_is_thinned_out_and_keeps_its_end() {
        let mut timeline = Timeline::default();
        for cases in 0..100_000 {
            timeline.add(Sample { seconds: cases as f64, cases, cpu_seconds: 0.0 });
            assert_eq!(timeline.end().cases, cases);
        }
        assert!((100..=MOST).contains(&timeline.samples.len()), "{}", timeline.samples.len());
        assert!(timeline.samples.is_sorted_by_key(|sample| sample.cases));
    }
}
