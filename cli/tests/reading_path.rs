//! What docs/architecture.md says of the way from a generated case to a finding is there.

use std::fs;
use std::path::Path;

/// The heading of the way.
const HEADING: &str = "### From a generated case to a finding";

#[test]
fn every_step_names_a_file_and_a_function_in_it() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the command is a member of the workspace");
    let guide = fs::read_to_string(workspace.join("docs/architecture.md")).expect("the guide is there");
    let (_, way) = guide.split_once(HEADING).expect("the way is there");
    let (way, _) = way.split_once("\n#").expect("another heading follows");
    let mut steps = 0;
    for line in way.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())) {
        steps += 1;
        let mut quoted = line.split('`').skip(1).step_by(2);
        let (file, name) = (quoted.next().expect("a file"), quoted.next().expect("a function"));
        let text = fs::read_to_string(workspace.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let function = name.rsplit("::").next().expect("a name");
        assert!(text.contains(&format!("fn {function}")), "{file} has no function {function}: {line}");
    }
    assert!((8..=12).contains(&steps), "{steps} steps");
}
