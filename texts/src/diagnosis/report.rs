//! The answer as data: what `vmcs explain --json` prints, and what any other way to show it is made of.

use serde::Serialize;
use serde_json::{Map, Value};
use vmcs_case::number::Number;
use vmcs_model::Outcome;
use vmcs_model::checks::{CheckId, Failure};
use vmcs_model::explain::{Limit, Repair, Setting};
use vmcs_model::field::FieldId;

use super::words::where_to_look;
use super::{Diagnosis, Finding, Fix, Group, Note, Standing, names, what_is_wrong};
use crate::dump::{Damage, MsrLoadEntry, Reported};

/// What is said of the processor beside what the dump implies.
#[derive(Clone, Debug, Default)]
pub struct Processor {
    /// Whether somebody named it.
    pub named: bool,
    /// Where what is known of it comes from, in sentences.
    pub words: Vec<String>,
}

/// The answer for programs.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// The first sentence: what happened, and the most likely cause.
    pub answer: String,
    /// Who printed the dump.
    pub format: &'static str,
    /// The line in which it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The outcome that the text reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported: Option<String>,
    /// The exit status of `vmcs explain` for this answer alone.
    pub status: u8,
    /// Where to look if nothing that is known explains the outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub look_at: Option<&'static str>,
    permitted: Vec<String>,
    /// A failure to load MSRs is permitted at every entry of the area from this one on.
    #[serde(skip_serializing_if = "Option::is_none")]
    msr_failures_from: Option<u64>,
    violated: Vec<ViolatedCheck>,
    /// Checks that are violated if a guess is right.
    likely: Vec<ViolatedCheck>,
    /// What the program that printed the dump says.
    named: Vec<NamedCause>,
    /// Entries of the MSR-load area that the dump lists.
    msr_load: Vec<MsrAnswer>,
    /// Values that are shown, but cannot be read.
    damage: Vec<DamageAnswer>,
    /// What could not be decided and what would decide it, in sentences.
    undecided: Vec<String>,
    undecidable: Vec<UndecidableCheck>,
    /// What is said of the processor.
    processor: Vec<String>,
    notes: Vec<String>,
    /// Changes after which the state that is known enters, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<FixAnswer>,
    /// The answers to the other dumps of the same text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Answer>,
}

#[derive(Clone, Debug, Serialize)]
struct ViolatedCheck {
    id: &'static str,
    /// What is wrong, in words.
    wrong: &'static str,
    standing: &'static str,
    /// The check that is violated instead of this one in the less likely mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    or: Option<&'static str>,
    section: &'static str,
    title: &'static str,
    rule: &'static str,
    gate: &'static str,
    outcomes: Vec<String>,
    fields: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capability: Option<Capability>,
    repair: Option<RepairAnswer>,
}

/// What a capability MSR says.
#[derive(Clone, Debug, Serialize)]
struct Capability {
    msr: &'static str,
    setting: &'static str,
    mask: Number,
    wrong: Number,
}

#[derive(Clone, Debug, Serialize)]
struct RepairAnswer {
    field: &'static str,
    old: Number,
    new: Number,
    text: String,
}

#[derive(Clone, Debug, Serialize)]
struct NamedCause {
    words: String,
    check: Option<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
struct MsrAnswer {
    number: u32,
    index: Number,
    name: Option<&'static str>,
    value: Number,
    violated: Vec<&'static str>,
    loads: bool,
}

#[derive(Clone, Debug, Serialize)]
struct DamageAnswer {
    field: &'static str,
    line: usize,
    why: String,
}

#[derive(Clone, Debug, Serialize)]
struct UndecidableCheck {
    id: &'static str,
    unknown: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct FixAnswer {
    changes: Vec<RepairAnswer>,
    left: Vec<&'static str>,
    undecidable: u32,
}

impl Answer {
    /// Adds checks that are violated if a guess is right.
    pub(super) fn add_likely(&mut self, diagnosis: &Diagnosis<'_>, groups: &[Group]) {
        let findings = groups.iter().flat_map(|group| &group.findings);
        self.likely.extend(findings.map(|finding| diagnosis.violated_check(*finding)));
    }
}

impl From<Repair> for RepairAnswer {
    fn from(repair: Repair) -> Self {
        let Repair { field, old, new } = repair;
        Self { field: field.info().name, old: Number(old), new: Number(new), text: repair.to_string() }
    }
}

impl Standing {
    /// The word of the answer for programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cause => "cause",
            Self::Next => "next",
            Self::NotReached => "not reached",
            Self::Passed => "passed",
        }
    }
}

impl Diagnosis<'_> {
    /// The exit status of `vmcs explain`: 0 if all is well, 1 if a check is violated, 3 if a failed entry is reported, or
    /// a cause is named, and no check is known to be violated.
    #[must_use]
    pub fn status(&self) -> u8 {
        let violated = !self.verdict.violated.is_empty()
            || !self.alternatives.is_empty()
            || self.msrs.iter().any(|msr| !msr.violated.is_empty());
        match self.entry.dump.reported {
            _ if violated => 1,
            None if !self.entry.dump.named.is_empty() || self.entry.dump.mixed => 3,
            None | Some(Reported::Outcome { outcome: Outcome::Entered, .. }) => 0,
            Some(_) => 3,
        }
    }

    /// Where to look, if a failed entry is reported that nothing explains.
    #[must_use]
    pub fn look_at(&self, groups: &[Group]) -> Option<&'static str> {
        let explained = groups.first().is_some_and(|group| group.first().standing == Standing::Cause);
        self.failure().filter(|_| !explained).map(where_to_look)
    }

    /// What there is to know of the dump, and how the report of it fits the checks.
    #[must_use]
    pub fn all_notes(&self) -> Vec<String> {
        let dump = &self.entry.dump;
        let reported = dump.reported.map_or_else(String::new, |reported| reported.to_string());
        let guess = || {
            let guess = self.guess()?;
            Some(format!(
                "; {} would explain it on {} of the {} processors that `vmcs caps list` knows, so name yours",
                guess.check, guess.processors, guess.of
            ))
        };
        let text = |note: Note| match note {
            Note::CauseUndecidable(candidates) => format!(
                "{reported} is not explained by what is known: its cause is one of {candidates} undecidable checks{}",
                guess().unwrap_or_default(),
            ),
            Note::Unexplained => format!("{reported} is not explained by any check over these values"),
            Note::GotPast(check) => format!(
                "{check} is violated by these values, but the processor got past it: something here is not what the VMCS held"
            ),
        };
        let damage = dump.damage.iter().map(|Damage { field, line, why }| {
            format!("the value of {field} cannot be read in line {line} ({why}): taken as unknown")
        });
        dump.notes.iter().cloned().chain(damage).chain(self.notes().into_iter().map(text)).collect()
    }

    /// The whole answer; `fix` if it was asked for.
    #[must_use]
    pub fn answer(&self, processor: &Processor, fix: Option<&Fix>) -> Answer {
        let dump = &self.entry.dump;
        let groups = self.groups();
        let findings = || {
            let of_group =
                |group: &Group| -> Vec<_> { group.findings.iter().map(|finding| (*finding, group.repair)).collect() };
            groups.iter().flat_map(of_group)
        };
        let some = |guessed: bool| -> Vec<_> {
            let wanted = findings().filter(|(finding, _)| finding.guessed == guessed);
            wanted.map(|(finding, _)| self.violated_check(finding)).collect()
        };
        let undecidable =
            |check: CheckId| UndecidableCheck { id: check.info().id, unknown: names(&self.unknowns(check), true) };
        Answer {
            answer: self.headline(&groups),
            format: dump.format,
            line: Some(dump.line).filter(|line| *line > 0),
            reported: dump.reported.map(|reported| reported.to_string()),
            status: self.status(),
            look_at: self.look_at(&groups),
            permitted: self.permitted.iter().map(ToString::to_string).collect(),
            msr_failures_from: self.verdict.permitted.msr_failures_from(),
            violated: some(false),
            likely: some(true),
            named: dump
                .named
                .iter()
                .map(|named| NamedCause { words: named.words.clone(), check: named.check.map(|check| check.info().id) })
                .collect(),
            msr_load: self
                .msrs
                .iter()
                .map(|msr| {
                    let MsrLoadEntry { number, index, value } = msr.entry;
                    MsrAnswer {
                        number,
                        index: Number(index.into()),
                        name: msr.name,
                        value: Number(value),
                        violated: msr.violated.iter().map(|check| check.info().id).collect(),
                        loads: msr.loads,
                    }
                })
                .collect(),
            damage: dump
                .damage
                .iter()
                .map(|Damage { field, line, why }| DamageAnswer {
                    field: field.info().name,
                    line: *line,
                    why: why.clone(),
                })
                .collect(),
            undecided: self.undecided(processor.named),
            undecidable: self.verdict.undecidable.iter().map(undecidable).collect(),
            processor: processor.words.clone(),
            notes: self.all_notes(),
            fix: fix.map(|fix| FixAnswer {
                changes: fix.changes.iter().map(|repair| (*repair).into()).collect(),
                left: fix.left.iter().map(|check| check.info().id).collect(),
                undecidable: fix.undecidable,
            }),
            others: Vec::new(),
        }
    }

    fn violated_check(&self, finding: Finding) -> ViolatedCheck {
        let Finding { check, or, standing, .. } = finding;
        let info = check.info();
        let explanation = self.explain(check);
        let value = |value: Option<u64>| value.map_or(Value::Null, |value| Number(value).to_string().into());
        let field = |(field, known): (FieldId, _)| (field.info().name.to_owned(), value(known));
        ViolatedCheck {
            id: info.id,
            wrong: what_is_wrong(check),
            standing: standing.word(),
            or: or.map(|check| check.info().id),
            section: info.sdm,
            title: info.title,
            rule: info.rule,
            gate: if or.is_some() { "" } else { info.gate },
            outcomes: outcomes(&info.failure).map(|outcome| outcome.to_string()).collect(),
            fields: explanation.fields().map(field).collect(),
            capability: explanation.limit().map(|Limit { msr, setting, mask, wrong, .. }| Capability {
                msr: msr.name(),
                setting: match setting {
                    Setting::MustBe1 => "must be 1",
                    Setting::MayBe1 => "may be 1",
                },
                mask: Number(mask),
                wrong: Number(wrong),
            }),
            repair: explanation.repair().map(Into::into),
        }
    }
}

/// The outcomes of a check that does not hold.
fn outcomes(failure: &Failure) -> impl Iterator<Item = Outcome> {
    [Some(failure.outcome), failure.or].into_iter().flatten()
}
