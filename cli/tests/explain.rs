//! `vmcs explain` from the outside, over dumps out of bug reports.

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{Ran, vmcs, vmcs_with};

/// Processors: one whose IA32_VMX_BASIC\[56\] is 0, one that has every feature that the dumps use.
const BROADWELL: &str = "Broadwell-H";
const SKYLAKE: &str = "Skylake-X/SP server core i9-7900X";

fn dump(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dumps").join(name).to_str().expect("UTF-8").to_owned()
}

fn text(name: &str) -> String {
    fs::read_to_string(dump(name)).expect("the dump is there")
}

fn explain(log: &str, args: &[&str]) -> Ran {
    vmcs_with(&[&["explain", "-"], args].concat(), log)
}

fn ids(answer: &Value, key: &str) -> Vec<String> {
    let checks = answer[key].as_array().expect("a list");
    checks.iter().map(|check| check["id"].as_str().expect("an id").to_owned()).collect()
}

#[track_caller]
fn noted(answer: &Value, words: &str) {
    let notes = answer["notes"].as_array().expect("a list");
    assert!(notes.iter().any(|note| note.as_str().is_some_and(|note| note.contains(words))), "{words}: {notes:?}");
}

#[test]
fn healthy_dumps_violate_nothing() {
    for (name, format, fields) in [
        ("kvm-6.9-healthy-ve-autoload.txt", "KVM", 111),
        ("kvm-healthy-split-continuation.txt", "KVM", 112),
        ("xen-4.11-healthy.txt", "Xen", 108),
        ("haxm-guest-part.txt", "HAXM", 14),
    ] {
        let ran = vmcs(&["explain", &dump(name), "--json"]);
        assert_eq!(ran.status, 0, "{ran:?}");
        let answer = ran.json();
        assert_eq!((&answer["format"], &answer["violated"]), (&json!(format), &json!([])), "{name}");
        assert!(answer["permitted"].as_array().expect("a list").contains(&json!("Entered")), "{name}");
        let ran = vmcs(&["explain", &dump(name)]);
        assert!(ran.out.starts_with(&format!("{format}: {fields} of ")), "{ran:?}");
    }
}

#[test]
fn a_failed_entry_names_its_check() {
    let ran = vmcs(&["explain", &dump("kvm-smm-sti-shadow.txt"), "--json"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    let answer = ran.json();
    assert_eq!(answer["reported"], "EntryFailed(33, 0)");
    assert_eq!(
        answer["violated"],
        json!([{
            "id": "guest.intr.sti-needs-if",
            "section": "27.3.1.5",
            "title": "Checks on Guest Non-Register State",
            "rule": "There is no blocking by STI if RFLAGS.IF is 0.",
            "gate": "",
            "outcomes": ["EntryFailed(33, 0)"],
            "fields": {"guest_interruptibility_state": "0x9", "guest_rflags": "0x2"},
            "repair": {
                "field": "guest_interruptibility_state",
                "old": "0x9",
                "new": "0x8",
                "text": "clear bit 0 “blocking by STI”: guest_interruptibility_state = 0x8",
            },
        }])
    );
    let undecidable = answer["undecidable"].as_array().expect("a list");
    let find = |id: &str| undecidable.iter().find(|check| check["id"] == id).map(|check| &check["unknown"]);
    assert_eq!(find("guest.link.align"), Some(&json!(["vmcs_link_pointer"])));
    assert_eq!(find("guest.cr0.fixed0"), Some(&json!(["IA32_VMX_CR0_FIXED0"])));
    noted(&answer, "stale: the VMExit and IDTVectoring values");
    noted(&answer, "vm_entry_msr_load_count = 0");
    noted(&answer, "not in force: the PDPTEs");

    let ran = vmcs(&["explain", &dump("kvm-smm-sti-shadow.txt"), "--profile", SKYLAKE]);
    assert_eq!(ran.status, 1, "{ran:?}");
    for line in [
        "Reported: EntryFailed(33, 0)\n",
        "    guest_interruptibility_state (4824H) = 0x9 (blocking by STI, blocking by NMI)\n",
        "  vmcs_link_pointer: guest.link.align, ",
        " checks that the processor got past\n",
    ] {
        assert!(ran.out.contains(line), "{line}: {}", ran.out);
    }
}

#[test]
fn what_depends_on_the_processor_needs_a_profile() {
    let name = dump("xen-error7-injection.txt");
    let ran = vmcs(&["explain", &name, "--json"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let answer = ran.json();
    assert_eq!((&answer["reported"], &answer["violated"]), (&json!("VMfailValid(7)"), &json!([])));
    assert!(ids(&answer, "undecidable").contains(&"ctl.inject.errcode-required".to_owned()));
    noted(&answer, "ctl.inject.errcode-required would explain it on ");
    noted(&answer, "stale: reason 0x30 ");

    let ran = vmcs(&["explain", &name, "--json", "--profile", BROADWELL]);
    assert_eq!(ran.status, 1, "{ran:?}");
    let answer = ran.json();
    assert_eq!(answer["permitted"], json!(["VMfailValid(7)"]));
    let violated = answer["violated"].as_array().expect("a list");
    let check = violated.iter().find(|check| check["id"] == "ctl.inject.errcode-required").expect("violated");
    assert_eq!(check["repair"]["new"], "0x80000b0d");
    // That processor has no PML, either.
    let pml = violated.iter().find(|check| check["id"] == "ctl.proc2.reserved-bits").expect("violated");
    let capability =
        json!({"msr": "IA32_VMX_PROCBASED_CTLS2", "setting": "may be 1", "mask": "0x53cff", "wrong": "0x20000"});
    assert_eq!(pml["capability"], capability);
}

#[test]
fn prefixes_make_no_difference() {
    let plain = text("kvm-smm-sti-shadow.txt").replace("Jun 24 17:25:51 testhost kernel: ", "");
    let expected = explain(&plain, &["--json"]).json();
    for prefix in ["[ 1234.567890] ", "[ 1234.567890] [T77] kvm_intel: ", "<4>[    1.000000] ", "> > ", "  "] {
        let log: String = plain.lines().map(|line| format!("{prefix}{line}\r\n")).collect();
        assert_eq!(explain(&log, &["--json"]).json(), expected, "{prefix}");
    }
    let journal: String = plain.lines().map(|line| json!({"MESSAGE": line}).to_string() + "\n").collect();
    assert_eq!(explain(&journal, &["--json"]).json(), expected);
    let surrounded = format!("audit: something\n{plain}[1.0] usb 1-1: CR3 = 0x123\n");
    assert_eq!(explain(&surrounded, &["--json"]).json(), expected);
    let mailed = plain.replace('=', "=3D").replace("gh_mask", "gh=\n_mask");
    assert_eq!(explain(&mailed, &["--json"]).json(), expected);
}

#[test]
fn nothing_is_claimed_of_what_is_cut_off() {
    let whole = text("kvm-smm-sti-shadow.txt");
    let violated = ["guest.intr.sti-needs-if".to_owned()];
    for end in (0..whole.len()).step_by(97) {
        let ran = explain(&whole[..end], &["--json"]);
        if ran.status != 2 {
            let found = ids(&ran.json(), "violated");
            assert!(found.iter().all(|id| violated.contains(id)), "{end}: {found:?}");
        }
        let ran = explain(&whole[end..], &["--json"]);
        if ran.status != 2 {
            let found = ids(&ran.json(), "violated");
            assert!(found.iter().all(|id| violated.contains(id)), "{end}: {found:?}");
        }
    }
    let garbled =
        whole.replace("RFLAGS=0x00000002", "RFLAGS=0x0000zz02").replace("GS=0000 TR=0040", "GS=0000 TR=10040");
    let answer = explain(&garbled, &["--json"]).json();
    assert_eq!(answer["violated"], json!([]));
    noted(&answer, "the value of guest_rflags cannot be read");
    noted(&answer, "the value of host_tr_selector cannot be read");
    noted(&answer, "EntryFailed(33, 0) is not explained");
}

#[test]
fn one_of_several_dumps_is_chosen() {
    let log = text("kvm-smm-sti-shadow.txt") + &text("kvm-6.9-healthy-ve-autoload.txt");
    let last = explain(&log, &["--json"]);
    assert_eq!(last.status, 0, "{last:?}");
    noted(&last.json(), "dump 2 of 2");
    let first = explain(&log, &["--json", "--dump", "1"]);
    assert_eq!(ids(&first.json(), "violated"), ["guest.intr.sti-needs-if"]);
    explain(&log, &["--dump", "3"]).refused(&["no dump 3", "1 to 2"]);
    explain(&log, &["--dump", "0"]).refused(&["no dump 0"]);
}

#[test]
fn a_derived_efer_is_not_the_field() {
    let log = text("kvm-healthy-split-continuation.txt");
    let answer = explain(&log, &["--json"]).json();
    noted(&answer, "what KVM derives from the controls");
    // Where it is the field, it counts.
    let field = log.replace(" (effective)", "").replace("EntryControls=000053ff", "EntryControls=0000d3ff");
    assert_eq!(ids(&explain(&field, &["--json"]).json(), "violated"), [""; 0]);
    let wrong = field.replace("EFER= 0x0000000000000d01", "EFER= 0x0000000000000901");
    assert_eq!(ids(&explain(&wrong, &["--json"]).json(), "violated"), ["guest.efer.lma", "guest.efer.lme"]);
    let derived = wrong.replace("0x0000000000000901", "0x0000000000000901 (autoload)");
    assert_eq!(ids(&explain(&derived, &["--json"]).json(), "violated"), [""; 0]);
}

/// A guest in protected mode as QEMU shows it, with a TSS that is not busy.
const QEMU: &str = "KVM: entry failed, hardware error 0x80000021
EAX=00000000 EBX=00000000 ECX=00000000 EDX=00000663
EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0
ES =0010 00000000 ffffffff 00c09300 DPL=0 DS   [-WA]
CS =0008 00000000 ffffffff 00c09b00 DPL=0 CS32 [-RA]
SS =0010 00000000 ffffffff 00c09300 DPL=0 DS   [-WA]
DS =0010 00000000 ffffffff 00c09300 DPL=0 DS   [-WA]
FS =0000 00000000 00000000 00000000
GS =0000 00000000 00000000 00000000
LDT=0000 00000000 0000ffff 00008200 DPL=0 LDT
TR =0018 00000000 00000067 00008900 DPL=0 TSS32-avl
GDT=     00001000 0000002f
IDT=     00002000 000007ff
CR0=00000031 CR2=00000000 CR3=00000000 CR4=00002000
EFER=0000000000000000
";

#[test]
fn registers_of_qemu_are_read() {
    let answer = explain(QEMU, &["--json"]).json();
    assert_eq!((&answer["format"], &answer["reported"]), (&json!("QEMU"), &json!("EntryFailed(33, 0)")));
    assert_eq!(answer["violated"], json!([]), "whether the guest is in IA-32e mode is not known");
    assert!(ids(&answer, "undecidable").contains(&"guest.seg.tr.type-legacy".to_owned()));
    let missing = QEMU.replace("00008900", "00000900");
    assert_eq!(ids(&explain(&missing, &["--json"]).json(), "violated"), ["guest.seg.tr.p"]);
    // In real mode the VMCS may hold something else.
    let real = explain(&missing.replace("CR0=00000031", "CR0=60000010"), &["--json"]).json();
    assert_eq!(real["violated"], json!([]));
    noted(&real, "virtual-8086 mode");
}

#[test]
fn images_are_explained_without_guessing() {
    let violated = |image: &str| ids(&explain(image, &["--json"]).json(), "violated");
    assert_eq!(violated("{\"fields\": {\"guest_rflags\": 0}}"), ["guest.rflags.bit1"]);
    assert_eq!(violated("# an image\n[fields]\nguest_rflags = 0\n"), ["guest.rflags.bit1"]);
    assert_eq!(violated("{}"), [""; 0]);
    assert_eq!(violated("{\"fields\": {\"host_cr0\": 0, \"host_cr4\": 0}}"), [""; 0]);
    assert_eq!(violated("{\"cpu\": {\"cr0\": 0}}"), ["pre.mode-ud"]);
    // Memory that is not listed is not known.
    let link = "\"fields\": {\"vmcs_link_pointer\": \"0x7000\"}";
    assert_eq!(violated(&format!("{{{link}}}")), [""; 0]);
    let answer = explain(&format!("{{{link}}}"), &["--json", "--profile", SKYLAKE]).json();
    assert!(ids(&answer, "undecidable").contains(&"guest.link.revision".to_owned()));
    let written = format!("{{{link}, \"memory\": [{{\"address\": \"0x7000\", \"u32\": 5}}]}}");
    assert_eq!(ids(&explain(&written, &["--json", "--profile", SKYLAKE]).json(), "violated"), ["guest.link.revision"]);
}

#[test]
fn a_file_without_a_dump_is_refused() {
    explain("", &[]).refused(&["-: ", "no VMCS dump", "KVM"]);
    explain("nothing here\n\u{0}\u{1e}\n", &[]).refused(&["no VMCS dump"]);
    explain("*** Guest State ***\n", &[]).refused(&["no value of a field"]);
    explain("set kvm_intel.dump_invalid_vmcs=1 to dump internal KVM state.\n", &[]).refused(&["dump_invalid_vmcs=1"]);
    explain("{\"fields\": 5}", &[]).refused(&["-:1: "]);
    explain("{}", &["--dump", "1"]).refused(&["--dump"]);
    vmcs(&["explain", "missing.log"]).refused(&["missing.log: ", "No such file"]);
    vmcs(&["explain", &dump("README.md"), "--profile", "no such processor"]).refused(&["no profile"]);
}
