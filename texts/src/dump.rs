//! Reading VMCS dumps out of logs: which fields a dump gives a value, and which stay unknown.

mod advice;
mod bare;
mod bhyve;
mod collect;
mod contents;
mod debug_print;
mod haxm;
mod items;
mod jailhouse;
mod list;
mod number;
mod openbsd;
mod page;
mod pattern;
mod qemu;
mod sections;
#[cfg(test)]
mod test_support;
mod tracepoint;
mod virtualbox;

pub use advice::{advice, meaning};
pub use contents::{Damage, Dump, MsrLoadEntry, Named, Reported};
pub use page::find_in_bytes;

use crate::log::{self, Line};
use pattern::{CUT, START};

/// Finds what a log has of one shape.
type Shape = fn(&[Line]) -> Vec<Dump>;

/// The shapes in which a VMCS or the end of an entry is printed. Each finds all that a log has of its shape.
const SHAPES: [Shape; 12] = [
    sections::find,
    haxm::find,
    qemu::find,
    bhyve::find,
    openbsd::find,
    debug_print::find,
    jailhouse::find,
    virtualbox::find,
    tracepoint::find,
    page::find,
    list::find,
    bare::find,
];

/// The dumps in a log, in their order; none if it holds nothing of the sort.
#[must_use]
pub fn find(log: &str) -> Vec<Dump> {
    let lines = log::lines(log);
    SHAPES.iter().map(|find| find(&lines)).find(|dumps| !dumps.is_empty()).unwrap_or_default()
}

/// Strings of which one stands in every line that the shapes beside those of KVM, Xen, HAXM and QEMU need, whatever the case of
/// the letters. Rows of a hex dump, a list of encodings without 0x and a text that is nothing but a number need none:
/// [`is_digits`] tells their lines.
pub fn markers() -> impl Iterator<Item = &'static str> {
    let shapes = [
        bhyve::MARKERS,
        openbsd::MARKERS,
        debug_print::MARKERS,
        jailhouse::MARKERS,
        virtualbox::MARKERS,
        tracepoint::MARKERS,
        list::MARKERS,
        bare::MARKERS,
    ];
    shapes.into_iter().flatten().copied()
}

/// Whether a line without a marker can be needed: it is a row of a hex dump, or begins with a number.
#[must_use]
pub fn is_digits(line: &str) -> bool {
    let word = line.split([' ', '\t', ':', '=']).next().unwrap_or_default();
    page::is_row(line) || !word.is_empty() && word.bytes().all(|c| c.is_ascii_hexdigit() || matches!(c, b'x' | b'h'))
}

/// The lines as one text for patterns that go over several lines.
fn joined(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        if line.prefixed {
            text.push(START);
        }
        text.push_str(&line.text);
        text.push(if line.cut { CUT } else { '\n' });
    }
    text
}
