//! Printing tables in columns.

use std::io::{self, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

/// A table without lines, as wide as the terminal.
#[must_use]
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table
}

/// Writes a table without the spaces that end its lines.
///
/// # Errors
/// What writing to `out` fails with.
pub fn write_table(out: &mut dyn Write, table: &Table) -> io::Result<()> {
    for line in table.to_string().lines() {
        writeln!(out, "{}", line.strip_prefix(' ').unwrap_or(line).trim_end())?;
    }
    Ok(())
}

/// Text in a cell of a Markdown table: what Markdown would take for markup is escaped.
#[must_use]
pub fn markdown_text(text: &str) -> String {
    let special = |c: char| matches!(c, '|' | '[' | ']' | '*' | '_' | '<' | '`');
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}
