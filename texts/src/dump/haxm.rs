//! Reading HAXM's dump, which has a line for each field, with its encoding. The lines have a fixed order, by which dumps that
//! follow each other, or were printed into each other, are told apart.

use std::borrow::Cow;

use vmcs_model::field::{self, Encoding, FieldId};

use super::contents::{Dump, Reported};
use super::values::Values;
use crate::log::Line;

/// What lines hold that matter here.
pub(super) const MARKERS: &[&str] = &["haxm_", " GUEST_", " HOST_", " VMX_", " VM_EXIT_INFO_"];

/// The encodings in the order in which HAXM prints them.
const ORDER: [u32; 127] = [
    0x4000, 0x4002, 0x401E, 0x4004, 0x4006, 0x4008, 0x400C, 0x400E, 0x4010, 0x4012, 0x4014, 0x4016, 0x4018, 0x401A,
    0x401C, 0x6000, 0x6002, 0x6004, 0x6006, 0x400A, 0x6008, 0x0000, 0x2000, 0x2002, 0x2004, 0x2006, 0x2008, 0x200A,
    0x2010, 0x2012, 0x2014, 0x201A, 0x482E, 0x4400, 0x4402, 0x4404, 0x4406, 0x4408, 0x440A, 0x440C, 0x440E, 0x6400,
    0x6402, 0x6404, 0x6406, 0x6408, 0x640A, 0x2400, 0x6C16, 0x6C14, 0x6C00, 0x6C02, 0x6C04, 0x0C02, 0x0C06, 0x0C00,
    0x0C08, 0x0C0A, 0x0C04, 0x0C0C, 0x6C06, 0x6C08, 0x6C0A, 0x6C0C, 0x6C0E, 0x4C00, 0x6C10, 0x6C12, 0x681E, 0x6820,
    0x681C, 0x6800, 0x6802, 0x6804, 0x0800, 0x0802, 0x0804, 0x0806, 0x0808, 0x080A, 0x080C, 0x080E, 0x4814, 0x4816,
    0x4818, 0x481A, 0x481C, 0x481E, 0x4820, 0x4822, 0x6806, 0x6808, 0x680A, 0x680C, 0x680E, 0x6810, 0x6812, 0x6814,
    0x6816, 0x6818, 0x4800, 0x4802, 0x4804, 0x4806, 0x4808, 0x480A, 0x480C, 0x480E, 0x4810, 0x4812, 0x2800, 0x2802,
    0x2804, 0x2806, 0x2808, 0x280A, 0x280C, 0x280E, 0x2810, 0x681A, 0x6822, 0x482A, 0x6824, 0x6826, 0x4828, 0x4824,
    0x4826,
];

/// The dumps in a log.
pub(super) fn find(lines: &[Line]) -> Vec<Dump> {
    let lines = &with_whole_names(lines);
    let next = lines.iter().skip(1).map(Some).chain([None]);
    let values: Vec<_> = lines.iter().zip(next).filter_map(|(line, next)| value(line, next)).collect();
    let widest = |width: fn(&Shown<'_>) -> usize| values.iter().map(width).max();
    let (widest, widest_of_log) = (widest(|shown| shown.width), widest(|shown| shown.line.width));
    let mut runs: Vec<Run> = Vec::new();
    for mut shown in values {
        // A number is printed without leading zeros: that digits are missing shows only in how long the line is.
        let cut = shown.cut || Some(shown.width) == widest || Some(shown.line.width) == widest_of_log;
        if cut && shown.digits < shown.field.info().width().bits() as usize / 4 {
            shown.value = shown.value.and(Err("its line seems to be cut: digits may be missing"));
        }
        add(&mut runs, shown.line.number, shown);
    }
    runs.into_iter().filter_map(Run::dump).collect()
}

/// The lines, with those put together that a mail program has broken behind the encoding. Their width is that of the rest, so
/// that it is seen where a program that came after has cut it.
fn with_whole_names(lines: &[Line]) -> Cow<'_, [Line]> {
    let encoding = |text: &str| text.len() == 4 && text.bytes().all(|c| c.is_ascii_hexdigit());
    let broken = |line: &Line, next: &Line| line.prefixed && !next.prefixed && encoding(&line.text);
    if !lines.windows(2).any(|pair| broken(&pair[0], &pair[1])) {
        return Cow::Borrowed(lines);
    }
    let mut whole: Vec<Line> = Vec::with_capacity(lines.len());
    for line in lines {
        match whole.last_mut() {
            Some(last) if broken(last, line) => {
                let text = format!("{} {}", last.text, line.text);
                // Nothing tells whether a number that ends a broken line is whole.
                *last = Line { text, cut: true, prefixed: true, ..line.clone() };
            }
            _ => whole.push(line.clone()),
        }
    }
    Cow::Owned(whole)
}

/// What a line shows.
struct Shown<'a> {
    line: &'a Line,
    /// How many characters it has, those that a mail program has put into the next line included.
    width: usize,
    /// The log ends within it.
    cut: bool,
    rank: usize,
    field: FieldId,
    digits: usize,
    value: Result<u64, &'static str>,
}

/// What a line shows, if it is one of a dump. A mail program may have put the number into the next line.
fn value<'a>(line: &'a Line, next: Option<&'a Line>) -> Option<Shown<'a>> {
    let (encoding, rest) = line.text.split_once(' ')?;
    let (name, value) = rest.split_once(':')?;
    let named = !name.is_empty() && name.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_');
    if encoding.len() != 4 || !named {
        return None;
    }
    let encoding = u32::from_str_radix(encoding, 16).ok()?;
    let field = Encoding(encoding).field()?;
    let rank = ORDER.iter().position(|other| *other == encoding)?;
    let wrapped = next.filter(|next| value.trim().is_empty() && line.prefixed && !next.prefixed);
    let width = line.width + wrapped.map_or(0, |next| next.width);
    let value = wrapped.map_or(value, |next| next.text.as_str()).trim();
    let digits = value.strip_prefix("0x").unwrap_or(value);
    let number = u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'));
    let value = number.ok_or(if digits.is_empty() { "cut off" } else { "not a number" });
    Some(Shown { line, width, cut: wrapped.unwrap_or(line).cut, rank, field, digits: digits.len(), value })
}

/// Lines that are taken for one dump.
struct Run {
    line: usize,
    /// The place of its last line in the order.
    last: usize,
    values: Values,
    /// It has the lines of several dumps, which cannot be told apart.
    mixed: bool,
}

/// Adds a line to the dump that it goes on with.
fn add(runs: &mut Vec<Run>, line: usize, shown: Shown<'_>) {
    let rank = shown.rank;
    let expect = |run: &Run| run.last + 1 == rank || run.mixed && run.last == rank;
    if runs.iter().filter(|run| expect(run)).count() > 1 {
        // Dumps of which the same line comes next.
        let mut all = std::mem::take(runs).into_iter();
        let mut fused: Option<Run> = None;
        for run in all.by_ref() {
            if !expect(&run) {
                runs.push(run);
            } else if let Some(fused) = &mut fused {
                fused.values.merge(run.values);
            } else {
                fused = Some(Run { mixed: true, ..run });
            }
        }
        runs.extend(fused);
    }
    let next = runs.iter().position(expect).or_else(|| {
        // Lines are missing: then it goes on with the only dump that has not come so far.
        let mut behind = runs.iter().enumerate().filter(|(_, run)| run.last < rank);
        let only = behind.next()?.0;
        behind.next().is_none().then_some(only)
    });
    let several = runs.iter().filter(|run| run.last < rank).count() > 1;
    let run = match next {
        Some(next) => &mut runs[next],
        None if several => {
            // It may belong to any of them.
            let shown_once = Shown { value: Err("it may belong to another dump"), ..shown };
            for run in runs.iter_mut().filter(|run| run.last < rank) {
                run.values.set(shown_once.field, line, shown_once.value);
            }
            return;
        }
        None => {
            runs.push(Run { line, last: rank, values: Values::default(), mixed: false });
            runs.last_mut().expect("just pushed")
        }
    };
    run.last = rank;
    run.values.set(shown.field, line, shown.value);
}

impl Run {
    fn dump(self) -> Option<Dump> {
        let mut dump = Dump::new("HAXM");
        dump.line = self.line;
        self.values.give(&mut dump, self.mixed);
        if self.mixed {
            dump.note(
                "two dumps are printed into each other line by line: values on which they differ, or that only one of them \
                 shows, are taken as unknown",
            );
        }
        if dump.known() == 0 && dump.damage.is_empty() {
            return None;
        }
        dump.reported = Reported::of_fields(&dump.vmcs);
        if let Some(error @ 1..) = dump.vmcs.raw(field::VM_INSTRUCTION_ERROR.id()) {
            dump.note(format!(
                "vm_instruction_error is {error}: that of the last VMX instruction that failed, which need not be this VM entry"
            ));
        }
        dump.note("VM-exit information fields are those of the last VM exit");
        Some(dump)
    }
}

#[cfg(test)]
mod tests {
    use crate::dump::find;
    use crate::dump::test_support::{known, values_of};

    #[test]
    fn a_line_broken_behind_its_encoding_may_have_lost_digits() {
        let prefix = "[ 2311.499051] [T1234] Jun 16 15:07:09 localhost /netbsd: [ 1776.3439261] haxm_warning:";
        let log = format!(
            "{prefix} 6c10 \nHOST_SYSENTER_ESP: \n{prefix} 681e \nGUEST_RIP: fffff801\n{prefix} 6820 \n\
             GUEST_RFLAGS: 10082.\n{prefix} 681c \nGUEST_RSP: fffff80112345678\n"
        );
        let dumps = find(&log);
        let read: Vec<_> = dumps.iter().flat_map(known).collect();
        assert_eq!(read, values_of(&[("guest_rsp", 0xFFFF_F801_1234_5678)]));
    }
}
