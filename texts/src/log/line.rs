//! A line of a log.

/// A line of a log without its prefixes: timestamps, log levels, tags and quoting marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Its number in the log, counted from 1.
    pub number: usize,
    /// What is left of it, without white space around and control characters.
    pub text: String,
    /// Something other than quoting marks stood before it and was removed: then it is not the rest of the line before, wrapped
    /// by a mail program.
    pub prefixed: bool,
    /// It has the prefix `(XEN)` of a Xen console.
    pub xen: bool,
    /// The log ends within it: its last number may lack digits.
    pub cut: bool,
    /// Who wrote it, where a prefix tells: `T1234` or `C3` of Linux' printk, the task of a trace. The lines of one dump have one
    /// writer.
    pub writer: Option<String>,
    /// How many characters it has in the log, prefixes included. A program that cuts lines at a width cuts these.
    pub width: usize,
}
