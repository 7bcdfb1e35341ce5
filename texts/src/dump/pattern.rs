//! Patterns that find values in a text by what is printed around them, and that know at what width each is printed.
//!
//! In a pattern, `{name:8}` is a hexadecimal number, the value of that field, printed with at least 8 digits. Fewer digits are
//! a number that was cut. With `{name:x8}` it follows 0x, else 0x may be there or not. With `{name:8+}` something follows it
//! on its line: a number that ends the line was cut there, unless it has all digits that the field can have. A space is any
//! amount of white space, none included. What stands before the first hole begins a word of the text.

use std::ops::Range;

use vmcs_model::field::FieldId;

use crate::log::Line;

/// Stands before every line that lost a prefix, so that nothing is taken for the continuation of the line before.
pub(super) const START: char = '\u{1e}';

/// Stands at the end of a line that may have been cut there: its last number may lack digits.
const CUT: char = '\u{1f}';

/// The lines that dumps are read from, as one text, because mail programs break lines.
pub(super) struct Text {
    text: String,
    /// Where lines begin in the text, and their numbers in the log.
    lines: Vec<(usize, usize)>,
}

/// A number that was found, or what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    /// The name in the pattern.
    pub(super) name: &'static str,
    /// Where it stands.
    pub(super) at: usize,
    /// Its value, or why it is unknown.
    pub(super) value: Result<u64, &'static str>,
}

impl Text {
    /// That of some lines. The widest of them, if there are some, are taken to be cut: a program that cuts lines at a width
    /// leaves none that is wider.
    pub(super) fn new<'a>(lines: impl IntoIterator<Item = &'a Line> + Clone) -> Self {
        const FEW: usize = 4;
        let few = lines.clone().into_iter().nth(FEW).is_none();
        let widest = lines.clone().into_iter().map(|line| line.width).max().filter(|_| !few);
        let mut text = Self { text: String::new(), lines: Vec::new() };
        for line in lines {
            text.lines.push((text.text.len(), line.number));
            if line.prefixed {
                text.text.push(START);
            }
            text.text.extend(line.text.chars().filter(|c| ![START, CUT].contains(c)));
            if line.cut || Some(line.width) == widest {
                text.text.push(CUT);
            }
            text.text.push('\n');
        }
        text
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// The number of the line in which that place is.
    pub(super) fn line(&self, at: usize) -> usize {
        let next = self.lines.partition_point(|(begin, _)| *begin <= at);
        next.checked_sub(1).map_or(0, |line| self.lines[line].1)
    }

    /// Where the n-th of the lines begins.
    pub(super) fn begin(&self, line: usize) -> usize {
        self.lines.get(line).map_or(self.text.len(), |(begin, _)| *begin)
    }

    /// The number of an error behind `label`, printed with as few digits as it has. At the end of a line that may have been
    /// cut, numbers that begin another are not known.
    pub(super) fn error_number(&self, part: Range<usize>, label: &str) -> Option<u64> {
        let (_, rest) = self.text[part].split_once(label)?;
        let rest = rest.trim_start_matches([' ', '\t']).strip_prefix("0x")?;
        let (digits, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_hexdigit())?);
        let value = u64::from_str_radix(digits, 16).ok()?;
        let cut = behind.starts_with(CUT);
        // 1 may be the begin of 0x1A, 8 that of 0x80000021, and 0xF that of 0xFFFFFFFF.
        let begins_another = [1, 8, 0xF].contains(&value);
        let garbled = behind.starts_with(|c: char| c.is_ascii_alphanumeric());
        if garbled || cut && begins_another { None } else { Some(value) }
    }

    /// Finds every place in a part of the text where `pattern` begins, and reads its holes.
    pub(super) fn find_all(&self, part: Range<usize>, pattern: &'static str) -> Vec<Vec<Hole>> {
        let Some((first, _)) = pattern.split_once('{') else { return Vec::new() };
        let (mut from, mut found) = (part.start, Vec::new());
        let text = &self.text[..part.end];
        while let Some(start) = find_word(text, first, from) {
            from = start + 1;
            if let Some(at) = literal(text, start, first) {
                let holes = holes(text, at, &pattern[first.len()..], first.ends_with(' '));
                found.extend(holes);
            }
        }
        found
    }

    /// Where in a part of the text words begin with `name`.
    pub(super) fn places(&self, part: Range<usize>, name: &str) -> Vec<usize> {
        let text = &self.text[..part.end];
        let next = |from: usize| find_word(text, name, from);
        std::iter::successors(next(part.start), |at| next(at + 1))
            .filter(|at| literal(text, *at, name).is_some())
            .collect()
    }

    /// The first number that stands for the first hole of `pattern`.
    pub(super) fn find(&self, part: Range<usize>, pattern: &'static str) -> Option<Hole> {
        let mut found = self.find_all(part, pattern).into_iter().filter_map(|holes| holes.into_iter().next());
        let first = found.next()?;
        if first.value.is_ok() { Some(first) } else { found.find(|hole| hole.value.is_ok()).or(Some(first)) }
    }
}

/// Where a word begins with `pattern` before its first space, from that place on.
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

/// What may stand between the parts of a pattern, the end of a line that a mail program has broken included.
pub(super) fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == CUT
}

/// Where the text goes on behind `literal`.
fn literal(text: &str, at: usize, literal: &str) -> Option<usize> {
    let mut rest = &text[at..];
    for part in literal.split_inclusive(' ') {
        rest = rest.strip_prefix(part.trim_end_matches(' '))?;
        if part.ends_with(' ') {
            rest = rest.trim_start_matches(is_blank);
        }
    }
    Some(text.len() - rest.len())
}

/// How a number is printed.
#[derive(Clone, Copy)]
struct Format {
    name: &'static str,
    hexadecimal: bool,
    least: usize,
    most: usize,
    more: bool,
    /// White space stands before it, where a line may be broken.
    spaced: bool,
    /// What the pattern has behind it follows it.
    followed: bool,
}

impl Format {
    /// That of a hole without its braces.
    fn new(hole: &'static str, spaced: bool) -> Self {
        let (name, width) = hole.split_once(':').expect("a hole has a width");
        let (hexadecimal, width) = (width.starts_with('x'), width.trim_start_matches('x'));
        let (more, width) = (width.ends_with('+'), width.trim_end_matches('+'));
        let least = width.parse().expect("a width is a number");
        let most = FieldId::by_name(name).map_or(16, |field| field.info().width().bits() as usize / 4);
        Self { name, hexadecimal, least, most, more, spaced, followed: false }
    }
}

impl Format {
    /// The format of a number at that place, if what the pattern has next follows it, be it on the next line: then it may end
    /// its line or begin it, as where a mail program has broken the line.
    fn ending_before(self, text: &str, at: usize, pattern: &str) -> Self {
        let followed = Self { more: false, followed: true, ..self };
        let goes_on = || {
            let (next, _) = pattern.split_once('{')?;
            let (_, behind) = number(text, at, followed).ok()?;
            (!next.trim().is_empty()).then(|| literal(text, behind, next))?
        };
        if goes_on().is_some() { followed } else { self }
    }
}

/// Reads the holes of `pattern`, the first of which stands at that place; `None` if something else stands there.
fn holes(text: &str, mut at: usize, mut pattern: &'static str, mut spaced: bool) -> Option<Vec<Hole>> {
    let mut holes: Vec<Hole> = Vec::new();
    // Holes with nothing but white space between them stand or fall together: without the names of the values nothing tells
    // which of them is missing.
    let mut nameless = false;
    let mut lost: Option<&'static str> = None;
    while let Some((before, after)) = pattern.split_once('{') {
        let (hole, rest) = after.split_once('}').expect("a hole ends");
        pattern = rest;
        if !holes.is_empty() {
            spaced = before.ends_with(' ');
            nameless |= before.trim().is_empty();
            match (lost, literal(text, at, before)) {
                (None, Some(behind)) => at = behind,
                // After a number that cannot be read, the next name on the line is looked for.
                (Some(_), _) if !before.trim().is_empty() => {
                    let end = at + text[at..].find(['\n', START]).unwrap_or(text.len() - at);
                    let name = before.trim_matches([' ', ',']);
                    if let Some(name_at) = text[at..end].find(name) {
                        at += name_at + name.len();
                        lost = None;
                    }
                }
                _ => lost = lost.or(Some("cut off")),
            }
        }
        let format = Format::new(hole, spaced);
        let value = match lost {
            Some(why) => Err(why),
            None => match number(text, at, format.ending_before(text, at, pattern)) {
                Ok((value, behind)) => {
                    at = behind;
                    Ok(value)
                }
                Err(Unread::Another) if holes.is_empty() => return None,
                Err(Unread::Another) => Err("cut off"),
                Err(Unread::Damaged(why)) => Err(why),
            },
        };
        lost = value.err();
        holes.push(Hole { name: format.name, at, value });
    }
    if nameless && let Some(why) = holes.iter().find_map(|hole| hole.value.err()) {
        holes.iter_mut().for_each(|hole| hole.value = Err(why));
    }
    Some(holes)
}

/// Why no number was read.
enum Unread {
    /// It is a number of another shape, so that the pattern is not that of the text.
    Another,
    /// It is damaged so.
    Damaged(&'static str),
}

/// The hexadecimal number at that place, and where the text goes on.
fn number(text: &str, at: usize, format: Format) -> Result<(u64, usize), Unread> {
    let rest = &text[at..];
    let trimmed = rest.trim_start_matches(is_blank);
    // Whether the line before ended, so that the number would be in the next.
    let behind_break = text[..at].trim_end_matches([' ', '\t']).ends_with('\n')
        || rest.len() != trimmed.len() && { rest[..rest.len() - trimmed.len()].contains('\n') };
    let damaged = Unread::Damaged;
    if trimmed.is_empty() || trimmed.starts_with(START) || behind_break && !format.spaced {
        return Err(damaged("cut off"));
    }
    if text[..text.len() - trimmed.len()].trim_end_matches(char::is_whitespace).ends_with(CUT) {
        // The line before may have been cut, and what follows may be the rest of what is missing.
        return Err(damaged("its line seems to be cut"));
    }
    let (prefix, digits) = match trimmed.strip_prefix("0x") {
        Some(digits) => (true, digits),
        None => (false, trimmed),
    };
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    let (number, behind) = digits.split_at(end);
    let next = behind.chars().next();
    let alone = behind.trim_start_matches([' ', '\t', CUT]).starts_with('\n');
    if behind_break && !(prefix || number.len() >= 16 || (alone || format.followed) && number.len() >= 8) {
        // What begins a line without a prefix is the rest of the line before only if it looks like it.
        return Err(damaged("cut off"));
    }
    if format.hexadecimal && !prefix {
        let cut = trimmed.starts_with('0') && matches!(next, None | Some('\n' | CUT | START)) && number.len() == 1;
        return Err(if cut || number.is_empty() { damaged("cut off") } else { Unread::Another });
    }
    let ends = match next {
        None | Some('\n' | START) => !format.more || number.len() == format.most,
        Some(CUT) => number.len() == format.most,
        Some(c) => c.is_whitespace() || ",;:|()<>\"'`.\\".contains(c),
    };
    let cut = matches!(next, None | Some('\n' | START | CUT));
    match number.len() {
        0 if !cut => Err(damaged("not a number")),
        length if length > format.most => Err(damaged("too many digits")),
        _ if !ends && !cut => Err(damaged("not a number")),
        length if length < format.least => Err(damaged("too few digits: it was cut off")),
        _ if !ends => Err(damaged("its line seems to be cut: digits may be missing")),
        _ => u64::from_str_radix(number, 16)
            .map(|value| (value, text.len() - behind.len()))
            .map_err(|_| damaged("not a number")),
    }
}

/// The field of a hole.
pub(super) fn field(name: &str) -> FieldId {
    FieldId::by_name(name).expect("patterns name fields, which a test looks at")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log;

    /// What a pattern finds first.
    fn read(log: &str, pattern: &'static str) -> Option<Vec<(&'static str, Option<u64>)>> {
        let text = Text::new(&log::lines(log));
        let found = text.find_all(0..text.as_str().len(), pattern).into_iter().next()?;
        Some(found.into_iter().map(|hole| (hole.name, hole.value.ok())).collect())
    }

    #[test]
    fn holes_are_read() {
        let log = "[1] CR0: actual=0x01, shadow=0x2, \ngh_mask=ff\n[1] Sysenter CS:RIP=0010:ffff (x)\n";
        let pattern = "CR0: actual={a:x2}, shadow={_:1}, gh_mask={b:2}";
        assert_eq!(read(log, pattern), Some(vec![("a", Some(1)), ("_", Some(2)), ("b", Some(0xFF))]));
        assert_eq!(read(log, "Sysenter CS:RIP={a:4}:{b:4}"), Some(vec![("a", Some(0x10)), ("b", Some(0xFFFF))]));
        assert_eq!(read(log, "RIP={a:1}"), None);
        let garbled = "CS:   sel=0x0z10, attr=0x0a09b, limit=0xffffffff, base=0x00\n";
        let pattern = "CS: sel={s:x4}, attr={a:x5+}, limit={l:x8}, base={b:x16}";
        let expected = vec![("s", None), ("a", Some(0xA09B)), ("l", Some(0xFFFF_FFFF)), ("b", None)];
        assert_eq!(read(garbled, pattern), Some(expected));
        let pattern = "RFLAGS={f:x8+} DR7 = {d:x16}";
        let read_flags = |log| read(log, pattern).and_then(|holes| holes[0].1);
        assert_eq!(read_flags("[1] RFLAGS=0x00000002     \nDR7 = 0x0000000000000400\n"), Some(2));
        assert_eq!(read_flags("[1] RFLAGS=0x00000002     \n[1] DR7 = 0x0000000000000400\n"), None);
        assert_eq!(read_flags("[1] RFLAGS=0x00000002     \n6 DR7 = 0x0000000000000400\n"), None);
        let pattern = "Interruptibility = {i:8} ActivityState = {a:8}";
        let read_state = |log| read(log, pattern).map(|holes| (holes[0].1, holes[1].1));
        let broken = "[1] Interruptibility =\n00000009  ActivityState = 00000000\n";
        assert_eq!(read_state(broken), Some((Some(9), Some(0))));
        assert_eq!(read_state("[1] Interruptibility =\n20220624 RSP = 0x1\n"), Some((None, None)));
        let table = "CS: f000 0009b 0000ffff 00000000ffff000\n";
        let unknown = Some(vec![("s", None), ("a", None), ("l", None), ("b", None)]);
        assert_eq!(read(table, "CS: {s:4} {a:5+} {l:8} {b:16}"), unknown);
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        for text in [
            "CR3 = \n",
            "CR3 = \nDec 24 00:00:00 RSP = 0x1\n",
            "CR3 = \n2022-06-24T17:25:51Z RSP = 0x1\n",
            "CR3 = \n20220624 RSP = 0x1\n",
            "CR3 = 0x\n",
            "CR3 = 0x12g4\n",
            "CR3 = 0x12345678901234567\n",
            "CR3 = (x)\n",
            "CR3 = 0x12",
            "CR3 = 0x1\n",
        ] {
            assert_eq!(read(text, "CR3 = {a:2}"), Some(vec![("a", None)]), "{text:?}");
        }
        assert_eq!(read("CR3= 0xfff\n", "CR3 = {a:2}"), Some(vec![("a", Some(0xFFF))]));
        assert_eq!(read("CR3 = \n0xfff\n", "CR3 = {a:2}"), Some(vec![("a", Some(0xFFF))]));
        assert_eq!(read("> CR3 = \n>\n> 00000fff\n", "CR3 = {a:2}"), Some(vec![("a", Some(0xFFF))]));
        assert_eq!(read("CR", "CR3 = {a:2}"), None);
        // A number that has its least digits, where the line may have been cut.
        let lines = "a\nb\nc\nd\nEPTP index = 0x12\n";
        assert_eq!(read(lines, "EPTP index = {eptp_index:x2}"), Some(vec![("eptp_index", None)]));
        let wider = format!("{lines}a line that is wider than it\n");
        assert_eq!(read(&wider, "EPTP index = {eptp_index:x2}"), Some(vec![("eptp_index", Some(0x12))]));
        assert_eq!(read(&wider, "EPTP index = {eptp_index:x2+}"), Some(vec![("eptp_index", None)]));
        assert_eq!(
            read(&lines.replace("12", "1234"), "EPTP index = {eptp_index:x2}"),
            Some(vec![("eptp_index", Some(0x1234))])
        );
    }
}
