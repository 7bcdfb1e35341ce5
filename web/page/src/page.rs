//! The page itself, made of `templates/page.html`.

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use vmcs_case::profile::NamedProfile;
use vmcs_model::checks::{CHECK_COUNT, CheckId, CheckInfo};

/// A dump out of a kernel log, of an entry that failed.
const SAMPLE: &str = include_str!("../../../cli/tests/dumps/kvm-smm-sti-shadow.txt");

#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    css: &'static str,
    script: &'static str,
    version: &'static str,
    sample: &'static str,
    /// The module, in Base64.
    module: String,
    processors: Vec<&'static str>,
    count: usize,
    sections: Vec<Section>,
}

/// The checks that one section of the SDM states.
struct Section {
    number: &'static str,
    title: &'static str,
    rules: Vec<Rule>,
}

/// A check.
struct Rule {
    id: &'static str,
    rule: &'static str,
    gate: &'static str,
    outcomes: String,
}

/// The page with that module.
#[must_use]
pub fn render(module: &[u8]) -> String {
    let page = Page {
        css: include_str!("../templates/page.css"),
        script: include_str!("../templates/page.js"),
        version: env!("CARGO_PKG_VERSION"),
        sample: SAMPLE,
        module: STANDARD.encode(module),
        processors: NamedProfile::embedded().iter().map(|profile| profile.name.as_ref()).collect(),
        count: CHECK_COUNT,
        sections: sections(),
    };
    page.render().expect("a template into a string cannot fail")
}

/// All checks, in the order of the SDM.
fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for check in CheckId::all() {
        let CheckInfo { id, rule, gate, sdm, title, failure, .. } = *check.info();
        if sections.last().is_none_or(|section| section.title != title) {
            sections.push(Section { number: sdm, title, rules: Vec::new() });
        }
        let outcomes = [Some(failure.outcome), failure.or].into_iter().flatten();
        let outcomes = outcomes.map(|outcome| outcome.to_string()).collect::<Vec<_>>().join(" or ");
        let rules = &mut sections.last_mut().expect("one was added").rules;
        rules.push(Rule { id, rule, gate, outcomes });
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_a_place_that_can_be_linked_to() {
        let page = render(b"module");
        for check in CheckId::all() {
            assert_eq!(page.matches(&format!("<dt id=\"{check}\">")).count(), 1, "{check}");
        }
    }

    #[test]
    fn the_sample_is_text() {
        let page = render(b"module");
        assert!(page.contains("*** Guest State ***"));
        assert_eq!(page.matches("<script").count(), 2, "the sample adds none");
    }
}
