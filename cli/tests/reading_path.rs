//! A test that the files and functions which docs/architecture.md names on the two ways through the code exist.

use std::fs;
use std::path::Path;

/// The headings of the ways.
const HEADINGS: [&str; 2] = ["## From a row to what a user reads", "### From a generated case to a finding"];

/// What a step can name.
const KINDS: [&str; 4] = ["fn", "struct", "enum", "macro_rules!"];

#[test]
fn every_step_names_a_file_and_something_in_it() {
    HEADINGS.into_iter().for_each(follow);
}

/// Looks for what each step under that heading names.
fn follow(heading: &str) {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the command is a member of the workspace");
    let guide = fs::read_to_string(workspace.join("docs/architecture.md")).expect("the guide is there");
    let (_, way) = guide.split_once(heading).expect("the way is there");
    let (way, _) = way.split_once("\n#").expect("another heading follows");
    let mut steps = 0;
    for line in way.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())) {
        steps += 1;
        let mut quoted = line.split('`').skip(1).step_by(2);
        let (file, name) = (quoted.next().expect("a file"), quoted.next().expect("a name"));
        let text = fs::read_to_string(workspace.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let item = name.rsplit("::").next().expect("a name");
        let found = KINDS.into_iter().any(|kind| text.contains(&format!("{kind} {item}")));
        assert!(found, "{file} has no {item}: {line}");
    }
    assert!((8..=12).contains(&steps), "{steps} steps");
}
