//! Removing from a log what loggers, consoles and mail programs have added.

/// Stands before every line that lost a prefix, so that nothing is taken for the continuation of the line before.
pub(super) const START: char = '\u{1e}';

/// Ends a text that is cut off within a line: its last number may lack digits.
pub(super) const CUT: char = '\u{1f}';

/// What ends a prefix, wherever it stands in the line.
const TAGS: [&str; 6] = ["kvm_intel: ", "kernel: ", "/netbsd: ", "haxm_warning: ", "haxm_error: ", "haxm_info: "];

/// The text without timestamps, log levels, tags and quoting marks. A line without any may be the rest of the one before,
/// wrapped by a mail program.
pub(super) fn clean(log: &str) -> String {
    let quoted_printable = log.contains("=3D");
    let unwrapped = if quoted_printable { log.replace("=\r\n", "").replace("=\n", "") } else { String::new() };
    let log = if quoted_printable { unwrapped.replace("=3D", "=") } else { log.to_owned() };
    let mut text = String::with_capacity(log.len());
    for line in log.lines() {
        let rest = payload(line);
        if rest.len() != line.trim().len() {
            text.push(START);
        }
        // What is not printable is no part of a dump, and the mark must stay one.
        text.extend(rest.chars().filter(|c| !c.is_control() || *c == '\t'));
        text.push('\n');
    }
    if !log.is_empty() && !log.ends_with('\n') {
        text.pop();
        text.push(CUT);
    }
    text
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
        assert_eq!(clean("(XEN) a\nb\n"), "\u{1e}a\nb\n");
        assert_eq!(clean("RSP =3D 0x=\n1\n"), "RSP = 0x1\n");
        assert_eq!(clean("RSP = 0x1"), "RSP = 0x1\u{1f}");
    }
}
