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
mod kontain;
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
mod twice;
mod values;
mod virtualbox;

pub use advice::advice;
pub use contents::{Damage, Dump, MsrLoadEntry, Named, Reported};
pub use page::find_in_bytes;

use crate::log::{self, Line};
use crate::processor;

/// Finds what a log has of one shape.
type Shape = fn(&[Line]) -> Vec<Dump>;

/// The shapes in which a VMCS is printed by programs that have one of their own. Each finds all that a log has of its shape.
const SHAPES: [Shape; 11] = [
    sections::find,
    haxm::find,
    qemu::find,
    bhyve::find,
    openbsd::find,
    debug_print::find,
    jailhouse::find,
    kontain::find,
    virtualbox::find,
    tracepoint::find,
    page::find,
];

/// What is looked for where there is none of [`SHAPES`]. These take every line that looks like one of theirs, also out of a dump
/// of another shape; the first that finds something counts.
const OTHERWISE: [Shape; 2] = [list::find, bare::find];

/// What the lines hold that the shapes, and those who look for the processor, need of a log that is too large to be kept as a
/// whole. The lines behind such a line are kept, too.
pub(crate) fn markers() -> impl Iterator<Item = &'static str> {
    let shapes = [
        sections::MARKERS,
        haxm::MARKERS,
        qemu::MARKERS,
        processor::MARKERS,
        bhyve::MARKERS,
        openbsd::MARKERS,
        debug_print::MARKERS,
        jailhouse::MARKERS,
        kontain::MARKERS,
        virtualbox::MARKERS,
        tracepoint::MARKERS,
        page::MARKERS,
        list::MARKERS,
        bare::MARKERS,
    ];
    shapes.into_iter().flatten().copied()
}

/// The dumps in a log, in their order; none if it holds nothing of the sort.
#[must_use]
pub fn find(log: &str) -> Vec<Dump> {
    find_in(&log::lines(log))
}

/// The dumps in the lines of a log, in their order; none if it holds nothing of the sort.
#[must_use]
pub fn find_in(lines: &[Line]) -> Vec<Dump> {
    let mut dumps: Vec<_> = SHAPES.iter().flat_map(|find| find(lines)).collect();
    if dumps.is_empty() {
        dumps = OTHERWISE.iter().map(|find| find(lines)).find(|dumps| !dumps.is_empty()).unwrap_or_default();
    }
    dumps.sort_by_key(|dump| dump.line);
    twice::join(dumps)
}
