//! Running apt with its own configuration, lists, state and cache, so that it needs no root rights and leaves those of the
//! machine alone.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::run;
use super::error::InstallError;
use super::progress::InstallStep;
use super::sources::{AptSource, mirrors, parse_deb822, parse_list};

/// What of the machine's configuration holds for the private apt too: how to reach its mirrors (proxies, above all).
const TRANSPORT: [&str; 3] = ["Acquire::http", "Acquire::ftp", "Acquire::ForceIPv"];

/// What the machine's apt is configured to.
#[derive(Clone, Debug, Default)]
pub(super) struct AptSettings {
    /// Configured sources.
    pub(super) sources: Vec<AptSource>,
    /// Code name of the release that the machine runs.
    pub(super) codename: Option<String>,
    /// Lines of apt configuration.
    pub(super) transport: String,
    /// Where the sources were looked for.
    pub(super) looked_in: Vec<PathBuf>,
}

impl AptSettings {
    /// Reads the configuration of this machine.
    pub(super) fn read(tick: &mut dyn FnMut() -> ControlFlow<()>) -> Result<Self, InstallError> {
        let names = ["LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"];
        let shell = run(Command::new("apt-config").arg("shell").args(names), tick)?;
        let value = |name: &str| {
            let line = shell.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.map(|value| PathBuf::from(value.trim_matches('\'')))
        };
        let looked_in: Vec<_> = [value("LIST"), value("PARTS")].into_iter().flatten().collect();

        let mut sources = Vec::new();
        for file in looked_in.iter().flat_map(|path| files(path)) {
            let parse = match file.extension().and_then(|extension| extension.to_str()) {
                Some("list") => parse_list,
                Some("sources") => parse_deb822,
                _ => continue,
            };
            // apt ignores a file that it may not read, as long as others serve.
            sources.extend(fs::read_to_string(&file).map_or(Vec::new(), |text| parse(&text)));
        }

        let dump = run(Command::new("apt-config").arg("dump"), tick)?;
        let kept = dump.lines().filter(|line| TRANSPORT.iter().any(|name| line.starts_with(name)));
        // A value that holds a quote cannot be written back.
        let kept = kept.filter(|line| line.ends_with("\";") && line.matches('"').count() == 2);
        let transport = kept.map(|line| format!("{line}\n")).collect();

        Ok(Self { sources, codename: codename(), transport, looked_in })
    }
}

/// Code name of the release that the machine runs.
#[must_use]
pub fn codename() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    codename.map(|name| name.trim_matches('"').to_owned())
}

/// The file itself, or the files of a directory in the order of their names.
fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(directory) = fs::read_dir(path) else {
        return vec![path.to_owned()];
    };
    let mut files: Vec<_> = directory.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// apt for one suite.
#[derive(Debug)]
pub struct Apt {
    suite: String,
    configuration: PathBuf,
    archives: PathBuf,
}

impl Apt {
    /// Sets apt up below `directory`, which exists, and fetches the index of `suite` from the first mirror that has it.
    pub(super) fn new(
        directory: &Path,
        settings: &AptSettings,
        suite: &str,
        tick: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Self, InstallError> {
        let mirrors = mirrors(settings.sources.clone(), suite, settings.codename.as_deref());
        let mut failure = InstallError::NoMirror(settings.looked_in.clone());
        for (number, mirror) in mirrors.iter().enumerate() {
            let directory = directory.join(number.to_string());
            let apt = Self::configure(&directory, mirror, settings, suite)
                .map_err(InstallError::io(format!("setting up apt in {}", directory.display())))?;
            match run(apt.command("apt-get").args(["-q", "update"]), tick) {
                Ok(_) => return Ok(apt),
                // The most likely mirror tells best what is wrong.
                Err(error @ InstallError::Command { .. }) if number == 0 => failure = error,
                Err(InstallError::Command { .. }) => (),
                Err(error) => return Err(error),
            }
        }
        Err(failure)
    }

    fn configure(directory: &Path, mirror: &AptSource, settings: &AptSettings, suite: &str) -> std::io::Result<Self> {
        let path = directory.to_str().filter(|path| !path.contains(['"', '\n', ';', '\\']));
        let path = path.ok_or_else(|| std::io::Error::other("apt cannot be given a directory of this name"))?;
        for name in ["state", "lists/partial", "cache", "archives"] {
            fs::create_dir_all(directory.join(name))?;
        }
        // No package is installed, as far as this apt knows.
        fs::write(directory.join("state/status"), "")?;
        fs::write(directory.join("mirror.sources"), mirror.stanza(suite))?;
        // The indexes are signed and stay verified; that they are not too old is not demanded, because a frozen mirror
        // or a wrong clock is no reason not to run an emulator.
        let text = format!(
            r#"Dir::Etc::Main "/dev/null";
Dir::Etc::Parts "/dev/null";
Dir::Etc::SourceList "{path}/mirror.sources";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "{path}/state";
Dir::State::Lists "{path}/lists";
Dir::State::Status "{path}/state/status";
Dir::Cache "{path}/cache";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::Retries "3";
{}"#,
            settings.transport
        );
        let configuration = directory.join("apt.conf");
        fs::write(&configuration, text)?;
        Ok(Self { suite: suite.to_owned(), configuration, archives: directory.join("archives") })
    }

    /// The suite.
    #[must_use]
    pub fn suite(&self) -> &str {
        &self.suite
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.configuration).env("LC_ALL", "C").current_dir(&self.archives);
        command
    }

    /// Those packages and all that they depend on, alternatives included.
    ///
    /// # Errors
    /// [`InstallError`].
    pub fn dependencies(
        &self,
        names: &[&str],
        tick: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<BTreeSet<String>, InstallError> {
        let list = run(self.command("apt-cache").args(["depends", "--recurse", "--important"]).args(names), tick)?;
        // Below each name stand its relations, indented; a virtual package stands in angle brackets.
        let names = list.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_alphanumeric()));
        Ok(names.map(str::to_owned).collect())
    }

    /// Downloads packages of those names and returns their files.
    ///
    /// # Errors
    /// [`InstallError`].
    pub fn download(
        &self,
        names: &[String],
        progress: &mut dyn FnMut(InstallStep<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<PathBuf>, InstallError> {
        let before = files(&self.archives);
        let mut still = || progress(InstallStep::Download { done: 0, total: 0 });
        let uris = run(self.command("apt-get").args(["-q", "download", "--print-uris"]).args(names), &mut still)?;
        // Each line: 'URI' file size hash.
        let total = uris.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum();

        let start = size(&self.archives);
        let mut tick = || progress(InstallStep::Download { done: (size(&self.archives) - start).min(total), total });
        run(self.command("apt-get").args(["-q", "download"]).args(names), &mut tick)?;
        if progress(InstallStep::Download { done: total, total }).is_break() {
            return Err(InstallError::Cancelled);
        }
        let packages = files(&self.archives).into_iter().filter(|file| !before.contains(file));
        Ok(packages.filter(|file| file.extension().is_some_and(|extension| extension == "deb")).collect())
    }
}

/// Bytes of the files of a directory.
fn size(directory: &Path) -> u64 {
    files(directory).iter().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}
