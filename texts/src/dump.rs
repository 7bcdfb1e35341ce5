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
    if !dumps.is_empty() && dumps.iter().all(is_only_a_line) {
        if let [list] = &mut list::find(lines)[..] {
            join_list(list, dumps);
            return vec![std::mem::take(list)];
        }
    } else if dumps.is_empty() {
        dumps = OTHERWISE.iter().map(|find| find(lines)).find(|dumps| !dumps.is_empty()).unwrap_or_default();
    }
    dumps.sort_by_key(|dump| dump.line);
    twice::join(dumps)
}

/// Whether it is a line that says that an entry failed, but not how.
pub(crate) fn is_failure_without_number(dump: &Dump) -> bool {
    bare::is_failure_without_number(dump)
}

/// Whether a dump shows nothing of a VMCS, and names no cause.
fn is_only_a_line(dump: &Dump) -> bool {
    dump.known() == 0 && dump.damage.is_empty() && dump.named.is_empty() && dump.msr_load.is_empty()
}

/// Adds to a list how its entry ended, which the nearest of other lines says if they do not contradict each other.
fn join_list(list: &mut Dump, mut lines: Vec<Dump>) {
    lines.retain(|line| line.reported.is_some());
    lines.sort_by_key(|line| line.line.abs_diff(list.line));
    let Some(nearest) = lines.first() else { return };
    let contradicted = lines.iter().any(|line| line.reported != nearest.reported);
    if list.reported.is_none() && !contradicted {
        list.reported = nearest.reported;
        list.note(format!("line {} says how the entry ended", nearest.line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "GUEST_TR_AR_BYTES = 0x89\nVM_ENTRY_CONTROLS = 0x0000d3ff\nGUEST_RFLAGS = 0x2\nGUEST_RIP = 0xfffffffffffffff0\nHOST_RIP = 0x1\n";

    #[test]
    fn a_line_that_says_how_the_entry_ended_belongs_to_the_list_beside_it() {
        for (line, outcome) in [
            ("KVM: entry failed, hardware error 0x80000021\n", "EntryFailed(33, 0)"),
            ("vmentry fail reason=80000021\n", "EntryFailed(33, 0)"),
            ("VM-instruction error 8\n", "VMfailValid(8)"),
            ("Received KVM_EXIT_FAIL_ENTRY signal: 2147483681 on cpu 3\n", "EntryFailed(33, 0)"),
            ("VMLAUNCH failed with error 8\n", "VMfailValid(8)"),
        ] {
            for text in [format!("{line}{LIST}"), format!("{LIST}{line}")] {
                let dumps = find(&text);
                let found: Vec<_> = dumps
                    .iter()
                    .map(|dump| (dump.known(), dump.reported.map(|reported| reported.to_string())))
                    .collect();
                assert_eq!(found, [(5, Some(outcome.to_owned()))], "{text}");
            }
        }
    }
}
