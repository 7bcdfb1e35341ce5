//! Progress bars on standard error.

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use vmcs_debian::{InstallError, InstallProgress, InstallStep};

use crate::error::CliError;
use crate::interrupt::stop_on_ctrl_c;

/// A progress bar for each processor.
pub(crate) struct Bars(Vec<ProgressBar>);

impl Bars {
    /// Bars for processors of these names. Each is to execute `cases` cases, if that is known.
    pub(crate) fn new(names: impl Iterator<Item = String>, cases: Option<u64>) -> Self {
        let all = MultiProgress::with_draw_target(draw_target());
        Self(names.map(|name| all.add(bar(cases, &name))).collect())
    }

    /// Notes that `cases` more cases of one processor were observed.
    pub(crate) fn add(&self, processor: usize, cases: u64) {
        self.0[processor].inc(cases);
    }

    /// Removes the bars.
    pub(crate) fn clear(&self) {
        self.0.iter().for_each(ProgressBar::finish_and_clear);
    }
}

fn draw_target() -> ProgressDrawTarget {
    if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

/// A progress bar for `cases` cases, or without a length if their number is not known.
pub(crate) fn bar(cases: Option<u64>, name: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(cases, draw_target());
    let style = match cases {
        Some(_) => "{prefix} {wide_bar} {human_pos}/{human_len} cases, {per_sec}, {eta} left",
        None => "{prefix} {human_pos} cases, {per_sec}, {elapsed}",
    };
    bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
    bar.set_prefix(name.to_owned());
    bar
}

/// Shows the progress of an installation, which Ctrl-C breaks off.
pub(crate) fn with_progress<T>(
    install: impl FnOnce(InstallProgress<'_>) -> Result<T, InstallError>,
) -> Result<T, CliError> {
    let stop = stop_on_ctrl_c();
    let bar = if io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    let style = "{msg} {wide_bar} {bytes}/{total_bytes}";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
    let result = install(&mut |step| {
        match step {
            InstallStep::Wait => bar.set_message("waiting for another installation"),
            InstallStep::Index => bar.set_message("reading the list of packages"),
            InstallStep::Download { done, total } => {
                bar.set_message("downloading");
                bar.set_length(total);
                bar.set_position(done);
            }
            InstallStep::Unpack { package } => bar.set_message(format!("unpacking {package}")),
            InstallStep::Check => bar.set_message("looking at what it holds"),
        }
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    Ok(result?)
}
