//! Printing tables for people and JSON for programs.

use std::io::{self, Write};

use comfy_table::Table;
use serde::Serialize;
use vmcs_report::table::write_table;

pub(crate) use vmcs_report::table::{markdown_text, table};

/// Prints one JSON value on a line.
pub(crate) fn json_line(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)
}

/// Prints one JSON value over several lines.
pub(crate) fn json_pretty(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)
}

/// Prints a table.
pub(crate) fn print_table(table: &Table) -> io::Result<()> {
    write_table(&mut io::stdout().lock(), table)
}
