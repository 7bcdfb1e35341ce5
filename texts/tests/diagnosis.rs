//! Diagnoses of dumps: what is certain without a profile is so on every processor, and what is most likely comes first.

use std::cmp::Ordering;
use std::fs;
use std::path::Path;

use vmcs_case::profile::NamedProfile;
use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::field::{self, FieldId};
use vmcs_model::formats::exit_reason;
use vmcs_model::{Capabilities, CpuProfile, Outcome};
use vmcs_texts::diagnosis::{Group, Manner, PartialEntry, Processor, Section, Standing};
use vmcs_texts::dump::{self, Dump, MsrLoadEntry, Named, Reported};

/// Dumps of real entries, without what they report.
fn dumps() -> Vec<Dump> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/tests/dumps");
    let mut dumps = Vec::new();
    for file in fs::read_dir(folder).expect("the folder is there") {
        let file = file.expect("a file").path();
        if file.extension().is_some_and(|extension| extension == "txt") {
            dumps.extend(dump::find(&fs::read_to_string(file).expect("UTF-8")));
        }
    }
    assert!(dumps.len() > 4);
    dumps.iter_mut().for_each(|dump| dump.reported = None);
    dumps
}

/// The dump without some of its fields.
fn without(dump: &Dump, fields: &[FieldId]) -> Dump {
    let mut less = Dump { vmcs: Default::default(), ..dump.clone() };
    for field in FieldId::all().filter(|field| !fields.contains(field)) {
        if let Some(value) = dump.vmcs.raw(field) {
            less.vmcs.set_raw(field, value);
        }
    }
    less
}

fn with(dump: &Dump, fields: &[(FieldId, u64)]) -> Dump {
    let mut changed = dump.clone();
    fields.iter().for_each(|(field, value)| changed.vmcs.set_raw(*field, *value));
    changed
}

fn check(id: &str) -> CheckId {
    id.parse().expect("a check")
}

fn failed(reason: u16, qualification: u64) -> Reported {
    Reported::Outcome { outcome: Outcome::EntryFailed { reason, qualification }, qualified: true }
}

/// What is violated on a processor of which `profile` is known, and the pairs of which one is.
fn violated(entry: &PartialEntry, profile: &CpuProfile) -> (CheckSet, Vec<(CheckId, CheckId)>) {
    let capabilities = Capabilities::new(&entry.processor(profile));
    let diagnosis = entry.diagnose(&capabilities);
    let pairs = diagnosis.alternatives().iter().map(|pair| (pair.likely, pair.other)).collect();
    (diagnosis.verdict().violated, pairs)
}

/// What the headline and the groups are on a processor of which nothing is known.
fn answer(dump: Dump) -> (String, Vec<Group>) {
    let entry = PartialEntry::of_dump(dump);
    let capabilities = Capabilities::new(&entry.processor(&CpuProfile::default()));
    let diagnosis = entry.diagnose(&capabilities);
    let groups = diagnosis.groups();
    (diagnosis.headline(&groups), groups)
}

/// A dump of an ordinary 64-bit guest, and one of a guest outside IA-32e mode.
fn healthy() -> Dump {
    let is_64 = |dump: &Dump| dump.vmcs.raw(field::VM_ENTRY_CONTROLS.id()).is_some_and(|entry| entry >> 9 & 1 != 0);
    dumps().into_iter().find(is_64).expect("a 64-bit guest")
}

/// Values that are wrong whatever the processor, or in either of two modes.
fn faults() -> Vec<(FieldId, u64)> {
    let far = 0x0800_0000_0000_0000;
    let mut faults = vec![
        (field::GUEST_CR3.id(), 1 << 63),
        (field::GUEST_CR3.id(), 1 << 52),
        (field::HOST_CR3.id(), 1 << 63),
        (field::GUEST_DR7.id(), 1 << 32),
        (field::GUEST_RIP.id(), 1 << 40),
        (field::GUEST_CS_BASE.id(), 1 << 32),
        (field::GUEST_GDTR_BASE.id(), far),
        (field::GUEST_TR_BASE.id(), far),
        (field::GUEST_IA32_SYSENTER_ESP.id(), far),
        (field::HOST_FS_BASE.id(), far),
        (field::GUEST_RFLAGS.id(), 0),
        (field::GUEST_RFLAGS.id(), 1 << 17 | 2),
        (field::GUEST_CR0.id(), 1 << 31),
        (field::GUEST_CR4.id(), 1 << 17),
        (field::GUEST_IA32_EFER.id(), 1 << 8),
        (field::GUEST_ACTIVITY_STATE.id(), 4),
        (field::GUEST_INTERRUPTIBILITY_STATE.id(), 3),
        (field::VM_ENTRY_INTERRUPTION_INFORMATION.id(), 0x8000_0020),
    ];
    faults.extend((0..16).map(|kind| (field::GUEST_TR_ACCESS_RIGHTS.id(), 0x80 | kind)));
    faults.extend((0..16).map(|kind| (field::GUEST_CS_ACCESS_RIGHTS.id(), 0xA090 | kind)));
    faults
}

#[test]
fn what_is_certain_without_a_profile_is_violated_on_every_processor() {
    let controls = [
        field::VM_ENTRY_CONTROLS.id(),
        field::PRIMARY_VM_EXIT_CONTROLS.id(),
        field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(),
        field::GUEST_RFLAGS.id(),
    ];
    let mut seen = CpuProfile::default();
    seen.seen_in_ia32e_mode = true;
    let mut found = 0;
    for whole in dumps() {
        for fault in faults() {
            let changed = with(&whole, &[fault]);
            let parts = controls.iter().map(|control| without(&changed, &[*control]));
            for dump in parts.chain([changed.clone(), without(&changed, &controls)]) {
                let entry = PartialEntry::of_dump(dump);
                let (certain, pairs) = violated(&entry, &CpuProfile::default());
                found += certain.len();
                let profiles = NamedProfile::embedded().iter().filter(|_| !certain.is_empty());
                for named in profiles {
                    let (there, _) = violated(&entry, &named.profile);
                    let place = || format!("{}: {} = {:#x}", named.name, fault.0.info().name, fault.1);
                    for check in certain.iter() {
                        assert!(there.contains(check), "{}: {check}", place());
                    }
                }
                // Of a pair one is violated in the dump as a whole, where its host ran in IA-32e mode, too.
                let of_whole = PartialEntry::of_dump(changed.clone());
                let (in_whole, open) = violated(&of_whole, &seen);
                let known = |field: &FieldId| changed.vmcs.raw(*field).is_some();
                if controls.iter().all(known) && open.is_empty() {
                    for (likely, other) in pairs {
                        let one = in_whole.contains(likely) || in_whole.contains(other);
                        assert!(one, "{} = {:#x}: {likely} or {other}", fault.0.info().name, fault.1);
                    }
                    for check in certain.iter() {
                        assert!(in_whole.contains(check), "{} = {:#x}: {check}", fault.0.info().name, fault.1);
                    }
                }
            }
        }
    }
    assert!(found > 1000, "{found}");
}

#[test]
fn what_a_dump_implies_needs_no_profile() {
    let far = 0x0800_0000_0000_0000;
    let healthy = healthy();
    for (field, value, id) in [
        (field::GUEST_CR3.id(), 1 << 63, "guest.cr3.reserved"),
        (field::GUEST_DR7.id(), 1 << 32, "guest.dr7.high"),
        (field::GUEST_CS_BASE.id(), 1 << 32, "guest.seg.cs.base-high"),
        (field::GUEST_GDTR_BASE.id(), far, "guest.dt.base-canonical"),
        (field::GUEST_TR_BASE.id(), far, "guest.seg.tr.base-canonical"),
        (field::GUEST_IA32_SYSENTER_ESP.id(), far, "guest.sysenter-esp.canonical"),
    ] {
        let changed = with(&healthy, &[(field, value)]);
        let (certain, _) = violated(&PartialEntry::of_dump(changed.clone()), &CpuProfile::default());
        assert!(certain.contains(check(id)), "{id}");
        // Nothing is implied by a host of which nothing is known.
        let no_host = without(&changed, &[field::PRIMARY_VM_EXIT_CONTROLS.id(), field::HOST_IA32_EFER.id()]);
        let (certain, _) = violated(&PartialEntry::of_dump(no_host.clone()), &CpuProfile::default());
        assert!(!certain.contains(check(id)), "{id}");
        // A processor that refused the state of a 64-bit guest has accepted the control that asks for one.
        let refused = Dump { reported: Some(failed(exit_reason::INVALID_GUEST_STATE, 0)), ..no_host };
        let (certain, _) = violated(&PartialEntry::of_dump(refused), &CpuProfile::default());
        assert!(certain.contains(check(id)), "{id}");
    }
    let outside = with(&healthy, &[(field::GUEST_RIP.id(), 1 << 40), (field::GUEST_CS_ACCESS_RIGHTS.id(), 0xC09B)]);
    let (certain, _) = violated(&PartialEntry::of_dump(outside), &CpuProfile::default());
    assert!(certain.contains(check("guest.rip.high-32")));
}

#[test]
fn what_is_wrong_in_both_modes_is_violated() {
    let wrong = with(&healthy(), &[(field::GUEST_TR_ACCESS_RIGHTS.id(), 0x89)]);
    let wrong = without(&wrong, &[field::VM_ENTRY_CONTROLS.id()]);
    let (headline, groups) = answer(wrong);
    let first = groups.first().expect("a finding").first();
    assert_eq!((first.check, first.or), (check("guest.seg.tr.type-ia32e"), Some(check("guest.seg.tr.type-legacy"))));
    assert!(headline.contains("guest_tr_access_rights = 0x89"), "{headline}");
    // Type 3 is right outside IA-32e mode.
    let right = with(&healthy(), &[(field::GUEST_TR_ACCESS_RIGHTS.id(), 0x83)]);
    let (_, groups) = answer(without(&right, &[field::VM_ENTRY_CONTROLS.id()]));
    assert!(groups.is_empty(), "{groups:?}");
}

#[test]
fn one_wrong_value_is_one_group() {
    let tr = field::GUEST_TR_ACCESS_RIGHTS.id();
    let reported = Some(failed(exit_reason::INVALID_GUEST_STATE, 0));
    let (headline, groups) = answer(Dump { reported, ..with(&healthy(), &[(tr, 0x1_0021)]) });
    let expected = "The guest state was refused (exit reason 33): TR is not a usable 64-bit busy TSS: \
                    guest_tr_access_rights = 0x10021";
    assert_eq!(headline, expected);
    assert_eq!(groups.len(), 1, "{groups:?}");
    assert!(groups[0].findings.len() > 2);
    let repair = groups[0].repair.expect("one value mends all");
    let (_, groups) = answer(with(&healthy(), &[(tr, repair.new)]));
    assert!(groups.is_empty(), "{groups:?}");

    // The mode is wrong, and not the four registers that do not fit it.
    let entry = field::VM_ENTRY_CONTROLS.id();
    let bit = |dump: &Dump, field: FieldId, bit: u32| dump.vmcs.raw(field).is_some_and(|value| value >> bit & 1 != 0);
    let legacy = dumps().into_iter().find(|dump| bit(dump, entry, 12) && !bit(dump, field::GUEST_CR0.id(), 31));
    let legacy = legacy.expect("a guest without paging");
    let wrong = with(&legacy, &[(entry, legacy.vmcs.raw(entry).expect("known") | 1 << 9)]);
    let (headline, groups) = answer(Dump { reported, ..wrong });
    assert_eq!(groups[0].field, Some(entry), "{headline}");
    assert!(groups[0].findings.len() > 1, "{groups:?}");
}

#[test]
fn the_cause_of_what_is_reported_comes_first() {
    let wrong = [(field::GUEST_RFLAGS.id(), 0), (field::HOST_CS_SELECTOR.id(), 0), (field::GUEST_IA32_PAT.id(), 3)];
    let (headline, groups) =
        answer(Dump { reported: Some(failed(exit_reason::INVALID_GUEST_STATE, 0)), ..with(&healthy(), &wrong) });
    assert!(headline.contains("refused (exit reason 33)") && headline.contains("guest_"), "{headline}");
    assert_eq!(groups[0].first().standing, Standing::Cause);
    let host = groups.iter().find(|group| group.first().check == check("host.sel.cs-nonzero")).expect("it is violated");
    assert_eq!(host.first().standing, Standing::Passed);
    let reported = Some(Reported::Outcome { outcome: Outcome::fail_valid(8), qualified: true });
    let (headline, groups) = answer(Dump { reported, ..with(&healthy(), &wrong) });
    assert!(
        headline.ends_with("(VM-instruction error 8): the host's CS selector is 0: host_cs_selector = 0x0"),
        "{headline}"
    );
    assert!(groups[1..].iter().all(|group| group.first().standing == Standing::NotReached), "{groups:?}");
    // Without a report the entry fails at the host state.
    let (headline, groups) = answer(with(&healthy(), &wrong));
    assert!(headline.starts_with("A VM entry with these values fails (VM-instruction error 8): "), "{headline}");
    assert!(groups[1..].iter().all(|group| group.first().standing == Standing::Next), "{groups:?}");
}

#[test]
fn what_a_program_names_leads() {
    let named = |id: &str| vec![Named { check: Some(check(id)), words: "its own words".to_owned() }];
    let wrong = with(&healthy(), &[(field::GUEST_RFLAGS.id(), 0), (field::GUEST_ACTIVITY_STATE.id(), 4)]);
    let reported = Some(failed(exit_reason::INVALID_GUEST_STATE, 0));
    for id in ["guest.rflags.bit1", "guest.activity.range", "guest.link.align"] {
        let (_, groups) = answer(Dump { reported, named: named(id), ..wrong.clone() });
        assert_eq!(groups[0].first().check, check(id));
        assert_eq!(groups[0].first().guessed, id == "guest.link.align");
    }
    // One that holds for certain does not lead.
    let (headline, groups) = answer(Dump { reported, named: named("guest.rflags.bit1"), ..healthy() });
    assert!(groups.is_empty() && headline.contains("its own words"), "{headline}: {groups:?}");
}

#[test]
fn an_outcome_alone_says_something() {
    let only = |reported| Dump { format: "log", reported: Some(reported), ..Dump::default() };
    let error = |number| Reported::Outcome { outcome: Outcome::fail_valid(number), qualified: true };
    let guest_state = |qualification| failed(exit_reason::INVALID_GUEST_STATE, qualification);
    for (reported, words) in [
        (guest_state(2), "PDPTE"),
        (guest_state(3), "an NMI is injected while there is blocking by STI"),
        (guest_state(4), "VMCS link pointer"),
        (failed(exit_reason::MSR_LOADING, 3), "Entry 3 of the VM-entry MSR-load area"),
        (failed(exit_reason::MACHINE_CHECK, 0), "machine check"),
        (error(4), "VMLAUNCH needs a VMCS whose launch state is clear"),
        (error(5), "VMRESUME needs a VMCS whose launch state is launched"),
        (error(7), "control fields"),
        (error(8), "host state"),
        (error(28), "invalid operand to INVEPT or INVVPID"),
        (Reported::Svm, "AMD"),
        (Reported::FailWithoutNumber, "no VM-instruction error was stored"),
    ] {
        let entry = PartialEntry::of_dump(only(reported));
        let capabilities = Capabilities::new(&entry.processor(&CpuProfile::default()));
        let diagnosis = entry.diagnose(&capabilities);
        let groups = diagnosis.groups();
        let headline = diagnosis.headline(&groups);
        assert!(headline.contains(words), "{words}: {headline}");
        assert!(diagnosis.look_at(&groups).is_some(), "{headline}");
        assert_eq!(diagnosis.status(), 3, "{headline}");
    }
    // Each VM-instruction error that the SDM defines is said in words.
    for (number, meaning) in vmcs_model::formats::InstructionError::MEANINGS {
        let (headline, _) = answer(only(error(*number)));
        assert!(matches!(number, 7 | 8) || headline.contains(meaning), "{headline}");
    }
}

#[test]
fn the_msr_that_was_not_loaded_is_shown_and_judged() {
    let entry = |number, index, value| MsrLoadEntry { number, index, value };
    let msr_load = vec![entry(1, 0xC000_0100, 0), entry(2, 0x277, 3), entry(3, 0x277, 6), entry(4, 0xDEAD, 0)];
    let dump = |number| Dump {
        reported: Some(failed(exit_reason::MSR_LOADING, number)),
        msr_load: msr_load.clone(),
        ..healthy()
    };
    for (number, words, broken) in [
        (1, "IA32_FS_BASE or IA32_GS_BASE", Some("msrload.fs-gs-base")),
        (2, "MSR 0x277 (IA32_PAT) = 0x3", Some("msrload.wrmsr-gp")),
        (3, "MSR 0x277 (IA32_PAT) = 0x6", None),
        (4, "MSR 0xdead = 0x0", None),
    ] {
        let entry = PartialEntry::of_dump(dump(number));
        let capabilities = Capabilities::new(&entry.processor(&CpuProfile::default()));
        let diagnosis = entry.diagnose(&capabilities);
        let msr = diagnosis.reported_msr().expect("it is listed");
        assert_eq!(msr.violated, broken.map(check).into_iter().collect::<Vec<_>>(), "{number}");
        // Whether an MSR takes a value is known where the processor is.
        let known = Capabilities::new(&NamedProfile::by_name("Tiger Lake").expect("a processor").profile);
        let loads: Vec<_> = entry.judge_msr_load(&known).iter().map(|msr| msr.loads).collect();
        assert_eq!(loads, [false, false, true, false]);
        let standing = |id: &str| {
            let groups = diagnosis.groups();
            let mut findings = groups.iter().flat_map(|group| group.findings.iter());
            findings.find(|finding| finding.check == check(id)).map(|finding| finding.standing)
        };
        let place = |entry: u64| match entry.cmp(&number) {
            Ordering::Less => Some(Standing::Passed),
            Ordering::Equal => Some(Standing::Cause),
            Ordering::Greater => Some(Standing::NotReached),
        };
        assert_eq!((standing("msrload.fs-gs-base"), standing("msrload.wrmsr-gp")), (place(1), place(2)), "{number}");
        let headline = diagnosis.headline(&diagnosis.groups());
        assert!(headline.starts_with(&format!("Entry {number} of the VM-entry MSR-load area")), "{headline}");
        assert!(headline.contains(words), "{headline}");
    }
}

#[test]
fn changes_are_judged_before_they_are_shown() {
    let mut mended = 0;
    for dump in dumps() {
        for pair in faults().chunks(2) {
            let entry = PartialEntry::of_dump(with(&dump, pair));
            let capabilities = Capabilities::new(&entry.processor(&CpuProfile::default()));
            let diagnosis = entry.diagnose(&capabilities);
            let fix = diagnosis.fix();
            let mut changed = entry.clone();
            fix.changes.iter().for_each(|change| changed.dump.vmcs.set_raw(change.field, change.new));
            let (left, pairs) = violated(&changed, &CpuProfile::default());
            assert_eq!(fix.left.is_empty(), left.is_empty() && pairs.is_empty(), "{pair:?}");
            assert!(fix.changes.len() <= diagnosis.verdict().violated.len() as usize + diagnosis.alternatives().len());
            mended += usize::from(fix.left.is_empty() && !fix.changes.is_empty());
        }
    }
    assert!(mended > 50, "{mended}");
}

#[test]
fn a_guess_counts_only_where_an_entry_failed() {
    let old = &NamedProfile::by_name("Core 2 (Conroe)").expect("a processor").profile;
    let error = |number| Some(Reported::Outcome { outcome: Outcome::fail_valid(number), qualified: true });
    let entered = Some(Reported::Outcome { outcome: Outcome::Entered, qualified: true });
    let guest_state = Some(failed(exit_reason::INVALID_GUEST_STATE, 0));
    for (reported, counts) in [(None, false), (entered, false), (error(7), true), (guest_state, false)] {
        let entry = PartialEntry::of_dump(Dump { reported, ..healthy() });
        let capabilities = Capabilities::new(&entry.processor(&CpuProfile::default()));
        let guess = Capabilities::new(&entry.processor(old));
        let diagnosis = entry.diagnose(&capabilities).guessing(&guess);
        let groups = diagnosis.groups();
        // A control that such a processor does not have.
        let control = groups
            .iter()
            .flat_map(|group| &group.findings)
            .find(|found| found.check == check("ctl.proc2.reserved-bits"));
        assert_eq!(control.is_some(), counts, "{reported:?}");
        assert!(control.is_none_or(|control| control.guessed));
        assert_eq!(diagnosis.headline(&groups).contains("probably"), counts, "{reported:?}");
        assert_eq!(diagnosis.status(), if reported.is_none() || reported == entered { 0 } else { 3 });
    }
}

#[test]
fn an_answer_is_short_unless_it_is_asked_for_more() {
    for dump in dumps() {
        let entry = PartialEntry::of_dump(dump);
        let capabilities = Capabilities::new(&entry.processor(&CpuProfile::default()));
        let diagnosis = entry.diagnose(&capabilities);
        let said = |verbose| diagnosis.sections(&Processor::default(), Manner { verbose, options: true }, None);
        let (short, long) = (said(false), said(true));
        assert!(short.len() <= 4 && short.len() < long.len(), "{short:?}");
        assert!(matches!(&short[0], Section::Paragraph(first) if !first.contains('\n')), "{short:?}");
    }
}

#[test]
fn anything_is_answered() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let outcomes = [
        None,
        Some(Reported::Svm),
        Some(Reported::FailWithoutNumber),
        Some(Reported::Outcome { outcome: Outcome::fail_valid(7), qualified: true }),
        Some(Reported::Outcome { outcome: Outcome::Entered, qualified: true }),
        Some(failed(exit_reason::INVALID_GUEST_STATE, 2)),
        Some(failed(exit_reason::MSR_LOADING, 2)),
        Some(Reported::Outcome { outcome: Outcome::FailInvalid, qualified: true }),
    ];
    for reported in outcomes {
        let mut dump = Dump { format: "random", reported, ..Dump::default() };
        for field in FieldId::all().filter(|field| field.info().width().mask() != 0) {
            match random() % 4 {
                0 => {}
                1 => dump.vmcs.set_raw(field, 0),
                _ => dump.vmcs.set_raw(field, random()),
            }
        }
        dump.msr_load = vec![MsrLoadEntry { number: 2, index: 0xC000_0100, value: random() }];
        let entry = PartialEntry::of_dump(dump);
        let capabilities = Capabilities::new(&entry.processor(&CpuProfile::default()));
        let tiger_lake = &NamedProfile::by_name("Tiger Lake").expect("a processor").profile;
        let guess = Capabilities::new(&entry.processor(tiger_lake));
        let diagnosis = entry.diagnose(&capabilities).guessing(&guess);
        let groups = diagnosis.groups();
        let of_groups: Vec<_> =
            groups.iter().flat_map(|group| group.findings.iter().map(|found| found.check)).collect();
        // Each violated check is in one group.
        for check in diagnosis.verdict().violated.iter() {
            assert_eq!(of_groups.iter().filter(|other| **other == check).count(), 1, "{check}");
        }
        assert!(!diagnosis.headline(&groups).is_empty());
        assert!(diagnosis.sections(&Processor::default(), Manner { verbose: true, options: true }, None).len() > 2);
        let answer = diagnosis.answer(&Processor::default(), None);
        assert_eq!(answer.status, diagnosis.status());
    }
}
