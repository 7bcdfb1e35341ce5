//! Removing what stands before the text of a log line: timestamps, log levels, tags, and quoting marks.

/// What is left of a line.
pub(super) struct Payload<'a> {
    /// The text.
    pub(super) text: &'a str,
    /// Something other than quoting marks was removed.
    pub(super) prefixed: bool,
    /// Who wrote the line.
    pub(super) writer: Option<&'a str>,
}

/// What ends a prefix, wherever it stands in the line.
const TAGS: [&str; 7] =
    ["kvm_intel: ", "kernel: ", "/netbsd: ", "haxm_warning:", "haxm_error:", "haxm_info:", "haxm_panic:"];

/// Tracepoints whose names belong to the text: they tell what the rest is. Other names are those of functions that print.
const EVENTS: [&str; 2] = ["kvm_nested_vmenter_failed", "kvm_exit"];

/// Facilities of the system log, as `dmesg -x` names them.
const FACILITIES: [&str; 8] = ["kern", "user", "daemon", "auth", "syslog", "local0", "local1", "local7"];

/// The line without its prefixes.
pub(super) fn strip(line: &str) -> Payload<'_> {
    let mut payload = Payload { text: line.trim(), prefixed: false, writer: None };
    // The last of all tags: a log of nothing but prefixes is read in one go, too.
    let tag = TAGS.iter().filter_map(|tag| payload.text.rfind(tag).map(|at| (at, at + tag.len()))).max();
    if let Some((at, end)) = tag {
        payload.writer = writer(&payload.text[..at]);
        payload.text = payload.text[end..].trim_start();
        payload.prefixed = true;
    }
    if let Some((task, rest)) = trace(payload.text) {
        payload = Payload { text: rest, prefixed: true, writer: Some(task) };
    }
    loop {
        let text = payload.text.trim_start_matches(['>', '|', ' ', '\t']);
        let Some((name, rest)) = one(text) else { return Payload { text, ..payload } };
        payload.writer = name.or(payload.writer);
        payload.text = rest.trim_start();
        payload.prefixed = true;
    }
}

/// One prefix at the begin of the text: who wrote the line, if it tells, and what follows.
fn one(text: &str) -> Option<(Option<&str>, &str)> {
    for tag in ["(XEN)", "MESSAGE=", "stdout F ", "stderr F "] {
        if let Some(rest) = text.strip_prefix(tag) {
            return Some((None, rest));
        }
    }
    for (open, close) in [('[', ']'), ('<', '>')] {
        if let Some((stamp, rest)) = text.strip_prefix(open).and_then(|stamp| stamp.split_once(close))
            && stamp.chars().all(|c| c.is_ascii_alphanumeric() || " .:-+,/".contains(c))
        {
            return Some((is_writer(stamp.trim()).then_some(stamp.trim()), rest));
        }
    }
    // The second half of a stamp, the first of which was lost.
    if let Some((stamp, rest)) = text.split_once(']')
        && (1..20).contains(&stamp.len())
        && stamp.chars().all(|c| c.is_ascii_digit() || " .:TC".contains(c))
    {
        return Some((is_writer(stamp.trim()).then_some(stamp.trim()), rest));
    }
    date(text)
        .or_else(|| time(text))
        .map(program)
        .or_else(|| level(text))
        .map(|rest| (None, rest))
        .or_else(|| record(text))
}

/// The names of a thread or processor that printk puts before a line.
fn is_writer(name: &str) -> bool {
    name.strip_prefix(['T', 'C']).is_some_and(|number| !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()))
}

/// The thread or processor in a prefix such as `[  12.3] [T1234] `.
fn writer(prefix: &str) -> Option<&str> {
    prefix.rsplit(['[', ']']).map(str::trim).find(|name| is_writer(name))
}

/// What follows a number of that many digits.
fn digits(text: &str, least: usize, most: usize) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (least..=most).contains(&end).then(|| &text[end..])
}

/// What follows a time such as `17:25:51.123456789Z`.
fn time(text: &str) -> Option<&str> {
    let rest = digits(text, 2, 2)?.strip_prefix(':')?;
    let mut rest = digits(digits(rest, 2, 2)?.strip_prefix(':')?, 2, 2)?;
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        rest = digits(fraction, 1, 9)?;
    }
    if let Some(zone) = rest.strip_prefix('Z') {
        return Some(zone);
    }
    if let Some(zone) = rest.strip_prefix(['+', '-']).and_then(|zone| digits(zone, 2, 4)) {
        return Some(zone.strip_prefix(':').and_then(|zone| digits(zone, 2, 2)).unwrap_or(zone));
    }
    Some(rest)
}

/// What follows a date and time: ISO 8601, the system log's, or that of C.
fn date(text: &str) -> Option<&str> {
    numeric_date(text).or_else(|| named_date(text))
}

/// What follows a date and time such as `2022-06-24T17:25:51Z`.
fn numeric_date(text: &str) -> Option<&str> {
    let rest = digits(text, 4, 4)?.strip_prefix(['-', '/'])?;
    let rest = digits(rest, 2, 2)?.strip_prefix(['-', '/'])?;
    let rest = digits(rest, 2, 2)?;
    time(rest.strip_prefix(['T', ' '])?.trim_start())
}

/// What follows a date and time such as `Jun 24 17:25:51` or `Fri Jun 24 17:25:51 2022`.
fn named_date(text: &str) -> Option<&str> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let day = DAYS.iter().find_map(|name| text.strip_prefix(name));
    let month = day.map_or(text, str::trim_start);
    let rest = MONTHS.iter().find_map(|name| month.strip_prefix(name))?.strip_prefix(' ')?;
    let rest = time(digits(rest.trim_start(), 1, 2)?.strip_prefix(' ')?.trim_start())?;
    let year = rest.strip_prefix(' ').and_then(|year| digits(year, 4, 4));
    Some(year.filter(|rest| day.is_some() && rest.starts_with([' ', ':'])).unwrap_or(rest))
}

/// What follows the names of a host and a program such as ` pve QEMU[1234]: `, which stand behind a date.
fn program(text: &str) -> &str {
    let mut words = text.trim_start().splitn(3, ' ');
    let (Some(_), Some(program), Some(rest)) = (words.next(), words.next(), words.next()) else { return text };
    if program.ends_with("]:") || program.ends_with("_x86_64:") { rest } else { text }
}

/// What follows a facility and level such as `kern  :err   : `.
fn level(text: &str) -> Option<&str> {
    let (facility, rest) = text.split_once(':')?;
    let (level, rest) = rest.split_once(':')?;
    let level = level.trim();
    (FACILITIES.contains(&facility.trim()) && !level.is_empty() && level.bytes().all(|c| c.is_ascii_lowercase()))
        .then_some(rest)
}

/// What follows the head of a record of the kernel's log, such as `6,1234,12345678,-,caller=T12;`, and who wrote it.
fn record(text: &str) -> Option<(Option<&str>, &str)> {
    let (head, rest) = text.split_once(';')?;
    let mut parts = head.split(',');
    let numbers = (0..3).all(|_| parts.next().is_some_and(|part| digits(part, 1, 20) == Some("")));
    let caller = head.split(',').find_map(|part| part.strip_prefix("caller="));
    (numbers && parts.next().is_some()).then_some((caller, rest))
}

/// What follows the head of a line of a trace, such as `  CPU 0/KVM-1234    [003] ...1.  1234.567890: dump_vmcs: `, and the
/// task.
fn trace(text: &str) -> Option<(&str, &str)> {
    let (task, rest) = text.split_once(" [")?;
    let (processor, rest) = rest.split_once(']')?;
    if processor.len() < 3 || processor.bytes().any(|c| !c.is_ascii_digit()) {
        return None;
    }
    let seconds =
        |word: &str| word.strip_suffix(':').is_some_and(|word| word.parse::<f64>().is_ok() && word.contains('.'));
    let mut rest = rest.trim_start();
    for _ in 0..2 {
        let (word, after) = rest.split_once(char::is_whitespace)?;
        rest = after.trim_start();
        if seconds(word) {
            let function = rest.split_once(": ").filter(|(name, _)| {
                name.starts_with(|c: char| c.is_ascii_lowercase())
                    && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.:".contains(&c))
                    && !EVENTS.iter().any(|event| name.ends_with(event))
            });
            return Some((task.trim(), function.map_or(rest, |(_, rest)| rest)));
        }
    }
    None
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
            "haxm_warning:RSP = 0x1",
            "2022-06-24T17:25:51Z RSP = 0x1",
            "2022-06-24T17:25:51.1234567Z RSP = 0x1",
            "2022-06-24 17:25:51,123 RSP = 0x1",
            "2022-06-24T17:25:51.123456789Z stdout F RSP = 0x1",
            "2026-01-01T00:00:00+0000 host kernel: RSP = 0x1",
            "2026-01-01T00:00:00.123+02:00 RSP = 0x1",
            "Jan 01 00:00:00 pve QEMU[1234]: RSP = 0x1",
            "Jan  1 00:00:00.123456 RSP = 0x1",
            "[Thu Jan  1 00:00:00 2026] RSP = 0x1",
            "Thu Jan  1 00:00:00 2026 RSP = 0x1",
            "17:25:51 RSP = 0x1",
            "kern  :err   : [   12.345678] RSP = 0x1",
            "<3>[   12.345678] RSP = 0x1",
            "6,1234,12345678,-;RSP = 0x1",
            "       CPU 0/KVM-1234    [003] ...1.  1234.567890: dump_vmcs: RSP = 0x1",
            "       CPU 0/KVM-1234  [003]  1234.567890: dump_vmcs.cold: RSP = 0x1",
            "499051] kvm_intel: RSP = 0x1",
            "11.499051] RSP = 0x1",
            "51 host kernel: RSP = 0x1",
        ] {
            assert_eq!(strip(line).text, "RSP = 0x1", "{line}");
        }
        for line in ["0010:ffffffff82a01e60", "0x0000 (0x1)  RIP = 0x1", "CR0: actual=0x1", "0: msr=0x00000600"] {
            assert_eq!((strip(line).text, strip(line).prefixed), (line, false));
        }
        assert!(!strip("> RSP = 0x1").prefixed && strip("[1.0] RSP = 0x1").prefixed);
    }

    #[test]
    fn writers_are_known() {
        for (line, expected) in [
            ("[ 2311.499051] [T1234] RSP = 0x1", "T1234"),
            ("[ 2311.499051][ T1234] kvm_intel: RSP = 0x1", "T1234"),
            ("[ 2311.499051] [    C3] RSP = 0x1", "C3"),
            ("6,1,1,-,caller=T5;RSP = 0x1", "T5"),
            ("  CPU 0/KVM-1234    [003] ...1.  1234.567890: dump_vmcs: RSP = 0x1", "CPU 0/KVM-1234"),
        ] {
            assert_eq!(strip(line).writer, Some(expected), "{line}");
        }
        assert_eq!(strip("[ 2311.499051] kvm_intel: RSP = 0x1").writer, None);
    }
}
