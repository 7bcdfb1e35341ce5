//! Reading VMCS dumps out of logs: which fields a dump gives a value, and which stay unknown.

mod contents;
mod haxm;
mod pattern;
mod qemu;
mod sections;
mod twice;
mod values;

pub use contents::{Damage, Dump, MsrLoadEntry, Named, Reported};

use crate::log::{self, Line};

/// Finds all dumps of one shape in the lines of a log.
type Find = fn(&[Line]) -> Vec<Dump>;

/// The shapes in which a VMCS or the end of an entry is printed.
const SHAPES: [Find; 3] = [sections::find, haxm::find, qemu::find];

/// What the lines hold that these shapes, and those who look for the processor, need of a log that is too large to be kept as
/// a whole. The lines behind such a line are kept, too.
pub(crate) const MARKERS: [&[&str]; 4] = [sections::MARKERS, haxm::MARKERS, qemu::MARKERS, PROCESSOR];

/// What names the processor.
const PROCESSOR: &[&str] = &["smpboot: CPU0:", "model name\t", "address sizes\t", "CPU Vendor: ", "------[ "];

/// The dumps in a log, in their order; none if it holds nothing of the sort.
#[must_use]
pub fn find(log: &str) -> Vec<Dump> {
    find_in(&log::lines(log))
}

/// The dumps in the lines of a log, in their order; none if it holds nothing of the sort.
#[must_use]
pub fn find_in(lines: &[Line]) -> Vec<Dump> {
    let mut dumps: Vec<_> = SHAPES.iter().flat_map(|find| find(lines)).collect();
    dumps.sort_by_key(|dump| dump.line);
    twice::join(dumps)
}
