//! Judging cases by the model. Each case changes a base image, and its answer is a line.

use std::fmt::Write as _;
use std::io::{self, Write};

use vmcs_model::checks::CheckSet;
use vmcs_model::formats::RegionHeader;
use vmcs_model::{Capabilities, CpuState, EntryAttempt, EntryInstruction, ReadMemory, Verdict, Vmcs};

use crate::case::ImageCase;
use crate::image::{ChangedMemory, Image, Memory};

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFormat {
    /// One JSON object a line: `id`, `permitted`, perhaps `msr_failures_from`, `violated`, `undecidable`.
    Json,
    /// For people: the same in words, and behind it, indented, why the first of the violated checks do not hold.
    Text,
}

/// Violated checks that are explained; an image that violates more is not one that was meant to be valid.
const EXPLAINED: usize = 5;

/// Judges cases that change one base image.
#[derive(Clone, Debug)]
pub struct CaseJudge {
    format: AnswerFormat,
    capabilities: Capabilities,
    cpu: CpuState,
    base: Vmcs,
    memory: Memory,
    /// The base, but while a case is judged.
    vmcs: Vmcs,
    /// Room for an explanation.
    explanation: String,
}

impl CaseJudge {
    /// Judges cases that change `base` on a processor with those capabilities.
    #[must_use]
    pub fn new(capabilities: Capabilities, base: &Image, format: AnswerFormat) -> Self {
        let vmcs = base.to_vmcs();
        let memory = base.to_memory(capabilities.revision());
        let (cpu, explanation) = (base.cpu.clone(), String::new());
        Self { format, capabilities, cpu, base: vmcs.clone(), memory, vmcs, explanation }
    }

    /// Writes the answer to a case. Whether it violates a check.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn answer(&mut self, case: &ImageCase<'_>, out: &mut impl Write) -> io::Result<bool> {
        case.set.apply(&mut self.vmcs);
        let answered = self.answer_changed(case, out);
        case.set.undo(&mut self.vmcs, &self.base);
        answered
    }

    /// Answers the case, whose fields are set.
    fn answer_changed(&mut self, case: &ImageCase<'_>, out: &mut impl Write) -> io::Result<bool> {
        let memory = ChangedMemory::new(&self.memory, &case.memory.0, self.capabilities.revision());
        let entry = attempt(&self.capabilities, &self.cpu, case.instruction, &memory).on(&self.vmcs, &memory);
        let verdict = entry.verdict();
        if self.format == AnswerFormat::Json {
            json(&case.id, &verdict, out)?;
            return Ok(!verdict.violated.is_empty());
        }
        text(&case.id, &verdict, out)?;
        for check in verdict.violated.iter().take(EXPLAINED) {
            self.explanation.clear();
            write!(self.explanation, "{}", entry.explain(check)).expect("a text takes what is written to it");
            for line in self.explanation.lines() {
                [b"  ", line.as_bytes(), b"\n"].into_iter().try_for_each(|text| out.write_all(text))?;
            }
        }
        let rest = (verdict.violated.len() as usize).saturating_sub(EXPLAINED);
        if rest > 0 {
            writeln!(out, "  … and {rest} more, see `vmcs checks ID`")?;
        }
        Ok(!verdict.violated.is_empty())
    }
}

fn attempt<'a>(
    capabilities: &'a Capabilities,
    cpu: &'a CpuState,
    instruction: EntryInstruction,
    memory: &impl ReadMemory,
) -> EntryAttempt<'a> {
    let header = memory.read_u32(cpu.vmcs_pointer).map_or(RegionHeader::new(), RegionHeader::from_bits);
    EntryAttempt::by(instruction, cpu, capabilities).with_shadow(header.shadow())
}

/// Names of outcomes and of checks are written as they are: nothing in them needs an escape.
fn json(id: &str, verdict: &Verdict, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"{\"id\":")?;
    serde_json::to_writer(&mut *out, id)?;
    out.write_all(b",\"permitted\":[")?;
    let mut between = "\"";
    for outcome in verdict.permitted.iter() {
        write!(out, "{between}{outcome}\"")?;
        between = ",\"";
    }
    out.write_all(b"]")?;
    if let Some(first) = verdict.permitted.msr_failures_from() {
        write!(out, ",\"msr_failures_from\":{first}")?;
    }
    out.write_all(b",\"violated\":[")?;
    ids(&verdict.violated, ["\"", "\",\"", "\""], out)?;
    out.write_all(b"],\"undecidable\":[")?;
    ids(&verdict.undecidable, ["\"", "\",\"", "\""], out)?;
    out.write_all(b"]}\n")
}

fn text(id: &str, verdict: &Verdict, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{}", id.escape_debug())?;
    let mut between = ": ";
    for outcome in verdict.permitted.iter() {
        write!(out, "{between}{outcome}")?;
        between = " or ";
    }
    if verdict.permitted.msr_failures_from().is_some() {
        out.write_all(b" or EntryFailed(34, n) for any later entry n of the MSR-load area")?;
    }
    ids(&verdict.violated, [" | violated: ", ", ", ""], out)?;
    ids(&verdict.undecidable, [" | undecidable: ", ", ", ""], out)?;
    out.write_all(b"\n")
}

/// Writes the ids of the checks, if there are any, with a text before them, between them and behind them.
fn ids(checks: &CheckSet, [before, between, behind]: [&str; 3], out: &mut impl Write) -> io::Result<()> {
    let mut next = before;
    for check in checks.iter() {
        out.write_all(next.as_bytes())?;
        out.write_all(check.info().id.as_bytes())?;
        next = between;
    }
    if checks.is_empty() { Ok(()) } else { out.write_all(behind.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use vmcs_case::profile::NamedProfile;
    use vmcs_model::checks::CheckId;

    use super::*;
    use crate::image::Syntax;

    /// Answers the cases of `golden/cases.jsonl`, one judge for all of them: what a case changes is gone in the next.
    fn answers(format: AnswerFormat) -> (String, Vec<bool>) {
        let profile = NamedProfile::by_name("Tiger Lake").unwrap();
        let base = Image::parse(include_str!("../golden/base.toml"), Syntax::Toml).unwrap();
        let mut judge = CaseJudge::new(Capabilities::new(&profile.profile), &base, format);
        let mut out = Vec::new();
        let answer = |line: &str| judge.answer(&ImageCase::parse(line.as_bytes()).unwrap(), &mut out).unwrap();
        let found = include_str!("../golden/cases.jsonl").lines().map(answer).collect();
        (String::from_utf8(out).unwrap(), found)
    }

    /// `vmcs check --profile "Tiger Lake" --base base.toml --cases cases.jsonl --json`, in the directory `golden`.
    #[test]
    fn answers_in_json_are_byte_for_byte_those_that_are_known() {
        let (answers, found) = answers(AnswerFormat::Json);
        assert_eq!(answers, include_str!("../golden/answers.jsonl"));
        for (line, found) in answers.lines().zip(found) {
            let answer: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(!answer["violated"].as_array().unwrap().is_empty(), found, "{line}");
        }
    }

    /// The same without `--json`.
    #[test]
    fn answers_as_text_are_byte_for_byte_those_that_are_known() {
        assert_eq!(answers(AnswerFormat::Text).0, include_str!("../golden/answers.txt"));
    }

    #[test]
    fn ids_need_no_escape() {
        for check in CheckId::all() {
            let id = check.info().id;
            assert_eq!(serde_json::to_string(id).unwrap(), format!("\"{id}\""));
        }
    }
}
