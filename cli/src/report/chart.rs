//! Throughput over time, as the coordinates of an SVG picture.

use vmcs_fuzz::timeline::Sample;

/// Size of the picture in its own units; the plot leaves room for the axes' labels.
pub(crate) const WIDTH: f64 = 640.0;
/// Height of the picture.
pub(crate) const HEIGHT: f64 = 200.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;
/// Points that are drawn; more samples are taken together.
const MOST_POINTS: usize = 160;

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
        let (first, last) = (rates.first()?, rates.last()?);
        let begin = samples.first().filter(|sample| sample.seconds < first.until).map_or(0.0, |sample| sample.seconds);
        let span = last.until - begin;
        let most = rates.iter().map(|rate| rate.wall.max(rate.cpu.unwrap_or(0.0))).fold(0.0, f64::max);
        if span <= 0.0 || most <= 0.0 {
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
        let area = format!("{:.1},{:.1} {wall} {:.1},{:.1}", x(begin), y(0.0), x(last.until), y(0.0));
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
            text: describe(&rates, samples),
            wall,
        })
    }
}

/// The rates between samples, few enough to draw.
fn rates(samples: &[Sample]) -> Vec<Rate> {
    let every = samples.len().div_ceil(MOST_POINTS).max(1);
    let mut before = Sample::default();
    if let Some(first) = samples.first().filter(|first| first.cases == 0) {
        before = *first;
    }
    let last = samples.len().saturating_sub(1);
    let chosen = samples.iter().enumerate().filter(|(i, _)| (i + 1) % every == 0 || *i == last);
    let mut rates = Vec::new();
    for (_, sample) in chosen {
        let seconds = sample.seconds - before.seconds;
        if seconds <= 0.0 || sample.cases < before.cases {
            continue;
        }
        let cases = (sample.cases - before.cases) as f64;
        let cpu = sample.cpu_seconds - before.cpu_seconds;
        rates.push(Rate { until: sample.seconds, wall: cases / seconds, cpu: (cpu > 0.0).then(|| cases / cpu) });
        before = *sample;
    }
    rates
}

/// A step of 1, 2 or 5 times a power of ten that divides `most` into at most `parts`, and the multiple of it from which
/// `most` does not stick out.
fn scale(most: f64, parts: f64) -> (f64, f64) {
    let power = 10.0_f64.powf((most / parts).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| most / step <= parts).unwrap_or(most);
    (step, (most / step).ceil() * step)
}

fn describe(rates: &[Rate], samples: &[Sample]) -> String {
    let end = samples.last().copied().unwrap_or_default();
    let least = rates.iter().map(|rate| rate.wall).fold(f64::INFINITY, f64::min);
    let most = rates.iter().map(|rate| rate.wall).fold(0.0, f64::max);
    let mean = end.cases as f64 / end.seconds;
    let mut text = format!(
        "{} cases per second of wall time on average over {}, between {} and {}",
        short(mean),
        duration(end.seconds),
        short(least),
        short(most)
    );
    if end.cpu_seconds > 0.0 {
        text += &format!("; {} per second of the target’s CPU time", short(end.cases as f64 / end.cpu_seconds));
    }
    text
}

/// `950`, `12.5k`, `1.2M`.
pub(crate) fn short(number: f64) -> String {
    let (value, unit) = match number {
        n if n >= 1e6 => (n / 1e6, "M"),
        n if n >= 1e4 => (n / 1e3, "k"),
        n => (n, ""),
    };
    let digits = usize::from(value < 100.0 && value.fract().abs() > 0.05 && (value < 10.0 || !unit.is_empty()));
    format!("{value:.digits$}{unit}")
}

/// `8 s`, `2.5 min`, `3 h`.
pub(crate) fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 7200.0 => (s / 3600.0, "h"),
        s if s >= 120.0 => (s / 60.0, "min"),
        s => (s, "s"),
    };
    let text = format!("{value:.1}");
    format!("{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: f64, cases: u64, cpu_seconds: f64) -> Sample {
        Sample { seconds, cases, cpu_seconds }
    }

    #[test]
    fn rates_are_those_between_samples() {
        let samples = [sample(1.0, 100, 0.5), sample(1.0, 100, 0.5), sample(3.0, 500, 0.5), sample(4.0, 500, 1.0)];
        let found = rates(&samples);
        assert_eq!(found[0], Rate { until: 1.0, wall: 100.0, cpu: Some(200.0) });
        assert_eq!(found[1], Rate { until: 3.0, wall: 200.0, cpu: None });
        assert_eq!(found[2], Rate { until: 4.0, wall: 0.0, cpu: Some(0.0) });
        assert_eq!(found.len(), 3);
        let many: Vec<_> = (1..=1000).map(|n| sample(f64::from(n), 10 * n as u64, 0.0)).collect();
        assert!(rates(&many).len() <= MOST_POINTS + 1);
        assert_eq!(rates(&many).last().map(|rate| rate.until), Some(1000.0));
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
    fn numbers_are_short() {
        assert_eq!(
            [950.0, 2.5, 20.0, 12_500.0, 25_800.0, 1.2e6].map(short),
            ["950", "2.5", "20", "12.5k", "25.8k", "1.2M"]
        );
        assert_eq!([8.0, 0.5, 150.0, 10_800.0].map(duration), ["8 s", "0.5 s", "2.5 min", "3 h"]);
        assert_eq!(scale(19_600.0, 4.0), (5000.0, 20_000.0));
    }
}
