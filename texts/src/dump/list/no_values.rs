//! Numbers in a list that are not the values of the fields: encodings, and what was left of a number.

use std::collections::BTreeMap;

use vmcs_model::field::Width;

use super::super::items::Item;
use super::super::number::Printed;
use super::base::{Base, base, bits};

/// So many numbers of a width show to how many digits they are filled with zeros.
const FEWEST: usize = 3;

/// Why an encoding is not the value.
const ENCODING: &str = "it is the encoding of the field";

/// Marks the numbers that are not the values of the fields. Returns whether the list is one of names with encodings, such as a
/// header.
pub(super) fn mark(items: &mut [Item<'_>]) -> bool {
    let header = mark_encodings(items);
    mark_remains(items);
    header
}

/// Marks the encodings, unless a value follows that can be taken; returns whether most numbers are encodings. Selectors of
/// 16 bits, and 0, can be the encodings by chance: they are encodings if a wider field shows its own, too.
fn mark_encodings(items: &mut [Item<'_>]) -> bool {
    let numbers = items.iter().filter(|item| item.field.is_some() && item.value.is_ok()).count();
    let mut encodings = Vec::new();
    let (mut wide, mut followed) = (false, false);
    for i in 0..items.len() {
        let Some(name) = items[i].field else { continue };
        let encoding = u64::from(name.field.info().encoding.0) + u64::from(name.high);
        let is_encoding =
            items[i].value.as_ref().is_ok_and(|printed| [printed.hex(), printed.decimal()].contains(&Some(encoding)));
        if !is_encoding {
            continue;
        }
        wide |= name.field.info().width() != Width::Bits16;
        let line = items[i].line;
        if let Some(next) = items.get(i + 1).filter(|next| next.line == line && next.name.is_empty()) {
            let (value, at_cut, columns) = (next.value.clone(), next.at_cut, next.columns);
            (items[i].value, items[i].at_cut, items[i].columns) = (value, at_cut, columns);
            followed = true;
        } else {
            encodings.push(i);
        }
    }
    let most = encodings.len() * 2 > numbers;
    if wide || followed || most {
        for &i in &encodings {
            items[i].wrong = Some(ENCODING);
        }
    }
    most
}

/// Marks numbers that have lost digits: those that are shorter than others of their width, which zeros fill to one length, and
/// those of nothing but ones that do not fill the field.
fn mark_remains(items: &mut [Item<'_>]) {
    let decimal = base(items) == Base::Decimal;
    let mut lengths: BTreeMap<Group, BTreeMap<usize, Numbers>> = BTreeMap::new();
    for item in items.iter() {
        let Some((group, digits)) = group(item, decimal) else { continue };
        let numbers = lengths.entry(group).or_default().entry(digits).or_default();
        numbers.count += 1;
        numbers.padded |= digits > 1 && item.value.as_ref().is_ok_and(Printed::begins_with_zero);
    }
    for item in items.iter_mut() {
        let Some((group, digits)) = group(item, decimal) else { continue };
        let of_width = &lengths[&group];
        let total: usize = of_width.values().map(|numbers| numbers.count).sum();
        let Some((&usual, numbers)) = of_width.iter().max_by_key(|(_, numbers)| numbers.count) else { continue };
        let filled =
            numbers.padded && total >= FEWEST && (numbers.count + 1 == total || numbers.count * 4 >= total * 3);
        if filled && digits < usual {
            item.wrong.get_or_insert("it has fewer digits than others of its width, which zeros fill");
        }
        let ones = item.value.as_ref().ok().and_then(Printed::hex);
        if group.0 == 64 && (13..16).contains(&digits) && ones == Some(u64::MAX >> (64 - 4 * digits)) {
            item.wrong.get_or_insert("a digit may be missing");
        }
    }
}

/// The width of numbers, whether they are of fields of natural width or of upper halves, and whether they show their base.
type Group = (u32, bool, bool);

/// Numbers of one length.
#[derive(Default)]
struct Numbers {
    count: usize,
    /// One of them begins with a zero.
    padded: bool,
}

/// Which numbers are printed like that of the item, as far as that shows, and how many hexadecimal digits it has.
fn group(item: &Item<'_>, decimal: bool) -> Option<(Group, usize)> {
    let (Some(name), Ok(printed)) = (item.field, &item.value) else { return None };
    let hexadecimal = !printed.binary && (printed.hexadecimal || !decimal);
    let apart = name.high || name.field.info().width() == Width::Natural;
    hexadecimal.then(|| ((bits(name), apart, printed.marked), printed.len()))
}

#[cfg(test)]
mod tests {
    use super::super::find;
    use crate::dump::test_support::{every_cut_is_no_worse, known};
    use crate::log;

    /// A line that is longer than those of the lists.
    const LONG: &str = "the fields of the VMCS after VMLAUNCH has failed on the second processor of the machine\n";

    fn read(list: &str) -> Vec<(String, u64)> {
        find(&log::lines(&format!("{LONG}{list}"))).iter().flat_map(known).collect()
    }

    fn names(list: &str) -> Vec<String> {
        read(list).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_header_is_no_list() {
        let header = "VIRTUAL_PROCESSOR_ID = 0x00000000,\nGUEST_RFLAGS = 0x00006820,\nGUEST_CR0 = 0x00006800,\nHOST_CS_SELECTOR = 0x00000c02,\n";
        assert_eq!(read(header), []);
        assert_eq!(read(&header.replace(" = 0x", "\t0x").replace(',', "")), []);
        assert_eq!(read("GUEST_RFLAGS = 26656\nGUEST_CR0 = 26624\nHOST_CS_SELECTOR = 3074\n"), []);
        // One number is an encoding.
        let one = "GUEST_RFLAGS = 0x6820\nGUEST_CR0 = 0x21\nGUEST_CR3 = 0x0\nVIRTUAL_PROCESSOR_ID = 0x1\n";
        assert_eq!(names(one), ["virtual_processor_identifier", "guest_cr0", "guest_cr3"]);
        assert_eq!(names(&one.replace("0x6820", "0x2").replace("ID = 0x1", "ID = 0x0")).len(), 4);
    }

    #[test]
    fn the_value_is_behind_the_encoding() {
        let list =
            "GUEST_RFLAGS = 0x6820 -> 0x2\nGUEST_CR0 = 0x6800 -> 0x80050033\nGUEST_TR_AR_BYTES = 0x4822 -> 0x8b\n";
        let values: Vec<_> = read(list).into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [0x8B, 0x8005_0033, 2]);
        every_cut_is_no_worse(&format!("{LONG}{list}"));
    }

    #[test]
    fn a_number_that_lost_digits_is_unknown() {
        let list = "HOST_CR0 = 0x0000000080050033\nHOST_CR4 = 0x0000000000002020\nHOST_RIP = 0xffffffffc119a0a0\nHOST_RSP = 0xfffffe0000002200\n";
        assert_eq!(names(list).len(), 4);
        for cut in ["0x0000", "0x000000000000202", "0x00000000000020[20", "0x000000000000202…", "0x00000000000020z0"]
        {
            assert_eq!(names(&list.replace("0x0000000000002020", cut)), ["host_cr0", "host_rsp", "host_rip"], "{cut}");
        }
        let short =
            "VIRTUAL_PROCESSOR_ID = 0x0000001\nGUEST_ES_SELECTOR = 0x00000010\nGUEST_CS_SELECTOR = 0x00000008\n";
        assert_eq!(names(short), ["guest_es_selector", "guest_cs_selector"]);
        let link = "VMCS_LINK_POINTER = 0xffffffffffffffff\nGUEST_CR0 = 0x21\nGUEST_CR3 = 0x0\n";
        assert_eq!(names(link).len(), 3);
        assert_eq!(names(&link.replacen("ff", "f", 1)), ["guest_cr0", "guest_cr3"]);
    }
}
