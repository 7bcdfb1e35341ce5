//! Suggesting the name that somebody may have meant by an unknown one.

use std::cmp::Reverse;
use std::fmt::Write;

/// Most names that are offered.
const OFFERED: usize = 3;

/// A question to append to "unknown X": `; did you mean "a" or "b"?`, or nothing if no name is similar.
#[must_use]
pub fn did_you_mean<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let mut question = String::new();
    for (i, name) in similar(wanted, names).iter().enumerate() {
        let before = if i == 0 { "; did you mean" } else { " or" };
        let _ = write!(question, "{before} {name:?}");
    }
    if !question.is_empty() {
        question.push('?');
    }
    question
}

/// The names that begin with `wanted`, then those that share most pairs of neighbouring characters with it.
fn similar<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = wanted.to_ascii_lowercase();
    // In percent of the pairs of both.
    let score = |name: &str| match name.strip_prefix(&wanted) {
        Some(_) if !wanted.is_empty() => 100,
        _ => {
            let pairs = (wanted.len() + name.len()).saturating_sub(2).max(1);
            200 * shared_pairs(wanted.as_bytes(), name.as_bytes()) / pairs
        }
    };
    let mut scored: Vec<_> = names.into_iter().map(|name| (score(name), name)).collect();
    let best = scored.iter().map(|(score, _)| *score).max().unwrap_or(0);
    scored.retain(|(score, _)| *score >= 40 && *score + 15 >= best);
    scored.sort_by_key(|(score, name)| (Reverse(*score), name.len()));
    scored.into_iter().map(|(_, name)| name).take(OFFERED).collect()
}

/// How many pairs of neighbouring characters of `a` are in `b`, each pair of `b` counted once.
fn shared_pairs(a: &[u8], b: &[u8]) -> usize {
    let mut rest: Vec<_> = b.windows(2).collect();
    let taken = a.windows(2).filter(|pair| match rest.iter().position(|other| other == pair) {
        Some(i) => {
            rest.swap_remove(i);
            true
        }
        None => false,
    });
    taken.count()
}

#[cfg(test)]
mod tests {
    use vmcs_model::field::FIELDS;

    use super::*;

    fn question(wanted: &str) -> String {
        did_you_mean(wanted, FIELDS.iter().map(|field| field.name))
    }

    #[test]
    fn misspelt_and_abbreviated_names_are_recognised() {
        assert!(question("gest_rip").starts_with("; did you mean \"guest_rip\""));
        assert_eq!(question("guest_activity"), "; did you mean \"guest_activity_state\"?");
        assert!(question("HOST_CR").contains("\"host_cr0\""));
        assert!(question("vm_entry_control").starts_with("; did you mean \"vm_entry_controls\""));
        assert!(question("cr4").contains("\"cr4_read_shadow\""));
    }

    #[test]
    fn nothing_is_offered_for_nonsense() {
        assert_eq!(question("xyzzy"), "");
        assert_eq!(question(""), "");
        assert_eq!(question("ä"), "");
    }
}
