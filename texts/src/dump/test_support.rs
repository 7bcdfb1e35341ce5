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

/// Cuts the text at every byte, and its lines at every width: no value may be another than in the whole, and no check may be
/// violated that is not violated by the whole. Where the end of the text is cut off, no other end of the entry may be reported.
#[track_caller]
pub(super) fn every_cut_is_no_worse(text: &str) {
    let whole = super::find(text);
    let reports: Vec<_> = whole.iter().filter_map(|dump| dump.reported).collect();
    let values: Vec<_> = whole.iter().flat_map(known).collect();
    let violated = violated(text);
    let widths = 1..text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    let narrow = widths.map(|width| {
        let lines = text.lines().map(|line| line.chars().take(width).chain(['\n']).collect::<String>());
        lines.collect::<String>()
    });
    let short = text.char_indices().map(|(end, _)| text[..end].to_owned());
    for part in short.chain(narrow) {
        let dumps = super::find(&part);
        for dump in &dumps {
            let wrong: Vec<_> = known(dump).into_iter().filter(|value| !values.contains(value)).collect();
            assert_eq!(wrong, [], "cut: {part:?}");
            let report = dump.reported;
            let known = part.ends_with('\n')
                || report.is_none_or(|report| reports.iter().any(|whole| *whole == report || weaker(report, *whole)));
            assert!(known, "{report:?}, not {reports:?}: cut: {part:?}");
        }
        let new = violated_by(dumps).into_iter().find(|check| !violated.contains(check));
        assert_eq!(new, None, "cut: {part:?}");
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
