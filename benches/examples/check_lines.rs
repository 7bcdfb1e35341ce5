//! Answers the 10,000 cases of the bench `check_lines` a given number of times, for tools that count instructions:
//! `check_lines json|text TIMES`.

use std::io::{self, BufWriter};

use vmcs_benches::{CaseLines, sapphire_rapids};
use vmcs_model::Capabilities;
use vmcs_texts::answer::{AnswerFormat, CaseJudge};
use vmcs_texts::case::ImageCase;

const LINES: usize = 10_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let parsed = match &arguments[..] {
        [format, times] if format == "json" => times.parse().ok().map(|times: usize| (AnswerFormat::Json, times)),
        [format, times] if format == "text" => times.parse().ok().map(|times| (AnswerFormat::Text, times)),
        _ => None,
    };
    let (format, times) = parsed.ok_or("usage: check_lines json|text TIMES")?;
    let capabilities = Capabilities::new(&sapphire_rapids().profile);
    let cases = CaseLines::new(&capabilities, LINES);
    let mut judge = CaseJudge::new(capabilities, &cases.base, format);
    let mut out = BufWriter::new(io::stdout().lock());
    for line in (0..times).flat_map(|_| &cases.lines) {
        judge.answer(&ImageCase::parse(line.as_bytes())?, &mut out)?;
    }
    Ok(())
}
