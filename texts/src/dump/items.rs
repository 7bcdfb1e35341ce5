//! Reading names and what stands behind them: `name = value`, `name: value`, `name -> value`, `name(encoding) = value` and
//! `name value`, one or several in a line.

use std::ops::Range;

use vmcs_model::field::FieldId;

use super::number::Printed;
use crate::log::Line;
use crate::names::{self, FieldName};

/// What separates a name from a value.
const BETWEEN: [char; 5] = [' ', '\t', ':', '=', '>'];

/// Names, and what stands in the place of a number, are shorter than this.
const LONGEST: usize = 120;

/// A name with what stands behind it.
#[derive(Debug)]
pub(super) struct Item<'t> {
    pub(super) name: String,
    /// The field, if the name is known.
    pub(super) field: Option<FieldName>,
    /// The number, or the words in its place.
    pub(super) value: Result<Printed<'t>, String>,
    /// A debugger says which type it has.
    pub(super) typed: bool,
    pub(super) line: usize,
    /// The width of the line.
    pub(super) width: usize,
    /// The number ends where the line ends, which the log cuts off there.
    pub(super) at_cut: bool,
    /// Where in the line the separator begins and the number begins, if the number ends the line.
    pub(super) columns: Option<[usize; 2]>,
    /// Why the number is not the field's value, if that shows in other lines.
    pub(super) wrong: Option<&'static str>,
}

impl<'t> Item<'t> {
    /// A field whose value stands in that column of a line.
    pub(super) fn at(line: &'t Line, column: usize, field: FieldId) -> Self {
        let text = line.text.get(column..).unwrap_or_default();
        let value = Printed::read(text).ok_or_else(|| words(text));
        let ends = value.as_ref().is_ok_and(|printed| printed.rest.is_empty());
        let columns = ends.then_some([column, column]);
        let field = Some(FieldName { field, high: false });
        Self { value, field, at_cut: line.cut && ends, columns, ..blank(line) }
    }
}

/// The names of a line with what stands behind them.
pub(super) fn items(line: &Line) -> Vec<Item<'_>> {
    let text = line.text.as_str();
    let mut items = Vec::new();
    let mut begin = 0;
    let mut from = 0;
    while let Some(separator) = separator(text, from) {
        let left = &text[begin..separator.start];
        let mut right = text[separator.end..].trim_start_matches(BETWEEN);
        let typed = cast(right);
        right = typed.unwrap_or(right).trim_start_matches(['"', '\'']);
        right = unwrapped(right);
        if &text[separator.clone()] == "=" && text[separator.end..].starts_with("3D") {
            right = behind_a_quoted_equals_sign(right);
        }
        from = text.len() - right.len();
        match Printed::read_of_any_base(right) {
            Some(printed) => {
                let columns = printed.rest.is_empty().then_some([separator.start, from]);
                from = text.len() - printed.rest.len();
                let at_cut = line.cut && printed.rest.is_empty();
                push(&mut items, left, Ok(printed), Item { typed: typed.is_some(), at_cut, columns, ..blank(line) });
            }
            None => push(&mut items, left, Err(words(right)), blank(line)),
        }
        begin = from;
    }
    if items.is_empty() && separator(text, 0).is_none() {
        without_separator(line, &mut items);
    }
    items
}

fn blank<'t>(line: &Line) -> Item<'t> {
    let value = Err(String::new());
    Item {
        name: String::new(),
        field: None,
        value,
        typed: false,
        line: line.number,
        width: line.width,
        at_cut: false,
        columns: None,
        wrong: None,
    }
}

/// Adds a name that is known, or that has a number.
fn push<'t>(items: &mut Vec<Item<'t>>, left: &str, value: Result<Printed<'t>, String>, item: Item<'t>) {
    let (name, field) = resolve(left.trim_matches(|c: char| !c.is_alphanumeric() && !"()[]".contains(c)));
    if field.is_some() || value.is_ok() {
        items.push(Item { name, field, value, ..item });
    }
}

/// A name and a value with white space between them and nothing else in the line.
fn without_separator<'t>(line: &'t Line, items: &mut Vec<Item<'t>>) {
    let text = line.text.as_str();
    let Some(at) = text.rfind([' ', '\t']) else { return };
    let (left, right) = (&text[..at], &text[at + 1..]);
    let wide = left.ends_with([' ', '\t']) || text.as_bytes()[at] == b'\t';
    let value = Printed::read(right).filter(|printed| printed.rest.is_empty() && (wide || printed.marked));
    match value {
        Some(printed) => {
            let columns = Some([left.trim_end().len(), at + 1]);
            push(items, left, Ok(printed), Item { at_cut: line.cut, columns, ..blank(line) });
        }
        None if wide => push(items, left, Err(words(right)), blank(line)),
        None => {}
    }
}

/// The text behind the name of a variant that holds a value, such as `Ok(`.
fn unwrapped(text: &str) -> &str {
    ["Ok(", "Some("].iter().find_map(|variant| text.strip_prefix(variant)).unwrap_or(text)
}

/// The text behind `3D`, which was `=3D` before one of two encodings of a mail was undone. What is not clearly a number behind
/// that is none.
fn behind_a_quoted_equals_sign(text: &str) -> &str {
    let behind = text.strip_prefix("3D").unwrap_or_default();
    let number = behind.trim_start();
    if behind.starts_with(' ') && number.starts_with("0x") { number } else { "" }
}

/// The next `=`, `:` or `->` from there on; `::` is part of a name.
fn separator(text: &str, mut from: usize) -> Option<Range<usize>> {
    loop {
        let at = from + text.get(from..)?.find(['=', ':', '>'])?;
        let after = &text[at + 1..];
        if after.starts_with(':') && text.as_bytes()[at] == b':' {
            from = at + 2;
            continue;
        }
        if text.as_bytes()[at] == b'>' {
            if text[..at].ends_with('-') {
                return Some(at - 1..at + 1);
            }
            from = at + 1;
            continue;
        }
        return Some(at..at + 1);
    }
}

/// The text behind a type in parentheses, such as `(u32)`.
fn cast(text: &str) -> Option<&str> {
    let behind = text.strip_prefix('(')?;
    let end = first(behind, LONGEST).find(')')?;
    let (kind, rest) = (&behind[..end], &behind[end + 1..]);
    let named = kind.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b' ');
    (named && kind.starts_with(|c: char| c.is_ascii_alphabetic())).then(|| rest.trim_start())
}

/// The beginning of what stands in the place of a number.
fn words(text: &str) -> String {
    first(text, LONGEST)
        .split([',', ';'])
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The text up to about so many bytes.
fn first(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The name at the end of `left`, and its field. What a logger puts before it does not count.
fn resolve(left: &str) -> (String, Option<FieldName>) {
    let begin = first(left, left.len().saturating_sub(LONGEST)).len();
    let left = &left[begin..];
    let (mut name, mut inner) = (left.trim(), None);
    if let Some((before, parentheses)) = name.strip_suffix([')', ']']).and_then(|name| name.rsplit_once(['(', '['])) {
        let digits = parentheses.strip_suffix(['h', 'H']).unwrap_or(parentheses);
        inner = names::encoding(digits);
        if inner.is_some() {
            name = before.trim_end();
        }
    }
    let mut rest = name;
    loop {
        if let Some(field) = names::field(rest).or_else(|| names::encoding(rest)) {
            let agrees = inner.is_none_or(|inner| inner == field);
            return (rest.to_owned(), agrees.then_some(field));
        }
        let (word, behind) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
        let level = ["INFO", "DEBUG", "WARN", "ERROR", "TRACE"].contains(&word);
        if behind.is_empty() || !(level || word.starts_with(|c: char| !c.is_alphabetic()) || word.ends_with(']')) {
            return (rest.to_owned(), inner);
        }
        rest = behind.trim_start();
    }
}

/// Whether a name is a number of at least three digits.
pub(super) fn is_number(name: &str) -> bool {
    let digits = name.strip_prefix("0x").or_else(|| name.strip_prefix("0X")).unwrap_or(name);
    digits.len() > 2 && digits.bytes().all(|c| c.is_ascii_hexdigit()) && names::field(name).is_none()
}
