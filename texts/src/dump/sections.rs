//! Reading the dumps of Linux (KVM) and Xen, which have sections for guest state, host state and control state.

mod headline;
mod patterns;

use std::borrow::Cow;
use std::ops::Range;

use vmcs_model::Outcome;
use vmcs_model::field::{self, FieldId};

use super::contents::{Dump, MsrLoadEntry, Reported};
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
    // The begin of the first dump may be cut off.
    let headless = lines.iter().position(|line| has(HOST)(line) || has(CONTROL)(line));
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
    if dumps.iter().any(shows) {
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
        let mut guest = guest_at.map_or(0..0, |at| at..guest_end);
        let own = places(&GUEST_WORDS, &guest);
        let foreign = places(&HOST_WORDS, &guest);
        let controls = places(&CONTROL_WORDS, &guest);
        let last_own = own.last().copied();
        let host_end = control_at.filter(|at| host_at.is_none_or(|host| host < *at)).unwrap_or(all.len());
        let mut host = host_at.map_or(0..0, |at| at..host_end);
        let surely_guest = if host_at.is_some() { guest.clone() } else { guest.start..last_own.unwrap_or(guest.start) };
        let mut surely_host = host_at.is_some();
        if let Some(lost) = foreign.first().filter(|_| host_at.is_none() && !mixed) {
            host = *lost..control_at.unwrap_or(all.len());
            // The line before the first of these words belongs to host state, too; its names are not of one state alone.
            guest.end = *lost;
            surely_host = false;
        }
        let control = match control_at {
            Some(at) => at..all.len(),
            // What is printed before the header of control state may be the rest of the dump before.
            None if before == Before::InControlState => 0..0,
            None => {
                let part = host.start.max(guest.start)..all.len();
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
                for holes in self.text.find_all(part.clone(), pattern) {
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
            let on_line = self.text.rest_of_line(hole.at).trim_start_matches(is_number).trim_start();
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

    /// The MSR lists, whose lengths tell the counts where the dump shows all lists that are not empty.
    fn msr_lists(&self, dump: &mut Dump) {
        let all = self.text.as_str();
        let list = |part: &Range<usize>, header: &str| {
            let header = part.start + all[part.clone()].find(header)? + header.len();
            let entries = self.text.find_all(header..part.end, "msr={index:x8} value={value:x16}");
            // The list ends where something else follows.
            let next = all[header..part.end].find("MSR ").map_or(part.end, |at| header + at);
            let entries = entries.into_iter().filter(|holes| holes.first().is_some_and(|hole| hole.at < next));
            let value = |hole: &super::pattern::Hole| hole.value.ok();
            Some(entries.map(|holes| Some((value(&holes[0])?, value(holes.get(1)?)?, holes[0].at))).collect::<Vec<_>>())
        };
        let in_order = |entries: &[Option<(u64, u64, usize)>]| {
            let numbered = |(n, entry): (usize, &Option<(u64, u64, usize)>)| {
                entry.is_some_and(|(_, _, at)| {
                    let line = &all[line_begin(all, at)..at];
                    let number = line.split(": msr=").next().unwrap_or_default();
                    number.trim_matches(|c: char| !c.is_ascii_digit()).parse() == Ok(n)
                })
            };
            entries.iter().enumerate().all(numbered)
        };
        let load = list(&self.guest, "MSR guest autoload:");
        // Where the header of host state is lost, entries may be those of its list.
        let own = load.as_ref().filter(|load| self.surely_guest == self.guest && in_order(load));
        for (entry, number) in own.into_iter().flatten().zip(1..) {
            if let Some((index, value, _)) = *entry {
                #[allow(clippy::cast_possible_truncation, reason = "it has 8 digits")]
                dump.msr_load.push(MsrLoadEntry { number, index: index as u32, value });
            }
        }
        // Kernels that print the lists name the processor in the first line, too.
        let shown =
            all[self.guest.clone()].contains("MSR guest auto") || all[self.host.clone()].contains("MSR host autoload:");
        let prints_lists = shown || all[self.preamble.clone()].contains("last attempted VM-entry");
        // Nothing is absent where something is missing. The first lines are the longest: no line is cut where they are whole.
        let known = |field: FieldId| dump.vmcs.raw(field).is_some();
        let whole = known(field::CR0_GUEST_HOST_MASK.id())
            && known(field::GUEST_ACTIVITY_STATE.id())
            && known(field::HOST_IA32_SYSENTER_EIP.id())
            && known(field::PIN_BASED_VM_EXECUTION_CONTROLS.id());
        if !prints_lists || !self.complete || !whole || all.contains("messages dropped") {
            return;
        }
        let store = list(&self.guest, "MSR guest autostore:").or_else(|| list(&self.guest, "MSR autostore:"));
        let lists = [
            (load, field::VM_ENTRY_MSR_LOAD_COUNT.id()),
            (store, field::VM_EXIT_MSR_STORE_COUNT.id()),
            (list(&self.host, "MSR host autoload:"), field::VM_EXIT_MSR_LOAD_COUNT.id()),
        ];
        // Entries that are in none of the lists have lost their headline, and so have lists of which only a word is left.
        let listed: usize = lists.iter().map(|(entries, _)| entries.as_ref().map_or(0, Vec::len)).sum();
        let found = lists.iter().filter(|(entries, _)| entries.is_some()).count();
        let words =
            |words: &[&str]| words.iter().map(|word| all[self.whole.clone()].matches(word).count()).sum::<usize>();
        if listed != words(&["msr="]) || found != words(&["autoload:", "autostore:"]) {
            return;
        }
        let mut counts = Vec::new();
        for (entries, count) in lists {
            // KVM prints no list that is empty.
            let entries = match entries {
                None => Vec::new(),
                Some(entries) if !entries.is_empty() && in_order(&entries) => entries,
                Some(_) => continue,
            };
            dump.vmcs.set_raw(count, entries.len() as u64);
            counts.push(format!("{} = {}", count.info().name, entries.len()));
        }
        if !counts.is_empty() {
            dump.note(format!("derived from the MSR lists: {}", counts.join(", ")));
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
