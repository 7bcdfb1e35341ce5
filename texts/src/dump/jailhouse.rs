//! Reading the guest state that Jailhouse prints when a VM entry fails.

use vmcs_model::field::{self, FieldId};

use super::collect::Collected;
use super::contents::Dump;
use super::number::Printed;
use crate::log::Line;
use crate::names::FieldName;

/// In the first line of a block stands this.
pub(super) const MARKERS: &[&str] = &[BEGIN];

/// The first line of the block.
const BEGIN: &str = "VM-Entry failure, reason";

/// Labels, and the fields that they show. Numbers are hexadecimal, with or without 0x.
const LABELS: [(&str, FieldId); 10] = [
    ("RIP:", field::GUEST_RIP.id()),
    ("RSP:", field::GUEST_RSP.id()),
    ("FLAGS:", field::GUEST_RFLAGS.id()),
    ("CS:", field::GUEST_CS_SELECTOR.id()),
    ("BASE:", field::GUEST_CS_BASE.id()),
    ("AR-BYTES:", field::GUEST_CS_ACCESS_RIGHTS.id()),
    ("CR0:", field::GUEST_CR0.id()),
    ("CR3:", field::GUEST_CR3.id()),
    ("CR4:", field::GUEST_CR4.id()),
    ("EFER:", field::GUEST_IA32_EFER.id()),
];

/// So many lines behind the first one belong to the block.
const LINES: usize = 16;

/// The blocks in a log.
pub(super) fn find(lines: &[Line]) -> Vec<Dump> {
    let begins = (0..lines.len()).filter(|i| lines[*i].text.contains(BEGIN));
    begins.filter_map(|begin| block(&lines[begin..])).collect()
}

fn block(lines: &[Line]) -> Option<Dump> {
    let mut dump = super::bare::find(&lines[..lines.len().min(4)]).into_iter().next()?;
    let mut values = Collected::default();
    let end = lines.iter().skip(1).take(LINES).position(|line| line.text.contains(BEGIN)).map_or(LINES, |end| end + 1);
    let body = &lines[1..lines.len().min(end)];
    // Where no line is longer, all may have been cut.
    let longest = body.iter().map(|line| line.width).max().unwrap_or(0);
    for line in body.iter().filter(|line| !line.text.contains("interrupt info")) {
        for (label, field) in LABELS {
            let Some(value) = behind_word(&line.text, label) else { continue };
            let name = FieldName { field, high: false };
            let printed = Printed::read(value);
            let at_end = |printed: &Printed<'_>| printed.rest.is_empty() && (line.cut || line.width == longest);
            let bits = field.info().width().bits();
            let value = match &printed {
                // Addresses and control registers have 16 digits.
                Some(printed) if printed.marked && !printed.fills(bits) => Err("fewer than 16 digits".to_owned()),
                Some(printed) if at_end(printed) && !printed.fills(bits) => Err("cut off".to_owned()),
                Some(printed) => printed.hex().ok_or_else(|| "more than 64 bits".to_owned()),
                None => Err("no number".to_owned()),
            };
            values.give(name, value, line.number);
        }
    }
    (values.known() > 0).then(|| values.fill(&mut dump))?;
    dump.note("the LMA bit that Jailhouse shows beside CS is that of the VM-entry controls");
    Some(dump)
}

/// The text behind a label that is a word of its own.
fn behind_word<'t>(text: &'t str, label: &str) -> Option<&'t str> {
    let found =
        text.match_indices(label).find(|(at, _)| text[..*at].chars().next_back().is_none_or(char::is_whitespace));
    found.map(|(at, _)| text[at + label.len()..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::test_support::{every_cut_is_no_worse, known, values_of};
    use crate::log;

    #[test]
    fn the_block_is_read() {
        let text = "FATAL: VM-Entry failure, reason 33\nqualification 4\nvectoring info: 0 interrupt info: 0\n\
                    RIP: 0x000000000000fff0 RSP: 0x0000000000001000 FLAGS: 2\n\
                    RAX: 0x0000000000000000 RBX: 0x0000000000000000 RCX: 0x0000000000000000\n\
                    CS: 8 BASE: 0x0000000000000000 AR-BYTES: a09b EFER.LMA 1\n\
                    CR0: 0x0000000080050033 CR3: 0x0000000000001000 CR4: 0x0000000000002020\nEFER: 0x0000000000000500\n";
        let dumps = find(&log::lines(text));
        let expected = [
            ("guest_rip", 0xFFF0),
            ("guest_rsp", 0x1000),
            ("guest_rflags", 2),
            ("guest_cs_selector", 8),
            ("guest_cs_base", 0),
            ("guest_cs_access_rights", 0xA09B),
            ("guest_cr0", 0x8005_0033),
            ("guest_cr3", 0x1000),
            ("guest_cr4", 0x2020),
            ("guest_ia32_efer", 0x500),
        ];
        assert_eq!(dumps.iter().map(known).collect::<Vec<_>>(), [values_of(&expected)]);
        assert_eq!(dumps[0].reported.map(|reported| reported.to_string()).as_deref(), Some("EntryFailed(33, 4)"));
        every_cut_is_no_worse(text);
        let short = text.replace("CR3: 0x0000000000001000", "CR3: 0x00000000");
        assert_eq!(known(&find(&log::lines(&short))[0]).len(), expected.len() - 1);
    }
}
