//! Hex dumps as xxd, hexdump, od, crash, gdb, QEMU's monitor and WinDbg print them.

use crate::log::Line;

use super::layout::{MOST, PAGE, layout_of};

/// A line of a hex dump: where its bytes lie, and groups of digits.
struct Row<'t> {
    address: u64,
    groups: Vec<&'t str>,
    line: usize,
}

/// The bytes of each dumped page that begins with a row whose bytes are those of a known layout, and the line of that row.
pub(super) fn blocks(lines: &[Line]) -> Vec<(usize, Vec<Option<u8>>)> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    let mut blocks = Vec::new();
    let mut repeats = false;
    for line in lines {
        if line.text == "*" {
            repeats = true;
            continue;
        }
        let row = row(&line.text, line.number).map(|row| if line.cut { without_last(row, &line.text) } else { row });
        let Some(row) = row else {
            // The address behind the last byte ends a dump.
            if let (true, false, Ok(end)) = (repeats, line.cut, u64::from_str_radix(&line.text, 16)) {
                repeat(&mut rows, end);
            }
            if !line.text.is_empty() {
                blocks.extend(block(&rows));
                rows.clear();
            }
            continue;
        };
        if rows.is_empty() && starts(&row).is_none() {
            continue;
        }
        let follows =
            rows.last().is_some_and(|last| row.address > last.address && row.address - rows[0].address < PAGE as u64);
        if !follows {
            blocks.extend(block(&rows));
            rows.clear();
            if blocks.len() == MOST {
                return blocks;
            }
            if starts(&row).is_none() {
                continue;
            }
        } else if repeats {
            repeat(&mut rows, row.address);
        }
        repeats = false;
        rows.push(row);
    }
    blocks.extend(block(&rows));
    blocks
}

/// Fills in the rows up to that address that are as the last two.
fn repeat(rows: &mut Vec<Row<'_>>, until: u64) {
    let [.., before, last] = &rows[..] else { return };
    let step = last.address - before.address;
    let mut address = last.address + step;
    while step > 0 && address < until && rows.len() < PAGE {
        let last = &rows[rows.len() - 1];
        let row = Row { address, groups: last.groups.clone(), line: last.line };
        rows.push(row);
        address += step;
    }
}

/// The row without its last group, which may be cut off.
fn without_last<'t>(mut row: Row<'t>, text: &str) -> Row<'t> {
    if row.groups.last().is_some_and(|group| text.ends_with(group)) {
        row.groups.pop();
    }
    row
}

/// The address and the groups of digits of a line.
fn row(text: &str, line: usize) -> Option<Row<'_>> {
    let (address, mut rest) = text.split_once([' ', '\t', ':'])?;
    let address = address.strip_prefix("0x").unwrap_or(address);
    if !(4..=17).contains(&address.len()) || !address.bytes().all(|c| c.is_ascii_hexdigit() || c == b'`') {
        return None;
    }
    let address = u64::from_str_radix(&address.replace('`', ""), 16).ok()?;
    if let Some((symbol, behind)) = rest.trim_start().strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        rest = if symbol.contains(' ') { rest } else { behind };
    }
    let mut groups: Vec<&str> = Vec::new();
    for word in rest.trim_start_matches(':').split_whitespace() {
        let digits = word.strip_prefix("0x").unwrap_or(word);
        let size = digits.len() - digits.matches('`').count();
        let first = groups.first().map_or(size, |first| first.len() - first.matches('`').count());
        let number = digits.bytes().all(|c| c.is_ascii_hexdigit() || c == b'`');
        if !number || !matches!(size, 2 | 4 | 8 | 16) || size != first || groups.len() == 64 {
            break;
        }
        groups.push(digits);
    }
    (!groups.is_empty()).then_some(Row { address, groups, line })
}

/// The bytes of a row of groups: in the order of the digits, or as little-endian words.
fn bytes(groups: &[&str], words: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for group in groups {
        let digits: Vec<_> = group.bytes().filter_map(|c| char::from(c).to_digit(16)).collect();
        #[allow(clippy::cast_possible_truncation, reason = "two digits are a byte")]
        let mut group: Vec<_> =
            digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect();
        if words {
            group.reverse();
        }
        bytes.extend(group);
    }
    bytes
}

/// Whether the groups of a row, which begins as a known layout does, are little-endian words.
fn starts(row: &Row<'_>) -> Option<bool> {
    [false, true].into_iter().find(|words| {
        let bytes = bytes(&row.groups[..row.groups.len().min(4)], *words);
        layout_of(|i| bytes.get(i).copied()).is_some()
    })
}

/// The page that the rows show, if its first bytes are those of a known layout.
fn block(rows: &[Row<'_>]) -> Option<(usize, Vec<Option<u8>>)> {
    let first = rows.first()?;
    let words = starts(first)?;
    let length = rows.get(1).map_or(usize::MAX, |second| usize::try_from(second.address - first.address).unwrap_or(0));
    let mut page = vec![None; PAGE];
    for row in rows {
        let Ok(begin) = usize::try_from(row.address - first.address) else { continue };
        // What stands behind the bytes of a row are its characters. Where a group is missing, it is not known which.
        let bytes = bytes(&row.groups, words);
        if bytes.len() < length && row.address != rows[rows.len() - 1].address {
            continue;
        }
        for (place, byte) in page.iter_mut().skip(begin).zip(bytes.into_iter().take(length)) {
            *place = Some(byte);
        }
    }
    Some((first.line, page))
}
