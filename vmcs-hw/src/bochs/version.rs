//! Versions of Bochs.

use std::fmt;

/// Version of Bochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BochsVersion {
    /// Number before the point.
    pub major: u32,
    /// Number after the point.
    pub minor: u32,
}

impl BochsVersion {
    /// The oldest version that is supported.
    pub const OLDEST: Self = Self { major: 2, minor: 7 };

    /// Reads "2.7" or "3.1.devel".
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|number| number.trim().parse().ok());
        Some(Self { major: numbers.next()??, minor: numbers.next()?? })
    }
}

impl fmt::Display for BochsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        assert_eq!(BochsVersion::parse("2.7"), Some(BochsVersion { major: 2, minor: 7 }));
        assert_eq!(BochsVersion::parse("3.1.devel"), Some(BochsVersion { major: 3, minor: 1 }));
        assert_eq!(BochsVersion::parse("new"), None);
        assert!(BochsVersion::parse("2.6.11") < Some(BochsVersion::OLDEST));
    }
}
