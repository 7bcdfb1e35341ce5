//! Recordings: observations of a real run, so that a machine without VMX can still compare the model with them.
//!
//! A recording is gzipped JSON Lines: a [`RecordingHeader`], then one line per case with its operations and their results.
//! It needs nothing besides: it holds the cases themselves, not how to generate them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::iter;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use vmcs_wire::{Ending, Start, StepResult};

use crate::case::{Case, End, Observation, Session};
use crate::error::TargetError;
use crate::lines::{ReadLineError, read_line};
use crate::number::Number;
use crate::profile::NamedProfile;
use crate::program::{MemoryWrite, OpLine, Program, StartState};
use crate::target::{Implementation, ProbeReport, Target};

/// What the first line calls itself.
const FORMAT: &str = "vmcs recording 1";

/// The first line: who was asked, and what all cases share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordingHeader {
    /// Name and version of the format.
    pub format: String,
    /// The machine that was observed.
    pub implementation: Implementation,
    /// The generator of the cases.
    pub generator: String,
    /// Its seed.
    pub seed: u64,
    /// The machine's capabilities, read out of it.
    pub profile: NamedProfile,
    /// Images of the session: encodings and values.
    pub images: Vec<Vec<(Number, Number)>>,
    /// The session's information fields: encodings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub information: Vec<Number>,
    /// The session's state fields: encodings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state: Vec<Number>,
}

impl RecordingHeader {
    /// The header of a run.
    #[must_use]
    pub fn new(
        implementation: Implementation,
        generator: &str,
        seed: u64,
        profile: NamedProfile,
        session: &Session,
    ) -> Self {
        let image = |image: &Vec<(u32, u64)>| {
            image.iter().map(|(encoding, value)| (Number(u64::from(*encoding)), Number(*value))).collect()
        };
        Self {
            format: FORMAT.to_owned(),
            implementation,
            generator: generator.to_owned(),
            seed,
            profile,
            images: session.images.iter().map(image).collect(),
            information: session.information_fields.iter().map(|encoding| Number(u64::from(*encoding))).collect(),
            state: session.state_fields.iter().map(|encoding| Number(u64::from(*encoding))).collect(),
        }
    }
}

/// One case and its observation.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordedCase {
    #[serde(default, skip_serializing_if = "is_vmx_root")]
    start: Option<StartState>,
    ops: Vec<OpLine>,
    /// One word per step, see [`word`].
    steps: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<String>,
}

fn is_vmx_root(start: &Option<StartState>) -> bool {
    start.is_none()
}

/// Writes a recording. [`Recorder::finish`] completes it; without that, nothing is left behind.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    file: tempfile::NamedTempFile,
    stream: GzEncoder<Vec<u8>>,
}

impl Recorder {
    /// Starts the recording that will be `path`.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn create(path: &Path, header: &RecordingHeader) -> io::Result<Self> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        #[cfg_attr(not(unix), allow(unused_mut, reason = "permissions are Unix'"))]
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(directory)?;
        let mut stream = GzEncoder::new(Vec::new(), Compression::best());
        serde_json::to_writer(&mut stream, header)?;
        stream.write_all(b"\n")?;
        Ok(Self { path: path.to_owned(), file, stream })
    }

    /// Adds a case.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn record(&mut self, case: &Case, observation: &Observation) -> io::Result<()> {
        serde_json::to_writer(&mut self.stream, &RecordedCase::of(case, observation))?;
        self.stream.write_all(b"\n")?;
        let pending = self.stream.get_mut();
        self.file.write_all(pending)?;
        pending.clear();
        Ok(())
    }

    /// Completes the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> io::Result<()> {
        let mut writer = BufWriter::new(self.file);
        writer.write_all(&self.stream.finish()?)?;
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.persist(&self.path)?;
        Ok(())
    }
}

/// A recording that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}{}: {message}", place(*line))]
pub struct RecordingError {
    /// The file.
    pub file: String,
    /// The line, counted from 1 after decompression; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// A line behind the name of its file; nothing for the file as a whole.
fn place(line: usize) -> String {
    if line == 0 { String::new() } else { format!(":{line}") }
}

/// A recording by its file name.
macro_rules! embed {
    ($file:literal) => {
        ($file, include_bytes!(concat!("../recordings/", $file)).as_slice())
    };
}

/// The recordings that come with this crate, by file name.
const EMBEDDED: &[(&str, &[u8])] = &[
    embed!("bochs-2.7-corei7_skylake_x-controls.jsonl.gz"),
    embed!("bochs-2.7-corei7_skylake_x-images.jsonl.gz"),
    embed!("bochs-2.7-corei7_skylake_x-programs.jsonl.gz"),
    embed!("bochs-2.7-corei7_skylake_x-state.jsonl.gz"),
    embed!("bochs-3.1-arrow_lake-controls.jsonl.gz"),
    embed!("bochs-3.1-arrow_lake-images.jsonl.gz"),
    embed!("bochs-3.1-arrow_lake-programs.jsonl.gz"),
    embed!("bochs-3.1-arrow_lake-state.jsonl.gz"),
    embed!("bochs-3.1-wildcat_lake-controls.jsonl.gz"),
    embed!("bochs-3.1-wildcat_lake-images.jsonl.gz"),
    embed!("bochs-3.1-wildcat_lake-programs.jsonl.gz"),
    embed!("bochs-3.1-wildcat_lake-state.jsonl.gz"),
];

/// The recordings that come with this crate.
///
/// # Errors
/// [`RecordingError`], never for the files as committed: a test reads them.
pub fn embedded() -> Result<Vec<Recording>, RecordingError> {
    EMBEDDED.iter().map(|(name, bytes)| Recording::read(*bytes, name)).collect()
}

/// A recording in memory; as a [`Target`] it answers the recorded cases, in their order.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Who was asked.
    pub header: RecordingHeader,
    /// The cases and what was observed.
    pub cases: Vec<(Case, Observation)>,
}

impl Recording {
    /// Reads a file.
    ///
    /// # Errors
    /// [`RecordingError`].
    pub fn load(path: &Path) -> Result<Self, RecordingError> {
        let file = path.display().to_string();
        match File::open(path) {
            Ok(stream) => Self::read(stream, &file),
            Err(error) => Err(RecordingError { file, line: 0, message: error.to_string() }),
        }
    }

    /// Reads a recording from `stream`; `file` is what errors name.
    ///
    /// # Errors
    /// [`RecordingError`].
    pub fn read(stream: impl Read, file: &str) -> Result<Self, RecordingError> {
        let wrong = |line: usize, message: String| RecordingError { file: file.to_owned(), line, message };
        let mut lines = BufReader::new(GzDecoder::new(stream));
        if let Err(error) = lines.fill_buf() {
            return Err(wrong(0, format!("not a gzipped recording: {error}")));
        }
        Self::read_lines(lines, file)
    }

    /// Reads the lines of a recording that is not compressed; `file` is what errors name.
    ///
    /// # Errors
    /// [`RecordingError`].
    pub fn read_lines(mut lines: impl BufRead, file: &str) -> Result<Self, RecordingError> {
        let wrong = |line: usize, message: String| RecordingError { file: file.to_owned(), line, message };
        let mut text = Vec::new();
        let mut next = |text: &mut Vec<u8>, number| {
            read_line(&mut lines, text).map_err(|error: ReadLineError| wrong(number, error.to_string()))
        };
        if !next(&mut text, 1)? {
            return Err(wrong(0, "the recording is empty".to_owned()));
        }
        let header: RecordingHeader = serde_json::from_slice(&text).map_err(|error| wrong(1, error.to_string()))?;
        if header.format != FORMAT {
            return Err(wrong(1, format!("expected the format {FORMAT:?}, found {:?}", header.format)));
        }
        let mut cases = Vec::new();
        let mut number = 2;
        while next(&mut text, number)? {
            let line: RecordedCase = serde_json::from_slice(&text).map_err(|error| wrong(number, error.to_string()))?;
            cases.push(line.read().map_err(|message| wrong(number, message))?);
            number += 1;
        }
        Ok(Self { header, cases })
    }

    /// The lines of the recording, as [`Self::read_lines`] reads them.
    #[must_use]
    pub fn to_lines(&self) -> String {
        let header = serde_json::to_string(&self.header).expect("every key is a string");
        let cases = self.cases.iter().map(|(case, observation)| {
            serde_json::to_string(&RecordedCase::of(case, observation)).expect("every key is a string")
        });
        iter::once(header).chain(cases).map(|line| line + "\n").collect()
    }

    /// The session that the cases were executed in.
    #[must_use]
    pub fn session(&self) -> Session {
        let encoding = |number: &Number| u32::try_from(number.0).unwrap_or(u32::MAX);
        let field = |(field, value): &(Number, Number)| (encoding(field), value.0);
        Session {
            images: self.header.images.iter().map(|image| image.iter().map(field).collect()).collect(),
            information_fields: self.header.information.iter().map(encoding).collect(),
            state_fields: self.header.state.iter().map(encoding).collect(),
            ..Session::default()
        }
    }
}

impl RecordedCase {
    fn of(case: &Case, observation: &Observation) -> Self {
        let words: Vec<_> = observation.steps.iter().map(word).collect();
        Self {
            start: match case.start {
                Start::VmxRoot => None,
                Start::OutsideVmx => Some(StartState::Outside),
            },
            ops: case.ops.iter().map(OpLine::of).collect(),
            steps: words.join(" "),
            end: match &observation.end {
                End::Completed => None,
                End::Hung => Some("hung".to_owned()),
                End::Crashed { detail } => Some(format!("crashed: {detail}")),
            },
        }
    }

    fn read(self) -> Result<(Case, Observation), String> {
        let program = Program {
            id: String::new(),
            start: self.start.unwrap_or(StartState::VmxRoot),
            memory: Vec::<MemoryWrite>::new(),
            ops: self.ops,
        };
        let case = program.to_case(0, &[]).map_err(|error| error.to_string())?;
        let steps: Vec<_> = self
            .steps
            .split_whitespace()
            .map(|text| {
                unword(text).ok_or_else(|| format!("expected a result such as \"ok\" or \"v7\", found {text:?}"))
            })
            .collect::<Result<_, _>>()?;
        if steps.len() > case.ops.len() {
            return Err(format!("{} results for {} operations", steps.len(), case.ops.len()));
        }
        let end = match self.end.as_deref() {
            None if steps.len() == case.ops.len() => End::Completed,
            None => {
                return Err(format!("{} results for {} operations", steps.len(), case.ops.len()));
            }
            Some("hung") => End::Hung,
            Some(text) => match text.strip_prefix("crashed: ") {
                Some(detail) => End::Crashed { detail: detail.to_owned() },
                None => {
                    return Err(format!("expected \"hung\" or \"crashed: …\", found {text:?}"));
                }
            },
        };
        Ok((case, Observation { steps, end }))
    }
}

/// A step result as one word: `ok`, `=` value, `i` VMfailInvalid, `v` VMfailValid and its number, `#` vector and
/// perhaps `:` error code, `x` exit reason `:` qualification, `-` not run, `f` values of fields with `,` between; `t`, the
/// word of how measured entries ended (`ok` for nothing) and, each behind a `,`, the samples. Numbers are hexadecimal but
/// for `v` and `#`.
fn word(step: &StepResult<Vec<u64>>) -> String {
    match step {
        StepResult::Ok => "ok".to_owned(),
        StepResult::Value(value) => format!("={value:x}"),
        StepResult::FailInvalid => "i".to_owned(),
        StepResult::FailValid(error) => format!("v{error}"),
        StepResult::Fault { vector, error_code: None } => format!("#{vector}"),
        StepResult::Fault { vector, error_code: Some(code) } => format!("#{vector}:{code:x}"),
        StepResult::Exit { reason, qualification, .. } => format!("x{reason:x}:{qualification:x}"),
        StepResult::NotRun => "-".to_owned(),
        StepResult::Timed { ending, samples } => {
            let ending = match *ending {
                Ending::Nothing => StepResult::Ok,
                Ending::FailInvalid => StepResult::FailInvalid,
                Ending::FailValid(error) => StepResult::FailValid(error),
                Ending::Exit { reason, qualification } => {
                    StepResult::Exit { reason, qualification, fields: Vec::new() }
                }
            };
            samples.iter().fold(format!("t{}", word(&ending)), |text, sample| format!("{text},{sample:x}"))
        }
        StepResult::Fields(values) => {
            let values: Vec<_> = values.iter().map(|value| format!("{value:x}")).collect();
            format!("f{}", values.join(","))
        }
    }
}

/// The result that a [`word`] stands for.
fn unword(text: &str) -> Option<StepResult<Vec<u64>>> {
    let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let hex32 = |digits: &str| u32::from_str_radix(digits, 16).ok();
    let (kind, rest) = text.split_at_checked(1)?;
    Some(match (kind, rest) {
        ("o", "k") => StepResult::Ok,
        ("=", _) => StepResult::Value(hex(rest)?),
        ("i", "") => StepResult::FailInvalid,
        ("-", "") => StepResult::NotRun,
        ("v", _) => StepResult::FailValid(rest.parse().ok()?),
        ("f", "") => StepResult::Fields(Vec::new()),
        ("f", _) => StepResult::Fields(rest.split(',').map(hex).collect::<Option<_>>()?),
        ("#", _) => {
            let (vector, code) = rest.split_once(':').map_or((rest, None), |(vector, code)| (vector, Some(code)));
            let error_code = match code {
                Some(code) => Some(hex32(code)?),
                None => None,
            };
            StepResult::Fault { vector: vector.parse().ok()?, error_code }
        }
        ("x", _) => {
            let (reason, qualification) = rest.split_once(':')?;
            StepResult::Exit { reason: hex32(reason)?, qualification: hex(qualification)?, fields: Vec::new() }
        }
        ("t", _) => {
            let mut words = rest.split(',');
            // Of any depth only the first is one.
            let ending = match words.next().filter(|ending| !ending.starts_with('t')).and_then(unword)? {
                StepResult::Ok => Ending::Nothing,
                StepResult::FailInvalid => Ending::FailInvalid,
                StepResult::FailValid(error) => Ending::FailValid(error),
                StepResult::Exit { reason, qualification, .. } => Ending::Exit { reason, qualification },
                _ => return None,
            };
            StepResult::Timed { ending, samples: words.map(hex).collect::<Option<_>>()? }
        }
        _ => return None,
    })
}

impl Target for Recording {
    fn implementation(&self) -> Implementation {
        self.header.implementation.clone()
    }

    /// A recording has the profile only: [`RecordingHeader::profile`].
    fn capture(&mut self) -> Result<ProbeReport, TargetError> {
        Err(TargetError::NotRecorded("a probe report"))
    }

    fn run(
        &mut self,
        _session: &Session,
        cases: &mut dyn Iterator<Item = Case>,
        observe: &mut dyn FnMut(usize, Observation) -> ControlFlow<()>,
    ) -> Result<(), TargetError> {
        let mut recorded = self.cases.iter();
        for (index, case) in cases.enumerate() {
            match recorded.next() {
                Some((known, observation)) if *known == case => {
                    if observe(index, observation.clone()).is_break() {
                        break;
                    }
                }
                _ => return Err(TargetError::NotRecorded("that case")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back() {
        for step in [
            StepResult::Ok,
            StepResult::Value(u64::MAX),
            StepResult::FailInvalid,
            StepResult::FailValid(28),
            StepResult::Fault { vector: 6, error_code: None },
            StepResult::Fault { vector: 13, error_code: Some(0x18) },
            StepResult::Exit { reason: 0x8000_0021, qualification: 4, fields: vec![] },
            StepResult::NotRun,
            StepResult::Timed { ending: Ending::Nothing, samples: vec![] },
            StepResult::Timed { ending: Ending::FailInvalid, samples: vec![0] },
            StepResult::Timed { ending: Ending::FailValid(7), samples: vec![1, 0xFFFF_FFFF] },
            StepResult::Timed { ending: Ending::Exit { reason: 18, qualification: 0 }, samples: vec![10, 11] },
            StepResult::Fields(vec![0, 0x8000_0021, u64::MAX]),
            StepResult::Fields(vec![]),
        ] {
            assert_eq!(unword(&word(&step)), Some(step));
        }
        for text in ["", "o", "okay", "v", "#", "x1", "xg:0", "q", "t", "t-", "tt", "tok,", "tok,g", "fg", "f1,"] {
            assert_eq!(unword(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        let gz = |text: &str| {
            let mut stream = GzEncoder::new(Vec::new(), Compression::fast());
            stream.write_all(text.as_bytes()).unwrap();
            stream.finish().unwrap()
        };
        for (bytes, line) in [(b"plain".to_vec(), 0), (gz(""), 0), (gz("{}"), 1)] {
            let error = Recording::read(&bytes[..], "file").unwrap_err();
            assert_eq!(error.line, line, "{error}");
        }
    }
}
