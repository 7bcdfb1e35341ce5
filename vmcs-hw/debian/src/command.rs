//! Running child processes. While one runs, its caller gets notice of the progress, and can stop it.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::ops::ControlFlow;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::error::InstallError;

/// How often a child is looked after.
const INTERVAL: Duration = Duration::from_millis(10);
/// Lines of output that an error quotes.
const QUOTED_LINES: usize = 8;

/// Runs `command` to its end and returns what it wrote to standard output. `tick` is called all the while and may
/// break off.
///
/// # Errors
/// [`InstallError::NoProgram`], [`InstallError::Command`] with the last lines of its errors, [`InstallError::Cancelled`],
/// [`InstallError::Io`].
pub fn run(command: &mut Command, tick: &mut dyn FnMut() -> ControlFlow<()>) -> Result<String, InstallError> {
    let words: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).collect();
    let words: Vec<_> = words.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let failed = || InstallError::io(format!("running {}", words.join(" ")));
    let mut output = tempfile::tempfile().map_err(failed())?;
    let mut errors = tempfile::tempfile().map_err(failed())?;
    command.stdin(Stdio::null());
    command.stdout(output.try_clone().map_err(failed())?).stderr(errors.try_clone().map_err(failed())?);
    let child = command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => InstallError::NoProgram(words[0].clone()),
        _ => failed()(source),
    })?;

    let mut child = Reaped(child);
    let status = loop {
        if let Some(status) = child.0.try_wait().map_err(failed())? {
            break status;
        }
        if tick().is_break() {
            return Err(InstallError::Cancelled);
        }
        thread::sleep(INTERVAL);
    };
    let output = whole(&mut output).map_err(failed())?;
    if status.success() {
        return Ok(output);
    }
    let errors = whole(&mut errors).map_err(failed())?;
    let output = last_lines(if errors.trim().is_empty() { &output } else { &errors }, QUOTED_LINES);
    Err(InstallError::Command { command: words.join(" "), status, output })
}

/// The last `count` lines of `text` that are not blank.
#[must_use]
pub fn last_lines(text: &str, count: usize) -> String {
    let mut lines: Vec<&str> = text.lines().rev().filter(|line| !line.trim().is_empty()).take(count).collect();
    lines.reverse();
    lines.join("\n")
}

/// The contents of a file to which a child wrote.
fn whole(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A child that does not outlive its owner.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Neither does anything to a child that has been waited for, and there is nobody to tell about an error.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str, tick: &mut dyn FnMut() -> ControlFlow<()>) -> Result<String, InstallError> {
        run(Command::new("sh").args(["-c", script]), tick)
    }

    #[test]
    fn output_and_errors_are_kept_apart() {
        let output = shell("echo out; echo err >&2", &mut || ControlFlow::Continue(()));
        assert_eq!(output.expect("it succeeds"), "out\n");
    }

    #[test]
    fn a_failure_quotes_the_last_errors() {
        let error = shell("echo out; seq 20 >&2; exit 3", &mut || ControlFlow::Continue(())).expect_err("it fails");
        let text = error.to_string();
        assert!(text.starts_with("sh -c") && text.contains("exit status: 3"), "{text}");
        assert!(text.ends_with("13\n14\n15\n16\n17\n18\n19\n20"), "{text}");
    }

    #[test]
    fn what_is_not_installed_is_named() {
        let error = run(&mut Command::new("vmcs-no-such-program"), &mut || ControlFlow::Continue(()));
        assert!(matches!(error, Err(InstallError::NoProgram(program)) if program == "vmcs-no-such-program"));
    }

    #[test]
    fn last_lines_skip_blank_ones() {
        assert_eq!(last_lines("a\nb\n\nc\n\n", 2), "b\nc");
        assert_eq!(last_lines("", 2), "");
    }

    #[test]
    fn breaking_off_kills_the_child() {
        let start = Instant::now();
        let error = run(Command::new("sleep").arg("60"), &mut || ControlFlow::Break(()));
        assert!(matches!(error, Err(InstallError::Cancelled)));
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
