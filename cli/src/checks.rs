//! `vmcs checks` lists the checks of a VM entry.

use std::io::{self, Write};

use serde::Serialize;
use vmcs_model::FieldId;
use vmcs_model::checks::{CheckId, CheckInfo, NOT_CHECKS, NotACheck, NotACheckKind, Phase};
use vmcs_texts::similar_names::did_you_mean;

use crate::error::{CliError, Status};
use crate::output::{self, markdown_text};

/// List the checks of a VM entry: rule, SDM section, fields, and how the entry ends if the rule does not hold
///
/// Behind the checks it lists the rules that no image can violate: fields that may hold any value, and rules that only
/// qualify other checks. Section numbers are those of the 2024 editions of the SDM; newer ones moved the chapters, but kept
/// the titles. In EntryFailed(34, n), n is the number of the MSR-load area's entry that was not loaded, counted from 1.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vmcs checks guest.rflags.bit1\n\nPrograms that count the checks:\n  vmcs checks \
                        --json | jq '.checks | length'")]
pub(crate) struct Args {
    /// Print these checks in full instead of listing all
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Print JSON: {"checks": [{"id", "section", "title", "rule", "gate", "phase", "fields", "outcome", "alternatives",
    /// "optional"}], "not_checks": [{"id", "section", "title", "rule", "kind", "fields"}]}
    #[arg(long)]
    json: bool,
    /// Print Markdown tables, as docs/checks.md has them
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

/// What is printed.
#[derive(Serialize)]
struct CheckListing {
    checks: Vec<Check>,
    not_checks: Vec<NotCheck>,
}

/// A check.
#[derive(Serialize)]
struct Check {
    id: &'static str,
    section: &'static str,
    title: &'static str,
    rule: &'static str,
    /// What puts the rule in force, empty if it always is.
    gate: &'static str,
    phase: &'static str,
    fields: Vec<&'static str>,
    /// With n for the number of the entry of the MSR area.
    outcome: String,
    /// Other outcomes that the SDM permits.
    alternatives: Vec<String>,
    /// The SDM leaves open whether a processor makes the check.
    optional: bool,
}

/// A rule that cannot be violated.
#[derive(Serialize)]
struct NotCheck {
    id: &'static str,
    section: &'static str,
    title: &'static str,
    rule: &'static str,
    kind: &'static str,
    fields: Vec<&'static str>,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let listing = if args.ids.is_empty() { CheckListing::all() } else { CheckListing::of(&args.ids)? };
    if args.json {
        output::json_pretty(&listing)?;
    } else if args.markdown {
        listing.print_markdown()?;
    } else if args.ids.is_empty() {
        listing.print_table()?;
    } else {
        listing.print_in_full()?;
    }
    Ok(Status::Clean)
}

impl CheckListing {
    fn all() -> Self {
        Self {
            checks: CheckId::all().map(|check| Check::from(check.info())).collect(),
            not_checks: NOT_CHECKS.iter().map(NotCheck::from).collect(),
        }
    }

    /// The checks and rules with these ids, in the order of `ids`.
    fn of(ids: &[String]) -> Result<Self, CliError> {
        let mut listing = Self { checks: Vec::new(), not_checks: Vec::new() };
        for id in ids {
            if let Some(check) = CheckId::by_id(id) {
                listing.checks.push(check.info().into());
            } else if let Some(rule) = NOT_CHECKS.iter().find(|rule| rule.id == id) {
                listing.not_checks.push(rule.into());
            } else {
                return Err(CliError::Usage(unknown(id)));
            }
        }
        Ok(listing)
    }

    fn print_table(&self) -> io::Result<()> {
        for section in self.checks.chunk_by(|a, b| a.section == b.section) {
            writeln!(io::stdout(), "{} {}", section[0].section, section[0].title)?;
            let mut table = output::table(&["CHECK", "FAILS WITH", "RULE"]);
            for check in section {
                table.add_row([check.id.to_owned(), check.outcomes(), check.sentence()]);
            }
            output::print_table(&table)?;
            writeln!(io::stdout())?;
        }
        writeln!(io::stdout(), "Rules that no image violates")?;
        let mut table = output::table(&["ID", "WHY", "RULE"]);
        for rule in &self.not_checks {
            table.add_row([rule.id, rule.kind, rule.rule]);
        }
        output::print_table(&table)
    }

    /// One table for each SDM section.
    fn print_markdown(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "# The checks of a VM entry\n")?;
        writeln!(
            out,
            "Generated from the rows of `vmcs-model/src/checks` by `vmcs checks --markdown`. Section numbers are those of \
             the\n2024 editions of the SDM. A check without a gate is always in force. “May be omitted” is a check of \
             which the SDM leaves\nopen whether a processor makes it; in EntryFailed(34, n) the entry that was not \
             loaded has the number n."
        )?;
        for section in self.checks.chunk_by(|a, b| a.section == b.section) {
            writeln!(out, "\n## {} {}\n", section[0].section, section[0].title)?;
            writeln!(out, "| check | rule | in force if | fields | fails with |\n|---|---|---|---|---|")?;
            for check in section {
                let omitted = if check.optional { "; may be omitted" } else { "" };
                let Check { id, rule, gate, fields, .. } = check;
                writeln!(
                    out,
                    "| `{id}` | {} | {} | {} | {}{omitted} |",
                    markdown_text(rule),
                    markdown_text(gate),
                    code_list(fields),
                    check.outcomes()
                )?;
            }
        }
        writeln!(out, "\n## What no image violates\n")?;
        writeln!(out, "| id | section | rule | fields | why |\n|---|---|---|---|---|")?;
        for NotCheck { id, section, rule, kind, fields, .. } in &self.not_checks {
            writeln!(out, "| `{id}` | {section} | {} | {} | {kind} |", markdown_text(rule), code_list(fields))?;
        }
        Ok(())
    }

    fn print_in_full(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let mut first = true;
        let mut print = |id: &str, lines: &[(&str, String)]| {
            if !first {
                writeln!(out)?;
            }
            first = false;
            writeln!(out, "{id}")?;
            for (what, text) in lines.iter().filter(|(_, text)| !text.is_empty()) {
                writeln!(out, "  {what:<11} {text}")?;
            }
            Ok::<_, io::Error>(())
        };
        for check in &self.checks {
            let optional = if check.optional { "the SDM leaves open whether a processor makes this check" } else { "" };
            print(
                check.id,
                &[
                    ("section", format!("{} {}", check.section, check.title)),
                    ("rule", check.rule.to_owned()),
                    ("in force if", check.gate.to_owned()),
                    ("fields", with_encodings(&check.fields)),
                    ("stage", check.phase.to_owned()),
                    ("fails with", check.outcomes()),
                    ("optional", optional.to_owned()),
                ],
            )?;
        }
        for rule in &self.not_checks {
            print(
                rule.id,
                &[
                    ("section", format!("{} {}", rule.section, rule.title)),
                    ("rule", rule.rule.to_owned()),
                    ("fields", with_encodings(&rule.fields)),
                    ("no check", rule.kind.to_owned()),
                ],
            )?;
        }
        Ok(())
    }
}

impl Check {
    /// Every outcome, in words.
    fn outcomes(&self) -> String {
        let mut text = self.outcome.clone();
        for other in &self.alternatives {
            text.push_str(" or ");
            text.push_str(other);
        }
        text
    }

    /// The rule with what puts it in force.
    fn sentence(&self) -> String {
        if self.gate.is_empty() { self.rule.to_owned() } else { format!("If {}: {}", self.gate, self.rule) }
    }
}

impl From<&CheckInfo> for Check {
    fn from(info: &CheckInfo) -> Self {
        let (phase, outcome) = match info.phase {
            Phase::Basic => ("basic", info.failure.outcome.to_string()),
            Phase::ControlsAndHost => ("controls and host state", info.failure.outcome.to_string()),
            Phase::GuestState => ("guest state", info.failure.outcome.to_string()),
            Phase::MsrLoading => ("MSR loading", "EntryFailed(34, n)".to_owned()),
        };
        Self {
            id: info.id,
            section: info.sdm,
            title: info.title,
            rule: info.rule,
            gate: info.gate,
            phase,
            fields: names(info.fields),
            outcome,
            alternatives: info.failure.or.iter().map(ToString::to_string).collect(),
            optional: info.failure.optional,
        }
    }
}

impl From<&NotACheck> for NotCheck {
    fn from(rule: &NotACheck) -> Self {
        Self {
            id: rule.id,
            section: rule.sdm,
            title: rule.title,
            rule: rule.rule,
            kind: match rule.kind {
                NotACheckKind::AnyValue => "any value is valid",
                NotACheckKind::Modifier => "qualifies other checks",
                NotACheckKind::Event => "depends on an event",
            },
            fields: names(rule.fields),
        }
    }
}

fn names(fields: &[FieldId]) -> Vec<&'static str> {
    fields.iter().map(|field| field.info().name).collect()
}

/// Names as code.
fn code_list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// `guest_cr0 (0x6800), guest_cr4 (0x6804)`.
fn with_encodings(fields: &[&str]) -> String {
    let with_encoding = |name: &&str| match FieldId::by_name(name) {
        Some(field) => format!("{name} ({:?})", field.info().encoding),
        None => (*name).to_owned(),
    };
    fields.iter().map(with_encoding).collect::<Vec<_>>().join(", ")
}

fn unknown(id: &str) -> String {
    let ids = CheckId::all().map(|check| check.info().id).chain(NOT_CHECKS.iter().map(|rule| rule.id));
    let near = did_you_mean(id, ids);
    let expected = if near.is_empty() { ": `vmcs checks` lists them" } else { &near };
    format!("unknown check {id:?}{expected}")
}
