//! Lines that tell by themselves in which section of a dump they stand.

use crate::log::Line;

/// Lines that stand in one section only: each holds all of these words. They begin a dump whose first headline is lost.
const TELLING: [&[&str]; 13] = [
    &["CR0: actual=0x"],
    &["CR4: actual=0x"],
    &["RFLAGS=0x", "DR7 ="],
    &["sel=0x", "attr=0x"],
    &["GDTR:", "limit=0x", "base=0x"],
    &["IDTR:", "limit=0x", "base=0x"],
    &["DebugCtl", "DebugExceptions"],
    &["Interruptibility", "ActivityState"],
    &["CS=", "SS=", "DS=", "ES=", "FS=", "GS=", "TR="],
    &["FSBase=", "GSBase="],
    &["GDTBase=", "IDTBase="],
    &["EntryControls=", "ExitControls="],
    &["VMEntry:", "intr_info=", "errcode="],
];

/// Whether a line tells by itself in which section it stands.
pub(super) fn tells_section(line: &Line) -> bool {
    is_xen_segment(line) || TELLING.iter().any(|words| words.iter().all(|word| line.text.contains(word)))
}

/// Whether a line is a row of Xen's table of segments, which guest state alone has.
pub(super) fn is_xen_segment(line: &Line) -> bool {
    const NAMES: [&str; 8] = ["CS:", "DS:", "SS:", "ES:", "FS:", "GS:", "LDTR:", "TR:"];
    let mut words = line.text.split_whitespace();
    let named = words.next().is_some_and(|name| NAMES.contains(&name));
    let is_number = |word: &str, digits| word.len() == digits && word.bytes().all(|c| c.is_ascii_hexdigit());
    let row = [4, 5, 8, 16].into_iter().all(|digits| words.next().is_some_and(|word| is_number(word, digits)));
    line.xen && named && row && words.next().is_none()
}
