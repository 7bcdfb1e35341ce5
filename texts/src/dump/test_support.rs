//! What tests of the shapes share.

use vmcs_model::field::FieldId;
use vmcs_model::{Capabilities, Vmcs};

use super::Dump;
use crate::diagnosis::PartialEntry;

/// The fields that are known, with their values.
pub(super) fn known(dump: &Dump) -> Vec<(String, u64)> {
    let values = FieldId::all().filter_map(|field| Some((field.info().name.to_owned(), dump.vmcs.raw(field)?)));
    values.collect()
}

/// A valid VMCS of a 64-bit host and guest on a processor that has every feature which a complete profile says nothing of.
pub(super) fn valid() -> Vmcs {
    vmcs_model::baseline::plain_64bit(&Capabilities::new(&Default::default()))
}

/// The checks that the dumps of a text violate.
pub(super) fn violated(text: &str) -> Vec<String> {
    violated_by(super::find(text))
}

/// The checks that dumps violate.
pub(super) fn violated_by(dumps: Vec<Dump>) -> Vec<String> {
    let capabilities = Capabilities::new(&Default::default());
    let entries = dumps.into_iter().map(PartialEntry::of_dump);
    let checks = entries.flat_map(|entry| entry.diagnose(&capabilities).verdict().violated.iter().collect::<Vec<_>>());
    checks.map(|check| check.to_string()).collect()
}

/// Cuts the text at every byte: no check may be violated that is not violated by the whole, and no other end of the entry may
/// be reported.
#[track_caller]
pub(super) fn every_cut_is_no_worse(text: &str) {
    let whole = violated(text);
    let reports: Vec<_> = super::find(text).into_iter().filter_map(|dump| dump.reported).collect();
    for (end, _) in text.char_indices() {
        let part = &text[..end];
        let new = violated(part).into_iter().find(|check| !whole.contains(check));
        assert_eq!(new, None, "cut at byte {end}: {:?}", part.lines().last());
        for dump in super::find(part) {
            let report = dump.reported;
            let known =
                report.is_none_or(|report| reports.iter().any(|whole| *whole == report || weaker(report, *whole)));
            assert!(known, "cut at byte {end}: {report:?}, not {reports:?}");
        }
    }
}

/// Whether a report is the other without its qualification.
fn weaker(report: super::Reported, whole: super::Reported) -> bool {
    whole.outcome().is_some_and(|outcome| report.is(outcome))
}

/// Values as [`known`] gives them.
pub(super) fn values_of(values: &[(&str, u64)]) -> Vec<(String, u64)> {
    let mut vmcs = Dump::default();
    for (name, value) in values {
        vmcs.vmcs.set_raw(FieldId::by_name(name).expect("a field's name"), *value);
    }
    known(&vmcs)
}
