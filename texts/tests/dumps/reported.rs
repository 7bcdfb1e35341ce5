//! What logs say of how an entry ended.

use vmcs_model::Outcome;
use vmcs_texts::dump::{self, Dump, MsrLoadEntry, Reported};

use crate::claims::samples;

fn only(log: &str) -> Dump {
    let mut dumps = dump::find(log);
    assert_eq!(dumps.len(), 1, "{log}: {dumps:?}");
    dumps.remove(0)
}

fn failed(reason: u16, qualification: Option<u64>) -> Option<Reported> {
    let outcome = Outcome::EntryFailed { reason, qualification: qualification.unwrap_or(0) };
    Some(Reported::Outcome { outcome, qualified: qualification.is_some() })
}

fn error(number: u32) -> Option<Reported> {
    Some(Reported::Outcome { outcome: Outcome::fail_valid(number), qualified: true })
}

/// Lines that say how an entry ended, without a dump.
#[test]
fn every_printed_reason_is_read() {
    for (log, format, reported) in [
        ("(XEN) d1v0 vmentry failure (reason 0x80000021): Invalid guest state (0)\n", "Xen", failed(33, Some(0))),
        ("(XEN) d1v0 vmentry failure (reason 0x80000021): Invalid guest state (4)\n", "Xen", failed(33, Some(4))),
        ("(XEN) d1v0 vmentry failure (reason 0x80000021):\nInvalid guest state (4)\n", "Xen", failed(33, Some(4))),
        ("> (XEN) d1v0 vmentry failure (reason 0x80000021): Invalid\n> guest state (3)\n", "Xen", failed(33, Some(3))),
        ("(XEN) d1v0 vmentry failure (reason 0x80000021): Invalid guest state (\n", "Xen", failed(33, None)),
        ("(XEN) d1v0 vmentry failure (reason 0x80000022): MSR loading (entry 2)\n", "Xen", failed(34, Some(3))),
        ("Failed vm entry (exit reason 80000021) caused by invalid guest state (4).\n", "Xen", failed(33, Some(4))),
        ("(XEN) d1v0 vmentry failure (reason 0x80000029): MCE\n", "Xen", failed(41, Some(0))),
        ("(XEN) d1v0 vmentry failure (reason 0x80000021): Unknown\n", "Xen", failed(33, None)),
        (
            "(XEN) Failed vm entry (exit reason 0x80000021) caused by invalid guest state (2).\n",
            "Xen",
            failed(33, Some(2)),
        ),
        ("(XEN) Failed vm entry (exit reason 0x80000022) caused by MSR entry 5 loading.\n", "Xen", failed(34, Some(5))),
        (
            "(XEN) Failed vm entry (exit reason 0x80000022) caused by MSR loading (entry 4).\n",
            "Xen",
            failed(34, Some(5)),
        ),
        ("(XEN) Failed vm entry (exit reason 0x80000029) caused by machine check.\n", "Xen", failed(41, Some(0))),
        ("(XEN) d2v0 VMLAUNCH error: 0x7\n", "Xen", error(7)),
        ("(XEN) d2v0 VMRESUME error: 0x8\n", "Xen", error(8)),
        ("(XEN) d2v0 VMRESUME error: 0x1a\n", "Xen", error(26)),
        ("KVM: entry failed, hardware error 0x80000021\n", "QEMU", failed(33, None)),
        ("KVM: entry failed, hardware error 0x80000022\n", "QEMU", failed(34, None)),
        ("Jan 01 00:00:00 pve QEMU[1234]: KVM: entry failed, hardware error 0x7\n", "QEMU", error(7)),
        ("KVM: entry failed, hardware error 0x0\n", "QEMU", Some(Reported::FailWithoutNumber)),
        ("KVM: entry failed, hardware error 0xffffffff\n", "QEMU", Some(Reported::Svm)),
        ("KVM: entry failed, hardware error 0xffffffffffffffff\n", "QEMU", Some(Reported::Svm)),
        ("[1.0] kvm_intel:         reason=80000021 qualification=0000000000000004\n", "KVM", failed(33, Some(4))),
        ("[1.0]         reason=80000022 qualification=00000000000\n", "KVM", failed(34, None)),
        ("haxm_warning: 4402 VM_EXIT_INFO_REASON: 80000021\nhaxm_warning: 6400 Q: 4\n", "HAXM", failed(33, Some(4))),
    ] {
        let dump = only(log);
        assert_eq!((dump.format, dump.reported, dump.line), (format, reported, 1), "{log}");
        assert!(dump.failed());
    }
    for log in [
        "(XEN) d1v0 vmentry failure (reason 0x8000002",
        "(XEN) d1v0 vmentry failure (reason 0x80000021",
        "(XEN) d2v0 VMLAUNCH error: 0x",
        "(XEN) d2v0 VMLAUNCH error: 0x8",
        "KVM: entry failed, hardware error 0x8000002",
        "KVM: entry failed, hardware error 0x8",
        "KVM: entry failed, hardware error 0",
        "KVM: entry failed, hardware error 0xf",
        "KVM: entry failed, hardware error 0x7z\n",
        "systemd: shutting down, reason=crashed\n",
        "[1.0]         reason=00000030 qualification=0000000000000004\n",
    ] {
        assert!(dump::find(log).iter().all(|dump| dump.reported.is_none()), "{log}");
    }
}

/// The entry of the MSR-load area that could not be loaded.
#[test]
fn the_msr_that_was_not_loaded_is_read() {
    let headline = "(XEN) d1v0 vmentry failure (reason 0x80000022): MSR loading (entry 2)\n";
    let entry = Some(MsrLoadEntry { number: 3, index: 0xC000_0103, value: 0x8000_0000_0000_0001 });
    let whole = format!("{headline}(XEN)   msr c0000103 val 8000000000000001 (mbz 0)\n");
    assert_eq!(only(&whole).msr_load.first(), entry.as_ref());
    for (cut, line) in [("val 8000000000000001", "val 80000000"), ("c0000103", "c00001"), ("msr", "Entry out of range")]
    {
        assert_eq!(only(&whole.replace(cut, line)).msr_load, [], "{line}");
    }
    // Followed by a dump, it belongs to that.
    let (_, xen) = samples().into_iter().find(|(name, _)| name == "xen-error7-injection").expect("it is there");
    let dump = only(&xen.replace("(XEN) d2v0 VMLAUNCH error: 0x7\n", &whole));
    assert_eq!((dump.reported, dump.msr_load.first()), (failed(34, Some(3)), entry.as_ref()));
    assert!(dump.known() > 100);
}

/// KVM's list of MSRs that the entry loads.
#[test]
fn the_msr_load_list_is_read() {
    let (_, kvm) = samples().into_iter().find(|(name, _)| name.starts_with("kvm-6.9")).expect("it is there");
    assert_eq!(only(&kvm).msr_load, [MsrLoadEntry { number: 1, index: 0x600, value: 0 }]);
    assert_eq!(only(&kvm.replace("msr=0x00000600", "msr=0x000006")).msr_load, []);
}

/// QEMU's line and KVM's dump of one failure are one dump.
#[test]
fn one_failure_is_answered_once() {
    let (_, kvm) = samples().into_iter().find(|(name, _)| name.starts_with("kvm-smm")).expect("it is there");
    let qemu =
        "KVM: entry failed, hardware error 0x80000021\nEAX=00000000 EBX=00000000\nCR0=00000031 CR2=00000000 CR3=0\n";
    for log in [format!("{qemu}{kvm}"), format!("{kvm}{qemu}")] {
        let dump = only(&log);
        assert_eq!((dump.format, dump.reported), ("KVM", failed(33, Some(0))));
    }
    // The number that KVM does not print.
    let stale = kvm.replace("reason=80000021", "reason=00000030");
    let dump = only(&format!("{stale}KVM: entry failed, hardware error 0x7\n"));
    assert_eq!((dump.format, dump.reported), ("KVM", error(7)));
    // A dump that cannot be that of the failure, and two failures.
    let dumps = dump::find(&format!("{stale}KVM: entry failed, hardware error 0x80000021\n"));
    let [healthy, failed] = &dumps[..] else { panic!("{dumps:?}") };
    assert!(!healthy.failed() && failed.failed() && failed.line > healthy.line);
    assert_eq!(dump::find(&format!("{qemu}{kvm}{qemu}{kvm}")).len(), 2);
    assert_eq!(dump::find(&format!("{qemu}{qemu}")).len(), 2);
}

/// Dumps of several formats in one log, with their lines.
#[test]
fn several_dumps_are_found() {
    let all: String = samples().into_iter().map(|(_, text)| text).collect();
    let dumps = dump::find(&all);
    let formats: Vec<_> = dumps.iter().map(|dump| dump.format).collect();
    assert_eq!(formats, ["HAXM", "KVM", "KVM", "KVM", "Xen", "Xen"]);
    assert!(dumps.windows(2).all(|pair| pair[0].line < pair[1].line));
    let failed: Vec<_> = dumps.iter().map(Dump::failed).collect();
    assert_eq!(failed, [false, false, false, true, false, true]);
}

#[test]
fn headlines_may_stand_in_any_order() {
    for text in [
        "*** Host State ***\n \n*** Guest State ***",
        "*** Control State ***\n*** Guest State ***\n*** Host State ***\n",
    ] {
        assert!(dump::find(text).iter().all(|dump| dump.known() == 0), "{text}");
    }
}
