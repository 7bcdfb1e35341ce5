//! Reading VMCS dumps out of logs: which fields a dump gives a value, and which stay unknown.

mod contents;
mod haxm;
mod pattern;
mod qemu;
mod sections;

pub use contents::{Damage, Dump, MsrLoadEntry, Named, Reported};

use crate::log::{self, Line};
use pattern::{CUT, START};

/// The shapes in which a VMCS or the end of an entry is printed. Each finds all that a log has of its shape.
const SHAPES: [fn(&[Line]) -> Vec<Dump>; 3] = [sections::find, haxm::find, qemu::find];

/// The dumps in a log, in their order; none if it holds nothing of the sort.
#[must_use]
pub fn find(log: &str) -> Vec<Dump> {
    let lines = log::lines(log);
    SHAPES.iter().map(|find| find(&lines)).find(|dumps| !dumps.is_empty()).unwrap_or_default()
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
