//! The state of a campaign on disk. A later run goes on from it, however the run before has ended.
//!
//! A directory holds `campaign.json`, which says what the campaign is, and a file for each processor with what was observed
//! there. Every file is replaced as a whole: the new one is written beside the old one, flushed to the disk, and renamed.
//! Cases that a run observed after it had saved its state for the last time, before it was killed, are executed again.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vmcs_case::Implementation;

use super::done::{Done, ObservedCases};
use super::{Basis, CampaignReport, Shard};
use crate::campaign::timeline::Timeline;
use crate::{Generator, Stream};

/// What the files call themselves.
const FORMAT: &str = "vmcs state 1";
/// The file that says what the campaign is.
const CAMPAIGN: &str = "campaign.json";
/// The file that a running campaign holds locked.
const LOCK: &str = "lock";

/// What a campaign is: a state belongs to one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StateHeader {
    format: String,
    version: String,
    generator: Generator,
    seed: u64,
    shard: Shard,
    // The file's format has this name for them.
    #[serde(rename = "subjects")]
    processors: Vec<HeaderProcessor>,
}

/// One of the processors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderProcessor {
    implementation: Implementation,
    basis: Basis,
}

impl StateHeader {
    /// The header of a campaign whose reports begin as `reports`.
    pub(super) fn new<'a>(
        generator: Generator,
        seed: u64,
        shard: Shard,
        reports: impl Iterator<Item = &'a CampaignReport>,
    ) -> Self {
        let processor = |report: &CampaignReport| HeaderProcessor {
            implementation: report.implementation.clone(),
            basis: report.basis.clone(),
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let processors = reports.map(processor).collect();
        Self { format: FORMAT.to_owned(), version, generator, seed, shard, processors }
    }

    /// What of `self`, a state's, differs from `wanted`: what it has, and what is wanted.
    fn difference(&self, wanted: &Self) -> Option<String> {
        let names = |header: &Self| {
            let names = header.processors.iter().map(|processor| processor.implementation.to_string());
            names.collect::<Vec<_>>().join(", ")
        };
        let differs = |what: &str, had: String, wants: String| {
            (had != wants).then(|| format!("{what} {had}, and this is one with {what} {wants}"))
        };
        differs("version", self.version.clone(), wanted.version.clone())
            .or_else(|| differs("the generator", self.generator.name().to_owned(), wanted.generator.name().to_owned()))
            .or_else(|| differs("the seed", self.seed.to_string(), wanted.seed.to_string()))
            .or_else(|| differs("the part", self.shard.to_string(), wanted.shard.to_string()))
            .or_else(|| differs("the processors", names(self), names(wanted)))
            .or_else(|| {
                let mut pairs = self.processors.iter().zip(&wanted.processors);
                pairs.find_map(|(had, wants)| wants.basis.difference(&had.basis))
            })
    }
}

/// What is kept of one processor.
#[derive(Serialize)]
struct SavedRef<'a> {
    format: &'a str,
    report: &'a CampaignReport,
    pieces: Vec<&'a ObservedCases>,
    stream: &'a Stream,
    timeline: &'a Timeline,
}

/// As [`SavedRef`], read back.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedFile {
    format: String,
    report: CampaignReport,
    pieces: Vec<ObservedCases>,
    stream: Stream,
    timeline: Timeline,
}

/// What was saved of one processor.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) done: Done,
    /// The stream, not behind the first case that is not done.
    pub(super) stream: Stream,
    pub(super) timeline: Timeline,
}

/// A state that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file operation failed.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Another process uses it.
    #[error("{}: another campaign is using this state directory", .0.display())]
    InUse(PathBuf),
    /// A directory that holds something else.
    #[error("{}: neither empty nor a state directory: it has no {CAMPAIGN}", .0.display())]
    NotAState(PathBuf),
    /// A directory without a campaign.
    #[error("{}: expected a state directory, found no {CAMPAIGN} in it", .0.display())]
    Empty(PathBuf),
    /// A file is not what was written.
    #[error("{}: {message}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// It belongs to another campaign.
    #[error("{}: the state is that of another campaign: one with {difference}", path.display())]
    Other {
        /// The directory.
        path: PathBuf,
        /// What differs.
        difference: String,
    },
}

/// A state directory that this process has locked.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    /// The lock ends with the file.
    _lock: File,
}

impl StateDirectory {
    /// Opens the state directory `path` for a campaign, and makes it if it is not there.
    ///
    /// # Errors
    /// [`StateError::Io`], [`StateError::InUse`], [`StateError::NotAState`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        fs::create_dir_all(path).map_err(io_error(path, "make the directory"))?;
        let listed = fs::read_dir(path).map_err(io_error(path, "read the directory"))?;
        let mut others = 0;
        for entry in listed {
            let name = entry.map_err(io_error(path, "read the directory"))?.file_name();
            others += usize::from(name != LOCK && !name.to_string_lossy().ends_with(".new"));
        }
        if others > 0 && !path.join(CAMPAIGN).exists() {
            return Err(StateError::NotAState(path.to_owned()));
        }
        let file = path.join(LOCK);
        let lock = File::create(&file).map_err(io_error(&file, "write"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(io_error(&file, "lock")(error)),
        }
    }

    /// What is there of the campaign `header`, for each of its processors; `None` where nothing was saved yet.
    ///
    /// # Errors
    /// [`StateError::Other`], [`StateError::Damaged`], [`StateError::Io`]. Nothing of another campaign is changed.
    pub(super) fn begin(&self, header: &StateHeader) -> Result<Vec<Option<Saved>>, StateError> {
        let file = self.path.join(CAMPAIGN);
        match read_header(&file)? {
            None => replace(&file, header)?,
            Some(found) => {
                if let Some(difference) = found.difference(header) {
                    return Err(StateError::Other { path: self.path.clone(), difference });
                }
            }
        }
        let processors = header.processors.iter().enumerate();
        processors.map(|(index, processor)| read_saved(&self.path, index, processor)).collect()
    }

    /// Keeps what is known of the processor number `index`.
    ///
    /// # Errors
    /// [`StateError::Io`]; what was kept before is still there then.
    pub(super) fn save(
        &self,
        index: usize,
        done: &Done,
        stream: &Stream,
        timeline: &Timeline,
    ) -> Result<(), StateError> {
        let (report, pieces) = done.parts();
        let saved = SavedRef { format: FORMAT, report, pieces, stream, timeline };
        replace(&processor_file(&self.path, index, &report.implementation), &saved)
    }
}

/// The reports of the campaign whose state is in `path`, which may be running.
///
/// # Errors
/// [`StateError`].
pub fn reports(path: &Path) -> Result<Vec<(CampaignReport, Timeline)>, StateError> {
    let header = read_header(&path.join(CAMPAIGN))?.ok_or_else(|| StateError::Empty(path.to_owned()))?;
    let mut reports = Vec::new();
    for (index, processor) in header.processors.iter().enumerate() {
        if let Some(saved) = read_saved(path, index, processor)? {
            reports.push((saved.done.report(), saved.timeline));
        }
    }
    Ok(reports)
}

fn processor_file(directory: &Path, index: usize, implementation: &Implementation) -> PathBuf {
    let name = implementation.to_string();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._".contains(c) { c } else { '-' };
    directory.join(format!("{index:03}-{}.json", name.chars().map(plain).collect::<String>()))
}

fn read_header(file: &Path) -> Result<Option<StateHeader>, StateError> {
    /// What every version's header has.
    #[derive(Deserialize)]
    struct Version {
        format: String,
        version: String,
    }
    let Some(text) = read(file)? else { return Ok(None) };
    let Version { format, version } = parse(file, &text)?;
    if format != FORMAT {
        let path = file.parent().unwrap_or(file).to_owned();
        let ours = env!("CARGO_PKG_VERSION");
        let difference = format!("the format {format:?} of version {version}, and version {ours} has {FORMAT:?}");
        return Err(StateError::Other { path, difference });
    }
    parse(file, &text).map(Some)
}

fn read_saved(directory: &Path, index: usize, processor: &HeaderProcessor) -> Result<Option<Saved>, StateError> {
    let file = processor_file(directory, index, &processor.implementation);
    let Some(text) = read(&file)? else { return Ok(None) };
    let SavedFile { format, report, pieces, stream, timeline } = parse(&file, &text)?;
    let fits = |report: &CampaignReport| {
        report.adds_up() && report.implementation == processor.implementation && report.basis == processor.basis
    };
    let all_fit = format == FORMAT && fits(&report) && pieces.iter().all(|piece| fits(&piece.report));
    let done = Done::new(report, pieces).filter(|done| all_fit && stream.position() <= done.start());
    match done {
        Some(done) => Ok(Some(Saved { done, stream, timeline })),
        None => {
            let message = "the file is damaged: its counts do not fit together".to_owned();
            Err(StateError::Damaged { path: file, message })
        }
    }
}

fn read(file: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match fs::read(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(file, "read")(error)),
    }
}

fn parse<T: DeserializeOwned>(file: &Path, text: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(text).map_err(|error| StateError::Damaged {
        path: file.to_owned(),
        message: format!("the file is damaged: {error}"),
    })
}

/// Replaces `file`: whatever happens, there is the old content or the new one.
fn replace(file: &Path, content: &impl Serialize) -> Result<(), StateError> {
    let beside = file.with_extension("json.new");
    let write = || -> io::Result<()> {
        let mut new = File::create(&beside)?;
        new.write_all(&serde_json::to_vec(content)?)?;
        new.sync_all()?;
        fs::rename(&beside, file)?;
        // The renaming is flushed to the disk, too.
        File::open(file.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|error| {
        // If this fails, the file is gone already, or the next saving replaces it.
        let _ = fs::remove_file(&beside);
        io_error(file, "write")(error)
    })
}

fn io_error(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { path, action, source }
}
