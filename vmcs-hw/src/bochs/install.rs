//! A Bochs on this computer: where its files are and how it is started.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use vmcs_case::TargetError;
use vmcs_debian::{LIBRARIES, last_lines};

use super::error::BochsError;
use super::version::BochsVersion;

/// An installed or unpacked Bochs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BochsInstall {
    /// Program and leading arguments: the binary alone, or a dynamic loader with its library path and the binary.
    pub command: Vec<OsString>,
    /// Directory with BIOS images and key maps (`BXSHARE`), when it is not the built-in one.
    pub share: Option<PathBuf>,
    /// Directory with plug-ins (`LTDL_LIBRARY_PATH`), when it is not the built-in one.
    pub plugins: Option<PathBuf>,
    /// VGA BIOS, when it is not the default.
    pub vga_bios: Option<PathBuf>,
    /// Version.
    pub version: BochsVersion,
}

impl BochsInstall {
    /// Looks for `bochs-bin` (Debian's binary behind a wrapper script) and `bochs` in PATH.
    ///
    /// # Errors
    /// [`BochsError::Missing`], [`BochsError::TooOld`], [`BochsError::NotBochs`], [`TargetError::Io`].
    pub fn discover() -> Result<Self, TargetError> {
        let path = env::var_os("PATH").unwrap_or_default();
        let found = ["bochs-bin", "bochs"]
            .iter()
            .find_map(|name| env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file()))
            .ok_or(BochsError::Missing)?;
        let vga_bios = PathBuf::from("/usr/share/vgabios/vgabios.bin");
        Self {
            command: vec![found.into()],
            share: None,
            plugins: None,
            vga_bios: vga_bios.exists().then_some(vga_bios),
            version: BochsVersion::OLDEST,
        }
        .with_version()
    }

    /// A Bochs whose packages, with the libraries that they need, were unpacked below `root`. It runs with those
    /// libraries, so its distribution may be newer than the host's.
    ///
    /// # Errors
    /// [`BochsError::Incomplete`], and those of [`BochsInstall::discover`].
    pub fn from_root(root: &Path) -> Result<Self, TargetError> {
        let need = |what, path: PathBuf| -> Result<PathBuf, TargetError> {
            if path.exists() { Ok(path) } else { Err(BochsError::Incomplete { what, path }.into()) }
        };
        let libraries = root.join(LIBRARIES);
        let loader = need("the dynamic loader", libraries.join("ld-linux-x86-64.so.2"))?;
        let binary = need("its binary", root.join("usr/bin/bochs-bin"))?;
        Self {
            command: vec![loader.into(), "--library-path".into(), libraries.clone().into(), binary.into()],
            share: Some(need("its share directory (package bochsbios)", root.join("usr/share/bochs"))?),
            plugins: Some(need("its plug-ins", libraries.join("bochs/plugins"))?),
            vga_bios: Some(need("the VGA BIOS (package vgabios)", root.join("usr/share/vgabios/vgabios.bin"))?),
            version: BochsVersion::OLDEST,
        }
        .with_version()
    }

    /// A command for this Bochs with its environment, without arguments and with nothing to read.
    pub(crate) fn start(&self, wrapper: &[OsString]) -> Command {
        let mut words = wrapper.iter().chain(&self.command);
        let mut command = Command::new(words.next().map_or("", |word| word.to_str().unwrap_or_default()));
        command.args(words).env("TERM", "vt100").stdin(Stdio::null());
        // Ctrl-C goes to every process of the terminal's foreground group. Bochs is to end when its target says so, not
        // in the middle of a case.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        if let Some(share) = &self.share {
            command.env("BXSHARE", share);
        }
        if let Some(plugins) = &self.plugins {
            command.env("LTDL_LIBRARY_PATH", plugins);
        }
        command
    }

    /// Names of the CPU models, VMX-capable or not.
    ///
    /// # Errors
    /// [`TargetError::Io`] when it cannot be started.
    pub fn models(&self) -> Result<Vec<String>, TargetError> {
        let output = self.output(&["--help", "cpu"])?;
        let list = output.lines().skip_while(|line| !line.starts_with("Supported CPU models")).skip(1);
        // The list lies between two blank lines.
        let list = list.skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty());
        Ok(list.map(|line| line.trim().to_owned()).collect())
    }

    fn with_version(mut self) -> Result<Self, TargetError> {
        let output = self.output(&["--help"])?;
        let version = output
            .split_once("Bochs x86 Emulator ")
            .and_then(|(_, rest)| BochsVersion::parse(rest.split_whitespace().next()?));
        self.version = version.ok_or_else(|| BochsError::NotBochs {
            command: format!("{:?}", self.command),
            output: last_lines(&output, 5),
        })?;
        if self.version < BochsVersion::OLDEST {
            return Err(BochsError::TooOld { found: self.version }.into());
        }
        Ok(self)
    }

    fn output(&self, arguments: &[&str]) -> Result<String, TargetError> {
        let output = self.start(&[]).args(arguments).output();
        let output = output.map_err(TargetError::io(format!("starting {:?}", self.command)))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_root_lacks_the_loader() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let error = BochsInstall::from_root(root.path()).expect_err("nothing is there");
        let missing = matches!(error.machine(), Some(BochsError::Incomplete { what: "the dynamic loader", .. }));
        assert!(missing, "{error}");
    }
}
