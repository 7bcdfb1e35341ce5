//! Reading a line that only says how an entry ended: an error number, as the programs print it that ran the guest.

use vmcs_model::Outcome;

use super::contents::{Dump, Reported};
use super::number::Printed;
use crate::log::Line;

/// How a program prints the number, and what it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Number {
    /// KVM's `hardware_entry_failure_reason`: hexadecimal with 0x, else decimal.
    Kvm,
    /// The same, always with 0x.
    Kvm0x,
    /// The same, hexadecimal without 0x.
    KvmHexadecimal,
    /// A basic exit reason.
    Reason,
    /// A VM-instruction error.
    Error,
    /// The exit reason of a failed entry, hexadecimal; an exit reason without bit 31 is none.
    Failed,
    /// None: that an entry failed is all that is printed.
    Absent,
}

/// Who prints a number, and the text before it. Of two that fit a line the first counts.
const LINES: [(&str, &str, Number); 23] = [
    ("QEMU", "KVM: entry failed, hardware error", Number::Kvm0x),
    ("QEMU", "kvm: vm entry failed with error", Number::Kvm0x),
    ("QEMU", "kvm: unhandled exit", Number::KvmHexadecimal),
    ("Firecracker", "Received KVM_EXIT_FAIL_ENTRY signal:", Number::Kvm),
    ("Firecracker", "Received KVM_EXIT_FAIL_ENTRY signal", Number::Absent),
    ("Cloud Hypervisor", "Unexpected exit reason on vcpu run: FailEntry(", Number::Kvm),
    ("kvm-ioctls", "FailEntry(", Number::Kvm),
    ("crosvm", "vcpu hw run failure:", Number::Kvm0x),
    ("openvmm", "VP entry failed hardware_entry_failure_reason", Number::Kvm),
    ("uhyve", "VcpuExitFailEntry { hardware_entry_failure_reason", Number::Kvm),
    ("dosemu2", "ERROR: KVM_EXIT_FAIL_ENTRY: hardware_entry_failure_reason", Number::Kvm),
    ("KVM", "hardware_entry_failure_reason", Number::Kvm),
    ("kontain", "km: KVM_EXIT_FAIL_ENTRY", Number::Absent),
    ("KVM", "unexpected kvm exit reason 9", Number::Absent),
    ("ACRN", "vmentry fail reason=", Number::KvmHexadecimal),
    ("ACRN", "vmexit fail err_inst=", Number::Error),
    ("Jailhouse", "vmlaunch failed, error", Number::Error),
    ("Jailhouse", "vmresume failed, error", Number::Error),
    ("Jailhouse", "VM-Entry failure, reason", Number::Reason),
    ("HyperDbg", "unable to execute VMLAUNCH, status :", Number::Error),
    ("barevisor", "VmFailValid with", Number::Error),
    ("WHPX", "WHPX: Unexpected VP exit code 5", Number::Absent),
    ("Hypervisor.framework", "ret = HV_ERROR (0xfae94001", Number::Absent),
];

/// In every line that tells an end of an entry stands one of these.
pub(super) const MARKERS: &[&str] = &[
    "KVM: entry failed, hardware error",
    "vm entry failed with error",
    "kvm: unhandled exit",
    "KVM_EXIT_FAIL_ENTRY",
    "FailEntry",
    "vcpu hw run failure:",
    "hardware_entry_failure_reason",
    "unexpected kvm exit reason 9",
    "vmentry fail reason=",
    "vmexit fail err_inst=",
    "vmlaunch failed",
    "vmresume failed",
    "VMLAUNCH failed",
    "VMRESUME failed",
    "hardware error 0x",
    "VM-Entry failure, reason",
    "unable to execute VMLAUNCH",
    "VmFail",
    "WHPX: Unexpected VP exit code",
    "HV_ERROR",
    "nstruction error",
    "nstruction_error",
    "INSTRUCTION_ERROR",
    "80000021",
    "80000022",
    "80000029",
    "2147483681",
    "2147483682",
    "2147483689",
];

/// Most ends of entries that are told of one log.
const MOST: usize = 64;

/// What is noted of a line without a number.
const NO_REASON: &str = "does not print the reason here";

/// The format of a text that is a number and nothing else.
const ALONE: &str = "number";

/// The format of a line that names a VM-instruction error or an exit reason, but not who printed it.
const UNNAMED: &str = "error line";

/// The ends of entries that a log tells without a dump. Each is told once, however often it was printed.
pub(super) fn find(lines: &[Line]) -> Vec<Dump> {
    if let Some(dump) = alone(lines) {
        return vec![dump];
    }
    let mut dumps: Vec<Dump> = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let Some(dump) = told(line, &lines[i..]) else { continue };
        let again = dumps.iter().any(|old| old.reported == dump.reported || dump.reported.is_none());
        if !again && dumps.len() < MOST {
            dumps.retain(|old| old.reported.is_some());
            dumps.push(dump);
        }
    }
    dumps
}

/// As [`find`], but without a line that may be a field's in a list.
pub(super) fn find_beside_a_list(lines: &[Line]) -> Option<Reported> {
    find_beside(lines, |_| true)
}

/// As [`find`], but without a line that may be a field's, where that number of a line may be one in a list.
pub(super) fn find_beside(lines: &[Line], listed: impl Fn(usize) -> bool) -> Option<Reported> {
    let mut beside = find(lines).into_iter().filter(|dump| dump.format != UNNAMED || !listed(dump.line));
    beside.find_map(|dump| dump.reported)
}

/// Whether a line says only that an entry failed.
pub(super) fn is_failure_without_number(dump: &Dump) -> bool {
    dump.reported.is_none() && dump.notes.iter().any(|note| note.ends_with(NO_REASON))
}

/// The dump of a text that is nothing but a number, or one behind words that elsewhere are of other things.
fn alone(lines: &[Line]) -> Option<Dump> {
    let mut texts = lines.iter().filter(|line| !line.text.is_empty());
    let (line, None) = (texts.next()?, texts.next()) else { return None };
    let lower = line.text.to_ascii_lowercase();
    for (before, number) in
        [("hardware error", Number::Kvm0x), ("exit reason", Number::Reason), ("vm exit reason", Number::Reason)]
    {
        let told = lower.strip_prefix(before).and_then(|rest| end(number, rest, line.cut, lines));
        if let Some(reported) = told {
            return Some(Dump { line: line.number, reported: Some(reported), ..Dump::new(UNNAMED) });
        }
    }
    let printed = Printed::read(&line.text).filter(|printed| printed.rest.is_empty())?;
    // A short number may be the end of anything.
    if !is_long(&printed) {
        return None;
    }
    let number = match (printed.decimal(), printed.hex()) {
        // 80000021 was copied without its 0x.
        (Some(number), Some(hexadecimal)) if number < 1 << 31 && hexadecimal >> 31 == 1 => hexadecimal,
        (Some(number), _) => number,
        (None, number) => number?,
    };
    let failed = number >> 31 == 1 && matches!(number & 0xFFFF, 33 | 34 | 41);
    let svm = matches!(number, 0xFFFF_FFFF | u64::MAX) && (printed.marked || !printed.hexadecimal);
    let reported = Reported::hardware_error(number, None).filter(|_| failed || svm)?;
    Some(Dump { line: line.number, reported: Some(reported), ..Dump::new(ALONE) })
}

/// How the entry ended that a line tells of; the lines from it on may tell the exit qualification.
fn told(line: &Line, from: &[Line]) -> Option<Dump> {
    let text = line.text.as_str();
    for (format, before, number) in LINES {
        let Some(rest) = behind(text, before) else { continue };
        let mut dump = Dump { line: line.number, ..Dump::new(format) };
        match number {
            Number::Absent => dump.note(format!("{format} {NO_REASON}")),
            _ => match end(number, rest, line.cut, from) {
                Some(reported) => dump.reported = Some(reported),
                None => continue,
            },
        }
        return Some(dump);
    }
    let lower = text.to_ascii_lowercase();
    for (before, number) in [
        ("vm-instruction error", Number::Error),
        ("vm instruction error", Number::Error),
        ("vm_instruction_error", Number::Error),
        ("vmlaunch failed with error", Number::Error),
        ("vmresume failed with error", Number::Error),
        ("hardware error", Number::Failed),
        ("exit reason", Number::Failed),
        ("exit_reason", Number::Failed),
        ("[hw", Number::Failed),
    ] {
        // Of the same length as the text, as only ASCII letters differ.
        let Some(at) = lower.find(before) else { continue };
        if let Some(reported) = end(number, &text[at + before.len()..], line.cut, from) {
            return Some(Dump { line: line.number, reported: Some(reported), ..Dump::new(UNNAMED) });
        }
    }
    if text.contains("VmFailInvalid") {
        let reported = Some(Reported::Outcome { outcome: Outcome::FailInvalid, qualified: true });
        return Some(Dump { line: line.number, reported, ..Dump::new("barevisor") });
    }
    None
}

/// Whether a number is whole for sure, as it is as long as an exit reason with bit 31: 0x8 may be the begin of 0x80000021.
fn is_long(printed: &Printed<'_>) -> bool {
    let hexadecimal = matches!(printed.len(), 8 | 16) && printed.hex().is_some_and(|value| value >> 31 & 1 == 1);
    hexadecimal || printed.decimal().is_some_and(|value| value >> 31 != 0)
}

/// What follows the text `before`.
fn behind<'t>(text: &'t str, before: &str) -> Option<&'t str> {
    let at = text.find(before)?;
    Some(&text[at + before.len()..])
}

/// The end of an entry of which the number is the first in `rest`.
fn end(number: Number, rest: &str, cut: bool, from: &[Line]) -> Option<Reported> {
    let digits = rest.trim_start_matches([' ', '\t', ':', '=', '(']);
    let printed = Printed::read(digits)?;
    if cut && printed.rest.is_empty() && !is_long(&printed) {
        return None;
    }
    match number {
        Number::Kvm => Reported::hardware_error(printed.value()?, None),
        Number::Kvm0x => Reported::hardware_error(printed.hex().filter(|_| printed.marked)?, None),
        Number::KvmHexadecimal => Reported::hardware_error(printed.hex()?, None),
        Number::Error => {
            let error = printed.value().filter(|error| (1..=28).contains(error))?;
            Reported::hardware_error(error, None)
        }
        Number::Reason => {
            let reason = printed.value().filter(|reason| matches!(reason, 33 | 34 | 41))?;
            Reported::hardware_error(reason | 1 << 31, qualification(&from[1..]))
        }
        Number::Failed => {
            let reason = printed.hex().filter(|reason| reason >> 31 == 1).or_else(|| printed.decimal())?;
            let failed = reason >> 31 == 1 && matches!(reason & 0xFFFF, 33 | 34 | 41);
            failed.then(|| Reported::hardware_error(reason, qualification(from))).flatten()
        }
        Number::Absent => None,
    }
}

/// The exit qualification in one of the next lines, which is hexadecimal.
fn qualification(lines: &[Line]) -> Option<u64> {
    lines.iter().take(3).find_map(|line| {
        let (_, rest) = line.text.split_once("qualification")?;
        let printed = Printed::read(rest.trim_start_matches([' ', '\t', ':', '=']))?;
        if line.cut && printed.rest.is_empty() { None } else { printed.hex() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::test_support::every_cut_is_no_worse;
    use crate::log;

    fn read(text: &str) -> Vec<(&'static str, String)> {
        let dumps = find(&log::lines(text)).into_iter();
        dumps.map(|dump| (dump.format, dump.reported.map_or(String::new(), |reported| reported.to_string()))).collect()
    }

    #[test]
    fn every_program_is_understood() {
        for (text, format, reported) in [
            ("KVM: entry failed, hardware error 0x80000021\n", "QEMU", "EntryFailed(33, 0)"),
            ("Jan 01 00:00:00 pve QEMU[1234]: KVM: entry failed, hardware error 0x7\n", "QEMU", "VMfailValid(7)"),
            ("KVM: entry failed, hardware error 0x0\n", "QEMU", "VMfail without a VM-instruction error"),
            ("KVM: entry failed, hardware error 0xffffffff\n", "QEMU", "VMEXIT_INVALID of an AMD processor"),
            ("kvm: unhandled exit 80000021\nkvm_run returned -22\n", "QEMU", "EntryFailed(33, 0)"),
            ("kvm: vm entry failed with error 0x80000021\n", "QEMU", "EntryFailed(33, 0)"),
            ("Received KVM_EXIT_FAIL_ENTRY signal: 2147483681 on cpu 3\n", "Firecracker", "EntryFailed(33, 0)"),
            ("Received KVM_EXIT_FAIL_ENTRY signal\n", "Firecracker", ""),
            ("FailEntry(2147483681, 3)\n", "kvm-ioctls", "EntryFailed(33, 0)"),
            ("panicked at: not implemented: FailEntry(0, 2)\n", "kvm-ioctls", "VMfail without a VM-instruction error"),
            (
                "VCPU generated error: Unexpected exit reason on vcpu run: FailEntry(2147483682, 0)\n",
                "Cloud Hypervisor",
                "EntryFailed(34, 0)",
            ),
            ("FailEntry { hardware_entry_failure_reason: 0x80000022, cpu: 0 }\n", "KVM", "EntryFailed(34, 0)"),
            ("vcpu hw run failure: 0x80000021\n", "crosvm", "EntryFailed(33, 0)"),
            ("VP entry failed hardware_entry_failure_reason=2147483681\n", "openvmm", "EntryFailed(33, 0)"),
            ("VcpuExitFailEntry { hardware_entry_failure_reason: 8, cpu: 2 }\n", "uhyve", "VMfailValid(8)"),
            (
                "ERROR: KVM_EXIT_FAIL_ENTRY: hardware_entry_failure_reason = 0x80000021\n",
                "dosemu2",
                "EntryFailed(33, 0)",
            ),
            ("km: KVM_EXIT_FAIL_ENTRY\n", "kontain", ""),
            ("unexpected kvm exit reason 9\n", "KVM", ""),
            ("vmentry fail reason=80000021\n", "ACRN", "EntryFailed(33, 0)"),
            ("vmexit fail err_inst=7\n", "ACRN", "VMfailValid(7)"),
            ("FATAL: vmlaunch failed, error 7\n", "Jailhouse", "VMfailValid(7)"),
            ("FATAL: VM-Entry failure, reason 33\nqualification 4\n", "Jailhouse", "EntryFailed(33, 4)"),
            ("Err, unable to execute VMLAUNCH, status : 0x7\n", "HyperDbg", "VMfailValid(7)"),
            ("VmFailValid with 7\n", "barevisor", "VMfailValid(7)"),
            ("VmFailInvalid\n", "barevisor", "VMfailInvalid"),
            ("VM_INSTRUCTION_ERROR = 7\n", "error line", "VMfailValid(7)"),
            ("failed with VM-instruction error 7\n", "error line", "VMfailValid(7)"),
            ("hardware error 0x80000021\n", "error line", "EntryFailed(33, 0)"),
            ("I get hardware error 0x80000021 when I start it\n", "error line", "EntryFailed(33, 0)"),
            ("hardware error 0x7\n", "error line", "VMfailValid(7)"),
            ("VMLAUNCH failed with error 7\n", "error line", "VMfailValid(7)"),
            ("VM exit reason 0x80000021, qualification 0x2\n", "error line", "EntryFailed(33, 2)"),
            ("NVMM: Unexpected VM exit code 0xffffffffffffffff [hw=0x80000021]\n", "error line", "EntryFailed(33, 0)"),
            ("WHPX: Unexpected VP exit code 5\n", "WHPX", ""),
            ("Error: ret = HV_ERROR (0xfae94001, at ../accel/hvf/hvf-all.c:123)\n", "Hypervisor.framework", ""),
        ] {
            assert_eq!(read(text), [(format, reported.to_owned())], "{text}");
            assert!(MARKERS.iter().any(|marker| text.contains(marker)), "{text}");
            every_cut_is_no_worse(text);
        }
    }

    #[test]
    fn a_number_alone_is_understood() {
        for (text, reported) in [
            ("0x80000021", "EntryFailed(33, 0)"),
            ("80000021\n", "EntryFailed(33, 0)"),
            ("2147483681\n", "EntryFailed(33, 0)"),
            ("\n  0x80000022 \n", "EntryFailed(34, 0)"),
            ("4294967295", "VMEXIT_INVALID of an AMD processor"),
            ("18446744073709551615", "VMEXIT_INVALID of an AMD processor"),
        ] {
            assert_eq!(read(text), [("number", reported.to_owned())], "{text}");
        }
        for text in ["exit reason 33\n", "VM exit reason: 33\n"] {
            assert_eq!(read(text), [("error line", "EntryFailed(33, 0)".to_owned())]);
        }
        for text in [
            "",
            "exit reason 30\n",
            "hardware error 7\n",
            "0",
            "7",
            "0x7\n",
            "f",
            "33\n",
            "ffffffff\n",
            "deadbeef\n",
            "0x800000ff\n",
            "100",
            "0x8000",
            "7 8",
            "7\n8\n",
            "seven",
        ] {
            assert_eq!(read(text), [], "{text}");
        }
    }

    #[test]
    fn each_end_is_told_once() {
        let text = "Received KVM_EXIT_FAIL_ENTRY signal\nReceived KVM_EXIT_FAIL_ENTRY signal: 2147483681 on cpu 3\n\
                    FailEntry(2147483681, 3)\nFailEntry(7, 3)\n";
        let expected = [("Firecracker", "EntryFailed(33, 0)"), ("kvm-ioctls", "VMfailValid(7)")];
        assert_eq!(read(text), expected.map(|(format, reported)| (format, reported.to_owned())));
        assert_eq!(read("exit reason 33\nexit reason: 0x1e\nvmread failed\n"), []);
    }
}
