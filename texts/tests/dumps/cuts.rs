//! Dumps that were cut: nothing is claimed of what is missing.

use std::collections::BTreeSet;

use crate::claims::{Claims, samples, samples_and_registers};

/// A text that begins or ends at any byte.
#[test]
fn a_text_may_begin_and_end_anywhere() {
    for (name, text) in samples_and_registers() {
        let whole = Claims::of(&text);
        for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            whole.assert_covers(&text[..at], || format!("{name}: the first {at} bytes"));
            whole.assert_covers(&text[at..], || format!("{name}: from byte {at} on"));
        }
    }
}

/// Lines that end or begin at any column.
#[test]
fn lines_may_be_cut_at_any_width() {
    for (name, text) in samples_and_registers() {
        let whole = Claims::of(&text);
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        for width in 0..=widest {
            let cut: String = text.lines().map(|line| line.chars().take(width).collect::<String>() + "\n").collect();
            whole.assert_covers(&cut, || format!("{name}: lines of {width} characters"));
            let cut: String = text.lines().map(|line| line.chars().skip(width).collect::<String>() + "\n").collect();
            whole.assert_covers(&cut, || format!("{name}: lines without {width} characters"));
        }
    }
}

/// A window of a text, as a screenshot shows it.
#[test]
fn a_window_may_be_all_that_is_left() {
    for (name, text) in samples_and_registers() {
        let whole = Claims::of(&text);
        let lines: Vec<_> = text.lines().collect();
        for width in [20, 33, 40, 57, 64, 72, 80] {
            for first in (0..lines.len()).step_by(5) {
                let window: String = lines[first..]
                    .iter()
                    .take(25)
                    .map(|line| line.chars().take(width).collect::<String>() + "\n")
                    .collect();
                whole.assert_covers(&window, || format!("{name}: {width} columns from line {first} on"));
            }
        }
    }
}

/// One line that is missing, and one that is cut.
#[test]
fn a_line_may_be_missing_or_cut() {
    for (name, text) in samples_and_registers() {
        let whole = Claims::of(&text);
        let lines: Vec<_> = text.lines().collect();
        for missing in 0..lines.len() {
            let rest = [&lines[..missing], &lines[missing + 1..]].concat().join("\n") + "\n";
            whole.assert_covers(&rest, || format!("{name} without line {}", missing + 1));
            let rest = [&lines[..missing], &lines[(missing + 9).min(lines.len())..]].concat().join("\n") + "\n";
            whole.assert_covers(&rest, || format!("{name} without nine lines from {} on", missing + 1));
        }
    }
}

/// The headline of guest state is lost: what only guest state has is known, and no value is another.
#[test]
fn guest_state_is_known_without_its_headline() {
    for (name, text) in samples().into_iter().filter(|(_, text)| text.contains("*** Guest State")) {
        let whole = Claims::of(&text);
        let lines: Vec<_> = text.lines().collect();
        let headline = lines.iter().position(|line| line.contains("*** Guest State")).expect("it is there");
        let without = [&lines[..headline], &lines[headline + 1..]].concat().join("\n") + "\n";
        whole.assert_covers(&without, || format!("{name} without its headline"));
        let known = Claims::of(&without).known();
        assert!(known + 8 >= whole.known(), "{name}: {known} of {}", whole.known());
        // The log begins with guest state, and has no headline of another section.
        let first = lines.iter().position(|line| line.contains("RFLAGS=")).expect("it is there");
        let end = lines.iter().position(|line| line.contains("*** Host State")).unwrap_or(lines.len());
        for first in [first, end - 5] {
            let part = lines[first..end].join("\n") + "\n";
            whole.assert_covers(&part, || format!("{name}: {part}"));
            assert!(Claims::of(&part).known() >= 2, "{name}: {part}");
        }
    }
}

/// Where no line says that it has lost no begin, what is left of that of LDTR may look like that of TR.
#[test]
fn a_line_of_tr_may_be_one_of_ldtr() {
    let rest = "attr=0x1c000, limit=0xffffffff, base=0x0000000000000000\n";
    let text = format!("TR: sel=0x0001, {rest}DebugCtl = 0x0000000000000000  DebugExceptions = 0x0000000000000000\n");
    assert_eq!(Claims::of(&text).known(), 2);
    let prefixed: String = text.lines().map(|line| format!("[ 2311.499061] kvm_intel: {line}\n")).collect();
    assert_eq!(Claims::of(&prefixed).known(), 6);
}

/// What the samples show at all, so that the tests above look at something.
#[test]
fn whole_samples_are_read() {
    let violated: BTreeSet<_> = samples().iter().flat_map(|(_, text)| Claims::of(text).violated()).collect();
    assert!(
        violated.contains("guest.intr.sti-needs-if") && violated.contains("ctl.inject.errcode-required"),
        "{violated:?}"
    );
    for (name, text) in samples_and_registers() {
        let claims = Claims::of(&text);
        let least = if name == "qemu" {
            20
        } else if name.starts_with("haxm") {
            10
        } else {
            100
        };
        assert!(claims.known() >= least, "{name}: {}", claims.known());
    }
}
