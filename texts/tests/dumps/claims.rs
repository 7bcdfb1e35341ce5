//! What a text claims, held against what another text claims.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use vmcs_case::profile::NamedProfile;
use vmcs_model::field::FieldId;
use vmcs_model::{Capabilities, CpuProfile, Vmcs};
use vmcs_texts::diagnosis::PartialEntry;
use vmcs_texts::dump::{self, Dump, Reported};

/// The dumps out of bug reports, by name.
pub(crate) fn samples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/tests/dumps");
    let files = fs::read_dir(folder).expect("the dumps are there").map(|entry| entry.expect("a file").path());
    let mut samples: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("it is text");
            (path.file_stem().expect("a name").to_string_lossy().into_owned(), text)
        })
        .collect();
    samples.sort();
    assert!(samples.len() >= 6);
    samples
}

/// The dumps out of bug reports, and registers as QEMU prints them.
pub(crate) fn samples_and_registers() -> Vec<(String, String)> {
    let qemu = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/formats/qemu.txt");
    let mut samples = samples();
    samples.push(("qemu".to_owned(), fs::read_to_string(qemu).expect("it is there")));
    samples
}

/// The processors that entries are judged on: one of which nothing is known, and one that is known.
static PROCESSORS: LazyLock<[Capabilities; 2]> = LazyLock::new(|| {
    let known = NamedProfile::find("Broadwell-H").expect("there is one of that name");
    [Capabilities::new(&CpuProfile::default()), Capabilities::new(&known.profile)]
});

/// The values, outcomes and violations that the dumps in a text claim.
pub(crate) struct Claims {
    values: BTreeMap<FieldId, BTreeSet<u64>>,
    msr_load: Vec<(u32, u32, u64)>,
    reported: Vec<Reported>,
    violated: BTreeSet<(usize, String)>,
}

impl Claims {
    /// Those of a text.
    pub(crate) fn of(text: &str) -> Self {
        let mut claims =
            Self { values: BTreeMap::new(), msr_load: Vec::new(), reported: Vec::new(), violated: BTreeSet::new() };
        for dump in dump::find(text) {
            for field in FieldId::all() {
                if let Some(value) = dump.vmcs.raw(field) {
                    claims.values.entry(field).or_default().insert(value);
                }
            }
            claims.msr_load.extend(dump.msr_load.iter().map(|entry| (entry.number, entry.index, entry.value)));
            claims.reported.extend(dump.reported);
            claims.violated.extend(violated(dump));
        }
        claims
    }

    /// The checks that are violated on one of the processors.
    pub(crate) fn violated(&self) -> BTreeSet<String> {
        self.violated.iter().map(|(_, check)| check.clone()).collect()
    }

    /// How many fields have a value.
    pub(crate) fn known(&self) -> usize {
        self.values.len()
    }

    /// With the values of a VMCS, some of which the text may not show.
    pub(crate) fn know(mut self, vmcs: &Vmcs) -> Self {
        for field in FieldId::all() {
            self.values.entry(field).or_default().insert(vmcs.raw(field));
        }
        self
    }

    /// Whether a dump has no value that this text does not have.
    pub(crate) fn cover(&self, dump: &Dump) -> bool {
        FieldId::all().all(|field| {
            let value = dump.vmcs.raw(field);
            value.is_none_or(|value| self.values.get(&field).is_some_and(|known| known.contains(&value)))
        })
    }

    /// That another text claims nothing that this one does not.
    #[track_caller]
    pub(crate) fn assert_covers(&self, text: &str, what: impl Fn() -> String) {
        for dump in dump::find(text) {
            for field in FieldId::all() {
                if let Some(value) = dump.vmcs.raw(field) {
                    let known = self.values.get(&field);
                    assert!(
                        known.is_some_and(|known| known.contains(&value)),
                        "{}: {field} = {value:#x}, not {known:x?}",
                        what()
                    );
                }
            }
            for entry in &dump.msr_load {
                assert!(self.msr_load.contains(&(entry.number, entry.index, entry.value)), "{}: {entry:?}", what());
            }
            if let Some(reported) = dump.reported {
                let known = self.reported.iter().any(|known| match (reported, *known) {
                    // The exit qualification may be what is missing.
                    (Reported::Outcome { qualified: false, .. }, Reported::Outcome { outcome, .. }) => {
                        reported.is(outcome)
                    }
                    (reported, known) => reported == known,
                });
                assert!(known, "{}: {reported}", what());
            }
            let new: Vec<_> = violated(dump).into_iter().filter(|violated| !self.violated.contains(violated)).collect();
            assert!(new.is_empty(), "{}: {new:?}", what());
        }
    }
}

/// The checks that an entry violates, with the processor on which it does.
fn violated(dump: Dump) -> Vec<(usize, String)> {
    let entry = PartialEntry::of_dump(dump);
    let mut violated = Vec::new();
    for (n, processor) in PROCESSORS.iter().enumerate() {
        let verdict = *entry.diagnose(processor).verdict();
        violated.extend(verdict.violated.iter().map(|check| (n, check.to_string())));
    }
    violated
}
