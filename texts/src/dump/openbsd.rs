//! Reading what OpenBSD's vmm prints when it is compiled with VMM_DEBUG: several fields a line, each with its encoding.

use super::contents::Dump;
use super::items::Item;
use super::list::{Longest, gather, reported};
use crate::log::Line;
use crate::names;

/// In the first line of a dump stands this.
pub(super) const MARKERS: &[&str] = &[BEGIN];

/// What begins a dump.
const BEGIN: &str = "--CURRENT VMCS STATE--";

/// The dumps in a log.
pub(super) fn find(lines: &[Line]) -> Vec<Dump> {
    let begins: Vec<_> = (0..lines.len()).filter(|i| lines[*i].text.contains(BEGIN)).collect();
    let ends = begins.iter().skip(1).copied().chain([lines.len()]);
    begins.iter().zip(ends).filter_map(|(begin, end)| dump(&lines[*begin..end])).collect()
}

fn dump(lines: &[Line]) -> Option<Dump> {
    let items: Vec<_> = lines.iter().flat_map(fields).collect();
    let values = gather(&items, Longest::of(lines));
    if values.known() == 0 {
        return None;
    }
    let mut dump = Dump { line: lines.first()?.number, ..Dump::new("OpenBSD") };
    values.fill(&mut dump);
    dump.reported = super::bare::find_beside_a_list(lines).or_else(|| reported(&dump));
    dump.note("secondary VM-exit and tertiary controls and CET state are not in this dump");
    Some(dump)
}

/// The fields of a line, by their encodings in parentheses.
fn fields(line: &Line) -> Vec<Item<'_>> {
    let text = line.text.as_str();
    let places = text.match_indices("(0x").filter_map(|(at, _)| {
        let (encoding, rest) = (text.get(at + 1..at + 7)?, text.get(at + 7..)?.strip_prefix(')')?);
        let field = names::encoding(encoding)?;
        let value = rest.trim_start().strip_prefix(':')?.trim_start();
        Some((text.len() - value.len(), field))
    });
    places.map(|(column, field)| Item { field: Some(field), ..Item::at(line, column, field.field) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::test_support::{every_cut_is_no_worse, known, values_of};
    use crate::log;

    #[test]
    fn fields_are_read_by_their_encodings() {
        let text = "--CURRENT VMCS STATE--\nVMCS launched: Yes\nVMXON revision : 0x4\nCR0 fixed0: 0x80000021\n\
                    G.ES (0x0800): 0x0000 G.CS (0x0802): 0x0008 G.SS (0x0804): 0x0010 \n\
                    G. CS AR (0x4816): 0x0000a09b G. TR AR (0x4822): ???? \nVMCS link ptr (0x2800): 0xffffffffffffffff\n\
                    Exit reason (0x4402): 0x80000021\nExit qualification (0x6400): 0x0000000000000000\n\
                    \x20cs=0x0008 rpl=0 base=0x0000000000000000 limit=0x00000000ffffffff a/r=0xa09b\n";
        let dumps = find(&log::lines(text));
        let expected = [
            ("guest_es_selector", 0),
            ("guest_cs_selector", 8),
            ("guest_ss_selector", 0x10),
            ("guest_cs_access_rights", 0xA09B),
            ("vmcs_link_pointer", u64::MAX),
            ("exit_reason", 0x8000_0021),
            ("exit_qualification", 0),
        ];
        assert_eq!(dumps.iter().map(known).collect::<Vec<_>>(), [values_of(&expected)]);
        assert_eq!(dumps[0].damage.len(), 1, "VMREAD failed");
        assert_eq!(dumps[0].reported.map(|reported| reported.to_string()).as_deref(), Some("EntryFailed(33, 0)"));
        every_cut_is_no_worse(text);
        assert_eq!(find(&log::lines(&text.repeat(2))).len(), 2);
    }
}
