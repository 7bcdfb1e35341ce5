//! One failure that a log shows twice: QEMU's line of the failed entry, and KVM's dump of the VMCS.

use vmcs_model::Outcome;
use vmcs_model::field;

use super::contents::{Dump, Reported};

/// Makes one dump of both, which are the nearest in the log that do not contradict each other.
pub(super) fn join(dumps: Vec<Dump>) -> Vec<Dump> {
    let (lines, mut dumps): (Vec<_>, Vec<_>) = dumps.into_iter().partition(|dump| dump.format == "QEMU");
    let mut joined = vec![false; dumps.len()];
    for line in lines {
        let Some(reported) = line.reported else {
            // Registers without a word about a failure.
            if !dumps.iter().any(|dump| dump.format == "KVM") {
                joined.push(true);
                dumps.push(line);
            }
            continue;
        };
        let near = (0..dumps.len())
            .filter(|&n| !joined[n] && dumps[n].format == "KVM" && agree(&dumps[n], reported))
            .min_by_key(|&n| dumps[n].line.abs_diff(line.line));
        if let Some(near) = near {
            dumps[near].reported.get_or_insert(reported);
            dumps[near].note(format!("QEMU reports the failure in line {}", line.line));
            joined[near] = true;
        } else {
            joined.push(true);
            dumps.push(line);
        }
    }
    dumps.sort_by_key(|dump| dump.line);
    dumps
}

/// Whether KVM's dump can be that of an entry that QEMU reports so. The exit reason that it shows is that of an earlier exit if
/// the entry failed with a VM-instruction error.
fn agree(dump: &Dump, reported: Reported) -> bool {
    match dump.reported.and_then(|reported| reported.outcome()) {
        Some(outcome) => reported.is(outcome),
        None => {
            dump.vmcs.raw(field::EXIT_REASON.id()).is_none()
                || !matches!(reported.outcome(), Some(Outcome::EntryFailed { .. }))
        }
    }
}
