//! Reading VBox.log: the number of the rule that VirtualBox found violated, the names that its nested VMX gives to causes, and
//! the VMCS of the nested hypervisor that it shows after a failure.

mod causes;
mod guest;
mod nested;

use std::collections::BTreeSet;

use causes::{Cause, causes, diagnosis};

use super::contents::{Dump, Reported};
use super::number::Printed;
use crate::log::Line;

/// In the lines that name a cause, and in those that begin the parts of a VMCS, stands one of these.
pub(super) const MARKERS: &[&str] = &[
    "HM error",
    "VERR_VMX_",
    "VERR_HM_",
    "enmDiag",
    "{cpumguest,",
    "VMCS cache:",
    "Control:",
    "Guest state:",
    "Host state:",
    "Read-only data fields:",
];

/// Most causes that are told of one log.
const MOST: usize = 16;

/// What a VBox.log tells of entries that failed.
pub(super) fn find(lines: &[Line]) -> Vec<Dump> {
    let mut dumps: Vec<_> = host(lines).into_iter().collect();
    let mut seen = BTreeSet::new();
    let mut diagnosed: Vec<_> = lines.iter().filter_map(diagnosis).filter(|(name, _)| seen.insert(*name)).collect();
    diagnosed.truncate(MOST);
    let shown = nested::find(lines);
    let shown_name = shown.as_ref().and_then(|shown| shown.1);
    for (name, mut dump) in diagnosed {
        if shown_name == Some(name) {
            continue;
        }
        dump.notes.push("the VMCS of this entry is not shown".to_owned());
        dumps.push(dump);
    }
    if let Some((mut dump, name)) = shown {
        let told = lines.iter().filter_map(diagnosis).filter(|(other, _)| Some(*other) == name);
        dump.reported = told.filter_map(|(_, told)| told.reported).next_back();
        if let Some(name) = name {
            dump.named =
                causes().find(|cause| cause.kind == "VDIAG" && cause.name == name).map_or_else(Vec::new, Cause::named);
        }
        dumps.push(dump);
    }
    dumps
}

/// What the log tells of an entry of VirtualBox' own, which the processor refused.
fn host(lines: &[Line]) -> Option<Dump> {
    let says = |words: &str| lines.iter().find(|line| line.text.contains(words));
    let error = lines.iter().find_map(|line| hm_error(line).map(|error| (error, line.number)));
    let kind = match error {
        // The numbers of other kinds are small, and mean something only beside the status that goes with them.
        Some((500.., _)) => "IGS",
        Some((300.., _)) if says("VERR_VMX_VMCS_FIELD_CACHE_INVALID").is_some() => "VCI",
        Some(_) if says("VERR_HM_UNSUPPORTED_CPU_FEATURE_COMBO").is_some() => "UFC",
        _ => "",
    };
    let cause = causes().find(|cause| cause.kind == kind && cause.number == error.map(|(error, _)| error));
    let instruction_error = lines.iter().find_map(|line| number_behind(line, "Instruction error"));
    let (reported, line) = if let Some(line) = says("VERR_VMX_INVALID_GUEST_STATE") {
        (Reported::hardware_error(0x8000_0021, None), line.number)
    } else if let Some(line) = says("VERR_VMX_INVALID_HOST_STATE") {
        (Reported::hardware_error(8, None), line.number)
    } else if let Some(line) = says("VERR_VMX_UNABLE_TO_START_VM") {
        let error = instruction_error.filter(|error| *error != 0);
        (error.and_then(|error| Reported::hardware_error(error, None)), line.number)
    } else {
        (None, error.filter(|_| cause.is_some())?.1)
    };
    let mut dump = Dump { line: error.map_or(line, |(_, line)| line), reported, ..Dump::new("VirtualBox") };
    if let Some(cause) = cause {
        dump.named = cause.named();
        if kind == "IGS" {
            dump.note(
                "VirtualBox searches for the cause after the processor refused, in an order of its own and mostly in its copy of \
                 the registers: it need not be what the processor found",
            );
        } else {
            dump.note("VirtualBox noticed this itself, before or instead of the processor");
        }
    }
    dump.note("VBox.log does not show the VMCS of this entry");
    guest::fill(lines, &mut dump);
    Some(dump)
}

/// The number of the violated rule.
fn hm_error(line: &Line) -> Option<u64> {
    number_behind(line, "HM error")
}

/// The number behind some words, which may be cut off where the log ends.
fn number_behind(line: &Line, words: &str) -> Option<u64> {
    let (_, rest) = line.text.split_once(words)?;
    let printed = Printed::read(rest.trim_start_matches([' ', '\t', '=', ':']))?;
    if line.cut && printed.rest.is_empty() { None } else { printed.value() }
}

#[cfg(test)]
mod tests {
    use super::causes::CAUSES;
    use super::*;
    use crate::dump::test_support::every_cut_is_no_worse;
    use crate::log;

    fn read(text: &str) -> Vec<Dump> {
        find(&log::lines(text))
    }

    fn told(dump: &Dump) -> (String, Vec<String>) {
        let reported = dump.reported.map_or(String::new(), |reported| reported.to_string());
        (reported, dump.named.iter().filter_map(|named| named.check).map(|check| check.to_string()).collect())
    }

    #[test]
    fn every_cause_names_checks_that_exist() {
        for cause in causes() {
            let named: Vec<_> = cause.checks.split(',').filter(|id| *id != "-").collect();
            assert_eq!(cause.checks().count(), named.len(), "{}: {named:?}", cause.name);
            assert!(!cause.rule.is_empty(), "{}", cause.name);
        }
        assert_eq!(causes().count(), CAUSES.lines().filter(|line| !line.starts_with('#')).count());
    }

    #[test]
    fn the_number_names_a_rule() {
        let text = "00:00:05.485406 HM: VERR_VMX_INVALID_GUEST_STATE:\n00:00:05.485407 HM: CPU[0] HM error = 0x23a\n\
                    00:00:05.485408   HM error           = 0x23a (570)\n\
                    00:00:05.485409   rcLastExitToR3     = VERR_VMX_INVALID_GUEST_STATE\n";
        let dumps = read(text);
        assert_eq!(
            dumps.iter().map(told).collect::<Vec<_>>(),
            [("EntryFailed(33, 0)".to_owned(), vec!["guest.seg.v86.limit".to_owned()])]
        );
        assert!(dumps[0].named[0].words.contains("V86_GS_LIMIT_INVALID"), "{:?}", dumps[0].named);
        every_cut_is_no_worse(text);
    }

    #[test]
    fn other_ends_are_told() {
        let text = "00:00:05.1 HM: VERR_VMX_UNABLE_TO_START_VM:\n00:00:05.2 HM: CPU[0] Guest VMCS active\n\
                    00:00:05.3 HM: CPU[0] Instruction error    0x7\n00:00:05.4 HM: CPU[0] Exit reason          0x0\n";
        assert_eq!(told(&read(text)[0]).0, "VMfailValid(7)");
        every_cut_is_no_worse(text);
        every_cut_is_no_worse(&text.replace("0x7", "0x1a"));
        let text = "!!         VCPU0: Guru Meditation -4006 (VERR_VMX_INVALID_HOST_STATE)\n";
        assert_eq!(told(&read(text)[0]).0, "VMfailValid(8)");
        let text = "HM: CPU[0] HM error                0x9 (9)\nrc=VERR_HM_UNSUPPORTED_CPU_FEATURE_COMBO\n";
        assert_eq!(told(&read(text)[0]).1, ["ctl.proc2.reserved-bits"]);
        // The number alone could mean anything.
        assert!(read("HM: CPU[0] HM error                0x9 (9)\n").is_empty());
        assert!(read("  HM error           = 0x0 (0)\n").is_empty());
    }

    #[test]
    fn nested_vmx_names_its_causes() {
        for (line, reported, check) in [
            (
                "vmlaunch: VM-entry failed! enmDiag=141 (GuestCr0Fixed0) -> VM-exit",
                "EntryFailed(33, 0)",
                "guest.cr0.fixed0",
            ),
            (
                "vmresume: VM-entry failed! rc=VERR_X enmDiag=121 (Cr3TargetCount) -> VMFail",
                "VMfailValid(7)",
                "ctl.cr3-target-count",
            ),
            ("vmlaunch: VM-entry failed! enmDiag=268 (HostCr3) -> VMFail", "VMfailValid(8)", "host.cr3.reserved"),
            ("vmlaunch: VM-entry failed! enmDiag=290 (MsrLoad) -> VM-exit", "EntryFailed(34, 0)", "msrload.wrmsr-gp"),
            (
                "vmlaunch: VM-entry failed! enmDiag=265 (VmcsLinkPtrShadow) -> VM-exit",
                "EntryFailed(33, 4)",
                "guest.link.shadow-bit",
            ),
        ] {
            let text = format!("00:00:09.000000 {line}\n").repeat(3);
            assert_eq!(
                read(&text).iter().map(told).collect::<Vec<_>>(),
                [(reported.to_owned(), vec![check.to_owned()])]
            );
            every_cut_is_no_worse(&text);
        }
    }
}
