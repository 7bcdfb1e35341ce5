//! The answer of `vmcs explain` as text, not wider than the terminal, and as Markdown.

use std::io::{self, IsTerminal, Write};

use terminal_size::{Width, terminal_size};
use textwrap::{Options, WordSplitter};
use vmcs_texts::diagnosis::{Point, Section};

/// Columns of lines that go to something else than a terminal.
const COLUMNS: usize = 100;
/// A narrower terminal is not written for.
const FEWEST_COLUMNS: usize = 40;

/// How wide lines may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    /// The first line of an answer: one line where there is no terminal, so that `head -1` and `grep` find it as a whole.
    first: usize,
    /// The other lines.
    others: usize,
}

impl Columns {
    /// As wide as the terminal that `out` is.
    pub(super) fn of(out: &impl IsTerminal) -> Self {
        if !out.is_terminal() {
            return Self { first: usize::MAX, others: COLUMNS };
        }
        let columns = terminal_size().map_or(COLUMNS, |(Width(columns), _)| usize::from(columns)).max(FEWEST_COLUMNS);
        Self { first: columns, others: columns }
    }

    /// Writes a paragraph.
    pub(super) fn write(self, text: &str, out: &mut impl Write) -> io::Result<()> {
        wrapped(text, "", "", self.others, out)
    }
}

/// Writes an answer as text.
pub(super) fn text(sections: &[Section], columns: Columns, out: &mut impl Write) -> io::Result<()> {
    for (i, section) in sections.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        match section {
            Section::Paragraph(text) => {
                wrapped(text, "", "", if i == 0 { columns.first } else { columns.others }, out)?;
            }
            Section::Points { heading, points } => {
                wrapped(heading, "", "", columns.others, out)?;
                for Point { title, lines } in points {
                    wrapped(title, "  - ", "    ", columns.others, out)?;
                    for line in lines {
                        wrapped(line, "    ", "      ", columns.others, out)?;
                    }
                }
            }
        }
    }
    Ok(())
}

fn wrapped(text: &str, first: &str, others: &str, columns: usize, out: &mut impl Write) -> io::Result<()> {
    let options = Options::new(columns)
        .initial_indent(first)
        .subsequent_indent(others)
        .word_splitter(WordSplitter::NoHyphenation);
    textwrap::wrap(text, options).iter().try_for_each(|line| writeln!(out, "{line}"))
}

/// Writes an answer as Markdown, as it is put into the report of an issue.
pub(super) fn markdown(sections: &[Section], out: &mut impl Write) -> io::Result<()> {
    for (i, section) in sections.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        match section {
            Section::Paragraph(text) if i == 0 => writeln!(out, "**{}**", escaped(text))?,
            Section::Paragraph(text) => writeln!(out, "{}", escaped(text))?,
            Section::Points { heading, points } => {
                writeln!(out, "{}\n", escaped(heading))?;
                for Point { title, lines } in points {
                    writeln!(out, "- {}", escaped(title))?;
                    lines.iter().try_for_each(|line| writeln!(out, "  - {}", escaped(line)))?;
                }
            }
        }
    }
    Ok(())
}

/// The text with names as code, and nothing that Markdown takes for markup.
fn escaped(text: &str) -> String {
    let word = |word: &str| {
        // Names of fields, checks and MSRs, and numbers.
        let core = word.trim_matches(|c: char| ",.:;()[]".contains(c));
        let name = core.contains('_')
            || core.starts_with("0x")
            || core.split('.').count() > 2 && !core.starts_with(|c: char| c.is_ascii_digit());
        if name && !core.contains('`') {
            return word.replacen(core, &format!("`{core}`"), 1);
        }
        word.replace('*', "\\*").replace('<', "&lt;").replace('[', "\\[")
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_code() {
        assert_eq!(escaped("guest.rflags.bit1: guest_rflags = 0x0."), "`guest.rflags.bit1`: `guest_rflags` = `0x0`.");
        assert_eq!(escaped("[SDM 27.3.1.5, Checks on *x*]"), "\\[SDM 27.3.1.5, Checks on \\*x\\*]");
    }
}
