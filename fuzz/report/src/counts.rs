//! Writing counts, rates and durations for people.

use indicatif::HumanCount;

/// `12,345`.
pub(crate) fn count(n: u64) -> String {
    HumanCount(n).to_string()
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

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [950.0, 2.5, 20.0, 12_500.0, 25_800.0, 1.2e6].map(short),
            ["950", "2.5", "20", "12.5k", "25.8k", "1.2M"]
        );
        assert_eq!([8.0, 0.5, 150.0, 10_800.0].map(duration), ["8 s", "0.5 s", "2.5 min", "3 h"]);
    }
}
