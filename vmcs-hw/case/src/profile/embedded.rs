//! Finding a profile that comes with `vmcs-profiles` by its name.

use std::fmt;
use std::path::Path;
use std::sync::LazyLock;

use vmcs_profiles::ShippedProfile;

use super::{NamedProfile, ProfileError, slug};

static EMBEDDED: LazyLock<Vec<NamedProfile>> = LazyLock::new(|| vmcs_profiles::all().iter().map(Into::into).collect());

impl From<&ShippedProfile> for NamedProfile {
    fn from(shipped: &ShippedProfile) -> Self {
        Self {
            name: shipped.name.to_owned(),
            source: shipped.source.to_owned(),
            confidence: Some(shipped.confidence),
            profile: shipped.profile(),
        }
    }
}

impl NamedProfile {
    /// The profiles of real processors that come with `vmcs-profiles`, in its order.
    #[must_use]
    pub fn embedded() -> &'static [NamedProfile] {
        &EMBEDDED
    }

    /// The embedded profile of that name or slug, or the only one whose name begins so. Only letters and digits count,
    /// in either case.
    ///
    /// # Errors
    /// [`UnknownProfile`] when there is none, or more than one and none has exactly that name.
    pub fn by_name(name: &str) -> Result<&'static NamedProfile, UnknownProfile> {
        let wanted = slug(name);
        let mut begins = Vec::new();
        for profile in Self::embedded() {
            let slug = profile.slug();
            if slug == wanted {
                return Ok(profile);
            }
            if !wanted.is_empty() && slug.starts_with(&wanted) {
                begins.push(profile);
            }
        }
        if let [only] = begins[..] {
            return Ok(only);
        }
        let ambiguous = !begins.is_empty();
        let near = if ambiguous { begins } else { near(&wanted) };
        let near = near.into_iter().map(|profile| profile.name.as_str()).collect();
        Err(UnknownProfile { name: name.to_owned(), ambiguous, near })
    }
}

impl NamedProfile {
    /// The profile in that file or, if there is no such file and the name does not end in `.json`, the embedded one of that
    /// name.
    ///
    /// # Errors
    /// [`FindProfileError`].
    pub fn find(name_or_file: &str) -> Result<Self, FindProfileError> {
        let file = Path::new(name_or_file);
        if file.is_file() || file.extension().is_some_and(|extension| extension == "json") {
            return Ok(Self::load(file)?);
        }
        match Self::by_name(name_or_file) {
            Ok(profile) => Ok(profile.clone()),
            // A directory, or something else that cannot be read: the error says so.
            Err(_) if file.exists() => Ok(Self::load(file)?),
            Err(unknown) => Err(unknown.into()),
        }
    }
}

/// No profile is what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum FindProfileError {
    /// The file.
    #[error(transparent)]
    File(#[from] ProfileError),
    /// The name.
    #[error(transparent)]
    Name(#[from] UnknownProfile),
}

/// Most names that are offered when none matches.
const OFFERED: usize = 5;

/// The profiles whose names come nearest to `wanted`, nearest first: those that share most of its pairs of neighbouring
/// characters.
fn near(wanted: &str) -> Vec<&'static NamedProfile> {
    let score =
        |slug: &str| wanted.as_bytes().windows(2).filter(|pair| slug.as_bytes().windows(2).any(|p| p == *pair)).count();
    let mut scored: Vec<_> = NamedProfile::embedded().iter().map(|profile| (score(&profile.slug()), profile)).collect();
    scored.retain(|(score, _)| *score > 0 && 2 * score >= wanted.len());
    scored.sort_by_key(|(score, profile)| (std::cmp::Reverse(*score), profile.name.len()));
    scored.into_iter().take(OFFERED).map(|(_, profile)| profile).collect()
}

/// No embedded profile has that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownProfile {
    /// The name that was asked for.
    pub name: String,
    /// Whether it is the beginning of more than one name.
    pub ambiguous: bool,
    /// All names that begin so, or else the nearest ones.
    pub near: Vec<&'static str>,
}

impl fmt::Display for UnknownProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.near.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        match (self.ambiguous, names.is_empty()) {
            (true, _) => write!(f, "profile {:?} could be any of {names}", self.name),
            (false, false) => write!(f, "there is no profile {:?}; names like it: {names}", self.name),
            (false, true) => write!(f, "there is no profile {:?}, nor one with a name like it", self.name),
        }
    }
}

impl std::error::Error for UnknownProfile {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use vmcs_model::msr::CapabilityMsr;
    use vmcs_model::profile::{CpuidLeaf, MsrValue};
    use vmcs_model::{Capabilities, FieldId};

    use super::super::Confidence;
    use super::*;

    #[test]
    fn every_profile_is_a_processor_with_vmx() {
        let profiles = NamedProfile::embedded();
        assert!(profiles.iter().filter(|profile| profile.confidence == Some(Confidence::Exact)).count() >= 90);
        for named in profiles {
            let name = &named.name;
            assert!(!named.source.is_empty(), "{name}");
            assert!(named.confidence.is_some(), "{name}");
            let caps = Capabilities::new(&named.profile);
            let basic = named.profile.msr(CapabilityMsr::Basic);
            assert!(matches!(basic, MsrValue::Value(_)), "{name}");
            assert_ne!(caps.revision(), 0, "{name}");
            if named.confidence == Some(Confidence::Exact) {
                // External-interrupt exiting, HLT exiting, host address-space size: every processor has them.
                assert_eq!(caps.pin.may() & 1, 1, "{name}");
                assert_eq!(caps.primary.may() >> 7 & 1, 1, "{name}");
                assert_eq!(caps.exit.may() >> 9 & 1, 1, "{name}");
            }
            let fields = FieldId::all().filter(|field| caps.has_field(field.info())).count();
            assert!(fields > 100, "{name} has {fields} fields");
            if let Some([features, _, ecx, _]) = named.profile.cpuid(CpuidLeaf::Features) {
                assert_ne!(features, 0, "{name}");
                assert_eq!(ecx >> 5 & 1, 1, "{name}: CPUID.1:ECX.VMX");
                assert!(caps.intel_64(), "{name}");
                // 32 on the Atom of 2010.
                assert!((32..=52).contains(&caps.physical_reserved.trailing_zeros()), "{name}");
            }
        }
    }

    #[test]
    fn allowed_settings_agree_with_each_other() {
        for named in NamedProfile::embedded().iter().filter(|named| named.confidence == Some(Confidence::Exact)) {
            let caps = Capabilities::new(&named.profile);
            for (what, word) in [
                ("pin", caps.pin),
                ("primary", caps.primary),
                ("secondary", caps.secondary),
                ("exit", caps.exit),
                ("entry", caps.entry),
                ("CR0", caps.cr0),
                ("CR4", caps.cr4),
            ] {
                assert_eq!(word.ones & !word.may(), 0, "{}: {what}", named.name);
            }
        }
    }

    #[test]
    fn names_and_slugs_are_unique() {
        let slugs: BTreeSet<_> = NamedProfile::embedded().iter().map(NamedProfile::slug).collect();
        assert_eq!(slugs.len(), NamedProfile::embedded().len());
    }

    #[test]
    fn every_profile_is_found_by_name_and_slug() {
        for profile in NamedProfile::embedded() {
            assert_eq!(NamedProfile::by_name(&profile.name), Ok(profile));
            assert_eq!(NamedProfile::by_name(&profile.slug()), Ok(profile));
            assert_eq!(NamedProfile::by_name(&profile.name.to_uppercase()), Ok(profile));
        }
    }

    #[test]
    fn a_beginning_is_enough_when_there_is_one() {
        let name = |wanted| NamedProfile::by_name(wanted).map(|profile| profile.name.as_str());
        assert_eq!(name("tiger"), Ok("Tiger Lake"));
        assert_eq!(name("core 2"), Ok("Core 2 (Conroe)"));
        // The exact name of one and the beginning of others.
        assert_eq!(name("ivy bridge"), Ok("Ivy Bridge"));
        let error = name("skylake client").expect_err("there are several");
        assert!(error.ambiguous && error.near.len() > 2, "{error}");
    }

    #[test]
    fn an_unknown_name_offers_near_ones() {
        let error = NamedProfile::by_name("Saphire Rapids").expect_err("misspelt");
        assert!(error.near.contains(&"Sapphire Rapids"), "{error}");
        let error = NamedProfile::by_name("i7-6700k").expect_err("the middle of a name");
        assert_eq!(error.near.first(), Some(&"Skylake client i7-6700K"), "{error}");
        let error = NamedProfile::by_name("").expect_err("no name");
        assert!(!error.ambiguous && error.near.is_empty(), "{error}");
    }
}
