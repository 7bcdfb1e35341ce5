//! Undoing what mail programs, web pages, terminals and log collectors have done to a text.

use std::borrow::Cow;

use serde_json::Value;

use super::line::Line;
use super::prefix;

/// Keys under which log collectors keep the text of a line: journald's, Docker's, dmesg's, and those of others.
const KEYS: [&str; 4] = ["MESSAGE", "log", "msg", "message"];

/// Makes lines of numbered lines of a log.
pub(crate) fn lines<'a>(raw: impl Iterator<Item = (usize, &'a str)>, ends_with_newline: bool) -> Vec<Line> {
    let raw: Vec<_> = raw.collect();
    let last = raw.last().map(|(number, _)| *number);
    let mut lines = Vec::with_capacity(raw.len());
    let mut caller = None;
    // The writer in a prefix of which a mail program has made a line of its own.
    let mut broken: Option<String> = None;
    for (number, text, width) in unquoted(&raw) {
        let cut = !ends_with_newline && Some(number) >= last;
        let mut add = |text: &str, caller: Option<String>| {
            for text in text.lines().flat_map(|text| text.split("<br>")) {
                let text = plain(text);
                let payload = prefix::strip(&text);
                let writer = payload.writer.map(str::to_owned).or_else(|| caller.clone());
                if payload.text.is_empty() {
                    broken = writer.or(broken.take());
                    continue;
                }
                lines.push(Line {
                    number,
                    text: payload.text.to_owned(),
                    prefixed: payload.prefixed,
                    xen: text.contains("(XEN)"),
                    cut,
                    writer: writer.or(broken.take()),
                    width,
                });
                broken = None;
            }
        };
        match entry(&text) {
            Entry::Text(message) => add(&message, caller.take()),
            Entry::Caller(name) => caller = Some(name),
            Entry::No => add(&text, None),
        }
    }
    lines
}

/// What a line of a log in JSON holds.
enum Entry {
    /// The text of a log line.
    Text(String),
    /// Who wrote the text that follows.
    Caller(String),
    /// It is no JSON.
    No,
}

/// Reads a line as JSON: an object with a text, or one member of an object that goes over several lines.
fn entry(line: &str) -> Entry {
    let line = line.trim().trim_end_matches(',');
    if line.starts_with('{') && line.ends_with('}') {
        let Ok(Value::Object(entry)) = serde_json::from_str(line) else { return Entry::No };
        return KEYS.iter().find_map(|key| message(entry.get(*key)?)).map_or(Entry::No, Entry::Text);
    }
    let Some((key, value)) = line.strip_prefix('"').and_then(|line| line.split_once('"')) else { return Entry::No };
    let Some(value) = value.trim_start().strip_prefix(':') else { return Entry::No };
    let text = || serde_json::from_str(value).ok().and_then(|value| message(&value));
    match key {
        "caller" => text().map_or(Entry::No, Entry::Caller),
        _ if KEYS.contains(&key) => text().map_or(Entry::No, Entry::Text),
        _ => Entry::No,
    }
}

/// A text, or the bytes of one, as journald writes it if it holds bytes that do not print.
fn message(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(bytes) => {
            let byte = |value: &Value| u8::try_from(value.as_u64()?).ok();
            Some(String::from_utf8_lossy(&bytes.iter().map(byte).collect::<Option<Vec<_>>>()?).into_owned())
        }
        _ => None,
    }
}

/// Whether a text is a log in JSON, and not another file in JSON.
pub(crate) fn is_json_log(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match lines.next() {
        Some("{") => lines.next().is_some_and(|line| line.starts_with("\"dmesg\"") || line.starts_with("\"__")),
        Some(first) => first.starts_with("{ \"dmesg\"") || matches!(entry(first), Entry::Text(_)),
        None => false,
    }
}

/// Lines with their number and width, without the quoted-printable encoding of mail if they have it: `=3D` for `=`, other
/// characters likewise, and `=` at the end of a line that goes on in the next.
fn unquoted<'a>(raw: &[(usize, &'a str)]) -> Vec<(usize, Cow<'a, str>, usize)> {
    let line = |&(number, text): &(usize, &'a str)| (number, Cow::Borrowed(text), text.chars().count());
    // Mail programs break lines at 76 characters.
    let goes_on = |line: &str| line.ends_with('=') && (70..=76).contains(&line.len());
    let encoded = raw.iter().filter(|(_, line)| line.contains("=3D") || goes_on(line.trim_end_matches('\r'))).count();
    let plain = raw.iter().filter(|(_, line)| line.contains('=') && decoded(line).is_none()).count();
    if encoded <= plain {
        return raw.iter().map(line).collect();
    }
    let mut lines: Vec<(usize, Cow<'a, str>, usize)> = Vec::with_capacity(raw.len());
    let mut open = false;
    for raw in raw {
        let Some((text, goes_on)) = decoded(raw.1) else {
            lines.push(line(raw));
            open = false;
            continue;
        };
        match lines.last_mut().filter(|_| open) {
            Some((_, before, width)) => {
                before.to_mut().push_str(&text);
                *width = (*width).max(raw.1.chars().count());
            }
            None => lines.push((raw.0, Cow::Owned(text), raw.1.chars().count())),
        }
        open = goes_on;
    }
    lines
}

/// The line without the quoted-printable encoding, and whether it goes on in the next; `None` if it is not encoded.
fn decoded(line: &str) -> Option<(String, bool)> {
    let line = line.trim_end_matches('\r');
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('=') {
        bytes.extend_from_slice(before.as_bytes());
        if after.trim().is_empty() {
            return Some((String::from_utf8_lossy(&bytes).into_owned(), true));
        }
        let code = after.get(..2).filter(|code| code.bytes().all(|c| matches!(c, b'0'..=b'9' | b'A'..=b'F')))?;
        let byte = u8::from_str_radix(code, 16).ok()?;
        // What mail programs encode. Other bytes are the digits of a number after "=".
        if !matches!(byte, 0x09 | 0x20..=0x2F | 0x3A..=0x40 | 0x46 | 0x5B..=0x60 | 0x7B..=0x7E | 0x80..) {
            return None;
        }
        bytes.push(byte);
        rest = &after[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some((String::from_utf8_lossy(&bytes).into_owned(), false))
}

/// The line without colours, control characters, HTML entities and links.
fn plain(line: &str) -> String {
    let mut text = Cow::Borrowed(line);
    if text.contains("#033[") {
        text = Cow::Owned(text.replace("#033[", "\u{1b}["));
    }
    let text = without_control(&text);
    let text = if text.contains('&') { entities(&text) } else { text };
    if text.contains("](") { links(&text) } else { text }
}

/// Without terminals' escape sequences and control characters other than tabs; every kind of space is a space.
fn without_control(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.next_if_eq(&'[').is_some() => {
                while chars.next_if(|c| c.is_ascii_digit() || ";?:".contains(*c)).is_some() {}
                chars.next_if(char::is_ascii_alphabetic);
            }
            '\t' => text.push(c),
            '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}' => {}
            _ if c.is_control() => {}
            _ if c.is_whitespace() => text.push(' '),
            _ => text.push(c),
        }
    }
    text
}

/// With the characters that entities of HTML stand for.
fn entities(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('&') {
        text.push_str(before);
        let end = after.bytes().take(8).position(|c| c == b';');
        let character = end.and_then(|end| {
            let name = &after[..end];
            let number = name.strip_prefix('#').and_then(|number| match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok(),
                None => number.parse().ok(),
            });
            match name {
                "lt" => Some('<'),
                "gt" => Some('>'),
                "amp" => Some('&'),
                "quot" => Some('"'),
                "apos" => Some('\''),
                "nbsp" => Some(' '),
                "equals" => Some('='),
                "lowbar" => Some('_'),
                _ => number.and_then(char::from_u32).filter(|c| !c.is_control()),
            }
        });
        match (character, end) {
            (Some('\u{a0}'), Some(end)) => (text.push(' '), rest = &after[end + 1..]).1,
            (Some(c), Some(end)) => (text.push(c), rest = &after[end + 1..]).1,
            _ => (text.push('&'), rest = after).1,
        }
    }
    text + rest
}

/// With the texts of links in place of `[text](address)`.
fn links(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(middle) = rest.find("](") {
        let (Some(open), Some(close)) = (rest[..middle].rfind('['), rest[middle..].find(')')) else { break };
        text.push_str(&rest[..open]);
        text.push_str(&rest[open + 1..middle]);
        rest = &rest[middle + close + 1..];
    }
    text + rest
}
