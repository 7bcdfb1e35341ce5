//! The ids of the checks.

use std::collections::BTreeSet;

use vmcs_model::checks::{CheckId, NOT_CHECKS};

#[test]
fn every_rule_has_one_well_formed_id() {
    let all: Vec<_> = CheckId::all().map(|check| check.info().id).chain(NOT_CHECKS.iter().map(|not| not.id)).collect();
    assert_eq!(all.len(), 330);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "ids are unique");
    for id in all {
        let words: Vec<_> = id.split(['.', '-']).collect();
        assert!(words.len() > 1, "{id}");
        assert!(words.iter().all(|w| !w.is_empty() && w.chars().all(|c| c.is_ascii_alphanumeric())), "{id}");
    }
}

#[test]
fn ids_and_indices_name_their_checks() {
    for (i, check) in CheckId::all().enumerate() {
        assert_eq!(check.index(), i);
        assert_eq!(CheckId::by_id(check.info().id), Some(check));
        assert!(!check.info().rule.is_empty());
    }
}
