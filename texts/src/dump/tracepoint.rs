//! Reading traces of KVM: the tracepoint kvm_nested_vmenter_failed, which prints the C expression of the check that a guest
//! hypervisor's VM entry failed, and kvm_exit of an entry that failed.

use std::collections::BTreeSet;

use vmcs_model::Outcome;
use vmcs_model::checks::CheckId;
use vmcs_model::formats::exit_reason;

use super::contents::{Dump, Named, Reported};
use super::number::Printed;
use crate::log::Line;

/// In every line that the traces need stands one of these.
pub(super) const MARKERS: &[&str] = &[TRACEPOINT, "INVALID_STATE", "MSR_LOAD_FAIL", "MCE_DURING_VMENTRY"];

const TRACEPOINT: &str = "kvm_nested_vmenter_failed:";

/// Expressions, how the entry ends that fails them, and our checks.
const EXPRESSIONS: &str = include_str!("tracepoint/expressions.tsv");

/// What KVM prints behind an expression if the processor refused the entry, and the VM-instruction error.
const ERRORS: [(&str, u32); 6] = [
    ("VMLAUNCH_NONCLEAR_VMCS", 4),
    ("VMRESUME_NONLAUNCHED_VMCS", 5),
    ("VMRESUME_AFTER_VMXOFF", 6),
    ("VMENTRY_INVALID_CONTROL_FIELD", 7),
    ("VMENTRY_INVALID_HOST_STATE_FIELD", 8),
    ("VMENTRY_EVENTS_BLOCKED_BY_MOV_SS", 26),
];

/// KVM's names of exit reasons of failed entries.
const REASONS: [(&str, u16); 3] = [
    ("INVALID_STATE", exit_reason::INVALID_GUEST_STATE),
    ("MSR_LOAD_FAIL", exit_reason::MSR_LOADING),
    ("MCE_DURING_VMENTRY", exit_reason::MACHINE_CHECK),
];

/// An expression that can mean more checks than this names none.
const MOST_CHECKS: usize = 6;

/// Most failures that are told of one trace.
const MOST: usize = 16;

/// An expression of the table.
#[derive(Clone, Copy)]
struct Expression {
    text: &'static str,
    outcome: &'static str,
    checks: &'static str,
}

fn expressions() -> impl Iterator<Item = Expression> {
    EXPRESSIONS.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut columns = line.split('\t');
        Some(Expression { text: columns.next()?, outcome: columns.next()?, checks: columns.next()? })
    })
}

impl Expression {
    fn checks(self) -> impl Iterator<Item = CheckId> {
        self.checks.split(',').filter_map(CheckId::by_id)
    }

    fn reported(self) -> Option<Reported> {
        let (reason, qualification) = match self.outcome {
            "7" | "8" | "26" => (self.outcome.parse().ok()?, None),
            "33" => (0x8000_0021, None),
            "33 (4)" => (0x8000_0021, Some(4)),
            "34" => (0x8000_0022, None),
            "VMfailInvalid" => {
                return Some(Reported::Outcome { outcome: Outcome::FailInvalid, qualified: true });
            }
            "AMD" => return Some(Reported::Svm),
            _ => return None,
        };
        Reported::hardware_error(reason, qualification)
    }
}

/// What a trace tells of entries that failed.
pub(super) fn find(lines: &[Line]) -> Vec<Dump> {
    let table: Vec<_> = expressions().collect();
    let mut dumps: Vec<Dump> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut before: Option<Expression> = None;
    for line in lines {
        if dumps.len() == MOST {
            break;
        }
        let Some(message) = message(line, &table) else {
            dumps.extend(failed_exit(line).filter(|dump| !dumps.iter().any(|old| old.reported == dump.reported)));
            continue;
        };
        let (expression, error) = match matching(&table, message, line.cut) {
            Ok(found) => found,
            Err(true) => {
                if seen.insert(message) {
                    dumps.push(unknown(line, message));
                }
                continue;
            }
            Err(false) => continue,
        };
        // The check around a check prints a second line, which says less.
        let around = before.is_some_and(|inner| {
            inner.text != expression.text && inner.checks().all(|check| expression.checks().any(|other| other == check))
        });
        before = Some(expression);
        if !around && seen.insert(expression.text) {
            dumps.push(failure(line, expression, error));
        }
    }
    dumps
}

/// The message of a tracepoint: of the kernel's own output, or of a script that prints nothing else.
fn message<'t>(line: &'t Line, table: &[Expression]) -> Option<&'t str> {
    let text = line.text.as_str();
    match text.split_once(TRACEPOINT) {
        Some((_, message)) => Some(message.trim()),
        None => {
            let script = text.starts_with(['!', '(', 'v', 'n', 'i', 'h', 'e', 'k', 's']) && text.contains("vmcs12");
            let known = script && table.iter().any(|expression| text.starts_with(expression.text));
            known.then_some(text)
        }
    }
}

/// The expression at the begin of a message, and the VM-instruction error behind it. `Err(true)` if the message is whole and
/// its expression is not known, `Err(false)` if it is cut.
fn matching(table: &[Expression], message: &str, cut: bool) -> Result<(Expression, Option<u32>), bool> {
    let longest = table.iter().filter(|row| message.starts_with(row.text)).max_by_key(|row| row.text.len());
    if cut && table.iter().any(|row| row.text.len() > message.len() && row.text.starts_with(message)) {
        return Err(false);
    }
    let Some(row) = longest else { return Err(!cut) };
    let rest = message[row.text.len()..].trim();
    let error = ERRORS.iter().find(|(name, _)| *name == rest).map(|(_, number)| *number);
    let number = Printed::read(rest).filter(|printed| printed.rest.is_empty()).and_then(|printed| printed.value());
    match (rest, error, number) {
        ("", ..) => Ok((*row, None)),
        (_, Some(error), _) => Ok((*row, Some(error))),
        (_, None, Some(error)) => Ok((*row, u32::try_from(error).ok().filter(|error| *error != 0))),
        (_, None, None) => Err(!cut),
    }
}

fn failure(line: &Line, expression: Expression, error: Option<u32>) -> Dump {
    let mut dump = nested(line);
    dump.reported = expression.reported();
    if let Some(error) = error {
        dump.reported = Reported::hardware_error(error.into(), None);
    }
    let words = format!("KVM's check failed: {}", expression.text);
    let checks: Vec<_> = expression.checks().collect();
    if checks.is_empty() || checks.len() > MOST_CHECKS {
        dump.named.push(Named { check: None, words });
    } else {
        dump.named = checks.into_iter().map(|check| Named { check: Some(check), words: words.clone() }).collect();
    }
    dump
}

/// A message whose expression is not known: KVM's own words are all that can be told, and the error if it names one.
fn unknown(line: &Line, message: &str) -> Dump {
    let mut dump = nested(line);
    let error = ERRORS.iter().find(|(name, _)| message.ends_with(name));
    dump.reported = error.and_then(|(_, error)| Reported::hardware_error(u64::from(*error), None));
    if message.contains("hardware") && message.contains("VM-instruction error") {
        dump.note("KVM's own checks passed, and the processor refused the entry");
    } else {
        dump.named.push(Named { check: None, words: format!("KVM's check failed: {message}") });
    }
    dump
}

fn nested(line: &Line) -> Dump {
    let mut dump = Dump { line: line.number, ..Dump::new("KVM tracepoint") };
    dump.note(
        "the entry is that of a hypervisor which is itself a guest of KVM; KVM's checks need not be the processor's, and the \
         VMCS is not shown",
    );
    dump
}

/// The trace of a VM exit that says that the entry failed.
fn failed_exit(line: &Line) -> Option<Dump> {
    let (_, text) = line.text.split_once("kvm_exit:")?;
    let (_, reason) = text.split_once("reason ")?;
    let (name, rest) = reason.split_at(reason.find([' ', '|'])?);
    let (_, reason) = REASONS.iter().find(|(known, _)| *known == name)?;
    // Newer kernels print `info1 0x…`, older ones `info … …`, both in hexadecimal.
    let info = ["info1 ", "info "].iter().find_map(|label| rest.split_once(label)).map(|(_, info)| info);
    let whole = |printed: &Printed<'_>| printed.fills(64) || !printed.marked && !printed.rest.is_empty();
    let qualification = info.and_then(Printed::read).filter(whole).and_then(|printed| printed.hex());
    let reported = Reported::hardware_error(u64::from(*reason) | 1 << 31, qualification);
    Some(Dump { line: line.number, reported, ..Dump::new("KVM trace") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::test_support::every_cut_is_no_worse;
    use crate::log;

    fn read(text: &str) -> Vec<(String, Vec<String>)> {
        let dumps = find(&log::lines(text));
        let told = dumps.iter().map(|dump| {
            let reported = dump.reported.map_or(String::new(), |reported| reported.to_string());
            (reported, dump.named.iter().filter_map(|named| named.check).map(|check| check.to_string()).collect())
        });
        told.collect()
    }

    fn told(reported: &str, checks: &[&str]) -> (String, Vec<String>) {
        (reported.to_owned(), checks.iter().map(|check| (*check).to_owned()).collect())
    }

    #[test]
    fn every_expression_names_checks_that_exist() {
        let mut seen = BTreeSet::new();
        for expression in expressions() {
            let named: Vec<_> = expression.checks.split(',').filter(|id| *id != "-").collect();
            assert_eq!(expression.checks().count(), named.len(), "{}: {named:?}", expression.text);
            assert!(seen.insert(expression.text), "{}", expression.text);
            // The checks can end the entry in the way that KVM ends it.
            if let Some(reported) = expression.reported().filter(|_| !named.is_empty()) {
                let failure = |check: CheckId| check.info().failure;
                let ends = |check| [Some(failure(check).outcome), failure(check).or];
                let fits = |check| ends(check).into_iter().flatten().any(|outcome| reported.is(outcome));
                assert!(expression.checks().any(fits), "{}: {reported}", expression.text);
            }
        }
    }

    #[test]
    fn the_tracepoint_names_a_check() {
        for line in [
            "       CPU 0/KVM-1234    [003] ...1.  1234.567890: kvm_nested_vmenter_failed: vmcs12->host_cs_selector == 0",
            "       CPU 0/KVM  1234 [003]  1234.567890: kvm:kvm_nested_vmenter_failed: vmcs12->host_cs_selector == 0",
            "vmcs12->host_cs_selector == 0 0",
            "vmcs12->host_cs_selector == 0",
        ] {
            assert_eq!(read(&format!("{line}\n")), [told("VMfailValid(8)", &["host.sel.cs-nonzero"])], "{line}");
            every_cut_is_no_worse(&format!("{line}\n"));
        }
        // The words of a task's name may be several, and an expression need not name the VMCS.
        for prefix in [
            "       CPU 0/KVM-1234    [003] ...1.  1234.567890: ",
            "       CPU 0/KVM-1234  [003]  1234.567890: ",
            "       CPU 0/KVM  1234 [003]  1234.567890: kvm:",
        ] {
            let line = format!("{prefix}{TRACEPOINT} has_error_code != should_have_error_code\n");
            assert_eq!(read(&line).len(), 1, "{line}");
            assert_eq!(read(&line)[0].0, "VMfailValid(7)", "{line}");
            every_cut_is_no_worse(&line);
        }
        let line = |message: &str| format!("x: {TRACEPOINT} {message}\n");
        assert_eq!(read(&line("e->reserved != 0")), [told("EntryFailed(34, 0)", &["msrload.reserved-63-32"])]);
        assert_eq!(read(&line("vmcs12->hdr.shadow_vmcs")), [told("VMfailInvalid", &["pre.shadow-vmcs"])]);
        assert_eq!(
            read(&line("hdr.shadow_vmcs != nested_cpu_has_shadow_vmcs(vmcs12)")),
            [told("EntryFailed(33, 4)", &["guest.link.shadow-bit"])]
        );
        assert_eq!(read(&line("!(save->efer & EFER_SVME)")), [told("VMEXIT_INVALID of an AMD processor", &[])]);
        assert_eq!(read(&line("vmcs12->brand_new > 3")), [told("", &[])]);
        let hardware = line("hardware VM-instruction error: VMENTRY_INVALID_HOST_STATE_FIELD");
        assert_eq!(read(&hardware), [told("VMfailValid(8)", &[])]);
        every_cut_is_no_worse(&hardware);
        // More of the expression may have stood there.
        assert_eq!(read(line("has_error_code").trim_end()), []);
    }

    #[test]
    fn the_check_around_a_check_says_less() {
        let text = "a: kvm_nested_vmenter_failed: !(vmx->nested.msrs.ept_caps & VMX_EPT_AD_BIT)\n\
                    a: kvm_nested_vmenter_failed: !nested_vmx_check_eptp(vcpu, vmcs12->ept_pointer)\n";
        assert_eq!(read(&text.repeat(3)), [told("VMfailValid(7)", &["ctl.eptp.ad-supported"])]);
        every_cut_is_no_worse(text);
        let alone = text.lines().nth(1).expect("the second line");
        assert_eq!(read(&format!("{alone}\n"))[0].1.len(), 6);
    }

    #[test]
    fn a_failed_exit_holds_the_qualification() {
        let new = "kvm_exit: vcpu 0 reason INVALID_STATE FAILED_VMENTRY rip 0xfff0 info1 0x0000000000000004 info2 0x0000000000000000\n";
        assert_eq!(read(new), [told("EntryFailed(33, 4)", &[])]);
        every_cut_is_no_worse(new);
        let task = "       CPU 0/KVM-1234    [003] ...1.  1234.567890: ";
        assert_eq!(read(&format!("{task}{new}")), [told("EntryFailed(33, 4)", &[])]);
        assert_eq!(read("kvm_exit: reason MSR_LOAD_FAIL rip 0xfff0 info 2 0\n"), [told("EntryFailed(34, 2)", &[])]);
        assert_eq!(read("kvm_exit: vcpu 0 reason EPT_VIOLATION rip 0xfff0 info1 0x4\n"), []);
    }
}
