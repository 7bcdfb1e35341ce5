//! Reading VMCS dumps out of kernel logs: which fields a dump gives a value, and which stay unknown.

mod contents;
mod haxm;
mod pattern;
mod qemu;
mod sections;
mod text;

pub use contents::{Dump, Reported};

/// The dumps in a log, in their order; none if it holds nothing of the sort.
#[must_use]
pub fn find(log: &str) -> Vec<Dump> {
    let text = text::clean(log);
    let dumps = sections::find(&text, log.contains("(XEN)"));
    if !dumps.is_empty() {
        return dumps;
    }
    let dumps = haxm::find(&text);
    if !dumps.is_empty() {
        return dumps;
    }
    qemu::find(&text)
}
