//! Patterns that find a value in a line by the text around it.

use vmcs_model::field::FieldId;

/// Stands before every line that lost a prefix, so that nothing is taken for the continuation of the line before.
pub(super) const START: char = '\u{1e}';

/// Ends a text that is cut off within a line: its last number may lack digits.
pub(super) const CUT: char = '\u{1f}';

/// Finds the first place where `pattern` begins, a number in its first hole, and reads its holes.
///
/// In a pattern `{name}` is a hexadecimal number, the value of that field; `{_}` is any number. A space is any
/// amount of white space, none included. What stands before the first hole begins a word of the text. A value is `None`
/// if the pattern begins there and no number follows anywhere.
pub(super) fn read(text: &str, pattern: &'static str) -> Option<Vec<(&'static str, Option<u64>)>> {
    let (first, _) = pattern.split_once('{')?;
    let (mut from, mut unreadable) = (0, None);
    while let Some(start) = find_word(text, first, from) {
        if let Some(rest) = literal(&text[start..], first) {
            let values = holes(rest, &pattern[first.len()..]);
            if values.first().is_none_or(|(_, value)| value.is_some()) {
                return Some(values);
            }
            unreadable.get_or_insert(values);
        }
        from = start + 1;
    }
    unreadable
}

/// Whether a word begins with `word` before its first space, from that place on.
fn find_word(text: &str, pattern: &str, mut from: usize) -> Option<usize> {
    let word = pattern.split(' ').next().unwrap_or(pattern);
    loop {
        let at = from + text.get(from..)?.find(word)?;
        let begins = text[..at].chars().next_back().is_none_or(|c| c.is_whitespace() || c == START);
        if begins {
            return Some(at);
        }
        from = at + word.len();
    }
}

/// The text behind `literal`.
fn literal<'t>(text: &'t str, literal: &str) -> Option<&'t str> {
    let mut rest = text;
    for part in literal.split_inclusive(' ') {
        rest = rest.strip_prefix(part.trim_end_matches(' '))?;
        if part.ends_with(' ') {
            rest = rest.trim_start();
        }
    }
    Some(rest)
}

/// Reads the holes of `pattern`, the first of which stands at the begin of `text`.
fn holes(mut text: &str, mut pattern: &'static str) -> Vec<(&'static str, Option<u64>)> {
    let mut values = Vec::new();
    while let Some((before, after)) = pattern.split_once('{') {
        let Some((name, rest)) = after.split_once('}') else { break };
        let number = literal(text, before).and_then(|at| hexadecimal(at.trim_start()));
        values.push((name, number.map(|(value, _)| value)));
        let Some((_, behind)) = number else { break };
        (text, pattern) = (behind, rest);
    }
    values
}

/// The hexadecimal number at the begin of `text`, with or without 0x, and what follows.
fn hexadecimal(text: &str) -> Option<(u64, &str)> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    let (number, rest) = digits.split_at(end);
    let ends = rest.chars().next().is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_' && c != CUT);
    ends.then(|| u64::from_str_radix(number, 16).ok()).flatten().map(|value| (value, rest))
}

/// The field of a hole.
pub(super) fn field(name: &str) -> FieldId {
    FieldId::by_name(name).expect("patterns name fields, which a test looks at")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_read() {
        let text = "\u{1e}CR0: actual=0x01, shadow=0x2, \ngh_mask=ff\n\u{1e}Sysenter CS:RIP=0010:ffff (x)\n";
        let pattern = "CR0: actual={a}, shadow={_}, gh_mask={b}";
        assert_eq!(read(text, pattern), Some(vec![("a", Some(1)), ("_", Some(2)), ("b", Some(0xFF))]));
        assert_eq!(read(text, "Sysenter CS:RIP={a}:{b}"), Some(vec![("a", Some(0x10)), ("b", Some(0xFFFF))]));
        assert_eq!(read(text, "RIP={a}"), None);
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        for text in [
            "CR3 = ",
            "CR3 = \n\u{1e}Dec 24",
            "CR3 = 0x",
            "CR3 = 0x12g4",
            "CR3 = 12345678901234567",
            "CR3 = (x)",
            "CR3 = 0x12\u{1f}",
        ] {
            assert_eq!(read(text, "CR3 = {a}"), Some(vec![("a", None)]), "{text:?}");
        }
        assert_eq!(read("CR3= 0xfff", "CR3 = {a}"), Some(vec![("a", Some(0xFFF))]));
        assert_eq!(read("CR", "CR3 = {a}"), None);
    }
}
