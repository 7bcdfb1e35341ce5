//! The answer for people, in parts that a program can print as text or as Markdown.

use std::collections::BTreeMap;

use vmcs_model::checks::CheckId;
use vmcs_model::field::FIELDS;

use super::words::{value, value_in_full, wrong};
use super::{Diagnosis, Finding, Fix, Group, Guess, JudgedMsr, Processor, Settled, Standing, names, what_is_wrong};
use crate::dump::{Damage, advice};

/// A part of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Section {
    /// A paragraph.
    Paragraph(String),
    /// Points under a sentence that says what they are.
    Points {
        /// The sentence.
        heading: String,
        /// The points.
        points: Vec<Point>,
    },
}

/// A point, and what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// What it is about.
    pub title: String,
    /// What is said of it, each on a line of its own.
    pub lines: Vec<String>,
}

impl Point {
    fn bare(title: String) -> Self {
        Self { title, lines: Vec::new() }
    }
}

/// How an answer is put.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// With permitted outcomes, all that is undecided, and notes.
    pub verbose: bool,
    /// With the names of the options of `vmcs explain`.
    pub options: bool,
}

impl Diagnosis<'_> {
    /// The answer: its first section is the first sentence, what happened and the most likely cause.
    #[must_use]
    pub fn sections(&self, processor: &Processor, manner: Manner, fix: Option<&Fix>) -> Vec<Section> {
        let groups = self.groups();
        let mut sections = vec![Section::Paragraph(self.headline(&groups) + ".")];
        sections.extend(self.look_at(&groups).map(|look| Section::Paragraph(look.to_owned())));
        let named = self.entry.dump.named.iter().map(|named| Point::bare(named.words.clone())).collect();
        push(&mut sections, &format!("{} names the cause:", self.entry.dump.format), named);
        let of = |standing: Standing| groups.iter().filter(move |group| group.first().standing == standing);
        let causes = of(Standing::Cause).map(|group| self.group_in_full(group, manner.verbose)).collect();
        let heading = match groups.first().map(Group::first) {
            Some(Finding { guessed: true, named: true, .. }) => "Named as violated:",
            Some(Finding { guessed: true, .. }) => "Probably violated:",
            _ => "Violated:",
        };
        push(&mut sections, heading, causes);
        let reported = self.entry.dump.reported.is_some();
        for (standing, heading) in [
            (
                Standing::Next,
                if reported {
                    "Violated, too, but it leads to another outcome:"
                } else {
                    "Violated, too, but met later:"
                },
            ),
            (Standing::NotReached, "Violated, too, but the processor did not get to it:"),
            (
                Standing::Passed,
                if processor.named {
                    "Cannot be: the processor got past these checks, so that it is not the one that was named, or some value \
                     here is not what the VMCS held:"
                } else {
                    "Cannot be as shown: the processor got past these checks, so that some value here is not what the VMCS \
                     held:"
                },
            ),
        ] {
            let points = of(standing)
                .map(|group| if manner.verbose { self.group_in_full(group, true) } else { self.group_in_short(group) });
            push(&mut sections, heading, points.collect());
        }
        push(
            &mut sections,
            "The entry of the MSR-load area:",
            self.reported_msr().map(msr_point).into_iter().collect(),
        );
        let broken = self.msrs.iter().filter(|msr| !msr.violated.is_empty() && Some(*msr) != self.reported_msr());
        push(&mut sections, "Entries of the MSR-load area that cannot be loaded:", broken.map(msr_point).collect());
        sections.extend(fix.map(|fix| self.fix_section(fix)));
        sections.extend(processor.words.iter().cloned().map(Section::Paragraph));
        sections.extend(advice(&self.entry.dump).map(|advice| Section::Paragraph(format!("{advice}."))));
        sections.extend(self.damaged().map(Section::Paragraph));
        let open = self.undecided(processor.named).join(" ");
        if !open.is_empty() {
            sections.push(Section::Paragraph(open));
        }
        if manner.verbose {
            self.details(processor, &mut sections);
        }
        sections.push(Section::Paragraph(self.source(processor, manner)));
        sections
    }

    pub(super) fn group_in_full(&self, group: &Group, verbose: bool) -> Point {
        let (vmcs, first) = (&self.entry.dump.vmcs, group.first());
        let info = first.check.info();
        let or = first.or.map_or_else(String::new, |check| format!(" or {check}"));
        // What follows the first sentence is what else there is to know of the rule.
        let rule = info.rule.split_once(". ").filter(|_| !verbose).map(|(rule, _)| format!("{rule}."));
        let mut lines = vec![rule.unwrap_or_else(|| info.rule.to_owned())];
        if !info.gate.is_empty() && first.or.is_none() {
            lines.push(format!("In force because {}.", info.gate));
        }
        if info.failure.optional {
            lines.push("The SDM leaves open whether a processor makes this check.".to_owned());
        }
        if first.guessed {
            let of_text = self.guess.as_ref().is_some_and(|(_, violated)| violated.contains(first.check));
            let on_most = self.guess().filter(|guess| guess.check == first.check && !of_text);
            lines.push(match on_most {
                _ if first.named => {
                    format!("{} names it, and the values that are known do not decide it.", self.entry.dump.format)
                }
                _ if of_text => {
                    "Not certain: it is so if the processor is the one that the text makes likely.".to_owned()
                }
                Some(Guess { violating, of, .. }) => format!(
                    "Not certain: it depends on the processor. It is violated on {violating} of the {of} that `vmcs caps \
                     list` knows and that can be this one."
                ),
                None => "Not certain: it depends on what is not known.".to_owned(),
            });
        }
        lines.extend(self.offending(first.check, group.field).into_iter().map(|field| value_in_full(vmcs, field)));
        lines.extend(self.explain(first.check).limit().map(|limit| limit.to_string()));
        lines.extend(group.repair.map(|repair| repair.to_string()));
        let others: Vec<_> = group.findings[1..].iter().map(|finding| finding.check.to_string()).collect();
        if !others.is_empty() {
            lines.push(format!("The same value violates {}.", others.join(", ")));
        }
        Point { title: format!("{}{or} [SDM {}, {}]", first.check, info.sdm, info.title), lines }
    }

    fn group_in_short(&self, group: &Group) -> Point {
        let Finding { check, .. } = *group.first();
        let fields = self.offending(check, group.field);
        let values: Vec<_> = fields.iter().take(3).map(|field| value(&self.entry.dump.vmcs, *field)).collect();
        let more = group.findings.len() - 1;
        let more = if more > 0 { format!(" (and {more} more for the same reason)") } else { String::new() };
        let values = if values.is_empty() { String::new() } else { format!(": {}", values.join(", ")) };
        Point::bare(format!("{check}: {}{values}{more}", wrong(group, &self.entry.dump.vmcs)))
    }

    fn fix_section(&self, fix: &Fix) -> Section {
        if fix.changes.is_empty() {
            let text = if fix.left.is_empty() {
                if self.groups().is_empty() {
                    "There is nothing to change: no check is violated."
                } else {
                    "No change is certain to help: what may be violated depends on what is not known."
                }
            } else {
                "No set of changes of single fields was found after which no check is violated."
            };
            return Section::Paragraph(text.to_owned());
        }
        let open =
            if fix.undecidable > 0 { format!(" ({} checks stay undecided)", fix.undecidable) } else { String::new() };
        let heading = if fix.left.is_empty() {
            format!("With these changes no check is violated any more{open}:")
        } else {
            let left: Vec<_> = fix.left.iter().map(ToString::to_string).collect();
            format!(
                "No set of changes was found after which no check is violated. After these only {} is left{open}:",
                left.join(", ")
            )
        };
        let points =
            fix.changes.iter().map(|change| Point::bare(format!("{change} (it was {:#x})", change.old))).collect();
        Section::Points { heading, points }
    }

    /// Values that are shown, but cannot be read.
    fn damaged(&self) -> Option<String> {
        const SHOWN: usize = 4;
        let damage = &self.entry.dump.damage;
        let shown = damage
            .iter()
            .take(SHOWN)
            .map(|Damage { field, line, why }| format!("{} (line {line}: {why})", field.info().name));
        let more = if damage.len() > SHOWN { format!(" and {} more", damage.len() - SHOWN) } else { String::new() };
        (!damage.is_empty()).then(|| format!("Not read: {}{more}.", shown.collect::<Vec<_>>().join(", ")))
    }

    /// Who printed the dump, how much it shows, and which options tell more.
    fn source(&self, processor: &Processor, manner: Manner) -> String {
        let dump = &self.entry.dump;
        let line = if dump.line > 0 { format!(", line {}", dump.line) } else { String::new() };
        let fields = match dump.known() {
            0 => "no field".to_owned(),
            known => format!("{known} of {} fields", FIELDS.len()),
        };
        let more = match manner {
            Manner { options: false, .. } => "",
            Manner { verbose: true, .. } if processor.named => "",
            Manner { verbose: true, .. } => " --profile names the processor.",
            Manner { verbose: false, .. } if processor.named => " --verbose shows all that is undecided, and notes.",
            Manner { verbose: false, .. } => {
                " --profile names the processor, --verbose shows all that is undecided, and notes."
            }
        };
        format!("From: {}{line}; {fields} known.{more}", dump.format)
    }

    fn details(&self, processor: &Processor, sections: &mut Vec<Section>) {
        let permitted: Vec<_> = self.permitted.iter().map(ToString::to_string).collect();
        let later = self.verdict.permitted.msr_failures_from();
        let later = later.map_or("", |_| " or EntryFailed(34, n) for any later entry n of the MSR-load area");
        sections.push(Section::Paragraph(format!("Permitted: {}{later}.", permitted.join(" or "))));
        let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let (mut passed, mut not_reached) = (0, 0);
        for check in self.verdict.undecidable.iter() {
            match self.settled(check) {
                Some(Settled::Passed) => passed += 1,
                Some(Settled::NotReached) => not_reached += 1,
                None => {
                    let missing = names(&self.unknowns(check), processor.named).join(", ");
                    groups.entry(missing).or_default().push(check.info().id);
                }
            }
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(_, checks)| std::cmp::Reverse(checks.len()));
        let mut points: Vec<_> = groups
            .into_iter()
            .map(|(missing, checks)| Point::bare(format!("{missing}: {}", checks.join(", "))))
            .collect();
        for (count, why) in
            [(passed, "that the processor got past"), (not_reached, "that the processor did not get to")]
        {
            if count > 0 {
                points.push(Point::bare(format!("nothing: {count} checks {why}")));
            }
        }
        push(sections, "Undecidable, for want of:", points);
        push(sections, "Notes:", self.all_notes().into_iter().map(Point::bare).collect());
    }
}

/// Adds points, if there are any.
fn push(sections: &mut Vec<Section>, heading: &str, points: Vec<Point>) {
    if !points.is_empty() {
        sections.push(Section::Points { heading: heading.to_owned(), points });
    }
}

fn msr_point(msr: &JudgedMsr) -> Point {
    let JudgedMsr { entry, name, violated, loads } = msr;
    let name = name.map_or_else(String::new, |name| format!(" ({name})"));
    let title = format!("entry {}: MSR {:#x}{name} = {:#x}", entry.number, entry.index, entry.value);
    let broken = |check: &CheckId| format!("{check}: {}", what_is_wrong(*check));
    let mut lines: Vec<_> = violated.iter().map(broken).collect();
    if *loads {
        lines.push("WRMSR takes this value on the processor as far as it is known.".to_owned());
    } else if lines.is_empty() {
        lines.push("Whether WRMSR takes this value depends on the processor: name it.".to_owned());
    }
    Point { title, lines }
}
