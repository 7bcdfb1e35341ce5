//! Tests that the JSON examples in docs/protocol.md can be read and mean what the page says.

use vmcs_case::program::Program;
use vmcs_case::recording::Recording;
use vmcs_case::{Case, End, Observation, Op, Start, StepResult, layout};

const PAGE: &str = include_str!("../../../docs/protocol.md");

/// The lines of an example.
fn example(name: &str) -> &'static str {
    let (_, block) = PAGE.split_once(&format!("```json {name}\n")).unwrap_or_else(|| panic!("no example {name:?}"));
    block.split_once("```").expect("it ends").0
}

/// The case that the page also has as bytes.
fn case() -> Case {
    let ops = vec![
        Op::Store { address: layout::VMCS_REGIONS, size: 4, value: 0x2B },
        Op::Vmclear { address: layout::VMCS_REGIONS },
        Op::Vmptrld { address: layout::VMCS_REGIONS },
        Op::Vmlaunch { after_mov_ss: false },
    ];
    Case { start: Start::VmxRoot, ops, ..Case::default() }
}

#[test]
fn the_program_is_that_case() {
    let program: Program = serde_json::from_str(example("program")).expect("it is a program");
    assert_eq!(program.to_case(0x2B, &[]), Ok(case()));
}

#[test]
fn the_recording_is_that_case_with_its_answer() {
    let recording =
        Recording::read_lines(example("recording").as_bytes(), "docs/protocol.md").expect("it is a recording");
    let steps = vec![StepResult::Ok, StepResult::Ok, StepResult::Ok, StepResult::FailValid(7)];
    assert_eq!(recording.cases, [(case(), Observation { steps, end: End::Completed })]);
}

#[test]
fn every_operation_of_programs_is_listed() {
    let (_, rows) = PAGE.split_once("\n| `op` | other keys |\n").expect("the table");
    let rows: String = rows.lines().take_while(|line| line.starts_with('|')).collect();
    let unknown =
        serde_json::from_str::<Program>(r#"{"id": "a", "ops": [{"op": "?"}]}"#).expect_err("there is no such one");
    let message = unknown.to_string();
    let names = message.split('`').skip(3).step_by(2);
    assert!(names.clone().count() > 15, "{message}");
    for name in names {
        assert!(rows.contains(&format!("`{name}`")), "docs/protocol.md does not list the operation {name:?}");
    }
}
