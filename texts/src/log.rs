//! Removing from a log what loggers, consoles and mail programs have added.

/// A line of a log without its prefixes: timestamps, log levels, tags and quoting marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number in the log, counted from 1.
    pub number: usize,
    /// What is left of it, without white space around and control characters.
    pub text: String,
    /// Something stood before it that was removed: then it is not the rest of the line before, wrapped by a mail program.
    pub prefixed: bool,
    /// It has the prefix `(XEN)` of a Xen console.
    pub xen: bool,
    /// The log ends within it: its last number may lack digits.
    pub cut: bool,
    /// How many characters it has in the log, prefixes included. A program that cuts lines at a width cuts these.
    pub width: usize,
}

/// What ends a prefix, wherever it stands in the line.
const TAGS: [&str; 6] = ["kvm_intel: ", "kernel: ", "/netbsd: ", "haxm_warning: ", "haxm_error: ", "haxm_info: "];

/// The lines of a log.
#[must_use]
pub fn lines(log: &str) -> Vec<Line> {
    let quoted_printable = log.contains("=3D");
    let unwrapped = if quoted_printable { log.replace("=\r\n", "").replace("=\n", "") } else { String::new() };
    let log = if quoted_printable { unwrapped.replace("=3D", "=") } else { log.to_owned() };
    let mut lines: Vec<_> = log
        .lines()
        .zip(1..)
        .map(|(line, number)| {
            let rest = payload(line);
            let text = rest.chars().filter(|c| !c.is_control() || *c == '\t').collect();
            let (prefixed, xen) = (rest.len() != line.trim().len(), line.contains("(XEN)"));
            Line { number, text, prefixed, xen, cut: false, width: line.chars().count() }
        })
        .collect();
    if let Some(last) = lines.last_mut() {
        last.cut = !log.ends_with('\n');
    }
    lines
}

/// The line without its prefixes.
fn payload(line: &str) -> &str {
    let mut rest = line.trim();
    // The last of all tags: a log of nothing but prefixes is read in one go, too.
    if let Some(end) = TAGS.iter().filter_map(|tag| rest.rfind(tag).map(|at| at + tag.len())).max() {
        rest = &rest[end..];
    }
    loop {
        let before = rest.len();
        rest = rest.trim_start_matches(['>', '|']).trim_start();
        rest = rest.strip_prefix("(XEN)").unwrap_or(rest).trim_start();
        for (open, close) in [('[', ']'), ('<', '>')] {
            if let Some((stamp, after)) = rest.strip_prefix(open).and_then(|stamp| stamp.split_once(close))
                && stamp.chars().all(|c| c.is_ascii_alphanumeric() || " .:-+".contains(c))
            {
                rest = after.trim_start();
            }
        }
        if rest.len() == before {
            return rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_go() {
        for line in [
            "RSP = 0x1",
            "[ 2311.499051] kvm_intel: RSP = 0x1",
            "[ 2311.499051] [T1234] RSP = 0x1",
            "Jun 24 17:25:51 host kernel: RSP = 0x1",
            "Jun 24 17:25:51 host kernel: [  12.1] kvm_intel: RSP = 0x1",
            "> > (XEN) RSP = 0x1",
            "(XEN) [2019-05-01 10:00:00.123] RSP = 0x1",
            "<4>[12.1] RSP = 0x1\r",
            "Jun 16 15:07:09 localhost /netbsd: [ 1776.3439261] haxm_warning: RSP = 0x1",
        ] {
            assert_eq!(payload(line), "RSP = 0x1", "{line}");
        }
        let read =
            |log| -> Vec<_> { lines(log).into_iter().map(|line| (line.text, line.prefixed, line.cut)).collect() };
        assert_eq!(read("(XEN) a\nb\n"), [("a".to_owned(), true, false), ("b".to_owned(), false, false)]);
        assert_eq!(read("RSP =3D 0x=\n1\n"), [("RSP = 0x1".to_owned(), false, false)]);
        assert_eq!(read("RSP = 0x1"), [("RSP = 0x1".to_owned(), false, true)]);
    }
}
