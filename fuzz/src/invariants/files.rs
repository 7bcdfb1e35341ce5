//! Properties of every text that somebody may give to the command: it is read or refused, and what was read is the same
//! after it was written and read again.

use std::path::Path;

use vmcs_case::number::Number;
use vmcs_case::profile::{NamedProfile, ProfileError};
use vmcs_case::program::Program;
use vmcs_case::recording::Recording;
use vmcs_model::checks::CheckId;
use vmcs_model::field::FieldId;
use vmcs_model::memory::ZeroMemory;
use vmcs_model::{Capabilities, CpuProfile, CpuState, EntryAttempt, Vmcs};
use vmcs_texts::case::ImageCase;
use vmcs_texts::dump;
use vmcs_texts::image::{Image, Syntax};

use crate::campaign::program_of;
use crate::deviations::Deviations;
use crate::findings::case_file::CaseFile;

/// Lines of a text that are read as programs, cases and numbers.
const MOST_LINES: usize = 64;
/// A VMCS revision identifier.
const REVISION: u32 = 0x2B;
/// The images of a session.
const IMAGES: [&str; 2] = ["plain", "rich"];

/// Any text, as each of the files that the command reads.
pub fn files(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    image(&text, Syntax::Json);
    image(&text, Syntax::Toml);
    dumps(&text);
    profile(&text);
    deviations(&text);
    recording(bytes);
    case_file(&text);
    for line in text.lines().take(MOST_LINES) {
        program(line);
        case(line);
        number(line);
    }
}

/// That the error says what is wrong, in a line that the text has.
fn assert_clear(text: &str, line: usize, message: &str) {
    assert!(!message.is_empty());
    assert!((1..=text.lines().count() + 1).contains(&line), "line {line} of {} lines: {message}", text.lines().count());
}

fn image(text: &str, syntax: Syntax) {
    match Image::parse(text, syntax) {
        Ok(image) => {
            let vmcs = image.to_vmcs();
            assert_fits(&vmcs);
            let _ = (image.to_memory(REVISION), image.cpu_of_partial());
            let listed = |field: &FieldId| image.fields.iter().any(|(listed, _)| listed == field);
            assert!(FieldId::all().filter(|field| !listed(field)).all(|field| vmcs.raw(field) == 0));
        }
        Err(error) => assert_clear(text, error.line, &error.message),
    }
}

/// That every field holds no more bits than it has.
fn assert_fits(vmcs: &Vmcs) {
    for field in FieldId::all() {
        let info = field.info();
        assert_eq!(vmcs.raw(field) & !info.width().mask(), 0, "{}", info.name);
    }
}

fn dumps(text: &str) {
    for dump in dump::find(text) {
        assert!(!dump.format.is_empty());
        assert!(dump.notes.iter().all(|note| !note.is_empty() && !note.contains('\n')), "{:?}", dump.notes);
        assert!(dump.reported.is_none_or(|reported| reported.outcome().is_none_or(|outcome| reported.is(outcome))));
        let known = FieldId::all().filter_map(|field| dump.vmcs.raw(field).map(|value| (field, value)));
        assert!(known.clone().all(|(field, value)| value & !field.info().width().mask() == 0));
        assert_eq!(known.count(), dump.known());
        // Nothing is known of the processor: whatever is said holds on every one.
        let capabilities = Capabilities::new(&CpuProfile::default());
        let _ = EntryAttempt::vmlaunch(&CpuState::host_64(), &capabilities).on(&dump.vmcs, &ZeroMemory).verdict();
    }
}

fn profile(text: &str) {
    let file = Path::new("profile.json");
    match NamedProfile::from_json(text, file) {
        Ok(profile) => {
            let written = profile.to_json();
            assert_eq!(NamedProfile::from_json(&written, file).expect("it was written"), profile, "{written}");
            let _ = Capabilities::new(&profile.profile);
        }
        Err(ProfileError::Json { line, message, .. }) => assert_clear(text, line, &message),
        Err(other) => panic!("{other}"),
    }
}

fn deviations(text: &str) {
    match Deviations::parse("deviations.toml", text) {
        Ok(deviations) => {
            let written = deviations.to_toml();
            let read = Deviations::parse("written", &written).expect("it was written");
            assert_eq!(read, deviations, "{written}");
        }
        Err(error) => assert!(error.to_string().starts_with("deviations.toml: "), "{error}"),
    }
}

fn recording(bytes: &[u8]) {
    // Compressed, and as it is inside.
    for read in [Recording::read(bytes, "file"), Recording::read_lines(bytes, "file")] {
        match read {
            Ok(recording) => {
                let written = recording.to_lines();
                let read = Recording::read_lines(written.as_bytes(), "written").expect("it was written");
                assert_eq!((read.header, read.cases), (recording.header, recording.cases), "{written}");
            }
            Err(error) => assert!(!error.message.is_empty()),
        }
    }
}

fn case_file(text: &str) {
    match CaseFile::parse("case.json", text) {
        Ok(cases) => {
            let write = |case| serde_json::to_string(case).expect("every key is a string");
            let written: String = cases.iter().map(write).collect();
            assert_eq!(CaseFile::parse("written", &written).expect("it was written"), cases, "{written}");
        }
        Err(error) => assert!(!error.message.is_empty()),
    }
}

/// A program means the same case however it is written.
fn program(line: &str) {
    let Ok(program) = serde_json::from_str::<Program>(line) else { return };
    let written = serde_json::to_string(&program).expect("every key is a string");
    assert_eq!(serde_json::from_str::<Program>(&written).expect("it was written"), program, "{written}");
    let case = program.to_case(REVISION, &IMAGES);
    let extents = program.extents();
    assert!(extents.is_ok() || case.is_err(), "{extents:?}");
    let (Ok(case), Ok((setup, lines))) = (case, extents) else { return };
    assert_eq!(setup + lines.iter().sum::<usize>(), case.ops.len());
    let again = program_of(program.id, &case);
    for again in [again.clone().portable(REVISION, &IMAGES), again] {
        let written = serde_json::to_string(&again).expect("every key is a string");
        let read: Program = serde_json::from_str(&written).expect("it was written");
        assert_eq!(read.to_case(REVISION, &IMAGES).as_ref(), Ok(&case), "{written}");
    }
}

fn case(line: &str) {
    match ImageCase::parse(line.as_bytes()) {
        Ok(case) => {
            let mut vmcs = Vmcs::new();
            case.set.apply(&mut vmcs);
            assert_fits(&vmcs);
            vmcs_texts::image::Memory::default().apply(&case.memory.0, REVISION);
        }
        Err(message) => assert!(!message.is_empty()),
    }
}

fn number(text: &str) {
    if let Ok(number) = Number::parse(text) {
        assert_eq!(Number::parse(&number.to_string()), Ok(number), "{text}");
    }
    // Names are looked up, and what is near them is offered.
    assert!(CheckId::by_id(text).is_none_or(|check| check.info().id == text));
    assert!(FieldId::by_name(text).is_none_or(|field| FieldId::by_name(field.info().name) == Some(field)));
    if let Err(unknown) = NamedProfile::by_name(text) {
        assert!(!unknown.to_string().is_empty());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    /// Pieces that texts of all formats are made of.
    const PIECES: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\n",
        " ",
        "=",
        "0x",
        "-",
        "(",
        ")",
        "null",
        "true",
        "1",
        "6800",
        "ffff",
        "{\"id\": \"a\", \"ops\": [{\"op\": \"vmread\", \"field\": \"0x6800\"}]}",
        "{\"id\": \"a\", \"set\": {\"guest_rip\": 1}}",
        "{\"fields\": {\"guest_rip\": \"0x1000\"}}",
        "[fields]\nguest_rip = 1\n",
        "[[memory]]\naddress = 1\nu32 = \"revision\"\n",
        "\"name\"",
        "\"source\"",
        "\"msrs\"",
        "\"cpuid\"",
        "\"0x480\"",
        "[[deviation]]\nid = 'x'\nimplementation = 'y'\nbehaviour = ''\nsdm = ''\nevidence = ''\n",
        "*** Guest State ***",
        "*** Host State ***",
        "*** Control State ***",
        "CR3 = 0x",
        "CS: sel=0x10, attr=0x",
        "kvm_intel: ",
        "(XEN) ",
        "[ 12.1] ",
        "=3D",
        "reason=80000021 qualification=0",
        "6800 GUEST_CR0: 0x1",
        "KVM: entry failed, hardware error 0x",
        "CR0=00000011",
        "RIP=0000",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn texts(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..24)) {
            files(pieces.concat().as_bytes());
        }

        #[test]
        fn bytes(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            files(&bytes);
        }
    }

    /// The seeds of the fuzz target are read, each as what it is: a mutation of theirs gets far.
    #[test]
    fn the_seeds_are_read() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/formats");
        for entry in fs::read_dir(&seeds).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            let lines = |read: fn(&str) -> bool| text.lines().filter(|line| read(line)).count();
            let read = match path.file_name().unwrap().to_str().unwrap() {
                "image.json" => Image::parse(&text, Syntax::Json).is_ok(),
                "image.toml" => Image::parse(&text, Syntax::Toml).is_ok(),
                "cases.jsonl" => lines(|line| ImageCase::parse(line.as_bytes()).is_ok()) == 2,
                "programs.jsonl" => lines(|line| serde_json::from_str::<Program>(line).is_ok()) == 3,
                "profile.json" => NamedProfile::from_json(&text, &path).is_ok(),
                "deviations.toml" => Deviations::parse("", &text).is_ok(),
                "recording.jsonl" => Recording::read_lines(&bytes[..], "").is_ok(),
                "recording.jsonl.gz" => Recording::read(&bytes[..], "").is_ok(),
                "case.json" => CaseFile::parse("", &text).is_ok(),
                "qemu.txt" => dump::find(&text).len() == 1,
                _ => false,
            };
            assert!(read, "{}", path.display());
            files(&bytes);
        }
    }
}
