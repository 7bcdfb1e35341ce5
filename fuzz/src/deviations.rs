//! What implementations do otherwise than the SDM, reviewed: files that say who, when, what and with which evidence.

mod id;

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vmcs_case::Implementation;
use vmcs_case::number::Number;
use vmcs_case::program::{FieldKey, OpLine, Program, StartState};
use vmcs_model::checks::{CheckId, CheckSet, Phase};
use vmcs_model::field::{self, Area, Encoding, FieldId, FieldSet};
use vmcs_model::formats::exit_reason;
use vmcs_model::{CpuProfile, Outcome, ReadMemory, Vmcs};

use crate::as_text;
use crate::step::{OpKind, StepEnd};

pub use id::{DeviationId, DeviationIds};

/// Deviations that this crate knows, by file name.
const FILES: &[(&str, &str)] = &[
    ("deviations/bochs.toml", include_str!("../deviations/bochs.toml")),
    ("deviations/kvm.toml", include_str!("../deviations/kvm.toml")),
];

/// Entries of an MSR-load area that are looked at.
const MOST_LOADS: u64 = 64;

/// One deviation of an implementation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deviation {
    /// Stable id.
    pub id: DeviationId,
    /// The implementation's name, such as `Bochs`.
    pub implementation: String,
    /// Its versions; all if there are none.
    #[serde(default)]
    pub versions: Vec<String>,
    /// Its CPU models; all if there are none.
    #[serde(default)]
    pub models: Vec<String>,
    /// Checks of a VM entry that it does not make.
    #[serde(default, with = "as_text::list")]
    pub omits: Vec<CheckId>,
    /// What a VM entry ends in there although the SDM does not permit it, such as `VMfailValid(7)`.
    #[serde(default, with = "as_text::option")]
    pub entry: Option<Outcome>,
    /// The instruction other than a VM entry that ends differently, such as `invvpid`.
    #[serde(default, with = "as_text::option")]
    pub instruction: Option<OpKind>,
    /// What that instruction ends in there; anything if it is not said.
    #[serde(default, with = "as_text::option")]
    pub result: Option<StepEnd>,
    /// What it should end in.
    #[serde(default, with = "as_text::option")]
    pub instead_of: Option<StepEnd>,
    /// Components that it lacks although its capabilities promise them.
    #[serde(default, with = "as_text::list")]
    pub fields_missing: Vec<FieldId>,
    /// Components that it has although its capabilities do not promise them.
    #[serde(default, with = "as_text::list")]
    pub fields_extra: Vec<FieldId>,
    /// Fields that it writes, or writes otherwise, where the SDM says what they hold.
    #[serde(default)]
    pub fields_written: Vec<String>,
    /// It takes the machine down.
    #[serde(default)]
    pub crashes: bool,
    /// What has to hold of the current VMCS, all of it.
    #[serde(default)]
    pub when: Vec<Condition>,
    /// Of these at least one has to hold, if there are any.
    #[serde(default)]
    pub when_any: Vec<Condition>,
    /// MSRs of which the VM-entry MSR-load area has to name one; any area will do if there are none.
    #[serde(default)]
    pub loads: Vec<Number>,
    /// What the implementation does.
    pub behaviour: String,
    /// What the SDM says.
    pub sdm: String,
    /// How one can see it.
    pub evidence: String,
    /// Where it shows, and the smallest program that shows it.
    #[serde(default)]
    pub case: Option<MinimalCase>,
}

/// What shows a deviation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinimalCase {
    /// Version of the implementation.
    pub version: String,
    /// CPU model.
    pub model: String,
    /// Version of the Bochs below it, for one that leaves part of its work to a processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Where the program starts.
    #[serde(default)]
    pub start: StartState,
    /// The program. None shows which components a VMCS has: a deviation about that, and no other, has no program, and
    /// the comparison of `vmcs fields` shows it.
    #[serde(default)]
    pub ops: Vec<OpLine>,
}

/// A condition on a field of the current VMCS: on the bits `field & mask`, all of what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The field.
    pub field: FieldKey,
    /// Bits that are compared; all if there is no mask.
    #[serde(default = "all_ones")]
    pub mask: Number,
    /// What they are.
    #[serde(default)]
    pub equals: Option<Number>,
    /// What they are at least, as a number.
    #[serde(default)]
    pub at_least: Option<Number>,
    /// They are a linear address that is canonical with 57 bits and not with 48.
    #[serde(default)]
    pub canonical_57_only: bool,
    /// They are a linear address that is not canonical with 48 bits.
    #[serde(default)]
    pub noncanonical_48: bool,
    /// They are, as a number, not what these bits are.
    #[serde(default)]
    pub differ_from: Option<FieldBits>,
}

/// Bits of a field of the current VMCS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldBits {
    /// The field.
    pub field: FieldKey,
    /// The bits; they count from the lowest of them.
    pub mask: Number,
}

fn all_ones() -> Number {
    Number(u64::MAX)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviationFile {
    #[serde(default)]
    deviation: Vec<Deviation>,
}

/// A deviation file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviationError {
    /// It cannot be read.
    #[error("{file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what a deviation file looks like.
    #[error("{file}: {message}")]
    Parse {
        /// The file.
        file: String,
        /// Line and reason.
        message: String,
    },
    /// A deviation names something that does not exist.
    #[error("{file}: deviation {id}: unknown {what} {name:?}")]
    Unknown {
        /// The file.
        file: String,
        /// The deviation.
        id: DeviationId,
        /// Condition or field.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A deviation's case is none of its kind.
    #[error(
        "{file}: deviation {id}: a case is a program, or for fields_missing and fields_extra only a version and a model"
    )]
    Case {
        /// The file.
        file: String,
        /// The deviation.
        id: DeviationId,
    },
}

/// The reviewed deviations of all implementations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deviations(Vec<Deviation>);

impl Deviations {
    /// Those that come with this crate.
    ///
    /// # Errors
    /// [`DeviationError`], never for the files as committed: a test reads them.
    pub fn embedded() -> Result<Self, DeviationError> {
        let mut all = Vec::new();
        for (file, text) in FILES {
            all.extend(parse(file, text)?);
        }
        Ok(Self(all))
    }

    /// Those of a file.
    ///
    /// # Errors
    /// [`DeviationError`].
    pub fn read(path: &Path) -> Result<Self, DeviationError> {
        let file = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|source| DeviationError::Read { file: file.clone(), source })?;
        Self::parse(&file, &text)
    }

    /// Those of a file, or if there is none those that come with this crate.
    ///
    /// # Errors
    /// [`DeviationError`].
    pub fn read_or_embedded(path: Option<&Path>) -> Result<Self, DeviationError> {
        path.map_or_else(Self::embedded, Self::read)
    }

    /// Those of the text of a file; `file` is what errors name.
    ///
    /// # Errors
    /// [`DeviationError`].
    pub fn parse(file: &str, text: &str) -> Result<Self, DeviationError> {
        parse(file, text).map(Self)
    }

    /// The text of a file that holds them.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(&DeviationFile { deviation: self.0.clone() }).expect("every key is a string")
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Deviation> {
        self.0.iter()
    }

    /// Those that apply to `implementation` and that none of `seen` is, the ids of a campaign's report: either its cases do
    /// not come near them, or they are stale.
    #[must_use]
    pub fn not_seen<'s>(
        &self,
        implementation: &Implementation,
        seen: impl IntoIterator<Item = &'s DeviationIds>,
    ) -> Vec<DeviationId> {
        let seen: BTreeSet<_> = seen.into_iter().flat_map(DeviationIds::iter).collect();
        let of = self.of(implementation).into_iter().filter(|deviation| !deviation.is_about_fields());
        of.filter(|deviation| !seen.contains(&deviation.id)).map(|deviation| deviation.id.clone()).collect()
    }

    /// Those that apply to `implementation`. What it leaves to the implementation below it ends as it ends there, so of
    /// that one's deviations those in checks on guest state apply as well.
    #[must_use]
    pub fn of(&self, implementation: &Implementation) -> Vec<&Deviation> {
        let below = implementation.on.as_deref();
        self.0
            .iter()
            .filter(|deviation| {
                deviation.is_of(implementation)
                    || below.is_some_and(|below| deviation.is_of(below) && deviation.is_in_guest_state())
            })
            .collect()
    }
}

impl FromIterator<Deviation> for Deviations {
    fn from_iter<I: IntoIterator<Item = Deviation>>(deviations: I) -> Self {
        Self(deviations.into_iter().collect())
    }
}

impl Deviation {
    fn is_of(&self, implementation: &Implementation) -> bool {
        let matches = |list: &[String], name: &str| list.is_empty() || list.iter().any(|item| item == name);
        self.implementation == implementation.name
            && matches(&self.versions, &implementation.version)
            && matches(&self.models, &implementation.model)
    }

    /// Whether it is one in the checks on the guest-state area, or in what a guest does once it is entered.
    fn is_in_guest_state(&self) -> bool {
        let guest_state_fails =
            matches!(self.entry, Some(Outcome::EntryFailed { reason: exit_reason::INVALID_GUEST_STATE, .. }));
        let is_guest_state =
            |name: &String| FieldId::by_name(name).is_some_and(|field| field.info().area() == Area::GuestState);
        guest_state_fails
            || self.fields_written.iter().any(is_guest_state)
            || self.omitted().iter().any(|check| check.info().phase == Phase::GuestState)
    }

    /// Whether the current VMCS, and the MSR-load area that it names, meet its conditions.
    #[must_use]
    pub fn applies(&self, vmcs: &Vmcs, memory: &impl ReadMemory) -> bool {
        let holds = |condition: &Condition| condition.holds(vmcs);
        self.when.iter().all(holds)
            && (self.when_any.is_empty() || self.when_any.iter().any(holds))
            && (self.loads.is_empty() || self.loads_msr(vmcs, memory))
    }

    /// Whether the first entries of the VM-entry MSR-load area name one of its MSRs.
    fn loads_msr(&self, vmcs: &Vmcs, memory: &impl ReadMemory) -> bool {
        let area = vmcs.get(field::VM_ENTRY_MSR_LOAD_ADDRESS);
        let count = u64::from(vmcs.get(field::VM_ENTRY_MSR_LOAD_COUNT)).min(MOST_LOADS);
        let named = |entry: u64| memory.read_u32(area.wrapping_add(16 * entry));
        (0..count).filter_map(named).any(|msr| self.loads.contains(&Number(msr.into())))
    }

    /// Whether it is about which components a VMCS has, which no program of a session shows.
    #[must_use]
    pub fn is_about_fields(&self) -> bool {
        !self.fields_missing.is_empty() || !self.fields_extra.is_empty()
    }

    /// Whether a processor with that profile, read out of it, has the deviation about its fields.
    #[must_use]
    pub fn shows_in(&self, profile: &CpuProfile) -> bool {
        let quirks = &profile.quirks;
        let in_set = |fields: &[FieldId], set: &FieldSet| fields.iter().any(|field| set.contains(*field));
        in_set(&self.fields_missing, &quirks.fields_missing) || in_set(&self.fields_extra, &quirks.fields_extra)
    }

    /// The program that shows it, if it has one.
    #[must_use]
    pub fn program(&self) -> Option<Program> {
        let MinimalCase { start, ops, .. } = self.case.as_ref()?;
        let program = Program { id: self.id.to_string(), start: *start, memory: Vec::new(), ops: ops.clone() };
        (!ops.is_empty()).then_some(program)
    }

    /// Where it is known to show.
    #[must_use]
    pub fn shown_by(&self) -> Option<Implementation> {
        let MinimalCase { version, model, on, .. } = self.case.clone()?;
        let below = |version| Implementation { name: "Bochs".to_owned(), version, model: model.clone(), on: None };
        let on = on.map(|version| Box::new(below(version)));
        Some(Implementation { name: self.implementation.clone(), version, model, on })
    }

    /// The checks that it omits.
    #[must_use]
    pub fn omitted(&self) -> CheckSet {
        self.omits.iter().copied().collect()
    }
}

impl Condition {
    fn holds(&self, vmcs: &Vmcs) -> bool {
        let bits_of = |key: &FieldKey, mask: Number| Some(vmcs.raw(field_id(key)?) & mask.0);
        let number = |bits: u64, mask: Number| bits.unbounded_shr(mask.0.trailing_zeros());
        let Some(bits) = bits_of(&self.field, self.mask) else {
            return false;
        };
        let equals = |other: &FieldBits| {
            bits_of(&other.field, other.mask).map(|bits| number(bits, other.mask)) == Some(number(bits, self.mask))
        };
        self.equals.is_none_or(|equals| bits == equals.0)
            && self.at_least.is_none_or(|least| bits >= least.0)
            && !(self.noncanonical_48 && is_canonical(bits, 48))
            && (!self.canonical_57_only || (is_canonical(bits, 57) && !is_canonical(bits, 48)))
            && !self.differ_from.as_ref().is_some_and(equals)
    }

    /// The fields that it reads.
    fn fields(&self) -> impl Iterator<Item = &FieldKey> {
        std::iter::once(&self.field).chain(self.differ_from.as_ref().map(|other| &other.field))
    }
}

fn field_id(key: &FieldKey) -> Option<FieldId> {
    Encoding(u32::try_from(key.encoding().ok()?).ok()?).field()
}

/// Whether a linear address of that width is sign-extended.
fn is_canonical(address: u64, width: u32) -> bool {
    let shift = 64 - width;
    #[allow(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "the sign is what is extended")]
    let extended = ((address << shift) as i64 >> shift) as u64;
    extended == address
}

fn parse(file: &str, text: &str) -> Result<Vec<Deviation>, DeviationError> {
    let parsed: DeviationFile = toml::from_str(text)
        .map_err(|error| DeviationError::Parse { file: file.to_owned(), message: error.to_string() })?;
    for deviation in &parsed.deviation {
        let unknown = |what, name: &str| DeviationError::Unknown {
            file: file.to_owned(),
            id: deviation.id.clone(),
            what,
            name: name.to_owned(),
        };
        let mut written = deviation.fields_written.iter();
        if let Some(name) = written.find(|name| FieldId::by_name(name).is_none()) {
            return Err(unknown("field", name));
        }
        let mut read = deviation.when.iter().chain(&deviation.when_any).flat_map(Condition::fields);
        if let Some(key) = read.find(|key| field_id(key).is_none()) {
            return Err(unknown("field", &format!("{key:?}")));
        }
        if deviation.case.as_ref().is_some_and(|case| case.ops.is_empty() != deviation.is_about_fields()) {
            return Err(DeviationError::Case { file: file.to_owned(), id: deviation.id.clone() });
        }
    }
    Ok(parsed.deviation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_files_are_valid() {
        let all = Deviations::embedded().unwrap();
        let mut ids: Vec<_> = all.0.iter().map(|deviation| &deviation.id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all.0.len(), "two deviations share an id");
        for deviation in all.iter() {
            assert!(deviation.case.is_some(), "{}: run `vmcs deviations --update FILE`", deviation.id);
        }
    }

    #[test]
    fn what_is_left_to_the_processor_below_deviates_as_that_does() {
        let file = |implementation: &str, id: &str, omits: &str| {
            format!(
                "[[deviation]]\nid = '{id}'\nimplementation = '{implementation}'\nomits = ['{omits}']\nbehaviour = ''\n\
                 sdm = ''\nevidence = ''\n"
            )
        };
        let text = file("KVM", "own", "ctl.vpid.nonzero")
            + &file("Bochs", "controls", "ctl.vpid.nonzero")
            + &file("Bochs", "guest", "guest.pdbg.reserved");
        let all = Deviations(parse("f", &text).unwrap());
        let bochs = Implementation { name: "Bochs".into(), version: "2.7".into(), model: "m".into(), on: None };
        let kvm = Implementation { name: "KVM".into(), version: "6.1".into(), model: "m".into(), on: None };
        let both = Implementation { on: Some(Box::new(bochs.clone())), ..kvm.clone() };
        let ids = |of: &Implementation| all.of(of).iter().map(|deviation| deviation.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(&bochs), ["controls", "guest"]);
        assert_eq!(ids(&kvm), ["own"]);
        assert_eq!(ids(&both), ["own", "guest"]);
    }

    #[test]
    fn bits_of_two_fields_differ_as_numbers() {
        let (cs, ss) = (field::GUEST_CS_SELECTOR.id(), field::GUEST_SS_ACCESS_RIGHTS.id());
        let condition: Condition = toml::from_str(
            "field = 'guest_cs_selector'\nmask = 3\ndiffer_from = {field = 'guest_ss_access_rights', mask = 0x60}",
        )
        .unwrap();
        let mut vmcs = Vmcs::default();
        vmcs.set_raw(cs, 0xA);
        vmcs.set_raw(ss, 0xD3);
        assert!(!condition.holds(&vmcs), "both are 2");
        vmcs.set_raw(cs, 0x9);
        assert!(condition.holds(&vmcs));
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        let file = |line: &str| {
            format!(
                "[[deviation]]\nid = 'x'\nimplementation = 'Bochs'\nbehaviour = ''\nsdm = ''\nevidence = ''\n{line}\n"
            )
        };
        assert!(parse("f", &file("")).is_ok());
        assert!(matches!(parse("f", &file("omits = ['ctl.none']")), Err(DeviationError::Parse { .. })));
        assert!(matches!(parse("f", &file("fields_written = ['guest_rax']")), Err(DeviationError::Unknown { .. })));
        assert!(matches!(parse("f", &file("omit = []")), Err(DeviationError::Parse { .. })));
        for case in [
            "fields_extra = ['guest_rip']\ncase = {version = '1', model = 'm', ops = [{op = 'vmxoff'}]}",
            "case = {version = '1', model = 'm'}",
        ] {
            assert!(matches!(parse("f", &file(case)), Err(DeviationError::Case { .. })), "{case}");
        }
        for condition in [
            "{field = 'guest_rax', mask = 1, equals = 1}",
            "{field = 'guest_rip', differ_from = {field = 'guest_rax', mask = 1}}",
        ] {
            let line = format!("when = [{condition}]");
            assert!(matches!(parse("f", &file(&line)), Err(DeviationError::Unknown { .. })), "{condition}");
        }
    }
}
