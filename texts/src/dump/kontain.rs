//! Reading the segment registers that kontain's km prints after a failed entry, as KVM_GET_SREGS gives them.

use super::collect::Collected;
use super::contents::Dump;
use super::number::Printed;
use crate::log::Line;
use crate::names;

/// In the lines that the registers need stands one of these.
pub(super) const MARKERS: &[&str] = &[BEGIN, "km: KVM_EXIT_FAIL_ENTRY"];

/// What stands before the registers.
const BEGIN: &str = "== KVM_GET_SREGS ==";

/// The registers, as they are printed and as fields are named.
const SEGMENTS: [(&str, &str); 9] = [
    ("CS", "cs"),
    ("DS", "ds"),
    ("ES", "es"),
    ("FS", "fs"),
    ("GS", "gs"),
    ("SS", "ss"),
    ("TR", "tr"),
    ("LDT", "ldtr"),
    ("LDTR", "ldtr"),
];

/// Most lines behind the heading that belong to the registers.
const LINES: usize = 40;

/// The last registers in a log.
pub(super) fn find(lines: &[Line]) -> Vec<Dump> {
    let Some(begin) = lines.iter().rposition(|line| line.text.contains(BEGIN)) else { return Vec::new() };
    let body = &lines[begin + 1..lines.len().min(begin + 1 + LINES)];
    let mut values = Collected::default();
    let mut long = false;
    for (i, line) in body.iter().enumerate() {
        let Some((name, rest)) = line.text.split_once([' ', '\t']) else { continue };
        let Some((_, register)) = SEGMENTS.iter().find(|(printed, _)| *printed == name) else { continue };
        let Some(segment) = Segment::read(rest, body.get(i + 1)) else { continue };
        long |= *register == "cs" && segment.access_rights >> 13 & 1 == 1;
        let parts = [
            ("selector", segment.selector),
            ("base", segment.base),
            ("limit", segment.limit),
            ("access_rights", segment.access_rights),
        ];
        for (part, value) in parts {
            if let Some(name) = names::field(&format!("guest_{register}_{part}")) {
                values.give(name, Ok(value), line.number);
            }
        }
    }
    // In other modes the VMCS can hold other segments than the guest has.
    if !long {
        return Vec::new();
    }
    let mut dump = Dump { line: lines[begin].number, ..Dump::new("kontain") };
    values.fill(&mut dump);
    dump.note("km shows the segment registers that KVM has for the guest, not the VMCS, and not why the entry failed");
    vec![dump]
}

/// A segment register of two lines.
struct Segment {
    selector: u64,
    base: u64,
    limit: u64,
    access_rights: u64,
}

impl Segment {
    /// The register, if all its parts are shown.
    fn read(first: &str, second: Option<&Line>) -> Option<Self> {
        let second = second?;
        let number = |text: &str, label: &str| {
            let at = text.match_indices(label).find(|(at, _)| !text[..*at].ends_with(char::is_alphanumeric))?.0;
            let printed = Printed::read(text[at + label.len()..].trim_start()).filter(|printed| printed.marked)?;
            printed.hex()
        };
        // What stands at the end of a line has one digit.
        let digit = |text, label| number(text, label).filter(|value| *value < 16);
        let bit = |label| number(&second.text, label).filter(|value| *value < 2);
        let bits =
            [(bit("s:")?, 4), (digit(first, "present:")?, 7), (bit("avl:")?, 12), (bit("l:")?, 13), (bit("db:")?, 14)];
        let upper = [(bit("g:")?, 15), (bit("unusable:")?, 16), (digit(&second.text, "dpl:")?, 5)];
        let access_rights =
            bits.iter().chain(&upper).fold(digit(first, "type:")?, |rights, (value, at)| rights | value << at);
        let (selector, base, limit) = (number(first, "selector:")?, number(first, "base:")?, number(first, "limit:")?);
        Some(Self { selector, base, limit, access_rights })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::test_support::{every_cut_is_no_worse, known, values_of};
    use crate::log;

    const TEXT: &str = "km: KVM_EXIT_FAIL_ENTRY\n== KVM_GET_REGS ==\n== KVM_GET_SREGS ==\n\
        CS  base: 0x0  limit:0xffffffff selector: 0x8 type: 0xb present: 0x1\n    dpl:0x0 db:0x0 s:0x1 l:0x1 g:0x1 avl:0x0 unusable:0x0\n\
        TR  base: 0x1000  limit:0x67 selector: 0x40 type: 0x3 present: 0x1\n    dpl:0x0 db:0x0 s:0x0 l:0x0 g:0x0 avl:0x0 unusable:0x1\n";

    #[test]
    fn segments_are_read() {
        let expected = [
            ("guest_cs_selector", 8),
            ("guest_cs_base", 0),
            ("guest_cs_limit", 0xFFFF_FFFF),
            ("guest_cs_access_rights", 0xA09B),
            ("guest_tr_selector", 0x40),
            ("guest_tr_base", 0x1000),
            ("guest_tr_limit", 0x67),
            ("guest_tr_access_rights", 0x1_0083),
        ];
        let dumps = find(&log::lines(TEXT));
        assert_eq!(dumps.iter().map(known).collect::<Vec<_>>(), [values_of(&expected)]);
        every_cut_is_no_worse(TEXT);
    }

    #[test]
    fn segments_outside_of_64_bit_mode_are_not_those_of_the_vmcs() {
        assert!(find(&log::lines(&TEXT.replace("l:0x1", "l:0x0"))).is_empty());
        // Half a register is none.
        let half = TEXT.replace(" selector: 0x40", "");
        assert_eq!(known(&find(&log::lines(&half))[0]).len(), 4);
    }
}
