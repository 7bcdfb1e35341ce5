//! Charts of throughput over time, as the coordinates of an SVG picture.

use vmcs_fuzz::campaign::timeline::Sample;

use crate::counts::{duration, short};

/// Size of the picture in its own units; the plot leaves room for the axes' labels.
pub(crate) const WIDTH: f64 = 640.0;
/// Height of the picture.
pub(crate) const HEIGHT: f64 = 200.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;
/// Points that are drawn; more samples are taken together.
const MOST_POINTS: usize = 80;

/// A picture of cases per second.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// `points` of a polyline: cases per second of wall time.
    pub(crate) wall: String,
    /// The same closed down to the axis, for the area below it.
    pub(crate) area: String,
    /// `points` of a polyline: cases per second of the target's CPU time; empty where it is not known.
    pub(crate) cpu: String,
    /// Lines across, with their labels.
    pub(crate) rates: Vec<Tick>,
    /// Marks along the axis of time.
    pub(crate) times: Vec<Tick>,
    /// What the picture shows, in a sentence.
    pub(crate) text: String,
}

/// A place on an axis.
#[derive(Clone, Debug)]
pub(crate) struct Tick {
    /// Coordinate.
    pub(crate) at: String,
    /// Text.
    pub(crate) label: String,
}

/// Cases per second over a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate {
    until: f64,
    wall: f64,
    cpu: Option<f64>,
}

impl Chart {
    /// The chart of a report's samples. There is none if no time passed.
    pub(crate) fn new(samples: &[Sample]) -> Option<Self> {
        let rates = rates(samples);
        let (begin, end) = begin_and_end(samples)?;
        let span = end - begin;
        let most = rates.iter().map(|rate| rate.wall.max(rate.cpu.unwrap_or(0.0))).fold(0.0, f64::max);
        if most <= 0.0 {
            return None;
        }
        let (step, top) = scale(most, 4.0);
        let x = |seconds: f64| LEFT + (seconds - begin) / span * (WIDTH - LEFT - RIGHT);
        let y = |rate: f64| HEIGHT - BOTTOM - rate / top * (HEIGHT - TOP - BOTTOM);
        let line = |of: &dyn Fn(&Rate) -> Option<f64>| -> String {
            let Some(start) = rates.iter().find_map(of) else {
                return String::new();
            };
            let points = rates.iter().filter_map(|rate| Some((x(rate.until), y(of(rate)?))));
            let all: Vec<_> =
                [(x(begin), y(start))].into_iter().chain(points).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            all.join(" ")
        };
        let wall = line(&|rate| Some(rate.wall));
        let area = format!("{:.1},{:.1} {wall} {:.1},{:.1}", x(begin), y(0.0), x(end), y(0.0));
        let ticks = |step: f64, end: f64| (0_u32..).map(move |n| step * f64::from(n)).take_while(move |at| *at <= end);
        let (time_step, _) = scale(span, 5.0);
        Some(Self {
            area,
            cpu: line(&|rate| rate.cpu),
            rates: ticks(step, top * 1.0001)
                .map(|rate| Tick { at: format!("{:.1}", y(rate)), label: short(rate) })
                .collect(),
            times: ticks(time_step, span * 1.0001)
                .map(|time| Tick { at: format!("{:.1}", x(begin + time)), label: duration(time) })
                .collect(),
            text: describe(&rates, samples, span),
            wall,
        })
    }
}

/// The samples of timelines with one clock, added.
pub(crate) fn together(timelines: &[&[Sample]]) -> Vec<Sample> {
    let mut times: Vec<f64> = timelines.iter().flat_map(|samples| samples.iter().map(|s| s.seconds)).collect();
    times.sort_by(f64::total_cmp);
    times.dedup();
    let sum = |seconds| {
        let mut sum = Sample { seconds, ..Sample::default() };
        for samples in timelines {
            let passed = samples.partition_point(|sample| sample.seconds <= seconds);
            if let Some(last) = passed.checked_sub(1).map(|index| samples[index]) {
                sum.cases += last.cases;
                sum.cpu_seconds += last.cpu_seconds;
            }
        }
        sum
    };
    times.into_iter().map(sum).collect()
}

/// The rates over stretches of equal length.
fn rates(samples: &[Sample]) -> Vec<Rate> {
    let Some((begin, end)) = begin_and_end(samples) else { return Vec::new() };
    let parts = samples.len().min(MOST_POINTS);
    // CPU time comes in lumps: each is set against the cases since the one before.
    let (mut before, mut lump) = ((0.0, 0.0), (0.0, 0.0));
    let mut rates = Vec::new();
    for part in 1..=parts {
        let until = begin + (end - begin) * part as f64 / parts as f64;
        let (cases, cpu) = at(samples, until);
        let in_lump = (cases - lump.0, cpu - lump.1);
        let known = in_lump.0 > 0.0 && in_lump.1 > 0.0;
        if known {
            lump = (cases, cpu);
        }
        let wall = (cases - before.0) / (end - begin) * parts as f64;
        rates.push(Rate { until, wall, cpu: known.then(|| in_lump.0 / in_lump.1) });
        before = (cases, cpu);
    }
    rates
}

/// The first and the last moment of the samples; `None` if no time passed between them.
fn begin_and_end(samples: &[Sample]) -> Option<(f64, f64)> {
    let (first, last) = (samples.first()?, samples.last()?);
    // A sample of no cases is the start.
    let begin = if first.cases == 0 { first.seconds } else { 0.0 };
    (last.seconds > begin).then_some((begin, last.seconds))
}

/// Cases and CPU time at one moment, between samples in proportion.
fn at(samples: &[Sample], seconds: f64) -> (f64, f64) {
    let passed = samples.partition_point(|sample| sample.seconds <= seconds);
    let before = passed.checked_sub(1).map(|index| samples[index]).unwrap_or_default();
    let after = samples.get(passed).copied().unwrap_or(before);
    let share = if after.seconds > before.seconds {
        (seconds - before.seconds) / (after.seconds - before.seconds)
    } else {
        0.0
    };
    let between = |before: f64, after: f64| before + share * (after - before);
    (between(before.cases as f64, after.cases as f64), between(before.cpu_seconds, after.cpu_seconds))
}

/// A step of 1, 2 or 5 times a power of ten that divides `most` into at most `parts`, and the multiple of it from which
/// `most` does not stick out.
fn scale(most: f64, parts: f64) -> (f64, f64) {
    let power = 10.0_f64.powf((most / parts).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| most / step <= parts).unwrap_or(most);
    (step, (most / step).ceil() * step)
}

/// The picture in words; `span` is its width in seconds.
fn describe(rates: &[Rate], samples: &[Sample], span: f64) -> String {
    let end = samples.last().copied().unwrap_or_default();
    let least = rates.iter().map(|rate| rate.wall).fold(f64::INFINITY, f64::min);
    let most = rates.iter().map(|rate| rate.wall).fold(0.0, f64::max);
    let mean = end.cases as f64 / span;
    let mut text = format!(
        "{} cases per second of wall time on average over {}, between {} and {}",
        short(mean),
        duration(span),
        short(least),
        short(most)
    );
    if end.cpu_seconds > 0.0 {
        text += &format!("; {} per second of the target’s CPU time", short(end.cases as f64 / end.cpu_seconds));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: f64, cases: u64, cpu_seconds: f64) -> Sample {
        Sample { seconds, cases, cpu_seconds }
    }

    #[test]
    fn rates_are_those_of_equal_stretches() {
        let samples = [sample(1.0, 100, 0.5), sample(2.0, 100, 0.5), sample(3.0, 500, 0.5), sample(4.0, 500, 1.0)];
        let rate = |until, wall, cpu| Rate { until, wall, cpu };
        let expected =
            [rate(1.0, 100.0, Some(200.0)), rate(2.0, 0.0, None), rate(3.0, 400.0, None), rate(4.0, 0.0, Some(800.0))];
        assert_eq!(rates(&samples), expected);
        // The start may be later than the clock's.
        assert_eq!(rates(&[sample(6.0, 0, 0.0), sample(10.0, 80, 0.0)])[1], rate(10.0, 20.0, None));
        let many: Vec<_> = (1..=1000).map(|n| sample(f64::from(n), 10 * n as u64, 0.0)).collect();
        assert_eq!(rates(&many).len(), MOST_POINTS);
        assert!(rates(&many).iter().all(|rate| (rate.wall - 10.0).abs() < 1e-6));
    }

    #[test]
    fn timelines_add_up() {
        let (one, two) = ([sample(1.0, 5, 1.0), sample(3.0, 9, 2.0)], [sample(2.0, 10, 0.0), sample(3.0, 20, 4.0)]);
        let sum = [sample(1.0, 5, 1.0), sample(2.0, 15, 1.0), sample(3.0, 29, 6.0)];
        assert_eq!(together(&[&one, &two]), sum);
    }

    #[test]
    fn no_time_no_chart() {
        assert!(Chart::new(&[]).is_none());
        assert!(Chart::new(&[sample(0.0, 5, 0.0)]).is_none());
        assert!(Chart::new(&[sample(2.0, 0, 0.0)]).is_none());
        let chart = Chart::new(&[sample(2.0, 5, 0.0)]).unwrap();
        assert_eq!(chart.cpu, "");
        assert!(chart.wall.starts_with("56.0,"), "{chart:?}");
    }

    #[test]
    fn scales_are_round() {
        assert_eq!(scale(19_600.0, 4.0), (5000.0, 20_000.0));
    }
}
