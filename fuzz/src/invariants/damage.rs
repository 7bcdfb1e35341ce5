//! A property of every text that was a dump before people and programs damaged it: what is read of it is what the dump showed,
//! or nothing.

use arbitrary::{Result, Unstructured};
use vmcs_model::field::{self, FieldId};
use vmcs_texts::dump::{self, Dump, Reported};

/// Dumps out of bug reports, by the program that printed them.
const DUMPS: [&[&str]; 3] = [&KVM, &XEN, &HAXM];
const KVM: [&str; 3] = [
    include_str!("../../../cli/tests/dumps/kvm-smm-sti-shadow.txt"),
    include_str!("../../../cli/tests/dumps/kvm-6.9-healthy-ve-autoload.txt"),
    include_str!("../../../cli/tests/dumps/kvm-healthy-split-continuation.txt"),
];
const XEN: [&str; 2] = [
    include_str!("../../../cli/tests/dumps/xen-4.11-healthy.txt"),
    include_str!("../../../cli/tests/dumps/xen-error7-injection.txt"),
];
const HAXM: [&str; 1] = [include_str!("../../../cli/tests/dumps/haxm-guest-part.txt")];

/// How many entries the lists of MSRs have.
const LISTS: [FieldId; 3] =
    [field::VM_ENTRY_MSR_LOAD_COUNT.id(), field::VM_EXIT_MSR_STORE_COUNT.id(), field::VM_EXIT_MSR_LOAD_COUNT.id()];

/// What loggers put in front of a line.
const PREFIXES: [&str; 6] = [
    "[ 2311.499051] ",
    "[ 2311.499051] [T1234] ",
    "2022-06-24T17:25:51.1234567Z ",
    "Jun 24 17:25:51 host kernel: ",
    "kern  :err   : [   12.345678] ",
    "6,1234,12345678,-;",
];

/// What people and their mail programs put there.
const QUOTES: [&str; 3] = ["> ", "> > ", "    "];

/// A dump that was cut, broken, quoted and mixed with another: it shows nothing that neither of them shows.
pub fn damage(bytes: &[u8]) {
    let _ = try_damage(&mut Unstructured::new(bytes));
}

fn try_damage(u: &mut Unstructured<'_>) -> Result<()> {
    let dumps = *u.choose(&DUMPS)?;
    let mut shown = vec![*u.choose(dumps)?];
    let mut lines: Vec<String> = shown[0].lines().map(str::to_owned).collect();
    // What is mixed is printed, and not yet broken by a mail program.
    let other = *u.choose(dumps)?;
    if u.ratio(1u8, 3u8)? && shown[0] != XEN[0] && other != XEN[0] {
        shown.push(other);
        lines = mixed(&lines, other, u.int_in_range(0..=lines.len())?, u.int_in_range(1..=3)?);
    }
    if u.arbitrary()? {
        let prefix = *u.choose(&PREFIXES)?;
        lines = each(&lines, |line| format!("{prefix}{line}"));
    }
    // The text ends within a line; lines are cut.
    let (mut open, mut narrow) = (false, false);
    let mut wrapped = shown[0] == XEN[0];
    for _ in 0..u.int_in_range(0..=3)? {
        // Lines of one dump among those of another are found by their number and order, so none is missing. The halves of
        // broken lines do not tell that lines between them are missing.
        let kinds = if shown.len() > 1 || wrapped { 6 } else { 9 };
        match u.int_in_range(0..=kinds)? {
            0 => lines = each(&lines, |line| format!("{line}\r")),
            1 => lines = each(&lines, |line| line.replace("  ", "\t")),
            2 => lines.truncate(u.int_in_range(0..=lines.len())?),
            3 => {
                let quote = *u.choose(&QUOTES)?;
                lines = each(&lines, |line| format!("{quote}{line}"));
            }
            // Of lines of two dumps that were broken and then cut, too little is left to tell that there are two.
            4 | 5 if shown.len() > 1 && (narrow || wrapped) => {}
            4 => {
                narrow = true;
                let width = u.int_in_range(1..=120)?;
                lines = each(&lines, |line| line.chars().take(width).collect());
            }
            5 => {
                let width = u.int_in_range(20..=100)?;
                lines = lines.iter().flat_map(|line| broken(line, width)).collect();
                wrapped = true;
            }
            6 => {
                if let Some(last) = lines.last_mut() {
                    let left = u.int_in_range(0..=last.chars().count())?;
                    *last = last.chars().take(left).collect();
                    open = true;
                }
            }
            7 => {
                let first = u.int_in_range(0..=lines.len())?;
                let count = u.int_in_range(0..=lines.len() - first)?;
                lines.drain(first..first + count);
            }
            8 => {
                let width = u.int_in_range(1..=100)?;
                let fold = |line: &String| {
                    let line: Vec<_> = line.chars().collect();
                    line.chunks(width).map(|chunk| chunk.iter().collect()).collect::<Vec<String>>()
                };
                lines = lines.iter().flat_map(fold).collect();
            }
            _ => {
                // A letter that makes a number, or a name, unreadable.
                if let Some(line) = lines.len().checked_sub(1) {
                    let line = &mut lines[u.int_in_range(0..=line)?];
                    let at = u.int_in_range(0..=line.chars().count())?;
                    *line = line.chars().enumerate().map(|(n, c)| if n == at { '?' } else { c }).collect();
                }
            }
        }
    }
    let mut text = lines.join("\n");
    if !open && u.arbitrary()? {
        text.push('\n');
    }
    let whole: Vec<_> = shown.iter().flat_map(|text| dump::find(text)).collect();
    for dump in dump::find(&text) {
        let wrong: Vec<_> = whole.iter().map(|whole| wrong(whole, &dump)).collect();
        assert!(wrong.iter().any(Vec::is_empty), "{wrong:?}\n{text}");
    }
    Ok(())
}

/// What a dump shows that another does not. A list of MSRs that is missing together with its headline looks as if it were
/// empty, which violates nothing.
fn wrong(whole: &Dump, dump: &Dump) -> Vec<String> {
    let value = |field: FieldId| {
        let value = dump.vmcs.raw(field)?;
        let empty = value == 0 && LISTS.contains(&field);
        (!empty && Some(value) != whole.vmcs.raw(field)).then(|| format!("line {}: {field} = {value:#x}", dump.line))
    };
    let mut wrong: Vec<_> = FieldId::all().filter_map(value).collect();
    let outcome = |reported: Reported| {
        whole.reported.and_then(|whole| whole.outcome()).is_some_and(|outcome| reported.is(outcome))
    };
    wrong.extend(
        dump.reported
            .filter(|reported| Some(*reported) != whole.reported && !outcome(*reported))
            .map(|reported| reported.to_string()),
    );
    let entries = dump.msr_load.iter().filter(|entry| !whole.msr_load.contains(entry));
    wrong.extend(entries.map(|entry| format!("{entry:?}")));
    wrong
}

fn each(lines: &[String], change: impl Fn(&str) -> String) -> Vec<String> {
    lines.iter().map(|line| change(line)).collect()
}

/// The lines of another dump between some, so many at a time, from one of them on.
fn mixed(lines: &[String], other: &str, begin: usize, stride: usize) -> Vec<String> {
    let (mut lines, mut other) = (lines.iter().cloned().peekable(), other.lines().map(str::to_owned).peekable());
    let mut mixed: Vec<_> = lines.by_ref().take(begin).collect();
    while lines.peek().is_some() || other.peek().is_some() {
        mixed.extend(other.by_ref().take(stride));
        mixed.extend(lines.by_ref().take(stride));
    }
    mixed
}

/// A line broken at spaces.
fn broken(line: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split_inclusive(' ') {
        match lines.last_mut() {
            Some(last) if last.len() + word.trim_end().len() <= width || last.trim().is_empty() => last.push_str(word),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    proptest! {
        // The same cases in every run: what a search finds beyond them is a matter of the fuzz target.
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::with_cases(3000) })]

        #[test]
        fn damaged_dumps(bytes in proptest::collection::vec(any::<u8>(), 0..48)) {
            damage(&bytes);
        }
    }

    #[test]
    fn a_value_that_the_dump_does_not_show_is_found_out() {
        let [whole] = &dump::find(KVM[0])[..] else { panic!("it is one dump") };
        let [other] = &dump::find(KVM[1])[..] else { panic!("it is one dump") };
        assert!(wrong(whole, whole).is_empty() && !wrong(whole, other).is_empty());
        let mut less = whole.clone();
        less.vmcs = vmcs_model::partial::PartialVmcs::new();
        assert!(wrong(whole, &less).is_empty() && !wrong(&less, whole).is_empty());
    }
}
