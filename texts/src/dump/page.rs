//! Reading the page of memory in which software keeps a VMCS: KVM's `struct vmcs12`, Hyper-V's enlightened VMCS and
//! VirtualBox' virtual VMCS, as bytes or as a hex dump.

mod hex;
mod layout;

use vmcs_model::field::{self, FieldId};

use super::contents::Dump;
use super::list::reported;
use crate::log::Line;
use layout::{MOST, PAGE, layout_of};

/// In the first line of a hex dump of KVM's page stands one of these.
pub(super) const MARKERS: &[&str] = &["11e57ed0", "d07ee511", "d07e e511", "d0 7e e5 11", "7ed0 11e5"];

/// Where each layout keeps its fields: its name, the offset, the field.
const OFFSETS: &str = include_str!("page/offsets.tsv");

/// The pages in a hex dump.
pub(super) fn find(lines: &[Line]) -> Vec<Dump> {
    let blocks = hex::blocks(lines).into_iter();
    blocks.filter_map(|(line, bytes)| Some(Dump { line, ..page(&bytes)? })).take(MOST).collect()
}

/// The VMCSs that software keeps in pages of these bytes: a page, or an image of memory that begins at the begin of one.
#[must_use]
pub fn find_in_bytes(bytes: &[u8]) -> Vec<Dump> {
    // In an image of memory, and in any other file, many pages begin like those that have no mark of their own.
    let alone = bytes.len() <= PAGE;
    let taken = |page: &&[u8]| layout_of(|i| page.get(i).copied()).is_some_and(|layout| layout.distinct || alone);
    let pages = bytes.chunks(PAGE).filter(taken);
    let known = pages.filter_map(|bytes| page(&bytes.iter().copied().map(Some).collect::<Vec<_>>()));
    known.take(MOST).map(|dump| Dump { line: 1, ..dump }).collect()
}

/// The VMCS in a page, of which some bytes may be unknown.
fn page(bytes: &[Option<u8>]) -> Option<Dump> {
    let byte = |i: usize| bytes.get(i).copied().flatten();
    let layout = layout_of(byte)?;
    let mut dump = Dump::new(layout.format);
    for (offset, field) in offsets(layout.name) {
        let width = field.info().width().bits() as usize / 8;
        let value = (0..width).rev().try_fold(0, |value, i| Some(value << 8 | u64::from(byte(offset + i)?)));
        if let Some(value) = value {
            dump.vmcs.set_raw(field, value);
        }
    }
    // A host has protection, numeric errors and paging on, and a code segment.
    let cr0 = dump.vmcs.raw(field::HOST_CR0.id()).is_some_and(|cr0| cr0 & 0x8000_0021 == 0x8000_0021);
    let host = cr0 && dump.vmcs.raw(field::HOST_CS_SELECTOR.id()).is_some_and(|cs| cs != 0 && cs & 7 == 0);
    if dump.known() == 0 || !(layout.distinct || host) {
        return None;
    }
    dump.reported = reported(&dump);
    dump.note("read out of a page of memory: the entry need not have been attempted with all of these values");
    if layout.distinct {
        dump.note("while KVM uses VMCS shadowing, fields that the processor shadows can be older than the others");
    }
    if byte(3).is_some_and(|high| high >> 7 == 1) {
        dump.note("bit 31 of the first four bytes is 1: this is a shadow VMCS");
    }
    Some(dump)
}

fn offsets(layout: &str) -> impl Iterator<Item = (usize, FieldId)> {
    OFFSETS.lines().filter(|line| !line.starts_with('#')).filter_map(move |line| {
        let mut columns = line.split('\t');
        let (name, offset, field) = (columns.next()?, columns.next()?, columns.next()?);
        (name == layout).then_some((offset.parse().ok()?, FieldId::by_name(field)?))
    })
}

#[cfg(test)]
mod tests {
    use super::layout::{LAYOUTS, Layout};
    use super::*;
    use crate::dump::test_support::{every_cut_is_no_worse, known, valid, violated_by};
    use crate::log;

    /// The page of a layout that holds the values of a valid VMCS, and those values.
    fn page_of(layout: &Layout) -> (Vec<u8>, Vec<(String, u64)>) {
        let vmcs = valid();
        let mut page = vec![0; PAGE];
        page[..4].copy_from_slice(&layout.revision.to_le_bytes());
        let mut values = Vec::new();
        for (offset, field) in offsets(layout.name) {
            let width = field.info().width().bits() as usize / 8;
            page[offset..offset + width].copy_from_slice(&vmcs.raw(field).to_le_bytes()[..width]);
            values.push((field, vmcs.raw(field)));
        }
        values.sort();
        (page, values.into_iter().map(|(field, value)| (field.info().name.to_owned(), value)).collect())
    }

    #[test]
    fn the_table_is_complete() {
        for layout in &LAYOUTS {
            let mut used = vec![false; PAGE];
            let count = offsets(layout.name).count();
            assert_eq!(count, OFFSETS.lines().filter(|line| line.starts_with(layout.name)).count(), "{}", layout.name);
            for (offset, field) in offsets(layout.name) {
                let bytes = offset..offset + field.info().width().bits() as usize / 8;
                assert!(!used[bytes.clone()].contains(&true), "{} {}", layout.name, field.info().name);
                used[bytes].fill(true);
            }
        }
    }

    #[test]
    fn pages_of_bytes_are_read() {
        for layout in &LAYOUTS {
            let (page, values) = page_of(layout);
            let dumps = find_in_bytes(&page);
            assert_eq!(dumps.iter().map(known).collect::<Vec<_>>(), [values], "{}", layout.name);
            assert_eq!(violated_by(dumps), [""; 0], "{}", layout.name);
        }
        let (page, values) = page_of(&LAYOUTS[0]);
        let memory = [vec![0; PAGE], page.clone(), vec![1; PAGE]].concat();
        assert_eq!(find_in_bytes(&memory).iter().map(known).collect::<Vec<_>>(), [values]);
        // A page that is cut short.
        let short = find_in_bytes(&page[..600]);
        assert!(short[0].known() > 20 && violated_by(short).is_empty());
        let (mut plain, _) = page_of(&LAYOUTS[2]);
        plain[8..].fill(0);
        assert!(find_in_bytes(&plain).is_empty(), "four bytes do not make it an enlightened VMCS");
        for other in [&[][..], &[1; 4], &[1, 0, 0, 0, 0, 0, 0, 0], b"a text"] {
            assert!(find_in_bytes(other).is_empty());
        }
    }

    #[test]
    fn hex_dumps_are_read() {
        let (page, values) = page_of(&LAYOUTS[0]);
        let text = |row: usize, print: &dyn Fn(usize, &[u8]) -> String| -> String {
            page.chunks(row).enumerate().map(|(i, bytes)| print(i * row, bytes)).collect()
        };
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let words = |bytes: &[u8], size: usize, before: &str| {
            let word = |word: &[u8]| format!("{before}{}", hex(&word.iter().rev().copied().collect::<Vec<_>>()));
            bytes.chunks(size).map(word).collect::<Vec<_>>().join(" ")
        };
        let ascii = |bytes: &[u8]| -> String {
            bytes.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect()
        };
        let pairs = |bytes: &[u8]| bytes.chunks(1).map(hex).collect::<Vec<_>>().join(" ");
        let dumps = [
            text(16, &|at, row| {
                let groups: Vec<_> = row.chunks(2).map(hex).collect();
                format!("{at:08x}: {}  {}\n", groups.join(" "), ascii(row))
            }),
            text(16, &|at, row| format!("{at:08x}  {}  {}  |{}|\n", pairs(&row[..8]), pairs(&row[8..]), ascii(row))),
            text(16, &|at, row| format!("{at:07x} {}\n", words(row, 2, ""))),
            text(16, &|at, row| format!("ffff88801234{at:04x}:  {}   {}\n", words(row, 8, ""), ascii(row))),
            text(16, &|at, row| format!("000000001234{at:04x}: {}\n", words(row, 8, "0x"))),
            text(16, &|at, row| format!("000000001234{at:04x}: {}\n", words(row, 4, "0x"))),
            text(16, &|at, row| format!("fffff800`1234{at:04x}  {}\n", words(row, 4, ""))),
            text(16, &|at, row| {
                let words =
                    words(row, 8, "").split(' ').map(|w| format!("{}`{}", &w[..8], &w[8..])).collect::<Vec<_>>();
                format!("fffff800`1234{at:04x}  {}\n", words.join(" "))
            }),
            text(16, &|at, row| {
                format!("0xffff88801234{at:04x} <x+{at}>:\t{}\n", words(row, 8, "0x").replace(' ', "\t"))
            }),
        ];
        for text in &dumps {
            let found = find(&log::lines(text));
            let first = text.lines().next();
            assert_eq!(found.iter().map(known).collect::<Vec<_>>(), std::slice::from_ref(&values), "{first:?}");
            assert!(
                MARKERS.iter().any(|marker| first.is_some_and(|line| line.replace('`', "").contains(marker))),
                "{first:?}"
            );
        }
        // Rows that repeat the one before may be left out; a row that is lost makes its fields unknown.
        let squeezed: Vec<_> = dumps[1].lines().take(3).collect();
        let rest: Vec<_> = dumps[1].lines().skip(4).collect();
        let lost = [&squeezed[..], &rest[..]].concat().join("\n");
        let found = find(&log::lines(&format!("{lost}\n")));
        assert_eq!(known(&found[0]).len(), values.len() - 2);
        every_cut_is_no_worse(&dumps[1][..1200]);
        // A group that is lost, or cut off where the row begins.
        let row = dumps[0].lines().nth(0x24).expect("a row");
        let lost = dumps[0].replace(row, &format!("{}{}", &row[..15], &row[20..]));
        assert!(known(&find(&log::lines(&lost))[0]).iter().all(|value| values.contains(value)));
        let at = dumps[4].find("0000000012340300:").expect("a row") + "0000000012340300: 0x01234567".len();
        assert!(known(&find(&log::lines(&dumps[4][..at]))[0]).iter().all(|value| values.contains(value)));
        // What is left out up to the end is as the row before it.
        let zeros =
            dumps[1].lines().rev().take_while(|row| row.contains("00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00"));
        let kept = 256 - zeros.count() + 1;
        let head: Vec<_> = dumps[1].lines().take(kept).collect();
        let squeezed = format!("{}\n*\n00001000\n", head.join("\n"));
        assert_eq!(find(&log::lines(&squeezed)).iter().map(known).collect::<Vec<_>>(), [values]);
    }
}
