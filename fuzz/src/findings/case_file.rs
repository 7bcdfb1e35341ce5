//! A finding as a file that any target can be asked to repeat: the program, what was observed and by whom, what the
//! model permits and why.

use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vmcs_case::number::Number;
use vmcs_case::program::{FieldKey, MemoryWrite, OpLine, Program};
use vmcs_case::{Case, Implementation, Session};
use vmcs_model::Outcome;
use vmcs_model::checks::{CheckId, Failure};
use vmcs_model::explain::Bits;
use vmcs_model::field::Encoding;
use vmcs_model::formats::exit_reason;
use vmcs_wire::Op;

use crate::TestProcessor;
use crate::campaign::program_of;
use crate::emulator::CaseEmulator;
use crate::findings::minimise::{change, kind};
use crate::oracle::{Disagreement, mnemonic};

/// What a file calls itself.
const FORMAT: &str = "vmcs case 1";

/// A case that disagrees, and everything that there is to say about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// Name and version of the format.
    pub format: String,
    /// The same for all findings of one cause: instruction, outcomes, and what they follow from.
    pub cause: String,
    /// How many cases of a campaign came to this.
    pub count: u64,
    /// Whether nothing of the case can go without the disagreement going, too. If not, it did not show again.
    pub minimal: bool,
    /// Who did it.
    pub implementation: Implementation,
    /// The case, as `vmcs run` reads it.
    pub program: Program,
    /// Index of the operation in the program.
    pub step: usize,
    /// The operation's name.
    pub instruction: String,
    /// What the machine did.
    pub observed: String,
    /// What the architecture permits.
    pub permitted: Vec<String>,
    /// Checks that the entry violates, for an entry.
    pub violated: Vec<String>,
    /// What the changes are made to: the name of a valid image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The fields that differ from it.
    pub changes: Vec<Change>,
    /// What it stores to memory, other than the revision identifiers of regions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<MemoryWrite>,
    /// The model's reasons: an explanation of each violated check, or that there is none.
    pub model: Vec<String>,
    /// What the machine did, in words.
    pub machine: String,
}

/// A field that a case changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The field.
    pub field: FieldKey,
    /// What it held.
    pub from: Number,
    /// What it holds then.
    pub to: Number,
    /// The bits in which these differ, with their names.
    pub bits: String,
}

/// A file that holds no cases.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {message}")]
pub struct CaseFileError {
    /// The file.
    pub file: String,
    /// What is wrong, and where.
    pub message: String,
}

impl CaseFile {
    /// The file of a disagreement that `case` shows on `implementation`.
    #[must_use]
    pub fn new(
        processor: &TestProcessor,
        session: &Session,
        implementation: &Implementation,
        case: &Case,
        disagreement: &Disagreement,
    ) -> Self {
        let names = processor.image_names();
        let Story { base, changes, memory, model } = Story::of(processor, session, case, disagreement);
        let instruction = case.ops.get(disagreement.step).map_or("nothing", mnemonic).to_owned();
        let mut file = Self {
            format: FORMAT.to_owned(),
            cause: String::new(),
            count: 1,
            minimal: true,
            implementation: implementation.clone(),
            program: program_of(String::new(), case).portable(processor.capabilities.revision(), &names),
            step: disagreement.step,
            instruction,
            observed: disagreement.observed.clone(),
            permitted: disagreement.permitted.clone(),
            violated: disagreement.violated.clone(),
            base: base.and_then(|image| names.get(image)).map(|&name| name.to_owned()),
            changes,
            memory,
            model,
            machine: String::new(),
        };
        file.cause = file.cause();
        file.machine = file.machine();
        file.program.id.clone_from(&file.cause);
        file
    }

    /// A name for the file, without an extension: the cause in letters, digits, dots and hyphens.
    #[must_use]
    pub fn file_stem(&self) -> String {
        /// Longest name; file systems allow 255 bytes.
        const LONGEST: usize = 120;
        let mut stem = String::new();
        for c in self.cause.chars() {
            match c {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' => stem.push(c),
                _ if stem.ends_with('-') => {}
                _ => stem.push('-'),
            }
        }
        if stem.len() > LONGEST {
            // FNV-1a: the same for ever.
            let hash = self
                .cause
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
            stem.truncate(LONGEST - 17);
            let _ = write!(stem, "-{hash:016x}");
        }
        stem.trim_matches('-').to_owned()
    }

    /// The cases of a file: JSON values one after the other, over one line each or several.
    ///
    /// # Errors
    /// [`CaseFileError`] names the first that is not a case.
    pub fn read(path: &Path) -> Result<Vec<Self>, CaseFileError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&file, &text),
            Err(error) => Err(CaseFileError { file, message: error.to_string() }),
        }
    }

    /// The cases of the text of a file; `file` is what errors name.
    ///
    /// # Errors
    /// As [`CaseFile::read`].
    pub fn parse(file: &str, text: &str) -> Result<Vec<Self>, CaseFileError> {
        let wrong = |message: String| CaseFileError { file: file.to_owned(), message };
        let cases: Vec<Self> = serde_json::Deserializer::from_str(text)
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(format!("this is not a case: {error}")))?;
        if cases.is_empty() {
            return Err(wrong("there is no case in it".to_owned()));
        }
        match cases.iter().find(|case| case.format != FORMAT) {
            Some(case) => Err(wrong(format!("expected the format {FORMAT:?}, found {:?}", case.format))),
            None => Ok(cases),
        }
    }

    /// The disagreement that was observed.
    #[must_use]
    pub fn disagreement(&self) -> Disagreement {
        Disagreement {
            step: self.step,
            permitted: self.permitted.clone(),
            observed: self.observed.clone(),
            violated: self.violated.clone(),
        }
    }

    fn cause(&self) -> String {
        if let Some(field) = self.wrong_field() {
            return field.to_owned();
        }
        let kinds: Vec<_> = self.permitted.iter().map(|outcome| kind(outcome)).collect();
        let mut from: Vec<String> = if self.violated.is_empty() {
            self.changes.iter().map(|change| change.field.to_string()).collect()
        } else {
            self.violated.clone()
        };
        if self.violated.is_empty()
            && let Some(base) = self.base.as_ref().filter(|base| *base != "plain")
        {
            from.push(format!("{base} image"));
        }
        from.sort_unstable();
        from.dedup();
        let from = if from.is_empty() { String::new() } else { format!(": {}", from.join(", ")) };
        format!("{} {} instead of {}{from}", self.instruction, kind(&self.observed), kinds.join(" or "))
    }

    /// After what which field does not hold what it should, if that is the disagreement: "after the exit guest_rip".
    fn wrong_field(&self) -> Option<&str> {
        let observe = mnemonic(&Op::Observe { state: true });
        kind(&self.observed).strip_suffix(" is").filter(|_| self.instruction == observe)
    }

    /// What the machine did, in words.
    fn machine(&self) -> String {
        let Self { implementation: who, observed, .. } = self;
        if self.wrong_field().is_some() {
            return format!("{who}: {observed}, and not {}", self.permitted.join(" or "));
        }
        let changed: Vec<_> = self.changes.iter().map(|change| change.field.to_string()).collect();
        let changed = if changed.is_empty() { "no field of the image".to_owned() } else { changed.join(", ") };
        if self.violated.is_empty() {
            let stage = match observed.as_str() {
                "VMfailValid(7)" => "refused the entry for its control fields",
                "VMfailValid(8)" => "refused the entry for its host state",
                _ if observed.starts_with(&format!("EntryFailed({},", exit_reason::INVALID_GUEST_STATE)) => {
                    "failed the entry for its guest state"
                }
                _ if observed.starts_with(&format!("EntryFailed({},", exit_reason::MSR_LOADING)) => {
                    "failed the entry while it loaded MSRs"
                }
                "crashed" => return format!("{who} went down; changed: {changed}"),
                "hung" => return format!("{who} hung; changed: {changed}"),
                _ => return format!("{who}: {} ended in {observed}; changed: {changed}", self.instruction),
            };
            return format!("{who} {stage}, {observed}; changed: {changed}");
        }
        let violated = self.violated.join(", ");
        if *observed == Outcome::Entered.to_string() {
            return format!("{who} entered the guest, as if it did not make the check {violated}");
        }
        let ends_so = |id: &String| {
            let Some(check) = CheckId::by_id(id) else { return false };
            let Failure { outcome, or, .. } = check.info().failure;
            std::iter::once(outcome).chain(or).any(|outcome| outcome.to_string() == *observed)
        };
        match self.violated.iter().find(|id| ends_so(id)) {
            Some(id) => format!("{who}: {observed}, as for {id}, though another check comes first"),
            None => format!("{who}: {observed}, which is not what {violated} leads to"),
        }
    }
}

/// What led to a disagreement.
struct Story {
    base: Option<usize>,
    changes: Vec<Change>,
    memory: Vec<MemoryWrite>,
    model: Vec<String>,
}

impl Change {
    fn new(encoding: u64, from: u64, to: u64) -> Self {
        let field = u32::try_from(encoding).ok().and_then(|encoding| Encoding(encoding).full().field());
        let mask = from ^ to;
        let bits = field.filter(|_| mask != 0).map_or_else(String::new, |field| Bits { field, mask }.to_string());
        Self { field: FieldKey::of(encoding), from: Number(from), to: Number(to), bits }
    }
}

impl Story {
    /// Goes through the case on the emulator up to the disagreement.
    fn of(processor: &TestProcessor, session: &Session, case: &Case, disagreement: &Disagreement) -> Self {
        let mut machine = CaseEmulator::new(&processor.profile, case.start);
        let mut story = Self { base: None, changes: Vec::new(), memory: Vec::new(), model: Vec::new() };
        for op in case.ops.iter().take(disagreement.step) {
            match *op {
                Op::WriteImage { image } if Some(image) != processor.stale_image() => story.base = Some(image.into()),
                Op::Vmwrite { encoding, .. } => {
                    story.changes.extend(change(&machine, op).map(|(from, to)| Change::new(encoding, from, to)));
                }
                Op::Store { value, .. } if value & !(1 << 31) != u64::from(processor.capabilities.revision()) => {
                    if let OpLine::Store(write) = OpLine::of(op) {
                        story.memory.push(write);
                    }
                }
                _ => {}
            }
            machine.step(session, op);
        }
        let Some(op) = case.ops.get(disagreement.step) else { return story };
        // Blocking by MOV SS is part of what an entry meets.
        let verdict = machine.verdict(op);
        let explain = |id: &String| machine.explain(op, CheckId::by_id(id)?);
        story.model = disagreement.violated.iter().filter_map(explain).collect();
        if story.model.is_empty() {
            story.model.push(match verdict {
                Some(_) => "No check is violated: the entry succeeds.".to_owned(),
                None => format!("{} ends in {}.", mnemonic(op), disagreement.permitted.join(" or ")),
            });
        }
        story
    }
}
