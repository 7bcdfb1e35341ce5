//! `vmcs explain` from the outside, over dumps out of bug reports.

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::schema::validate;
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
        assert_eq!(answer["status"], 0, "{name}");
        let ran = vmcs(&["explain", &dump(name)]);
        assert!(ran.out.starts_with("The values that are known violate no check"), "{ran:?}");
        assert!(
            ran.out.contains(&format!("From: {format}")) && ran.out.contains(&format!("; {fields} of ")),
            "{ran:?}"
        );
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
            "wrong": "there is blocking by STI although RFLAGS.IF is 0",
            "standing": "cause",
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
    let first = "The guest state was refused (exit reason 33): there is blocking by STI although RFLAGS.IF is 0: \
                 guest_interruptibility_state = 0x9, guest_rflags = 0x2.";
    assert_eq!(ran.out.lines().next(), Some(first));
    assert!(!ran.out.contains("Permitted: "), "{}", ran.out);
    let verbose = vmcs(&["explain", &dump("kvm-smm-sti-shadow.txt"), "--profile", SKYLAKE, "-v"]);
    for line in [
        "    guest_interruptibility_state (4824H) = 0x9 (blocking by STI, blocking by NMI)\n",
        "Permitted: VMfailValid(7) or EntryFailed(33, 0)",
        "  - vmcs_link_pointer: guest.link.align, ",
        " checks that the processor got past\n",
    ] {
        assert!(verbose.out.contains(line), "{line}: {}", verbose.out);
    }
}

#[test]
fn what_depends_on_the_processor_needs_a_profile() {
    let name = dump("xen-error7-injection.txt");
    let ran = vmcs(&["explain", &name, "--json"]);
    assert_eq!(ran.status, 3, "{ran:?}");
    let answer = ran.json();
    let first = answer["answer"].as_str().expect("a sentence");
    assert!(first.contains("probably an exception that has an error code is injected without one"), "{first}");
    assert_eq!(ids(&answer, "likely"), ["ctl.inject.errcode-required"]);
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
    // Where in the text the dump begins is another matter.
    let explained = |log: &str| {
        let mut answer = explain(log, &["--json"]).json();
        answer.as_object_mut().expect("an object").remove("line");
        answer
    };
    let plain = text("kvm-smm-sti-shadow.txt").replace("Jun 24 17:25:51 testhost kernel: ", "");
    let expected = explained(&plain);
    for prefix in ["[ 1234.567890] ", "[ 1234.567890] [T77] kvm_intel: ", "<4>[    1.000000] ", "> > ", "  "] {
        let log: String = plain.lines().map(|line| format!("{prefix}{line}\r\n")).collect();
        assert_eq!(explained(&log), expected, "{prefix}");
    }
    let journal: String = plain.lines().map(|line| json!({"MESSAGE": line}).to_string() + "\n").collect();
    assert_eq!(explained(&journal), expected);
    let surrounded = format!("audit: something\n{plain}[1.0] usb 1-1: CR3 = 0x123\n");
    assert_eq!(explained(&surrounded), expected);
    let mailed = plain.replace('=', "=3D").replace("gh_mask", "gh=\n_mask");
    assert_eq!(explained(&mailed), expected);
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
fn several_dumps_are_answered_one_by_one() {
    let healthy = text("kvm-6.9-healthy-ve-autoload.txt");
    let log = healthy.clone() + &text("kvm-smm-sti-shadow.txt") + &healthy;
    let all = explain(&log, &["--json"]);
    assert_eq!(all.status, 1, "{all:?}");
    let answer = all.json();
    assert_eq!(ids(&answer, "violated"), ["guest.intr.sti-needs-if"], "the failed entry comes first");
    let others = answer["others"].as_array().expect("a list");
    assert_eq!(others.iter().map(|other| &other["status"]).collect::<Vec<_>>(), [0, 0]);
    let all = explain(&log, &[]);
    assert!(all.out.starts_with("Dump 2"), "{all:?}");
    assert!(all.out.contains("\nDump 1") && all.out.contains(": the same as dump 1.\n"), "{all:?}");
    let first = explain(&log, &["--json", "--dump", "1"]);
    assert_eq!((first.status, ids(&first.json(), "violated")), (0, Vec::new()));
    assert_eq!(explain(&log, &["--json", "--dump", "2"]).status, 1);
    explain(&log, &["--dump", "4"]).refused(&["no dump 4", "1 to 3"]);
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
    // Whether the guest is in IA-32e mode is not known, and in neither mode is that TSS right.
    assert_eq!(ids(&answer, "violated"), ["guest.seg.tr.type-legacy"]);
    assert_eq!(answer["violated"][0]["or"], "guest.seg.tr.type-ia32e");
    assert!(answer["answer"].as_str().expect("a sentence").contains("guest_tr_access_rights = 0x89"), "{answer}");
    let busy = QEMU.replace("00008900", "00008b00");
    assert_eq!(explain(&busy, &["--json"]).json()["violated"], json!([]));
    let missing = QEMU.replace("00008900", "00000b00");
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
    explain("", &[]).refused(&["-: ", "no VMCS dump", "empty", "dump_invalid_vmcs", "dmesg | vmcs explain"]);
    vmcs_with(&["explain"], "").refused(&["-: ", "empty"]);
    explain("nothing here\n\u{0}\u{1e}\n", &[]).refused(&["no VMCS dump"]);
    explain("*** Guest State ***\n", &[]).refused(&["no value of a field"]);
    explain("set kvm_intel.dump_invalid_vmcs=1 to dump internal KVM state.\n", &[]).refused(&["dump_invalid_vmcs=1"]);
    explain("{\"fields\": 5}", &[]).refused(&["-:1: "]);
    explain("{}", &["--dump", "1"]).refused(&["--dump"]);
    vmcs(&["explain", "missing.log"]).refused(&["missing.log: ", "No such file"]);
    vmcs(&["explain", &dump("README.md"), "--profile", "no such processor"]).refused(&["no profile"]);
}

/// The names of the dumps out of bug reports.
fn dumps() -> Vec<String> {
    let files = fs::read_dir(Path::new(&dump("README.md")).parent().expect("a folder")).expect("the folder is there");
    let names = files.map(|file| file.expect("a file").file_name().into_string().expect("UTF-8"));
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".txt")).collect();
    names.sort();
    names
}

#[test]
fn answers_have_the_form_that_the_schema_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/explain.schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(file).expect("the schema is there")).expect("JSON");
    let all: String = dumps().iter().map(|name| text(name)).collect();
    let image = "{\"fields\": {\"guest_rflags\": 0, \"vm_entry_msr_load_count\": 3, \"guest_cr4\": 1}}";
    for (input, args) in [
        (all.as_str(), &["--json"][..]),
        (&all, &["--json", "--fix", "--profile", BROADWELL]),
        (&all, &["--format", "json", "--profile", "skylake"]),
        (image, &["--json", "--fix"]),
        (QEMU, &["--json", "--fix"]),
    ] {
        let answer = explain(input, args).json();
        assert_eq!(validate(&schema, &answer), Ok(()));
        assert!(!answer["answer"].as_str().expect("a sentence").is_empty());
    }
    let mut answer = explain(QEMU, &["--json"]).json();
    answer["surprise"] = json!(1);
    assert!(validate(&schema, &answer).is_err());
}

#[test]
fn lines_are_not_too_long() {
    for name in dumps() {
        for args in [&["--fix"][..], &["-v"], &["-v", "--profile", "skylake"]] {
            let ran = vmcs(&[&["explain", &dump(&name)], args].concat());
            // The first line is one line, so that it is found as a whole.
            for line in ran.out.lines().skip(1) {
                assert!(line.chars().count() <= 100, "{name}: {line}");
            }
        }
    }
}

#[test]
fn changes_are_shown_that_mend_the_state() {
    let image = |fields: &str| format!("{{\"fields\": {{{fields}}}}}");
    let ran = explain(&image("\"guest_rflags\": 0, \"guest_tr_access_rights\": 9"), &["--fix"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.out.contains("With these changes no check is violated any more"), "{ran:?}");
    assert!(ran.out.contains("set bit 1 “FIXED1”: guest_rflags = 0x2 (it was 0x0)"), "{ran:?}");
    let mended = explain(&image("\"guest_rflags\": 2"), &["--fix"]);
    assert!(mended.out.contains("There is nothing to change"), "{mended:?}");
    let cannot = explain("{\"cpu\": {\"cr0\": 0}}", &["--fix"]);
    assert!(cannot.out.contains("No set of changes of single fields was found"), "{cannot:?}");
}

#[test]
fn what_is_known_of_the_processor_is_said() {
    let dump = text("xen-error7-injection.txt");
    let broadwell = "(family: 0x6, model: 0x4f, stepping: 0x1)";
    let guess = explain(&format!("smpboot: CPU0: Intel(R) Xeon(R) CPU {broadwell}\n{dump}"), &["--json"]).json();
    assert_eq!(ids(&guess, "violated"), [""; 0], "a guess is not certain");
    assert!(ids(&guess, "likely").contains(&"ctl.inject.errcode-required".to_owned()), "{guess}");
    assert!(guess["processor"][0].as_str().expect("a sentence").contains("family 6, model 79"), "{guess}");
    // A value is a fact.
    let basic = "IA32_VMX_BASIC = 0xda040000000010\n";
    let fact = explain(&format!("{basic}{dump}"), &["--json"]);
    assert_eq!((fact.status, ids(&fact.json(), "violated")), (1, vec!["ctl.inject.errcode-required".to_owned()]));
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, basic).expect("it is written");
    let path = file.path().to_str().expect("UTF-8");
    assert_eq!(explain(&dump, &["--json", "--profile", path]).json()["violated"], fact.json()["violated"]);
    fs::write(&file, "nothing").expect("it is written");
    explain(&dump, &["--profile", path]).refused(&[path, "cpuid -r"]);
    // The beginning of several names is what they agree on.
    let agreed = explain(&dump, &["--json", "--profile", "skylake"]).json();
    assert_eq!(ids(&agreed, "violated"), ["ctl.inject.errcode-required"]);
    assert!(agreed["processor"][0].as_str().expect("a sentence").contains("What they agree on"), "{agreed}");
}

#[test]
fn markdown_is_for_the_report_of_an_issue() {
    let ran = vmcs(&["explain", &dump("kvm-smm-sti-shadow.txt"), "--format", "markdown"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.out.starts_with("**The guest state was refused (exit reason 33): "), "{ran:?}");
    assert!(ran.out.contains("\n- `guest.intr.sti-needs-if` \\[SDM 27.3.1.5, "), "{ran:?}");
}

/// That a processor lacks what a dump uses is no cause that can be guessed: the host that attempted the entry runs with the same
/// bits, and the processor accepted the controls.
#[test]
fn what_a_processor_supports_is_not_guessed() {
    let healthy = text("kvm-healthy-split-continuation.txt");
    let reason = healthy.split_once("reason=").map(|(_, rest)| &rest[..8]).expect("there is one");
    let log = healthy.replace(&format!("reason={reason}"), "reason=80000021");
    let named =
        format!("smpboot: CPU0: Intel(R) Core(TM) i7-9700K CPU (family: 0x6, model: 0x9e, stepping: 0xd)\n{log}");
    for log in [log, named] {
        let answer = explain(&log, &["--json"]).json();
        let first = answer["answer"].as_str().expect("a sentence");
        assert!(first.ends_with("and none of the 112 values that are known explains it"), "{first}");
        assert_eq!((&answer["likely"], &answer["status"]), (&json!([]), &json!(3)));
    }
}

/// Of two dumps that nothing takes apart, it is not known how their entries ended: it is not said that none failed.
#[test]
fn mixed_dumps_are_said_to_be_mixed() {
    let failed = text("kvm-smm-sti-shadow.txt").replace("Jun 24 17:25:51 testhost kernel: ", "");
    let healthy = text("kvm-6.9-healthy-ve-autoload.txt");
    let healthy = healthy.lines().map(|line| line.split_once("kvm_intel: ").map_or(line, |(_, rest)| rest));
    let mut healthy = healthy.fuse();
    let mixed: String = failed
        .lines()
        .flat_map(|line| [Some(line), healthy.next()])
        .flatten()
        .map(|line| format!("[ 7.1] kvm_intel: {line}\n"))
        .collect();
    let ran = explain(&mixed, &[]);
    assert_eq!(ran.status, 3, "{ran:?}");
    let first = ran.out.lines().next().expect("a line");
    assert!(first.contains("two dumps are printed into each other") && !first.contains("no failed entry"), "{first}");
}
