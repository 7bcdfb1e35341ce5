//! The files of deviations, and all deviations together.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use vmcs_case::Implementation;

use super::{Deviation, DeviationId, DeviationIds, Problem};

/// Deviations that this crate knows, by file name.
const FILES: &[(&str, &str)] = &[
    ("deviations/bochs.toml", include_str!("../../deviations/bochs.toml")),
    ("deviations/kvm.toml", include_str!("../../deviations/kvm.toml")),
];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviationFile {
    #[serde(default)]
    deviation: Vec<Spanned<Deviation>>,
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
    /// A deviation contradicts itself, or does not say all that it has to.
    #[error("{file}: line {line}: deviation {id}: {problem}")]
    Deviation {
        /// The file.
        file: String,
        /// Where the deviation begins, from 1.
        line: usize,
        /// The deviation.
        id: DeviationId,
        /// What is wrong.
        problem: Problem,
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
        let nowhere = |deviation: &Deviation| Spanned::new(Range::default(), deviation.clone());
        toml::to_string(&DeviationFile { deviation: self.0.iter().map(nowhere).collect() })
            .expect("every key is a string")
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

fn parse(file: &str, text: &str) -> Result<Vec<Deviation>, DeviationError> {
    let parsed: DeviationFile = toml::from_str(text)
        .map_err(|error| DeviationError::Parse { file: file.to_owned(), message: error.to_string() })?;
    let check = |deviation: Spanned<Deviation>| {
        let line = text[..deviation.span().start].lines().count() + 1;
        let deviation = deviation.into_inner();
        match deviation.problem() {
            Some(problem) => {
                Err(DeviationError::Deviation { file: file.to_owned(), line, id: deviation.id.clone(), problem })
            }
            None => Ok(deviation),
        }
    };
    parsed.deviation.into_iter().map(check).collect()
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

    fn file(lines: &str) -> String {
        format!(
            "# A comment.\n[[deviation]]\nid = 'x'\nimplementation = 'Bochs'\nbehaviour = ''\nsdm = ''\nevidence = ''\n{lines}\n"
        )
    }

    #[test]
    fn what_does_not_exist_is_refused_with_its_line() {
        assert!(parse("f", &file("")).is_ok());
        for line in [
            "omits = ['ctl.none']",
            "omit = []",
            "after = ['exit']\nfields_written = ['guest_rip']",
            "after = ['exit']\nfields_written = [{field = 'guest_rip'}]",
            "after = ['exit']\nfields_written = [{field = 'guest_rax', value = 0}]",
            "when = [{field = 'guest_rip'}]",
            "takes_down = ['burns']",
            "instruction = 'vmrun'",
            "results = ['fine']",
        ] {
            let error = parse("f", &file(line)).unwrap_err();
            let last = 7 + line.lines().count();
            let place = format!("f: TOML parse error at line {last}, column ");
            assert!(error.to_string().starts_with(&place), "{line}: {error}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_its_line() {
        for (problem, lines) in [
            (
                Problem::Case,
                "fields_extra = ['guest_rip']\ncase = {version = '1', model = 'm', ops = [{op = 'vmxoff'}]}",
            ),
            (Problem::Case, "case = {version = '1', model = 'm'}"),
            (Problem::Unconditional, "fields_written = [{field = 'guest_rip', value = 0}]"),
            (Problem::End, "omits = ['ctl.vpid.nonzero']\nwhen = [{field = 'exit_reason', equals = 52}]"),
            (Problem::After, "after = ['exit']"),
            (Problem::After, "earlier = [{field = 'guest_rip', equals = 1}]"),
            (Problem::Instruction, "instruction = 'invvpid'\ninstead_of = 'ok'"),
            (Problem::Instruction, "results = ['ok']"),
            (Problem::Operand, "when = [{operand = 'type', equals = 1}]"),
            (
                Problem::Operand,
                "instruction = 'invept'\ninstead_of = 'ok'\nresults = ['#UD']\nwhen = [{field = 'vpid', equals = 1}]",
            ),
        ] {
            let error = parse("f", &file(lines)).unwrap_err();
            assert_eq!(error.to_string(), format!("f: line 2: deviation x: {problem}"), "{lines}");
        }
        for lines in [
            "after = ['exit']\nfields_written = [{field = 'guest_rip', value = 0}]",
            "fields_written = [{field = 'guest_rip', value = 0, when = [{field = 'exit_reason', equals = 52}]}]",
            "instruction = 'invvpid'\ninstead_of = 'ok'\nresults = ['#UD']\nwhen = [{operand = 'type', equals = 1}]",
        ] {
            assert!(parse("f", &file(lines)).is_ok(), "{lines}");
        }
    }
}
