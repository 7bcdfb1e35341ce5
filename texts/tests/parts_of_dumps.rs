//! A part of a dump that has lost what tells its shape is still no list of wrong values.

use std::collections::BTreeSet;
use std::fs;

use vmcs_model::field::FieldId;
use vmcs_texts::dump::{self, Dump};

/// Formats that are looked for where no other is found.
const FALLBACKS: [&str; 2] = ["field list", "error line"];

fn values(dump: &Dump) -> impl Iterator<Item = (FieldId, u64)> + '_ {
    FieldId::all().filter_map(|field| Some((field, dump.vmcs.raw(field)?)))
}

#[test]
fn parts_of_a_dump_are_no_list_of_wrong_values() {
    let mut found = 0;
    for entry in fs::read_dir("../cli/tests/dumps").expect("the dumps are there") {
        let text = fs::read_to_string(entry.expect("a file").path()).expect("a text");
        let whole: BTreeSet<_> = dump::find(&text).iter().flat_map(values).collect();
        let lines: Vec<_> = text.lines().collect();
        let cut = |from: usize, width: usize| -> String {
            lines[from..].iter().flat_map(|line| line.chars().take(width).chain(['\n'])).collect()
        };
        let starts = (0..lines.len()).flat_map(|from| [20, 30, 40, 60, usize::MAX].map(|width| (from, width)));
        for (from, width) in starts.chain((5..100).map(|width| (0, width))) {
            let part = cut(from, width);
            for dump in dump::find(&part).iter().filter(|dump| FALLBACKS.contains(&dump.format)) {
                found += dump.known();
                let wrong: Vec<_> = values(dump).filter(|value| !whole.contains(value)).collect();
                assert_eq!(wrong, [], "from line {from}, {width} columns");
            }
        }
    }
    assert!(found > 100, "the parts hold values that are read");
}
