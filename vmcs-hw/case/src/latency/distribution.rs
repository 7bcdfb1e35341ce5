//! The distribution of samples: minimum, median, percentiles and a histogram.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Values are kept to so many significant digits: exactly up to 32,767, and larger ones to one part in ten thousand.
const DIGITS: u8 = 4;

/// The distribution of samples. The minimum shows how fast the machine can be, and the 99th percentile how long an entry
/// takes when something interrupts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// The smallest sample.
    pub min: u64,
    /// Half of the samples are at most that.
    pub median: u64,
    /// 99 of 100 samples are at most that.
    pub p99: u64,
    /// The largest sample.
    pub max: u64,
    /// Values in ascending order, each with how many samples have it.
    pub histogram: Vec<(u64, u64)>,
}

impl Distribution {
    /// The distribution of samples; all 0 if there are none.
    ///
    /// # Panics
    /// Never on a 64-bit host, which has memory for every histogram.
    #[must_use]
    pub fn new(samples: impl Iterator<Item = u64>) -> Self {
        let mut histogram: Histogram<u64> = Histogram::new(DIGITS).expect("between 0 and 5 digits");
        for sample in samples {
            histogram.record(sample).expect("a histogram grows as far as 64 bits reach");
        }
        Self {
            min: histogram.min(),
            median: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
            histogram: histogram.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value())).collect(),
        }
    }

    /// How many samples lie in each of `bins` equal parts of what is between [`Self::min`] and [`Self::p99`]. The few
    /// beyond are left out.
    #[must_use]
    pub fn bins(&self, bins: usize) -> Vec<u64> {
        let mut counts = vec![0; bins];
        let width = (self.p99.saturating_sub(self.min) + 1) as u128;
        for (value, count) in &self.histogram {
            let place = u128::from(value.saturating_sub(self.min)) * bins as u128 / width;
            if let Some(bin) = usize::try_from(place).ok().and_then(|place| counts.get_mut(place)) {
                *bin += count;
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_samples() {
        let distribution = Distribution::new((1..=99).chain([1_000_000]));
        assert_eq!((distribution.min, distribution.median, distribution.p99), (1, 50, 99));
        // To a ten-thousandth.
        assert!(distribution.max.abs_diff(1_000_000) <= 100, "{}", distribution.max);
        assert_eq!(distribution.histogram.len(), 100);
        assert_eq!(distribution.bins(9), [11; 9]);
    }

    #[test]
    fn one_value_and_none() {
        let constant = Distribution::new([7; 20].into_iter());
        assert_eq!((constant.min, constant.median, constant.p99, constant.max), (7, 7, 7, 7));
        assert_eq!(constant.histogram, [(7, 20)]);
        assert_eq!(constant.bins(4), [20, 0, 0, 0]);
        let none = Distribution::new([].into_iter());
        assert_eq!((none.median, none.histogram), (0, vec![]));
    }

    #[test]
    fn what_a_file_may_say_has_bins_too() {
        // Not sorted, and beyond any sample.
        let wild = Distribution { min: u64::MAX, median: 0, p99: 0, max: 0, histogram: vec![(u64::MAX, 1), (0, 2)] };
        assert_eq!(wild.bins(3), [3, 0, 0]);
        let wide = Distribution { min: 0, p99: u64::MAX - 1, ..wild };
        assert_eq!(wide.bins(2).iter().sum::<u64>(), 2);
    }
}
