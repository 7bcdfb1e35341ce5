//! Tests that docs/validation.md shows what its counts say, and that README.md quotes its totals.

mod support;

use std::fs;

use serde_json::json;
use support::vmcs;
use vmcs_model::checks::{CheckId, CheckInfo};

const DOCUMENT: &str = include_str!("../../docs/validation.md");

/// `vmcs validation docs/validation.json.gz -o docs/validation.md` makes it so.
#[test]
fn the_document_is_up_to_date() {
    let printed = vmcs(&["validation", concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/validation.json.gz")]);
    assert_eq!(printed.err, "");
    for (n, (committed, printed)) in DOCUMENT.lines().zip(printed.out.lines()).enumerate() {
        assert_eq!(committed, printed, "docs/validation.md:{}", n + 1);
    }
    assert_eq!(DOCUMENT, printed.out, "docs/validation.md has another length");
    let rows = |info: &CheckInfo| DOCUMENT.matches(&format!("\n| `{}` |", info.id)).count();
    assert!(CheckId::all().all(|check| rows(check.info()) == 1));
}

#[test]
fn the_readme_quotes_its_totals() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let totals = DOCUMENT.lines().nth(2).expect("the totals follow the title");
    assert!(words(include_str!("../../README.md")).contains(&words(totals)), "README.md does not say: {totals}");
}

#[test]
fn who_agreed_and_who_could_not_be_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let ids: Vec<_> = CheckId::all().map(|check| check.info().id).collect();
    let sides = |violated: u64, legal: u64| json!({"alone": violated, "with_others": 1, "legal": legal, "gate_off": 0});
    let ran = vmcs(&["diff", "--target", "emu", "--profile", "sapphire-rapids", "--cases", "1", "--json"]);
    let plain = ran.json()[0].clone();
    let report = |model: &str, coverage, unreachable| {
        let mut report = plain.clone();
        for (key, value) in [
            ("implementation", json!({"name": "Bochs", "version": "3.1", "model": model})),
            ("cases", json!(10)),
            ("agreed", json!(9)),
            ("deviations", json!({"d": 1})),
            ("coverage", coverage),
            ("unreachable", unreachable),
            (
                "timeline",
                json!({
                    "command": "vmcs diff --cpu all",
                    "samples": [{"seconds": 90.0, "cases": 10, "cpu_seconds": 60.0}]
                }),
            ),
        ] {
            report[key] = value;
        }
        report
    };
    let one = report("a", json!({ids[0]: sides(1, 2), ids[1]: sides(4, 0)}), json!({ids[2]: "no | here"}));
    let two = report("b", json!({ids[0]: sides(0, 3)}), json!({}));
    let three = report("c", json!({ids[0]: sides(5, 0)}), json!({ids[2]: "no | here"}));
    fs::write(path("1.json"), json!([one, two]).to_string()).unwrap();
    fs::write(path("2.json"), json!([three, three]).to_string()).unwrap();
    let ran = vmcs(&["validation", &path("1.json"), &path("2.json"), "--data", &path("data.json.gz")]);
    assert_eq!(ran.status, 0, "{ran:?}");
    for line in [
        "40 cases on 3 pairs of an implementation and a CPU model: 0 disagreements outside the reviewed deviations, 4 cases \
         within them. Of 311 checks 1 were confirmed on both sides, 1 on one, 309 on none; 0 have a side that none of these \
         can reach.",
        "| `vmcs diff --cpu all` | 40 | 90 s | 4 min |",
        "| 3 | Bochs 3.1 c | 20 | 18 | 2 | 0 | 0 | 0 of 310 |",
        &format!("| `{}` | 15 | all | 5 | 1–2 |  |", ids[0]),
        &format!("| `{}` | 5 | 1 | 0 |  | 2–3: not tried |", ids[1]),
        &format!("| `{}` | 0 |  | 0 |  | 1, 3: no \\| here; 2: not tried |", ids[2]),
    ] {
        assert!(ran.out.lines().any(|printed| printed == line), "{line} in\n{}", &ran.out[..3000]);
    }
    // The counts alone give the same document.
    assert_eq!(vmcs(&["validation", &path("data.json.gz")]).out, ran.out);
}
