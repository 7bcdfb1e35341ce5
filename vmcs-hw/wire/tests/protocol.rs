//! Tests that the tables and the examples of bytes in docs/protocol.md are right.

use std::fmt::Debug;

use vmcs_wire::batch::{ANSWER_TRAILER, AnswerHeader, BatchHeader, MAX_BATCH_BYTES, Task};
use vmcs_wire::codec::{BufferFull, Reader, Writer};
use vmcs_wire::disk::{Control, Extent, Link, SECTOR};
use vmcs_wire::frame::{Frame, FrameKind, MAX_FRAME, MAX_PAYLOAD};
use vmcs_wire::mailbox::{DOORBELL, RING_ANSWER, RING_NEXT, SessionHeader};
use vmcs_wire::profile::{FieldReport, encode_leaf, encode_msr};
use vmcs_wire::serial::{Request, VERSION};
use vmcs_wire::session::{MAX_AREAS, SessionView, encode_images, encode_tail};
use vmcs_wire::{Op, Start, StepResult, layout};

const PAGE: &str = include_str!("../../../docs/protocol.md");

/// The bytes of an example.
fn example(name: &str) -> Vec<u8> {
    let (_, block) = PAGE.split_once(&format!("```hex {name}\n")).unwrap_or_else(|| panic!("no example {name:?}"));
    let (block, _) = block.split_once("```").expect("it ends");
    let bytes = block.lines().flat_map(|line| line.split('#').next().unwrap_or("").split_whitespace());
    bytes.map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits")).collect()
}

/// The rows of the table whose first row is `head`, each a list of cells.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let (_, rest) = PAGE.split_once(&format!("\n{head}\n")).unwrap_or_else(|| panic!("no table {head:?}"));
    let rows = rest.lines().skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The number of a cell.
fn number(cell: &str) -> u8 {
    cell.parse().unwrap_or_else(|_| panic!("{cell:?} is no number"))
}

/// Zero bytes for the types that a cell names.
fn zeros(cell: &str) -> Vec<u8> {
    let types = cell.split('`').skip(1).step_by(2);
    let bytes = types.map(|name| match name {
        "u8" | "flag" => 1,
        "u16" => 2,
        "u32" => 4,
        "u64" => 8,
        "packed" => 0,
        other => panic!("{other:?} is no type"),
    });
    vec![0; bytes.sum()]
}

/// What `write` writes.
fn written(write: impl FnOnce(&mut Writer<'_>) -> Result<(), BufferFull>) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let mut writer = Writer::new(&mut buffer);
    write(&mut writer).expect("there is room");
    let used = writer.len();
    buffer[..used].to_vec()
}

/// Whether a value is the variant of that name.
fn is(value: &impl Debug, name: &str) -> bool {
    let text = format!("{value:?}");
    text.split(|c: char| !c.is_alphanumeric()).next() == Some(name)
}

#[test]
fn operations_have_the_tags_and_operands_of_the_table() {
    let rows = table("| tag | operation | operands | what the probe does |");
    for row in &rows {
        let bytes: Vec<u8> = std::iter::once(number(row[0])).chain(zeros(row[2])).collect();
        let mut reader = Reader::new(&bytes);
        let op = Op::decode(&mut reader).unwrap_or_else(|error| panic!("{row:?}: {error}"));
        assert!(is(&op, row[1]) && reader.rest().is_empty(), "{row:?} is {op:?}, and {:?}", reader.rest());
    }
    let known = |tag: &u8| {
        Op::decode(&mut Reader::new(&[*tag, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
            .is_ok()
    };
    let tags: Vec<u8> = (0..=u8::MAX).filter(known).collect();
    assert_eq!(rows.iter().map(|row| number(row[0])).collect::<Vec<_>>(), tags);
}

#[test]
fn results_have_the_tags_and_contents_of_the_table() {
    let rows = table("| tag | result | content | meaning |");
    for row in &rows {
        let tag = number(row[0]);
        let content = match row[1] {
            // The ending of nothing, and no samples, whose type is named behind the count.
            "Timed" => vec![0; 3],
            _ => zeros(row[2]),
        };
        let bytes: Vec<u8> = std::iter::once(tag).chain(content).collect();
        let mut reader = Reader::new(&bytes);
        let result = StepResult::decode(&mut reader, 0).unwrap_or_else(|error| panic!("{row:?}: {error}"));
        assert!(is(&result, row[1]) && reader.rest().is_empty(), "{row:?} is {result:?}, and {:?}", reader.rest());
    }
    let known = |tag: &u8| StepResult::decode(&mut Reader::new(&[*tag, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 0).is_ok();
    let tags: Vec<u8> = (0..=u8::MAX).filter(known).collect();
    assert_eq!(rows.iter().map(|row| number(row[0])).collect::<Vec<_>>(), tags);
}

#[test]
fn the_example_of_a_batch_and_its_answer() {
    let ops = [
        Op::Store { address: layout::VMCS_REGIONS, size: 4, value: 0x2B },
        Op::Vmclear { address: layout::VMCS_REGIONS },
        Op::Vmptrld { address: layout::VMCS_REGIONS },
        Op::Vmlaunch { after_mov_ss: false },
    ];
    let batch = written(|out| {
        BatchHeader { number: 1, cases: 1, careful: false }.encode(out)?;
        Start::VmxRoot.encode(out)?;
        out.u16(4)?;
        ops.iter().try_for_each(|op| op.encode(out))
    });
    assert_eq!(example("batch"), batch);

    let results = [StepResult::Ok, StepResult::Ok, StepResult::Ok, StepResult::FailValid(7)];
    let content = written(|out| {
        out.u16(4)?;
        results.into_iter().try_for_each(|result| result.map_fields(|()| std::iter::empty()).encode(out))
    });
    let answer = written(|out| {
        let bytes = u32::try_from(content.len()).expect("it is short");
        AnswerHeader { number: 1, complete: true, bytes }.encode(out)?;
        out.bytes(&content)?;
        out.u32(ANSWER_TRAILER)
    });
    assert_eq!(example("answer"), answer);
}

#[test]
fn the_example_of_a_profile_report() {
    let field =
        FieldReport { encoding: 0x4816, read: StepResult::Value(0), write: StepResult::Ok, sticky: 0xFFFF_FFFF };
    let report = written(|out| {
        out.u16(2)?;
        encode_msr(out, 0x480, Some(0xD8_1000_0000_002B))?;
        encode_msr(out, 0x982, None)?;
        out.u16(1)?;
        encode_leaf(out, (7, 1), Some([0; 4]))?;
        out.u16(1)?;
        field.encode(out)
    });
    assert_eq!(example("profile"), report);
}

#[test]
fn the_example_of_a_frame() {
    let session = written(|out| {
        encode_images(out, &[[(0, 0); 0]; 0])?;
        encode_tail(out, &[], &[], &[], &[])
    });
    assert!(SessionView::decode(&session).is_ok());
    let payload = written(|out| Request::Open { task: Task::Run, session: &session }.encode(out));
    let mut buffer = [0; MAX_FRAME];
    let frame = Frame { kind: FrameKind::LastPart, connection: 1, sequence: 0, payload: &payload };
    assert_eq!(example("frame"), frame.encode(&mut buffer).expect("it fits"));
}

#[test]
fn kinds_and_messages_have_the_numbers_of_the_tables() {
    let kinds = [
        FrameKind::Connect,
        FrameKind::Hello,
        FrameKind::Part,
        FrameKind::LastPart,
        FrameKind::Acknowledge,
        FrameKind::Garbled,
    ];
    let rows = table("| kind | name | meaning |");
    assert_eq!(rows.len(), kinds.len());
    for (row, kind) in rows.iter().zip(kinds) {
        assert_eq!((number(row[0]), row[1]), (kind as u8, &format!("{kind:?}")[..]));
    }
    let messages = [
        Request::Open { task: Task::Profile, session: &[] },
        Request::Open { task: Task::Run, session: &[] },
        Request::Batch(&[]),
        Request::End,
    ];
    let rows = table("| tag | message | content |");
    assert_eq!(rows.len(), messages.len());
    for (row, message) in rows.iter().zip(messages) {
        assert_eq!(vec![number(row[0])], written(|out| message.encode(out)), "{row:?}");
    }
}

#[test]
fn addresses_are_those_of_the_table() {
    for row in table("| address | name | what is there |") {
        let address = u64::from_str_radix(row[0].trim_end_matches('H'), 16).expect("a hexadecimal number");
        let constant = match row[1].trim_matches('`') {
            "VMXON_REGION" => layout::VMXON_REGION,
            "VMCS_REGIONS" => layout::VMCS_REGIONS,
            "PML4" => layout::PML4,
            "PAE_PDPT" => layout::PAE_PDPT,
            "EPT_PML4" => layout::EPT_PML4,
            "GDT" => layout::GDT,
            "TSS" => layout::TSS,
            "IDT" => layout::IDT,
            "HOST_RSP" => layout::HOST_RSP,
            "GUEST_RSP" => layout::GUEST_RSP,
            "HOST_RIP" => layout::HOST_RIP,
            "GUEST_RIP" => layout::GUEST_RIP,
            other => panic!("{other:?} is no address of the layout"),
        };
        assert_eq!(address, constant, "{row:?}");
    }
}

/// What the sentences say with numbers in them.
#[test]
fn numbers_in_sentences_are_true() {
    let control = Control { started: false, task: Task::Run, session: Extent::default(), first: Extent::default() };
    let magic = |bytes: Vec<u8>| u32::from_le_bytes(*bytes.first_chunk().expect("a magic number"));
    let answer = AnswerHeader { number: 0, complete: true, bytes: 0 };
    for sentence in [
        format!("magic | `u32` | {:X}H", magic(written(|out| answer.encode(out)))),
        format!("trailer | `u32` | {ANSWER_TRAILER:08X}H"),
        format!("magic | `u32` | {:X}H", magic(written(|out| control.encode(out)))),
        format!(
            "magic number `u32` {:X}H",
            magic(written(|out| SessionHeader { task: Task::Run, session: 0 }.encode(out)))
        ),
        format!("sectors of {SECTOR} bytes"),
        format!("at most {} KiB with their header", MAX_BATCH_BYTES >> 10),
        format!("at most {MAX_AREAS} volatile areas"),
        format!("at most {MAX_PAYLOAD} bytes"),
        format!("the version `u8`, which is {VERSION},"),
        format!("dword to port {DOORBELL:X}H: {RING_NEXT} when it wants the next batch, {RING_ANSWER} when"),
        format!(
            "session is at {:X}H, batches are at {:X}H, answers at {:X}H",
            layout::SESSION_BUFFER,
            layout::BATCH_BUFFER,
            layout::ANSWER_BUFFER
        ),
        format!("memory from {:X}H to {:X}H", layout::ARENA.start, layout::ARENA.end - 1),
        format!("from {:X}H to {:X}H", layout::ARENA.end, layout::MEMORY_END - 1),
        format!(
            "code {:02X}H, data {:02X}H, task register {:02X}H",
            layout::CODE_SELECTOR,
            layout::DATA_SELECTOR,
            layout::TSS_SELECTOR
        ),
    ] {
        assert!(PAGE.contains(&sentence), "docs/protocol.md does not say {sentence:?}");
    }
    // Two extents of two numbers each.
    assert_eq!(Link::BYTES, 16);
    assert_eq!(layout::VMCS_REGION_COUNT, 7);
}
