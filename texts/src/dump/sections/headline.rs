//! The lines before a dump that say how the entry ended, as Xen prints them, and KVM's exit reason without its dump.

use vmcs_model::Outcome;
use vmcs_model::formats::exit_reason;

use super::super::contents::{Dump, MsrLoadEntry, Reported};
use super::super::pattern::Text;
use crate::log::Line;

/// How an entry ended, as a line says.
pub(super) struct Headline {
    /// Which of the lines it is.
    pub(super) at: usize,
    /// Its number in the log.
    pub(super) line: usize,
    pub(super) reported: Reported,
    /// The entry of the MSR-load area that could not be loaded, if it is shown.
    pub(super) msr_load: Option<MsrLoadEntry>,
}

impl Headline {
    /// A dump that consists of it.
    pub(super) fn into_dump(self) -> Dump {
        let mut dump = Dump::new("Xen");
        dump.line = self.line;
        dump.reported = Some(self.reported);
        dump.msr_load.extend(self.msr_load);
        dump
    }
}

/// The headlines in some lines.
pub(super) fn find(lines: &[&Line]) -> Vec<Headline> {
    let text = Text::new(lines.iter().copied());
    let find = |(at, line): (usize, &&Line)| {
        let mut headline = failure(lines, at).or_else(|| {
            let label = ["VMLAUNCH error:", "VMRESUME error:"].into_iter().find(|label| line.text.contains(label))?;
            let error = text.error_number(text.begin(at)..text.begin(at + 1), label)?;
            Some((Reported::hardware_error(error, None)?, None))
        })?;
        if let Reported::Outcome { outcome: Outcome::EntryFailed { reason, .. }, .. } = headline.0
            && reason != exit_reason::MSR_LOADING
        {
            headline.1 = None;
        }
        Some(Headline { at, line: line.number, reported: headline.0, msr_load: headline.1 })
    };
    lines.iter().enumerate().filter_map(find).collect()
}

/// What Xen says of a VM entry that failed with an exit reason, and the entry of the MSR-load area behind it.
fn failure(lines: &[&Line], at: usize) -> Option<(Reported, Option<MsrLoadEntry>)> {
    let (_, rest) = ["vmentry failure (reason ", "Failed vm entry (exit reason "]
        .iter()
        .find_map(|begin| lines[at].text.split_once(begin))?;
    let (reason, words) = rest.strip_prefix("0x").unwrap_or(rest).split_once(')')?;
    let reason = u64::from_str_radix(reason, 16).ok().filter(|reason| reason >> 31 == 1)?;
    // A mail program may have broken the line.
    let next = lines.get(at + 1).filter(|next| !next.prefixed).map_or("", |next| next.text.as_str());
    let words = format!("{} {next}", words.trim_start_matches([':', ' ']));
    let number = |begin: &str, end: &str| -> Option<u64> {
        let (_, rest) = words.split_once(begin)?;
        rest.split_once(end)?.0.trim().parse().ok()
    };
    let qualification = number("nvalid guest state (", ")")
        // Xen 4.8 counts the entries from 0 and the exit qualification from 1; before, the qualification was printed.
        .or_else(|| number("MSR loading (entry", ")").and_then(|entry| entry.checked_add(1)))
        .or_else(|| number("caused by MSR entry", "loading"))
        .or_else(|| (words.starts_with("MCE") || words.contains("machine check")).then_some(0));
    let msr = qualification.and_then(|number| {
        let mut following = lines.get(at + 1..)?.iter().take(2);
        let text = following.find_map(|line| line.text.strip_prefix("msr "))?;
        let mut words = text.split_whitespace();
        let (index, _, value) = (words.next()?, words.next().filter(|word| *word == "val")?, words.next()?);
        let index = (index.len() == 8).then(|| u32::from_str_radix(index, 16).ok())??;
        let value = (value.len() == 16).then(|| u64::from_str_radix(value, 16).ok())??;
        Some(MsrLoadEntry { number: u32::try_from(number).ok()?, index, value })
    });
    Some((Reported::hardware_error(reason, qualification)?, msr))
}

/// The exit reason that KVM prints in its control state, where the rest of the dump is lost.
pub(super) fn reason(lines: &[&Line]) -> Option<Dump> {
    let text = Text::new(lines.iter().copied());
    let holes = text.find_all(0..text.as_str().len(), "reason={exit_reason:8} qualification={exit_qualification:16}");
    let holes = holes.into_iter().rfind(|holes| holes[0].value.is_ok_and(|reason| reason >> 31 == 1))?;
    let mut dump = Dump::new("KVM");
    dump.line = text.line(holes[0].at);
    dump.reported = Reported::hardware_error(holes[0].value.ok()?, holes[1].value.ok());
    dump.reported.is_some().then_some(dump)
}
