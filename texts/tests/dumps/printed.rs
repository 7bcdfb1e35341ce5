//! VMCSs that are known, printed as Linux, Xen and HAXM do, undamaged and damaged: what is violated is found, and nothing else.

use std::collections::BTreeSet;

use crate::claims::Claims;
use crate::damage::{HARMLESS, LOSSY};
use crate::print::{FORMATS, MOST_MSRS};
use vmcs_golden::{corpus, profiles};
use vmcs_model::checks::CheckId;
use vmcs_model::field::FieldId;
use vmcs_model::{Capabilities, Vmcs};
use vmcs_texts::diagnosis::PartialEntry;
use vmcs_texts::dump;

/// A VMCS, the processor, and the checks that it violates.
struct Known {
    place: String,
    vmcs: Vmcs,
    capabilities: Capabilities,
    violated: BTreeSet<String>,
    open: BTreeSet<String>,
}

/// The valid VMCS, and those of the golden corpus that violate something, as far as nothing but fields is at fault.
fn known() -> Vec<Known> {
    let lines = corpus::lines();
    let of_fields = |line: &&corpus::Line| {
        // A dump is taken to be of an entry outside of SMM, by a processor in the mode of the host state.
        !["smm.", "address_space."].iter().any(|file| line.place.starts_with(file))
            && !["cpu.", "op=", "launch=", "shadow=", "memory.", "msr."].iter().any(|other| line.text.contains(other))
    };
    // A list of MSRs is printed in full.
    let counts = ["vm_entry_msr_load_count", "vm_exit_msr_store_count", "vm_exit_msr_load_count"];
    let counts = counts.map(|name| FieldId::by_name(name).expect("a field"));
    let known = lines.iter().filter(of_fields).map(|line| {
        let capabilities = Capabilities::new(&profiles::by_name(line.scene.profile()));
        let stage = line.scene.on(&capabilities);
        Known {
            place: line.place.clone(),
            vmcs: stage.vmcs,
            capabilities,
            violated: line.expected.violated.iter().cloned().collect(),
            open: line.expected.open.iter().cloned().collect(),
        }
    });
    known.filter(|known| counts.iter().all(|count| known.vmcs.raw(*count) <= MOST_MSRS)).collect()
}

/// The checks that are violated for certain in a text, and all those that may be.
fn judged(text: &str, capabilities: &Capabilities) -> (BTreeSet<String>, BTreeSet<String>) {
    let names = |checks: vmcs_model::checks::CheckSet| checks.iter().map(|check: CheckId| check.to_string()).collect();
    let mut dumps = dump::find(text);
    assert!(dumps.len() <= 1, "{text}");
    let Some(dump) = dumps.pop() else { return Default::default() };
    let entry = PartialEntry::of_dump(dump);
    let verdict = *entry.diagnose(capabilities).verdict();
    (names(verdict.violated), names(verdict.undecidable))
}

#[test]
fn what_is_printed_is_read() {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut checks: BTreeSet<String> = BTreeSet::new();
    for known in known() {
        for (format, print) in FORMATS {
            let text = print(&known.vmcs);
            let place = format!("{} as {format}", known.place);
            let dumps = dump::find(&text);
            let [dump] = &dumps[..] else { panic!("{place}: {} dumps", dumps.len()) };
            for field in FieldId::all() {
                let value = dump.vmcs.raw(field);
                assert!(
                    value.is_none_or(|value| value == known.vmcs.raw(field)),
                    "{place}: {field} = {value:x?}\n{text}"
                );
            }
            // The widest lines of HAXM's may have been cut.
            let damage = &dump.damage;
            assert!(damage.is_empty() || format == "HAXM" && damage.len() < 4, "{place}: {damage:?}\n{text}");
            let (violated, undecidable) = judged(&text, &known.capabilities);
            assert!(violated.is_subset(&known.violated), "{place}: {violated:?}, not {:?}\n{text}", known.violated);
            for check in known.violated.difference(&violated) {
                assert!(undecidable.contains(check), "{place}: {check} is held, not undecidable\n{text}");
            }
            seen.extend(violated);
        }
        checks.extend(known.violated);
        assert!(known.open.len() < 400);
    }
    println!("{} of {} checks are seen violated in a dump", seen.len(), checks.len());
    assert!(seen.len() > 150, "{}: {:?}", seen.len(), checks.difference(&seen));
}

/// Damage that leaves every value readable changes nothing; other damage adds nothing.
#[test]
fn what_is_damaged_claims_no_more() {
    for known in known().iter().step_by(7) {
        for (format, print) in FORMATS {
            let text = print(&known.vmcs);
            let whole = Claims::of(&text);
            let (violated, _) = judged(&text, &known.capabilities);
            for (damage, change) in HARMLESS {
                let damaged = change(&text);
                let place = || format!("{} as {format}: {damage}", known.place);
                whole.assert_covers(&damaged, place);
                // Where lines were broken, others are the widest, and HAXM's may have been cut there.
                if format == "HAXM" && damage.starts_with("a mail") {
                    continue;
                }
                assert_eq!(judged(&damaged, &known.capabilities).0, violated, "{}\n{damaged}", place());
            }
            for (damage, change) in LOSSY {
                let damaged = change(&text);
                whole.assert_covers(&damaged, || format!("{} as {format}: {damage}\n{damaged}", known.place));
            }
        }
    }
}

/// In every format, a text that ends anywhere, and lines that are cut at any width.
#[test]
fn every_format_may_be_cut() {
    for known in known().iter().step_by(97) {
        for (format, print) in FORMATS {
            let text = print(&known.vmcs);
            let whole = Claims::of(&text).know(&known.vmcs);
            for at in (0..text.len()).step_by(if known.violated.is_empty() { 1 } else { 5 }) {
                whole
                    .assert_covers(&text[..at], || format!("{} as {format}: {at} bytes\n{}", known.place, &text[..at]));
            }
            for width in 0..130 {
                let cut: String =
                    text.lines().map(|line| line.chars().take(width).collect::<String>() + "\n").collect();
                whole.assert_covers(&cut, || format!("{} as {format}: {width} columns\n{cut}", known.place));
            }
        }
    }
}

/// Two dumps that were printed at the same time: each value is taken for that of its own dump, or of none.
#[test]
fn dumps_may_be_printed_into_each_other() {
    let known = known();
    let mut rich: Vec<_> = known.iter().step_by(23).collect();
    rich.push(&known[0]);
    for (format, print) in FORMATS {
        for (n, pair) in rich.windows(2).enumerate() {
            let texts = [pair[0], pair[1]].map(|known| print(&known.vmcs));
            let claims = [0, 1].map(|n| Claims::of(&texts[n]).know(&pair[n].vmcs));
            let assert_apart = |text: &str, what: &str| {
                for dump in dump::find(text) {
                    let own = claims.iter().any(|claims| claims.cover(&dump));
                    assert!(
                        own,
                        "{} and {} as {format}, {what}: a dump that is neither's\n{text}",
                        pair[0].place, pair[1].place
                    );
                }
            };
            for begin in [0, 1, 2, 5, 17, 30, 41, 60, 100] {
                for stride in [1, 2, 3] {
                    let mixed = mixed(&texts[0], &texts[1], begin, stride);
                    assert_apart(&mixed, &format!("from line {begin}, {stride} lines at a time"));
                    let cut = &mixed[..mixed.len() * (n % 9 + 1) / 9];
                    assert_apart(cut, &format!("from line {begin}, {stride} lines at a time, cut"));
                }
            }
        }
    }
}

/// The lines of `b` between those of `a`, so many at a time, from that line of `a` on.
fn mixed(a: &str, b: &str, begin: usize, stride: usize) -> String {
    let (mut a, mut b) = (a.lines().peekable(), b.lines().peekable());
    let mut mixed: Vec<_> = a.by_ref().take(begin).collect();
    while a.peek().is_some() || b.peek().is_some() {
        mixed.extend(b.by_ref().take(stride));
        mixed.extend(a.by_ref().take(stride));
    }
    mixed.join("\n") + "\n"
}

/// Where the thread is printed, each of two dumps is read as if it stood alone.
#[test]
fn tags_take_dumps_apart() {
    let known = known();
    let tagged = |text: &str, tag: &str| -> String {
        let bare = |line: &str| line.split_once("] ").map_or(line, |(_, line)| line).to_owned();
        text.lines().map(|line| format!("[ 2311.499051][{tag}] {}\n", bare(line))).collect()
    };
    for (format, print) in &FORMATS[..2] {
        for pair in known.chunks(2).step_by(9) {
            let [a, b] = pair else { continue };
            let texts = [tagged(&print(&a.vmcs), " T12"), tagged(&print(&b.vmcs), "T345")];
            let alone = [0, 1].map(|n| dump::find(&texts[n]).pop().expect("a dump"));
            for begin in [0, 1, 7, 25, 41] {
                let found = dump::find(&mixed(&texts[0], &texts[1], begin, 1));
                assert_eq!(found.len(), 2, "{} and {} as {format}", a.place, b.place);
                for dump in &found {
                    let same =
                        |alone: &dump::Dump| FieldId::all().all(|field| alone.vmcs.raw(field) == dump.vmcs.raw(field));
                    assert!(alone.iter().any(same), "{} and {} as {format}", a.place, b.place);
                }
            }
        }
    }
}
