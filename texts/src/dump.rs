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
mod pattern;
mod qemu;
mod sections;
#[cfg(test)]
mod test_support;
mod tracepoint;
mod virtualbox;

pub use advice::{advice, meaning};
pub use contents::{Damage, Dump, MsrLoadEntry, Named, Reported};

use crate::log::{self, Line};
use pattern::{CUT, START};

/// Finds what a log has of one shape.
type Shape = fn(&[Line]) -> Vec<Dump>;

/// The shapes in which a VMCS or the end of an entry is printed. Each finds all that a log has of its shape.
const SHAPES: [Shape; 11] = [
    sections::find,
    haxm::find,
    qemu::find,
    bhyve::find,
    openbsd::find,
    debug_print::find,
    jailhouse::find,
    virtualbox::find,
    tracepoint::find,
    list::find,
    bare::find,
];

/// The dumps in a log, in their order; none if it holds nothing of the sort.
#[must_use]
pub fn find(log: &str) -> Vec<Dump> {
    let lines = log::lines(log);
    SHAPES.iter().map(|find| find(&lines)).find(|dumps| !dumps.is_empty()).unwrap_or_default()
}

/// Strings of which one stands in every line that the shapes of lists and error lines need, whatever the case of the letters.
/// Two things need no such line: a text that is nothing but a number, and a list of encodings without 0x.
pub fn markers() -> impl Iterator<Item = &'static str> {
    [
        bhyve::MARKERS,
        openbsd::MARKERS,
        debug_print::MARKERS,
        jailhouse::MARKERS,
        virtualbox::MARKERS,
        tracepoint::MARKERS,
        list::MARKERS,
        bare::MARKERS,
    ]
    .into_iter()
    .flatten()
    .copied()
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
