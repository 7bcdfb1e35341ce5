//! Reading the dumps of Linux (KVM) and Xen, which have sections for guest state, host state and control state.

mod headline;
mod lost;
mod msr_lists;
mod patterns;
mod telling;

use std::borrow::Cow;
use std::ops::Range;

use vmcs_model::Outcome;
use vmcs_model::field::{self, FieldId};

use super::contents::{Dump, Reported};
use super::pattern::{START, Text, is_blank};
use super::values::Values;
use crate::log::Line;
use headline::Headline;
use patterns::{
    CONTROL_STATE, EXIT, GUEST_EFER, GUEST_STATE, HOST_STATE, KVM_GUEST_STATE, OLD_XEN_EXIT, OLD_XEN_GUEST_STATE,
    XEN_GUEST_STATE, is_ambiguous,
};

const GUEST: &str = "*** Guest State ***";
const HOST: &str = "*** Host State ***";
const CONTROL: &str = "*** Control State ***";

/// What only guest state has, in whatever version.
const GUEST_WORDS: [&str; 7] =
    ["CR0: actual=", "CR4: actual=", "RFLAGS=", "DebugCtl", "Interruptibility", "GDTR:", "sel=0x"];
/// What only host state has.
const HOST_WORDS: [&str; 6] = ["CS=", "CR0=", "FSBase=", "GSBase=", "GDTBase=", "IDTBase="];
/// What only control state has.
const CONTROL_WORDS: [&str; 7] =
    ["PinBased=", "CPUBased=", "EntryControls=", "ExceptionBitmap=", "VMEntry:", "VMExit:", "IDTVectoring:"];

/// What the lines of a dump begin with, in the order of all versions. Another order is that of two dumps.
const ORDER: [&str; 18] = [
    "CR0: actual=",
    "CR4: actual=",
    "RFLAGS=",
    "GDTR:",
    "LDTR:",
    "IDTR:",
    "DebugCtl",
    "Interruptibility",
    HOST,
    "FSBase=",
    "GDTBase=",
    CONTROL,
    "EntryControls=",
    "ExceptionBitmap=",
    "VMEntry:",
    "VMExit:",
    "IDTVectoring:",
    "Virtual processor ID",
];

/// What lines hold that matter here.
pub(super) const MARKERS: &[&str] = &[
    "kvm_intel: ",
    "*** Guest State",
    "*** Host State",
    "*** Control State",
    "last attempted VM-entry",
    "vmentry failure (reason",
    "Failed vm entry (exit reason",
    "VMLAUNCH error",
    "VMRESUME error",
    "sel=0x",
    "actual=0x",
    "CPUBased=",
    "reason=80000",
    "FSBase=",
    "GDTBase=",
    "EntryControls=",
    "VMEntry: intr_info",
    "DebugCtl",
    "Interruptibility",
];

/// The dumps in a log.
pub(super) fn find(lines: &[Line]) -> Vec<Dump> {
    let lines = &with_whole_headers(lines);
    let mut dumps: Vec<_> = streams(lines).iter().flat_map(|lines| in_stream(lines)).collect();
    dumps.sort_by_key(|dump| dump.line);
    dumps
}

/// The lines, with headers put together that a mail program has broken.
fn with_whole_headers(lines: &[Line]) -> Cow<'_, [Line]> {
    let begins_header = |text: &str| [GUEST, HOST, CONTROL].iter().any(|header| header.starts_with(text));
    let is_broken = |line: &Line| line.text.starts_with("***") && begins_header(&line.text);
    if !lines.iter().any(|line| is_broken(line) && ![GUEST, HOST, CONTROL].contains(&line.text.as_str())) {
        return Cow::Borrowed(lines);
    }
    let mut whole: Vec<Line> = Vec::with_capacity(lines.len());
    for line in lines {
        if let Some(last) = whole.last_mut().filter(|last| !line.prefixed && is_broken(last)) {
            let joined = format!("{} {}", last.text, line.text);
            if begins_header(&joined) {
                last.text = joined;
                continue;
            }
        }
        whole.push(line.clone());
    }
    Cow::Owned(whole)
}

/// The lines of each writer, if several have written dumps, so that dumps that were printed at the same time are taken apart.
/// Xen is one of them.
fn streams(lines: &[Line]) -> Vec<Vec<&Line>> {
    fn writer(line: &Line) -> (bool, Option<&str>) {
        (line.xen, line.writer.as_deref())
    }
    let mut writers = Vec::new();
    for line in lines.iter().filter(|line| [GUEST, HOST, CONTROL].iter().any(|header| line.text.contains(header))) {
        if !writers.contains(&writer(line)) {
            writers.push(writer(line));
        }
    }
    if writers.len() < 2 {
        return vec![lines.iter().collect()];
    }
    let mut streams: Vec<Vec<&Line>> = writers.iter().map(|_| Vec::new()).collect();
    let mut current = None;
    for line in lines {
        if line.prefixed {
            current = writers.iter().position(|other| *other == writer(line));
        }
        if let Some(current) = current {
            streams[current].push(line);
        }
    }
    streams
}

/// The dumps of one writer.
fn in_stream(lines: &[&Line]) -> Vec<Dump> {
    let has = |header: &'static str| move |line: &&Line| line.text.contains(header);
    let mut starts: Vec<_> = lines.iter().enumerate().filter(|(_, line)| has(GUEST)(line)).map(|(at, _)| at).collect();
    // The begin of the first dump may be cut off. One such line alone may be that of another program.
    let has_header = |line: &&Line| has(HOST)(line) || has(CONTROL)(line);
    let headers = !starts.is_empty() || lines.iter().any(has_header);
    let enough = headers || lines.iter().filter(|line| telling::tells_section(line)).nth(1).is_some();
    let headless = lines.iter().position(|line| has_header(line) || enough && telling::tells_section(line));
    if let Some(headless) = headless.filter(|at| starts.first().is_none_or(|start| at < start)) {
        starts.insert(0, headless);
    }
    let mut headlines = headline::find(lines);
    let mut dumps = Vec::new();
    let (mut preamble, mut before) = (0, Before::Nothing);
    for (n, &start) in starts.iter().enumerate() {
        let end = starts.get(n + 1).copied().unwrap_or(lines.len());
        // The headline of this dump is the last that stands before it and behind the control state of the dump before.
        let own = headlines.iter().rposition(|headline| (preamble..start).contains(&headline.at));
        dumps.push(Section::new(lines, preamble, start, end, before).dump(own.map(|own| headlines.remove(own))));
        let control = lines[start..end].iter().position(|line| has(CONTROL)(line));
        before = if control.is_some() { Before::InControlState } else { Before::Unfinished };
        preamble = control.map_or(start, |at| start + at);
    }
    // What says how an entry ended, and has no dump.
    dumps.extend(headlines.into_iter().map(Headline::into_dump));
    if starts.is_empty() && dumps.is_empty() {
        dumps.extend(headline::reason(lines));
    }
    let shows = |dump: &Dump| dump.known() > 0 || dump.reported.is_some() || !dump.damage.is_empty();
    if !headers || dumps.iter().any(shows) {
        dumps.retain(shows);
    } else {
        // A headline and nothing else.
        dumps.truncate(1);
    }
    dumps
}

/// How far the dump before had come when the next began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// There is none.
    Nothing,
    /// Not to its control state: its rest is lost, or is printed into the next.
    Unfinished,
    InControlState,
}

/// A dump as text, and where its sections are.
struct Section {
    text: Text,
    preamble: Range<usize>,
    guest: Range<usize>,
    host: Range<usize>,
    control: Range<usize>,
    /// The part of the guest state in which names that host state has, too, mean the guest's.
    surely_guest: Range<usize>,
    /// Likewise for host state.
    surely_host: bool,
    /// Everything from the first header on.
    whole: Range<usize>,
    /// Lines of two dumps are mixed.
    mixed: bool,
    /// The dump has all of its headers.
    complete: bool,
    /// The header of its guest state is lost.
    headless: bool,
    /// Where words of [`ORDER`] stand, and which.
    order: Vec<(usize, usize)>,
    line: usize,
    xen: bool,
    old_xen: bool,
}

impl Section {
    fn new(lines: &[&Line], preamble: usize, start: usize, end: usize, before: Before) -> Self {
        let text = Text::new(lines[preamble..end].iter().copied());
        let all = text.as_str();
        let begin = text.begin(start - preamble);
        let whole = begin..all.len();
        let places = |words: &[&str], part: &Range<usize>| -> Vec<usize> {
            let mut places: Vec<_> = words.iter().flat_map(|word| text.places(part.clone(), word)).collect();
            places.sort_unstable();
            places
        };
        let [guest_at, host_at, control_at] =
            [GUEST, HOST, CONTROL].map(|header| places(&[header], &whole).first().copied());
        let complete = guest_at.is_some() && host_at.is_some() && control_at.is_some();
        // What an earlier dump had still to print of its control state has no name that other sections have, too.
        let leftover = |at: usize, rank: usize| {
            ORDER[..rank].contains(&CONTROL)
                && before == Before::InControlState
                && control_at.is_none_or(|control| at < control)
        };
        let mut order: Vec<(usize, usize)> = Vec::new();
        for (rank, name) in ORDER.iter().enumerate() {
            order.extend(places(&[name], &whole).into_iter().filter(|at| !leftover(*at, rank)).map(|at| (at, rank)));
        }
        order.sort_unstable();
        let mixed = order.windows(2).any(|pair| pair[1].1 <= pair[0].1) || before == Before::Unfinished && !complete;

        // Where a header is lost, the words of the next section end a section.
        let guest_end = host_at.or(control_at).unwrap_or(all.len());
        let headless = guest_at.is_none();
        // Without the first header, guest state is known from its first word on that no other section has.
        let guest_at = guest_at.or_else(|| {
            if telling::is_xen_segment(lines[start]) {
                return Some(begin);
            }
            let first = places(&GUEST_WORDS, &(begin..guest_end.max(begin))).first().copied();
            first.map(|at| line_begin(all, at))
        });
        let mut guest = guest_at.map_or(0..0, |at| at..guest_end.max(at));
        let own = places(&GUEST_WORDS, &guest);
        let foreign = places(&HOST_WORDS, &if guest.is_empty() { begin..guest_end.max(begin) } else { guest.clone() });
        let controls = places(&CONTROL_WORDS, &guest);
        let last_own = own.last().copied();
        let host_end = control_at.filter(|at| host_at.is_none_or(|host| host < *at)).unwrap_or(all.len());
        let mut host = host_at.map_or(0..0, |at| at..host_end);
        let surely_guest = if host_at.is_some() { guest.clone() } else { guest.start..last_own.unwrap_or(guest.start) };
        let mut surely_host = host_at.is_some();
        if let Some(lost) = foreign.first().filter(|_| host_at.is_none() && !mixed) {
            host = *lost..control_at.unwrap_or(all.len());
            // The line before the first of these words belongs to host state, too; its names are not of one state alone.
            guest.end = guest.end.min(*lost);
            surely_host = false;
        }
        let control = match control_at {
            Some(at) => at..all.len(),
            // What is printed before the header of control state may be the rest of the dump before.
            None if before == Before::InControlState => 0..0,
            None => {
                let part = host.start.max(guest.start).max(begin)..all.len();
                let words = places(&CONTROL_WORDS, &part);
                // Controls that stand before guest state are the rest of an earlier dump.
                words.first().filter(|at| last_own.is_none_or(|own| own < **at)).map_or(0..0, |at| *at..all.len())
            }
        };
        let control = line_begin(all, control.start)..control.end;
        let dump = &all[whole.clone()];
        let old_xen = dump.contains("CR3: actual=") || lines[start].xen && dump.contains("sel=0x");
        let xen = old_xen || dump.contains("sel  attr  limit") || lines[start].xen;
        Self {
            preamble: 0..begin,
            surely_guest,
            surely_host,
            complete: complete && !mixed && controls.is_empty(),
            headless,
            order,
            line: lines[start].number,
            guest,
            host,
            control,
            whole,
            mixed,
            xen,
            old_xen,
            text,
        }
    }

    fn dump(&self, headline: Option<Headline>) -> Dump {
        let mut dump = Dump::new(if self.xen { "Xen" } else { "KVM" });
        dump.line = headline.as_ref().map_or(self.line, |headline| headline.line);
        let own = if self.xen && !self.old_xen { XEN_GUEST_STATE } else { KVM_GUEST_STATE };
        let mut values = Values::default();
        let mut read = |part: &Range<usize>, patterns: &[&'static str], unambiguous: Option<&Range<usize>>| {
            for pattern in patterns {
                let part = match unambiguous {
                    _ if self.mixed && is_ambiguous(pattern) => continue,
                    _ if self.mixed => &self.whole,
                    Some(unambiguous) if is_ambiguous(pattern) => unambiguous,
                    _ => part,
                };
                for mut holes in self.text.find_all(part.clone(), pattern) {
                    if pattern.starts_with("TR: ") && self.may_be_ldtr(&holes) {
                        holes.iter_mut().for_each(|hole| hole.value = Err("its line may be the rest of that of LDTR"));
                    }
                    for hole in &mut holes {
                        if self.may_belong_to_another(hole) {
                            hole.value = Err("it stands on a line of its own, and lines seem to be missing");
                        }
                    }
                    values.add(&self.text, &holes);
                }
            }
        };
        read(&self.guest, GUEST_STATE, Some(&self.surely_guest));
        read(&self.guest, own, None);
        if self.old_xen {
            read(&self.guest, OLD_XEN_GUEST_STATE, None);
        }
        read(&self.host, HOST_STATE, if self.surely_host { None } else { Some(&(0..0)) });
        read(&self.control, CONTROL_STATE, None);
        read(&self.control, if self.old_xen { OLD_XEN_EXIT } else { EXIT }, None);
        if !self.mixed {
            self.guest_efer(&mut dump, &mut values);
        }
        values.give(&mut dump, self.mixed);
        if self.headless && dump.known() > 0 {
            dump.note(
                "the headline of guest state is lost: lines are known by names that only one section has, and names that \
                 several have are taken as unknown where the lines around them do not tell the section",
            );
        }
        if self.xen {
            dump.note("a field that the processor lacks is printed as 0");
        } else if !self.mixed {
            self.msr_lists(&mut dump);
        }
        if self.mixed {
            dump.note(
                "two dumps are printed into each other line by line: values on which they differ, or that only one of them \
                 shows, are taken as unknown",
            );
        }
        if let Some(headline) = headline {
            dump.reported = Some(headline.reported);
            dump.msr_load.extend(headline.msr_load);
        } else {
            dump.reported = Reported::of_fields(&dump.vmcs);
        }
        stale(&mut dump, self.xen);
        dump
    }

    /// IA32_EFER of the guest, which is not always the field.
    fn guest_efer(&self, dump: &mut Dump, values: &mut Values) {
        let shown = self.text.find_all(self.surely_guest.clone(), GUEST_EFER);
        // Where the longest lines have their ends, this one has it, too.
        let long_lines = GUEST_STATE[..2].iter().any(|pattern| {
            let lines = self.text.find_all(self.guest.clone(), pattern);
            lines.iter().any(|holes| holes.last().is_some_and(|hole| hole.value.is_ok()))
        });
        if shown.is_empty() && self.text.as_str()[self.guest.clone()].contains("EFER(MSR LL)") {
            dump.note("the guest's EFER comes from the MSR-load list: guest_ia32_efer is not shown");
        }
        for holes in shown {
            let [hole] = &holes[..] else { continue };
            let line = self.text.line(hole.at);
            let is_number = |c: char| c.is_ascii_hexdigit() || c == 'x';
            // The next line may be one of another kind, such as those of a log in JSON.
            let on_line = self.text.as_str()[hole.at..].trim_start_matches([' ', '\t']).trim_start_matches(is_number);
            let on_line = on_line.split(['\n', START]).next().unwrap_or_default().trim_start();
            let ends = on_line.is_empty() || on_line.starts_with("PAT");
            // What says that it is not the field may have been put into the next line.
            let next = self.text.as_str()[hole.at..].trim_start().trim_start_matches(is_number);
            let next = next.trim_start_matches(|c| is_blank(c) || c == START);
            let from = if next.starts_with("(effective)") {
                "what KVM derives from the controls"
            } else if next.starts_with("(autoload)") {
                "the MSR-load list's"
            } else if hole.value.is_err() || long_lines && ends && !next.is_empty() && !next.starts_with('(') {
                values.add(&self.text, &holes);
                continue;
            } else {
                values.set(field::GUEST_IA32_EFER.id(), line, Err("its line is cut: it need not be the field"));
                continue;
            };
            dump.note(format!("the guest's EFER is {from}: guest_ia32_efer is not shown"));
        }
    }
}

/// Where the line begins in which that place is.
fn line_begin(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |at| at + 1)
}

/// What is left over from an earlier exit, and what is not in force.
fn stale(dump: &mut Dump, xen: bool) {
    let reason = dump.vmcs.raw(field::EXIT_REASON.id());
    match (dump.reported.and_then(|reported| reported.outcome()), reason) {
        (Some(Outcome::EntryFailed { .. }), _) => {
            dump.note(
                "stale: the VMExit and IDTVectoring values other than reason and qualification are those of an earlier exit",
            );
        }
        (Some(_), Some(reason)) => {
            dump.note(format!("stale: reason {reason:#x} and the VMExit and IDTVectoring values are those of an earlier exit"));
        }
        (None, Some(reason)) if !xen => dump.note(format!(
            "reason {reason:#x} is that of a VM exit: if the VM entry after it failed, then with an error number that KVM's \
             dump does not show"
        )),
        (None, Some(reason)) => {
            dump.note(format!("reason {reason:#x} is that of a VM exit: the dump is not about a VM entry that failed"));
        }
        (_, None) => {}
    }
    let pdpte: FieldId = field::GUEST_PDPTE0.id();
    let entry = dump.vmcs.raw(field::VM_ENTRY_CONTROLS.id());
    let (cr0, cr4) = (dump.vmcs.raw(field::GUEST_CR0.id()), dump.vmcs.raw(field::GUEST_CR4.id()));
    if let (Some(_), Some(entry), Some(cr0), Some(cr4)) = (dump.vmcs.raw(pdpte), entry, cr0, cr4) {
        let pae = entry >> 9 & 1 == 0 && cr0 >> 31 & 1 == 1 && cr4 >> 5 & 1 == 1;
        if !pae {
            dump.note("not in force: the PDPTEs, as the guest does not use PAE paging");
        }
    }
}
