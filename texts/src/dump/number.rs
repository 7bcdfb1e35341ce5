//! Numbers as programs print them.

/// A number as it is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Printed<'t> {
    /// Its digits, without what stands before, behind and between them.
    digits: String,
    /// It is hexadecimal whatever the numbers beside it are: it has the prefix 0x, the suffix h, a letter among its digits, or
    /// a separator within.
    pub(super) hexadecimal: bool,
    /// It says so itself, by prefix, suffix or separator.
    pub(super) marked: bool,
    /// It is printed in binary digits, so that its length says nothing of its hexadecimal digits.
    pub(super) binary: bool,
    /// What follows.
    pub(super) rest: &'t str,
}

/// Stands between groups of digits.
const SEPARATORS: [char; 2] = ['_', '`'];

impl<'t> Printed<'t> {
    /// Reads the number at the begin of `text`; `None` if there is none, or something else follows without a gap.
    pub(super) fn read(text: &'t str) -> Option<Self> {
        let prefixed = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        let body = prefixed.unwrap_or(text);
        let end = body.find(|c: char| !c.is_ascii_alphanumeric() && !SEPARATORS.contains(&c)).unwrap_or(body.len());
        let (mut word, rest) = body.split_at(end);
        let ends = match rest.chars().next() {
            None => true,
            Some('.') => rest.len() == 1,
            Some(c) => c.is_whitespace() || ",;)]}>({\"'|/\\".contains(c),
        };
        let mut marked = prefixed.is_some();
        if marked {
            for suffix in ["_u64", "u64", "u32", "u16", "ULL", "UL", "LL", "L", "U", "ull", "ul"] {
                word = word.strip_suffix(suffix).unwrap_or(word);
            }
        } else if let Some(digits) = word.strip_suffix(['h', 'H']) {
            (word, marked) = (digits, true);
        }
        let separated = word.contains(SEPARATORS);
        marked |= separated;
        let digits: String = word.chars().filter(|c| !SEPARATORS.contains(c)).collect();
        let number = |c: u8| c.is_ascii_digit();
        let letters = digits.bytes().any(|c| !number(c));
        // A word such as "bad" is none, unless it fills 16, 32 or 64 bits.
        let word = !marked && letters && !digits.bytes().any(number) && !matches!(digits.len(), 4 | 8 | 16);
        let edges = body[..end].starts_with(SEPARATORS) || body[..end].ends_with(SEPARATORS);
        let valid = ends && !word && !edges && !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_hexdigit());
        valid.then_some(Self { digits, hexadecimal: marked || letters, marked, binary: false, rest })
    }

    /// As [`Self::read`], where numbers may also be printed in binary digits, as 0b101.
    pub(super) fn read_of_any_base(text: &'t str) -> Option<Self> {
        let Some(body) = text.strip_prefix("0b").or_else(|| text.strip_prefix("0B")) else { return Self::read(text) };
        let end = body.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(body.len());
        let word = &body[..end];
        if !word.bytes().all(|c| matches!(c, b'0' | b'1' | b'_')) {
            return Self::read(text);
        }
        // Read as a hexadecimal number for the sake of what may follow a number.
        let read = Self::read(text).filter(|_| !word.is_empty())?;
        let digits: String = word.chars().filter(|c| *c != '_').collect();
        let value = u128::from_str_radix(&digits, 2).ok()?;
        Some(Self { digits: format!("{value:x}"), hexadecimal: true, marked: true, binary: true, rest: read.rest })
    }

    /// Its value as a hexadecimal number, if it fits 64 bits.
    pub(super) fn hex(&self) -> Option<u64> {
        u64::from_str_radix(&self.digits, 16).ok()
    }

    /// Its value as a decimal number, if it can be one and fits 64 bits.
    pub(super) fn decimal(&self) -> Option<u64> {
        (!self.hexadecimal).then(|| self.digits.parse().ok()).flatten()
    }

    /// Its value by what it shows of itself: hexadecimal if it is marked so, else decimal.
    pub(super) fn value(&self) -> Option<u64> {
        if self.hexadecimal { self.hex() } else { self.decimal() }
    }

    /// Whether it has as many digits as a field of so many bits, or more.
    pub(super) fn fills(&self, bits: u32) -> bool {
        self.digits.len() * 4 >= bits as usize
    }

    /// Whether zeros make it as long as a field of 16, 32 or 64 bits.
    pub(super) fn padded(&self) -> bool {
        matches!(self.digits.len(), 4 | 8 | 16) && self.digits.starts_with('0')
    }

    /// Whether its first digit is 0.
    pub(super) fn begins_with_zero(&self) -> bool {
        self.digits.starts_with('0')
    }

    /// How many digits it has.
    pub(super) fn len(&self) -> usize {
        self.digits.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_the_ways_in_which_they_are_printed() {
        for (text, value, rest) in [
            ("0x10", 0x10, ""),
            ("0XFFFF,", 0xFFFF, ","),
            ("0x10UL)", 0x10, ")"),
            ("10h", 0x10, ""),
            ("0A09Bh ", 0xA09B, " "),
            ("a09b", 0xA09B, ""),
            ("ffff", 0xFFFF, ""),
            ("41115", 41115, ""),
            ("0x00000000_00000010", 0x10, ""),
            ("fffff800`00000000", 0xFFFF_F800_0000_0000, ""),
            ("18446744073709551615", u64::MAX, ""),
            ("33 (VM-entry failure)", 33, " (VM-entry failure)"),
        ] {
            let printed = Printed::read(text).expect(text);
            assert_eq!((printed.value(), printed.rest), (Some(value), rest), "{text}");
        }
        assert_eq!(Printed::read("0x1ffffffffffffffff").and_then(|printed| printed.value()), None);
        for text in [
            "",
            "0x",
            "bad",
            "added",
            "h",
            "0x12g4",
            "0x1…",
            "0x1...",
            "12:30",
            "0x12_",
            "_12",
            "????",
            "INVALID_VALUE",
            "-1",
            "+1",
            "0x12[3",
            "0x12z",
        ] {
            assert_eq!(Printed::read(text), None, "{text}");
        }
    }

    #[test]
    fn binary_digits_are_no_hexadecimal_ones() {
        for (text, value, rest) in [
            ("0b10", 0b10, ""),
            ("0b10000000000001010000000000110011,", 0x8005_0033, ","),
            ("0B1000_0010 ", 0x82, " "),
            ("0b12", 0xB12, ""),
            ("0x0b10", 0xB10, ""),
        ] {
            let printed = Printed::read_of_any_base(text).expect(text);
            assert_eq!((printed.value(), printed.rest), (Some(value), rest), "{text}");
        }
        for text in ["0b", "0b10…", "0b10x", "0o17", "0b_"] {
            assert_eq!(Printed::read_of_any_base(text), None, "{text}");
        }
    }

    #[test]
    fn width_shows_that_a_number_is_whole() {
        let read = |text| Printed::read(text).expect("a number");
        assert!(read("0x0000000000000010").fills(64) && !read("0x10").fills(64) && read("0x0010").fills(16));
        assert!(read("00000010").padded() && !read("10").padded() && !read("00010").padded());
    }
}
