//! Making a boot image with the probe, for BIOS and UEFI, on a CD or a USB stick.

use std::ffi::OsString;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use vmcs_case::{Case, Session, TargetError};
use vmcs_debian::{InstallError, run};
use vmcs_driver::{Batch, Chunk};
use vmcs_wire::batch::Task;
use vmcs_wire::codec::Writer;
use vmcs_wire::layout::MAX_REQUESTS_BYTES;
use vmcs_wire::serial::Request;

use super::tools::{self, Tools};
use crate::answers::encode_session;
use crate::probe_image;
use crate::run::push;

/// What the image does besides starting the probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsoOptions {
    /// First I/O port of the serial port.
    pub serial: u16,
    /// By what its clock is divided: 1 is 115200 baud on an ordinary port.
    pub divisor: u16,
    /// Cases that are executed before a host is waited for, as [`requests`] encodes them.
    pub requests: Option<Vec<u8>>,
    /// Commands of GRUB that are executed first.
    pub commands: Vec<String>,
}

impl Default for IsoOptions {
    fn default() -> Self {
        Self { serial: 0x3F8, divisor: 1, requests: None, commands: Vec::new() }
    }
}

/// The image could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IsoError {
    /// There is no probe.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A program failed, or the caller broke off.
    #[error(transparent)]
    Tool(#[from] InstallError),
    /// A file operation failed.
    #[error("{action}")]
    Io {
        /// What was attempted.
        action: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

/// Makes the image `output`, which it replaces when it is complete. `tick` is called all the while and may break off.
///
/// # Errors
/// [`IsoError`]. Nothing is left behind then.
pub fn write(
    output: &Path,
    tools: &Tools,
    options: &IsoOptions,
    tick: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<(), IsoError> {
    let failed = |action: String| move |source| IsoError::Io { action, source };
    let probe = probe_image::elf().map_err(TargetError::from)?;
    let parent = match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Beside the image, so that it can be renamed.
    let place = tempfile::Builder::new().prefix(".vmcs-iso-").tempdir_in(parent);
    let place = place.map_err(failed(format!("creating a temporary directory in {}", parent.display())))?;
    let prepare = || -> std::io::Result<PathBuf> {
        let tree = place.path().join("tree");
        fs::create_dir_all(tree.join("boot/grub"))?;
        fs::write(tree.join("boot/vmcs-probe"), probe)?;
        if let Some(requests) = &options.requests {
            fs::write(tree.join("boot/vmcs-cases"), requests)?;
        }
        fs::write(tree.join("boot/grub/grub.cfg"), configuration(options))?;
        Ok(tree)
    };
    let writing = || failed(format!("writing to {}", place.path().display()));
    let tree = prepare().map_err(writing())?;
    let image = place.path().join("image");
    let mut command = tools.mkrescue(place.path()).map_err(writing())?;
    let mut to = OsString::from("--output=");
    to.push(&image);
    run(command.arg(to).args(tools::frugal()).arg(tree), tick)?;
    fs::rename(&image, output).map_err(failed(format!("moving the image to {}", output.display())))?;
    place.close().map_err(failed("removing temporary files".to_owned()))
}

/// GRUB's configuration.
fn configuration(options: &IsoOptions) -> String {
    let IsoOptions { serial, divisor, requests, commands } = options;
    let mut text: String = commands.iter().map(|command| format!("{command}\n")).collect();
    text += &format!("multiboot2 /boot/vmcs-probe serial={serial:#x} divisor={divisor}\n");
    if requests.is_some() {
        text += "module2 /boot/vmcs-cases\n";
    }
    // VGA text where there is a BIOS; UEFI has pixels alone.
    text + "if [ \"$grub_platform\" = pc ]; then set gfxpayload=text; else insmod all_video; fi\nboot\n"
}

/// Encodes cases to be baked into an image, each to be answered by a line.
///
/// # Errors
/// [`TargetError::SessionTooLarge`], [`TargetError::CaseTooLarge`].
pub fn requests(session: &Session, cases: impl Iterator<Item = Case>) -> Result<Vec<u8>, TargetError> {
    let mut file = Vec::new();
    let mut append = |request: Request<'_>, bytes: usize| {
        let mut buffer = vec![0; Request::OVERHEAD + bytes];
        request.encode(&mut Writer::new(&mut buffer)).expect("it has the size of the request");
        let length = u32::try_from(buffer.len()).expect("a request is small");
        file.extend_from_slice(&length.to_le_bytes());
        file.extend_from_slice(&buffer);
        file.len() as u64 <= MAX_REQUESTS_BYTES
    };
    let session_bytes = encode_session(session)?;
    append(Request::Open { task: Task::Run, session: &session_bytes }, session_bytes.len());
    for (number, case) in cases.enumerate() {
        let mut chunk = Chunk::default();
        if !push(&mut chunk, &case, session) {
            return Err(TargetError::CaseTooLarge(number));
        }
        // Nobody reads the results before the last.
        let whole = Batch { careful: false, ..chunk.batches(0, 0, 1)[0] };
        let mut batch = Vec::new();
        chunk.append(&whole, u32::try_from(number).unwrap_or(u32::MAX), &mut batch);
        if !append(Request::Batch(&batch), batch.len()) {
            return Err(TargetError::SessionTooLarge("the cases of a boot image take more than 16 MiB"));
        }
    }
    append(Request::End, 0);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use crate::probe_image::EmbeddedError;
    use vmcs_wire::Op;
    use vmcs_wire::serial;

    use super::*;

    #[test]
    fn requests_are_what_the_probe_reads() {
        let case = Case { ops: vec![Op::Vmxoff], ..Case::default() };
        let file = requests(&Session::default(), [case.clone(), case].into_iter()).expect("small");
        let read: Vec<_> = serial::requests(&file).map(|request| request.expect("it decodes")).collect();
        assert!(matches!(
            read[..],
            [Request::Open { task: Task::Run, .. }, Request::Batch(_), Request::Batch(_), Request::End]
        ));
        let large = Case { ops: vec![Op::Vmxoff; 70_000], ..Case::default() };
        let error = requests(&Session::default(), [large].into_iter());
        assert!(matches!(error, Err(TargetError::CaseTooLarge(0))));
    }

    #[test]
    fn grub_is_told_where_the_serial_port_is() {
        let options = IsoOptions { serial: 0x2F8, divisor: 3, commands: vec!["echo x".to_owned()], requests: None };
        let text = configuration(&options);
        assert!(text.starts_with("echo x\nmultiboot2 /boot/vmcs-probe serial=0x2f8 divisor=3\nif "), "{text}");
        let text = configuration(&IsoOptions { requests: Some(Vec::new()), ..options });
        assert!(text.contains("divisor=3\nmodule2 /boot/vmcs-cases\n"), "{text}");
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let output = directory.path().join("x.iso");
        let tools = Tools::Installed("/bin/false".into());
        let error = write(&output, &tools, &IsoOptions::default(), &mut || ControlFlow::Continue(()));
        let no_probe = |error: &TargetError| matches!(error.machine(), Some(EmbeddedError::NoProbe));
        assert!(match error {
            Err(IsoError::Tool(_)) => true,
            Err(IsoError::Target(error)) => no_probe(&error),
            _ => false,
        });
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 0);
    }
}
