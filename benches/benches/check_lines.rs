//! A bench of what `vmcs check` does with the lines of its files: it reads, judges and answers cases, without any file.
//!
//! 10,000 lines over the plain 64-bit guest on a Sapphire Rapids, answered as JSON and as text. A profile of a real
//! processor never knows everything, so each line is judged as an image of which a part is known. As text, the violated
//! checks of every fourth line are explained. Instructions are counted by `examples/check_lines.rs`:
//!
//! ```sh
//! cargo build --profile bench -p vmcs-benches --example check_lines
//! for n in 1 2; do
//!     valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/check_lines json $n
//! done
//! ```
//!
//! The difference of the two, divided by 10,000, is what a line takes.

use std::io;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vmcs_benches::{CaseLines, sapphire_rapids};
use vmcs_model::Capabilities;
use vmcs_texts::answer::{AnswerFormat, CaseJudge};
use vmcs_texts::case::ImageCase;

const LINES: usize = 10_000;

fn check_lines(c: &mut Criterion) {
    let capabilities = Capabilities::new(&sapphire_rapids().profile);
    let cases = CaseLines::new(&capabilities, LINES);
    let mut group = c.benchmark_group("check_lines");
    group.throughput(Throughput::Elements(LINES as u64)).sample_size(20);
    for (name, format) in [("json", AnswerFormat::Json), ("text", AnswerFormat::Text)] {
        let mut judge = CaseJudge::new(capabilities.clone(), &cases.base, format);
        group.bench_function(name, |b| {
            b.iter(|| {
                for line in &cases.lines {
                    let case = ImageCase::parse(line.as_bytes()).expect("the line is a case");
                    judge.answer(&case, &mut io::sink()).expect("a sink takes everything");
                }
            });
        });
    }
}

criterion_group!(benches, check_lines);
criterion_main!(benches);
