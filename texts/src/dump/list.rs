//! Reading a list of fields with their values, in the names of any project: what hypervisors without a dump of their own
//! print, and what debuggers show of a structure.

mod base;
mod no_values;

use std::collections::{BTreeMap, BTreeSet};

use vmcs_model::field::{self, FieldId, Width};

use super::collect::Collected;
use super::contents::{Dump, Reported};
use super::items::{Item, is_number, items};
use crate::log::Line;
use crate::names::{self, FieldName};
use base::{Base, base, bits, mask};

/// In a list stands one of these, mostly in its first lines. They are seldom in logs of anything else.
pub(super) const MARKERS: &[&str] = &[
    "VMCS", "vmcs", "GUEST_ES", "GUEST_CS", "GUEST_CR", "GUEST_R", "HOST_ES", "HOST_CR", "HOST_R", "guest_es",
    "guest_cs", "guest_cr", "guest_r", "host_es", "host_cr", "host_r", "Guest ES", "Guest CS", "Guest CR", "Guest R",
    "VM_ENTRY", "vm_entry", "VM-entry", "0x0800:", "0x6800:",
];

/// So many fields make a list; fewer are prose with an equals sign.
const FEWEST: usize = 3;

/// Lines that are shorter were not cut at the width of a terminal.
const SHORT: usize = 72;

/// Most names that a note lists.
const NOTED: usize = 8;

/// How the headlines begin in a dump of Linux or Xen, whose names mean other fields in other sections. If the reader of these
/// dumps finds nothing in one, it is in pieces.
const HEADLINES: [&str; 3] = ["*** Guest", "*** Host", "*** Control"];

/// The list in a log.
pub(super) fn find(lines: &[Line]) -> Vec<Dump> {
    // The same goes for HAXM's, whose lines have this tag unless it is in pieces, too.
    let in_pieces = |text: &str| HEADLINES.iter().any(|headline| text.starts_with(headline)) || text.contains("haxm_");
    if lines.iter().any(|line| in_pieces(&line.text)) {
        return Vec::new();
    }
    let mut items: Vec<_> = lines.iter().flat_map(items).collect();
    if !encodings_are_names(&items) {
        items.retain(|item| !is_number(&item.name));
    }
    if no_values::mark(&mut items) {
        return Vec::new();
    }
    let known: BTreeSet<_> = items.iter().filter(|item| item.value.is_ok()).filter_map(|item| item.field).collect();
    let few = known.len() < FEWEST;
    if few && !is_nothing_else(lines, &items) {
        return Vec::new();
    }
    let values = gather(&items, if few { Longest(None) } else { Longest::of(lines) });
    if values.known() == 0 {
        return Vec::new();
    }
    let mut dump = Dump::new("field list");
    dump.line = items.iter().find(|item| item.field.is_some()).map_or(1, |item| item.line);
    values.fill(&mut dump);
    unknown_names(&items, &mut dump);
    let listed: BTreeSet<_> = items.iter().filter(|item| item.field.is_some()).map(|item| item.line).collect();
    dump.reported = super::bare::find_beside(lines, |line| listed.contains(&line)).or_else(|| reported(&dump));
    vec![dump]
}

/// Whether lines that are too few for a list are nothing but known names, each with a number that shows its base, and too short
/// for having been cut at the width of a terminal.
fn is_nothing_else(lines: &[Line], items: &[Item<'_>]) -> bool {
    let alone = |line: &Line| {
        let mut of_line = items.iter().filter(|item| item.line == line.number);
        let (Some(item), None) = (of_line.next(), of_line.next()) else { return false };
        // A line that says how the entry ended is no list.
        let says = [field::EXIT_REASON.id(), field::VM_INSTRUCTION_ERROR.id()];
        if item.field.is_none_or(|name| says.contains(&name.field)) || !line.text.contains([':', '=']) {
            return false;
        }
        let whole = item.columns.is_some() && line.text.starts_with(&item.name) && line.width < SHORT;
        whole && item.value.as_ref().is_ok_and(|printed| printed.marked)
    };
    lines.len() < FEWEST && lines.iter().all(alone)
}

/// The values of items with known names, out of lines of which the longest are so long.
pub(super) fn gather(items: &[Item<'_>], longest: Longest) -> Collected {
    let base = base(items);
    let lengths = Lengths::of(items, longest);
    let mut values = Collected::default();
    let last = items.iter().rposition(|item| item.field.is_some());
    for (i, item) in items.iter().enumerate() {
        let Some(name) = item.field else { continue };
        let whole = lengths.show_whole(item, base);
        let longest = lengths.at_longest(item);
        let read = value(item, base, whole, longest, Some(i) == last);
        if let (Err(_), false, Ok(stands)) = (&read, item.at_cut, value(item, base, whole, false, Some(i) == last))
            && longest
        {
            values.doubt(name.field, stands);
        }
        values.give(name, read, item.line);
    }
    // Printed as 32 bits: the pointer is all ones on any processor without a shadow VMCS.
    let in_halves = items.iter().any(|item| item.field.is_some_and(|name| name.high));
    if values.value(field::VMCS_LINK_POINTER.id()) == Some(0xFFFF_FFFF) && !in_halves {
        values.forget(field::VMCS_LINK_POINTER.id(), "0xffffffff is the lower half at most");
    }
    values
}

/// How the entry ended, if the list holds an exit reason of a failed entry.
pub(super) fn reported(dump: &Dump) -> Option<Reported> {
    let reason = dump.vmcs.raw(field::EXIT_REASON.id()).filter(|reason| reason >> 31 == 1)?;
    Reported::hardware_error(reason, dump.vmcs.raw(field::EXIT_QUALIFICATION.id()))
}

/// Whether numbers are aligned at the right, so that all lines are of the same length although none was cut.
fn right_aligned(items: &[Item<'_>]) -> bool {
    let mut ends = items.iter().filter_map(|item| Some((item.columns?, item.width)));
    let Some(([separator, number], length)) = ends.next() else { return false };
    let mut differ = false;
    let same = ends.all(|(at, other)| {
        differ |= at[1] != number;
        other == length && at[0] == separator
    });
    same && differ
}

/// How many digits a list prints for fields of each width.
struct Lengths {
    /// The fewest and the most, of numbers that the end of the log does not cut off.
    by_width: BTreeMap<u32, (usize, usize)>,
    /// How many digits numbers have that end the longest lines and do not fill their fields.
    short: BTreeSet<usize>,
    /// The width at which all lines may have been cut.
    longest: Longest,
}

/// The width of the longest lines.
#[derive(Clone, Copy)]
pub(super) struct Longest(Option<usize>);

impl Longest {
    pub(super) fn of(lines: &[Line]) -> Self {
        Self(lines.iter().map(|line| line.width).max())
    }
}

impl Lengths {
    fn of(items: &[Item<'_>], longest: Longest) -> Self {
        let longest = if right_aligned(items) { Longest(None) } else { longest };
        let mut lengths = Self { by_width: BTreeMap::new(), short: BTreeSet::new(), longest };
        for item in items {
            let (Some(name), Ok(printed)) = (item.field, &item.value) else { continue };
            if printed.binary {
                continue;
            }
            let length = printed.len();
            if !item.at_cut {
                let (fewest, most) = lengths.by_width.entry(bits(name)).or_insert((length, length));
                (*fewest, *most) = (length.min(*fewest), length.max(*most));
            }
            if lengths.at_longest(item) && !printed.fills(bits(name)) {
                lengths.short.insert(length);
            }
        }
        lengths
    }

    /// Whether the number ends one of the longest lines.
    fn at_longest(&self, item: &Item<'_>) -> bool {
        item.columns.is_some() && Some(item.width) == self.longest.0
    }

    /// Whether the number of hexadecimal digits shows that none was cut off.
    fn show_whole(&self, item: &Item<'_>, base: Base) -> bool {
        let (Some(name), Ok(printed)) = (item.field, &item.value) else { return false };
        let decimal = base == Base::Decimal && !printed.hexadecimal;
        let (value, radix) = match printed.binary {
            true => (printed.hex(), 2),
            false if decimal => (printed.decimal(), 10),
            false => (printed.hex(), 16),
        };
        // Another digit would not fit the field.
        if value.is_some_and(|value| value > mask(name) / radix) {
            return true;
        }
        if decimal || printed.binary {
            return false;
        }
        let length = printed.len();
        let Some((fewest, most)) = self.by_width.get(&bits(name)) else { return length == 16 };
        let fills = printed.fills(bits(name));
        // At the end of the log only a number as long as all others of its width is whole. Lines that were cut at one length
        // leave as many digits of wider fields, too, if their numbers begin in one column.
        let enough = if item.at_cut { length == *fewest && length == *most } else { length == *most };
        length == 16 || fills && enough && !self.short.contains(&length)
    }
}

/// The value of an item with a known name.
fn value(item: &Item<'_>, base: Base, whole: bool, longest: bool, last: bool) -> Result<u64, String> {
    let printed = item.value.as_ref().map_err(|words| match words.as_str() {
        "" => "no value follows".to_owned(),
        words => format!("{words:?} is no number"),
    })?;
    if let Some(wrong) = item.wrong {
        return Err(wrong.to_owned());
    }
    let Some(FieldName { field, high }) = item.field else { return Err(String::new()) };
    let width = field.info().width();
    if item.at_cut && !whole {
        return Err("it may be cut off, as the log ends there".to_owned());
    }
    if longest && !whole {
        return Err("it may be cut off, as no line is longer".to_owned());
    }
    let value = match base {
        Base::Hexadecimal if printed.binary => return Err("it can be binary or hexadecimal".to_owned()),
        _ if printed.hexadecimal => printed.hex(),
        Base::Hexadecimal if counts(field) && !printed.padded() && printed.hex().is_none_or(|value| value > 9) => {
            return Err("it can be decimal or hexadecimal".to_owned());
        }
        Base::Hexadecimal => printed.hex(),
        Base::Decimal => printed.decimal(),
        Base::Unknown => {
            if printed.len() > 1 && printed.decimal().is_none_or(|value| value > 9) {
                return Err("it can be decimal or hexadecimal".to_owned());
            }
            printed.decimal()
        }
    };
    let value = value.ok_or_else(|| "it has more than 64 bits".to_owned())?;
    if last && width == Width::Bits64 && !high && value >> 32 == 0 && !whole {
        return Err("bits 63:32 may be missing, as the list ends there".to_owned());
    }
    Ok(value)
}

/// Whether a field is one that programs print in decimal although they print others in hexadecimal.
fn counts(field: FieldId) -> bool {
    let name = field.info().name;
    let ends = ["_count", "_length", "_reason", "_error", "_identifier"];
    ends.iter().any(|end| name.ends_with(end))
}

/// Notes names within the list that are no field's.
fn unknown_names(items: &[Item<'_>], dump: &mut Dump) {
    let known = |item: &Item<'_>| item.field.is_some();
    let (Some(first), Some(last)) = (items.iter().position(known), items.iter().rposition(known)) else { return };
    let mut seen = BTreeSet::new();
    for item in &items[first..last] {
        let like_a_name = item.name.len() > 3
            && item.name.starts_with(|c: char| c.is_alphabetic())
            && item.name.split_whitespace().count() < 6;
        if !known(item) && like_a_name && seen.len() < NOTED && seen.insert(item.name.as_str()) {
            let nearest = names::nearest(&item.name);
            dump.note(format!("line {}: {:?} is no field's name that is known{nearest}", item.line, item.name));
        }
    }
}

/// Whether the numbers that stand in the place of names are encodings. Addresses and times look like some, but not like
/// those of fields of several widths and nothing else.
fn encodings_are_names(items: &[Item<'_>]) -> bool {
    let numbers: Vec<_> = items.iter().filter(|item| is_number(&item.name)).collect();
    let widths: Vec<_> = numbers.iter().map(|item| item.field.map(|name| name.field.info().width())).collect();
    let several = widths.iter().any(|width| *width != widths[0]) && !widths.contains(&None);
    several && (numbers.len() >= 8 || numbers.iter().all(|item| item.name.starts_with("0x")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::test_support::{every_cut_is_no_worse, known, values_of};
    use crate::log;

    /// A line that is longer than those of the lists, which shows that they were not cut.
    const LONG: &str =
        "the fields of the VMCS after VMLAUNCH has failed on the second processor of the machine are these\n";

    fn read(text: &str) -> Dump {
        find(&log::lines(text)).pop().unwrap_or_default()
    }

    #[track_caller]
    fn reads(text: &str, fields: &[(&str, u64)]) {
        assert_eq!(known(&read(text)), values_of(fields), "{text}");
    }

    #[test]
    fn a_dump_in_pieces_is_no_list() {
        const PIECES: &str = "*** Control Sta\nEPT pointer = 0\nEntryControls=0\nPLE Gap=0000008\nRSP = 0x0000000\nand a line that is longer than all others\n";
        assert!(find(&log::lines(PIECES)).is_empty());
        let (_, list) = PIECES.split_once('\n').expect("a line");
        assert!(!find(&log::lines(list)).is_empty(), "the headline tells");
    }

    #[test]
    fn separators_and_notations_differ() {
        let expected = [("guest_cr0", 0x8005_0033), ("guest_cr3", 0x1000), ("guest_cs_access_rights", 0xA09B)];
        for text in [
            "GUEST_CR0 = 0x80050033\nGUEST_CR3 = 0x1000\nGUEST_CS_AR_BYTES = 0xa09b\n",
            "VMX_GUEST_CR0: 80050033h\nVMX_GUEST_CR3: 1000h\nVMX_GUEST_CS_ATTR: 0A09Bh\n",
            "Guest CR0 -> 0x80050033\nGuest CR3 -> 0x1000\nGuest CS access rights -> 0xa09b\n",
            "VMCS_GUEST_CR0\t0x80050033\nVMCS_GUEST_CR3\t0x1000\nVMCS_GUEST_CS_AR\t0xa09b\n",
            "GUEST_CR0(0x6800) = 0x80050033\nGUEST_CR3(0x6802) = 0x1000\nX(0x4816) = 0xa09b\n",
            "0x6800: 0x80050033\n0x6802: 0x1000\n0x4816: 0xa09b\n",
            "guest_cr0 = 0x00000000_80050033 guest_cr3 = 0x00000000_00001000 guest_cs_ar_bytes = 0xa09b\n",
            "guest_cr0: 00000000`80050033, guest_cr3: 00000000`00001000, guest_cs_ar_bytes: 0000a09b\n",
            "guest_cr0 80050033\n(hv) INFO guest_cr0: 0x80050033\n(hv) guest_cr3: 0x1000\n12 guest_cs_ar: 0xa09b\n",
            "    Guest CR0: : 0x80050033,\n    Guest CR3: : 0x1000,\n    Guest CS Access Rights: : 0xa09b,\n",
        ] {
            reads(&format!("{LONG}{text}"), &expected);
        }
    }

    #[test]
    fn the_base_is_that_of_other_numbers() {
        // A letter, or zeros that fill the width.
        reads(
            "vm entry failed here\nguest_cr0: 80050033\nguest_cr3: 1abc\nguest_rip: 5\n",
            &[("guest_cr0", 0x8005_0033), ("guest_cr3", 0x1ABC), ("guest_rip", 5)],
        );
        let counted = "after a VM exit the fields hold these values:\nguest_cr0: 8005003b\nguest_cr3: 1abc\nexit_reason: 33\nvm_exit_instruction_length: 3\n";
        reads(counted, &[("guest_cr0", 0x8005_003B), ("guest_cr3", 0x1ABC), ("vm_exit_instruction_length", 3)]);
        // A number that is too long for its field in hexadecimal.
        reads(
            "vmcs_link_pointer = 18446744073709551615\nguest_cs_ar = 41115\nguest_rip = 65520\nguest_rflags = 2\n",
            &[
                ("vmcs_link_pointer", u64::MAX),
                ("guest_cs_access_rights", 41115),
                ("guest_rip", 65520),
                ("guest_rflags", 2),
            ],
        );
        let unclear = "the entry has failed:\nguest_cs_ar = 41115\nguest_rip = 65520\nguest_rsp = 1\nguest_cr3 = 0x1000\nguest_rflags = 2\n";
        reads(unclear, &[("guest_rsp", 1), ("guest_cr3", 0x1000), ("guest_rflags", 2)]);
        let damage = read(unclear).damage;
        assert_eq!(damage.iter().filter(|damage| damage.why == "it can be decimal or hexadecimal").count(), 2);
    }

    #[test]
    fn what_cannot_be_read_is_unknown_and_named() {
        let dump = read(
            "# GUEST_ES_SEL = 0x10\n# GUEST_CS_SEL = 0x8\n# GUEST_SS_SEL = 0x10\n# POSTED_INTERRUPT_NOTIFICATION_VECTOR   INVALID_VALUE\n\
             GUEST_DS_SEL = ????\nGUEST_FS_SEL =\nGUEST_GS_SEL = vmread failed\n# GUEST_TR_SAL = 0x40\nGUEST_RFLAGS = 0x2\n",
        );
        let damaged: Vec<_> = dump.damage.iter().map(|damage| damage.field.info().name).collect();
        assert_eq!(
            damaged,
            ["posted_interrupt_notification_vector", "guest_ds_selector", "guest_fs_selector", "guest_gs_selector",]
        );
        assert!(dump.notes[0].contains("\"GUEST_TR_SAL\" is no field's name"), "{:?}", dump.notes);
        assert!(dump.notes[0].contains("did you mean"), "{:?}", dump.notes);
        assert_eq!(known(&dump).len(), 4);
    }

    #[test]
    fn halves_need_each_other() {
        let text = "after the VM-entry failure:\nIO_BITMAP_A_FULL = 0x1000\nIO_BITMAP_A_HIGH = 0x1\nIO_BITMAP_B_FULL = 0x2000\nIO_BITMAP_B_HIGH = 0x0\n\
                    GUEST_CR3 = 0x1000\n";
        let all = [("io_bitmap_a_address", 0x1_0000_1000), ("io_bitmap_b_address", 0x2000), ("guest_cr3", 0x1000)];
        reads(text, &all);
        every_cut_is_no_worse(text);
        let first = "after the VM-entry failure:\nGUEST_CR3 = 0x0\nGUEST_RIP = 0x0\nIO_BITMAP_A_FULL = 0x1000\n";
        reads(first, &[("guest_cr3", 0), ("guest_rip", 0)]);
        reads(
            "GUEST_CR3 = 0x0\nGUEST_RIP = 0x0\nGUEST_RSP = 0x0\nVMCS_LINK_POINTER_FULL = 0xffffffff\n",
            &[("guest_cr3", 0), ("guest_rip", 0), ("guest_rsp", 0)],
        );
    }

    #[test]
    fn binary_numbers_are_read() {
        let list = "the VMCS when the entry failed:\nGUEST_RFLAGS = 0b1000000010\nGUEST_ACTIVITY_STATE = 0b1\nGUEST_RIP = 0b11\nGUEST_RSP: 0x3\n";
        reads(list, &[("guest_rflags", 0x202), ("guest_activity_state", 1), ("guest_rip", 3), ("guest_rsp", 3)]);
        every_cut_is_no_worse(list);
        let hexadecimal =
            "the VMCS when the entry failed:\nguest_cs_sel = 0b10\nguest_cr0 = 8000003b\nguest_rip = 00000000\n";
        reads(hexadecimal, &[("guest_cr0", 0x8000_003B), ("guest_rip", 0)]);
    }

    #[test]
    fn what_a_mail_program_encoded_twice_is_undone() {
        let list = "GUEST_RFLAGS =3D3D 0x2\nHOST_CS_SELECTOR =3D3D 0x10\nHOST_TR_SELECTOR =3D3D 0x40\n";
        let expected = [("host_cs_selector", 0x10), ("host_tr_selector", 0x40), ("guest_rflags", 2)];
        reads(&format!("{LONG}{list}"), &expected);
        let other = list.replace("3D3D 0x2", "3D3D").replace("3D3D 0x40", "3D3D 5");
        reads(
            &format!("{LONG}{other}HOST_RIP = 0x1\nHOST_RSP = 0x2\n"),
            &[expected[0], ("host_rsp", 2), ("host_rip", 1)],
        );
    }

    #[test]
    fn a_line_or_two_are_a_list_if_there_is_nothing_else() {
        reads("GUEST_RFLAGS = 0x0\n", &[("guest_rflags", 0)]);
        reads("\nGUEST_CR0 = 0x80050032\nGUEST_RFLAGS: 0x0\n", &[("guest_cr0", 0x8005_0032), ("guest_rflags", 0)]);
        for text in [
            "GUEST_RFLAGS = 0x0",
            "GUEST_RFLAGS = 0\n",
            "GUEST_RFLAGS = 0x0 is wrong\n",
            "the GUEST_RFLAGS = 0x0\n",
            "GUEST_RFLAGS = 0x0\nwrong\n",
            "GUEST_RFLAGS = 0x6820\n",
        ] {
            reads(text, &[]);
        }
    }

    #[test]
    fn values_in_variants_are_read() {
        let list = "Guest CR0: : Ok(0x80050033),\nGuest RFLAGS: : Ok(0x0),\nGuest TR Access Rights: : Some(0x89),\nGuest RIP: Err(5),\n";
        let expected = [("guest_tr_access_rights", 0x89), ("guest_cr0", 0x8005_0033), ("guest_rflags", 0)];
        reads(&format!("{LONG}{list}"), &expected);
    }

    #[test]
    fn prose_is_no_list() {
        for text in [
            "the guest_rip = 0x10 is wrong, and guest_cr0 = 0x1\n",
            "VPID: 1\nEPTP: 0x5\n",
            "0x00006800: 0x00000000\n0x00006804: 0x00000000\n0x00006808: 0x00000000\n",
            "2000: 12\n2002: 13\n4002: 14\n",
            "00006800: 0000 0000 0000 0000\n00004800: 0000 0000 0000 0000\n00000800: 0000\n",
            "rip: 0x1\ncr0: 0x2\ncr3: 0x3\ncr4: 0x4\n",
        ] {
            assert!(find(&log::lines(text)).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_number_that_may_be_cut_off_is_unknown() {
        let list = "GUEST_CR0 = 0x80050033\nGUEST_CR3 = 0x1000\nGUEST_CS_AR_BYTES = 0xa09b\nGUEST_TR_AR_BYTES = 0x8b\n";
        every_cut_is_no_worse(list);
        // Where no line is longer, all may have been cut at its length.
        let names = |text: &str| known(&read(text)).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(list), ["guest_tr_access_rights", "guest_cr0", "guest_cr3"]);
        let text = format!("{LONG}{list}");
        every_cut_is_no_worse(&text);
        assert_eq!(names(&text).len(), 4);
        let dump = read(text.strip_suffix("b\n").expect("cut"));
        assert_eq!((known(&dump).len(), dump.damage.len()), (3, 1));
        // Numbers that are aligned at the right are whole.
        let aligned = "GUEST_CR0 = 0x80050033\nGUEST_CR3 =     0x1000\nGUEST_CR4 =     0x2000\n";
        assert_eq!(names(aligned).len(), 3);
    }

    #[test]
    fn an_exit_reason_in_the_list_is_the_report() {
        let dump = read(
            "EXIT_REASON: 0x80000021\nEXIT_QUALIFICATION: 0x4\nGUEST_RIP: 0xfff0\nGUEST_RSP: 0xfffffffffffff000\n",
        );
        assert_eq!(
            dump.reported.and_then(|reported| reported.outcome()).map(|o| o.to_string()).as_deref(),
            Some("EntryFailed(33, 4)")
        );
    }
}
