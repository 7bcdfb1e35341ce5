//! Reading the `Debug` output of the VMCS of barevisor and Hello-VT-rp: `Vmcs {`, a name and a value a line, `}`.

use super::collect::Collected;
use super::contents::Dump;
use super::items::{Item, items};
use super::list::{Longest, gather, reported};
use crate::log::Line;

/// In the first line of the output stands this.
pub(super) const MARKERS: &[&str] = &[BEGIN];

/// What the first line ends in.
const BEGIN: &str = "Vmcs {";

/// The outputs in a log.
pub(super) fn find(lines: &[Line]) -> Vec<Dump> {
    let longest = Longest::of(lines);
    let mut dumps = Vec::new();
    // What begins before another has ended is printed into that one: both are read as one, so that what they contradict each
    // other in is unknown.
    let (mut begin, mut open) = (0, 0_usize);
    for (i, line) in lines.iter().enumerate() {
        if line.text.ends_with(BEGIN) {
            if open == 0 {
                begin = i;
            }
            open += 1;
        } else if line.text == "}" && open > 0 {
            open -= 1;
            if open == 0 {
                dumps.extend(dump(&lines[begin..i], longest));
            }
        }
    }
    if open > 0 {
        dumps.extend(dump(&lines[begin..], longest));
    }
    // Its own line tells how the last one ended, if the exit reason does not.
    if let Some(last) = dumps.last_mut().filter(|last| last.reported.is_none()) {
        last.reported = super::bare::find_beside_a_list(lines);
    }
    dumps
}

fn dump(lines: &[Line], longest: Longest) -> Option<Dump> {
    let items: Vec<_> = lines.iter().flat_map(items).collect();
    let mut values = gather(&items, longest);
    if values.known() == 0 {
        return None;
    }
    zeros(&items, &mut values);
    let mut dump = Dump { line: lines.first()?.number, ..Dump::new("barevisor") };
    values.fill(&mut dump);
    dump.reported = reported(&dump);
    Some(dump)
}

/// A VMREAD that fails gives 0, too. It fails for fields that the processor lacks; and for all where there is no current VMCS.
fn zeros(items: &[Item<'_>], values: &mut Collected) {
    let fields: Vec<_> = items.iter().filter_map(|item| item.field.map(|name| name.field)).collect();
    let current = fields.iter().any(|field| values.value(*field).is_some_and(|value| value != 0));
    for field in fields {
        let exists = current && field.info().exists_if.is_empty();
        if !exists && values.value(field) == Some(0) {
            values.forget(field, "0 is also printed where the field cannot be read");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::test_support::{every_cut_is_no_worse, known, values_of};
    use crate::log;

    const TEXT: &str = "VmFailValid with 7\nVmcs {\n    Virtual-processor identifier                   : 0x0,\n    \
                        Guest ES Selector                              : 0x10,\n    \
                        Guest LDTR Selector                            : 0x0,\n    \
                        EPT pointer                                    : 0x10001e,\n    \
                        Guest RFLAGS                                   : 0x2,\n}\n";

    #[test]
    fn a_zero_of_a_field_that_may_be_missing_is_unknown() {
        let dumps = find(&log::lines(TEXT));
        let expected =
            [("guest_es_selector", 0x10), ("guest_ldtr_selector", 0), ("ept_pointer", 0x10_001E), ("guest_rflags", 2)];
        assert_eq!(dumps.iter().map(known).collect::<Vec<_>>(), [values_of(&expected)]);
        assert_eq!(dumps[0].damage[0].field.info().name, "virtual_processor_identifier");
        assert_eq!(dumps[0].reported.map(|reported| reported.to_string()).as_deref(), Some("VMfailValid(7)"));
        every_cut_is_no_worse(TEXT);
    }

    #[test]
    fn what_is_printed_into_another_is_unknown() {
        let other = TEXT.replace("0x10,", "0x18,").replace("0x10001e", "0x20001e").replace("0x2,", "0x202,");
        let (head, tail) = TEXT.split_at(TEXT.find("    Guest LDTR").expect("a line"));
        let mixed = format!("{head}{other}    Guest CR0                                      : 0x1,\n{tail}");
        let dumps = find(&log::lines(&mixed));
        assert_eq!(dumps.iter().map(known).collect::<Vec<_>>(), [values_of(&[("guest_ldtr_selector", 0)])]);
        assert_eq!(find(&log::lines(&TEXT.repeat(2))).len(), 2);
    }

    #[test]
    fn nothing_but_zeros_is_no_vmcs() {
        let zeros = TEXT.replace("0x10,", "0x0,").replace("0x10001e", "0x0").replace("0x2,", "0x0,");
        assert_eq!(known(&find(&log::lines(&zeros))[0]), []);
    }
}
