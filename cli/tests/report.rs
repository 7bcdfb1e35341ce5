//! The page of `vmcs diff --report` and `vmcs report`, in a real browser.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use support::vmcs;
use vmcs_model::checks::{CHECK_COUNT, CheckId};

/// The section that the tests ask for, and its neighbours below the same heading.
const SECTION: &str = "27.2.1.3";

/// What a browser made of a page.
struct Seen {
    /// The document after its scripts ran.
    dom: String,
    /// What it wrote to the console.
    console: Vec<String>,
}

/// Loads a page in Chromium. `None`, with a line that says so, where there is none.
fn browse(page: &Path, fragment: &str, options: &[&str]) -> Option<Seen> {
    let profile = tempfile::tempdir().unwrap();
    // A browser that hangs fails the test instead of holding it up.
    let output = Command::new("timeout")
        .args(["--kill-after=5", "120", "chromium", "--headless", "--no-sandbox", "--disable-gpu"])
        .args(["--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run"])
        .args(["--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(options)
        .arg(format!("file://{}{fragment}", page.display()))
        .output()
        .expect("`timeout` of coreutils runs");
    if output.status.code() == Some(127) {
        eprintln!("skipped: there is no chromium here (test.sh installs it)");
        return None;
    }
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let console = log.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    Some(Seen { dom: String::from_utf8(output.stdout).unwrap(), console })
}

impl Seen {
    fn count(&self, text: &str) -> usize {
        self.dom.matches(text).count()
    }

    /// The start tags of the elements that the filter decides about, of one class, that are shown.
    fn shown(&self, class: &str) -> Vec<&str> {
        let tags = self.dom.split('<').filter_map(|text| text.split('>').next());
        tags.filter(|tag| tag.contains(&format!("class=\"{class}\"")) && !tag.contains(" hidden")).collect()
    }
}

/// Reports of a machine that gives error 9 instead of 7: JSON, as `--report` writes it.
fn report_with_findings(directory: &Path) -> Value {
    let recording = directory.join("r.jsonl.gz");
    let path = recording.to_str().unwrap();
    let ran = vmcs(&["diff", "--target", "emu", "--profile", "sapphire-rapids", "--cases", "200", "--record", path]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let mut text = String::new();
    GzDecoder::new(&fs::read(&recording).unwrap()[..]).read_to_string(&mut text).unwrap();
    let mut stream = GzEncoder::new(Vec::new(), Compression::fast());
    stream.write_all(text.replace(" v7", " v9").as_bytes()).unwrap();
    fs::write(&recording, stream.finish().unwrap()).unwrap();
    let report = directory.join("report.json");
    let ran = vmcs(&["diff", "--target", &format!("replay:{path}"), "--report", report.to_str().unwrap()]);
    assert_eq!(ran.status, 1, "{ran:?}");
    serde_json::from_slice(&fs::read(report).unwrap()).unwrap()
}

/// The page of those reports.
fn page(directory: &Path, reports: &Value) -> std::path::PathBuf {
    let (input, output) = (directory.join("input.json"), directory.join("page.html"));
    fs::write(&input, reports.to_string()).unwrap();
    let ran = vmcs(&["report", input.to_str().unwrap(), "-o", output.to_str().unwrap()]);
    assert_eq!(ran.err, "", "{ran:?}");
    output
}

fn section_of(id: &Value) -> &'static str {
    CheckId::by_id(id.as_str().unwrap()).unwrap().info().sdm
}

#[test]
fn the_page_shows_everything_and_filters_by_section() {
    let directory = tempfile::tempdir().unwrap();
    let mut reports = report_with_findings(directory.path());
    let report = &mut reports[0];
    let findings = report["findings"].as_array().unwrap().clone();
    assert!(findings.len() > 5, "{report}");
    // One check of each kind of coverage, times, and text that is no markup.
    let ids: Vec<_> = CheckId::all().map(CheckId::info).filter(|info| info.sdm == SECTION).collect();
    let sides = |alone: u64, legal: u64| json!({"alone": alone, "with_others": 0, "legal": legal, "gate_off": 0});
    report["coverage"] = json!({ids[0].id: sides(1, 1), ids[1].id: sides(2, 0), ids[2].id: sides(0, 12_345)});
    report["unreachable"] = json!({ids[3].id: "never <script>console.error('run')</script> here"});
    report["timeline"] = json!({"command": "vmcs diff --target <x>", "samples": [
        {"seconds": 1.0, "cases": 20, "cpu_seconds": 0.5}, {"seconds": 2.5, "cases": 60, "cpu_seconds": 1.0}]});
    let page = page(directory.path(), &reports);

    let Some(all) = browse(&page, "", &[]) else { return };
    assert_eq!(all.console, Vec::<String>::new());
    assert_eq!(all.count("<tr data-check=\""), CHECK_COUNT);
    assert_eq!(all.count("<tr data-implementation=\""), 1);
    assert_eq!(all.shown("finding").len(), findings.len());
    assert_eq!(all.shown("part").len(), 15);
    let in_the_grid = |class: &str| all.count(&format!("<i class=\"cell {class}\" title="));
    let known = ["both", "violated", "legal", "unreachable"].map(in_the_grid);
    assert_eq!((known, in_the_grid("nothing")), ([1; 4], CHECK_COUNT - 4));
    assert!(all.dom.contains("nearest legal 12,345, gate off 0\">"), "the counts of a cell");
    assert!(all.dom.contains("never &lt;script&gt;console.error('run')&lt;/script&gt; here"));
    assert_eq!(all.count("<polyline class=\"wall\""), 1);
    assert!(
        all.dom.contains("24 cases per second of wall time on average over 2.5 s, between 21 and 27; 60 per second")
    );
    assert!(all.dom.contains("VMfailValid(9)</code> VMPTRLD with invalid physical address"), "what the machine did");

    let filtered = browse(&page, &format!("#section={SECTION}"), &[]).unwrap();
    assert_eq!(filtered.console, Vec::<String>::new());
    let concerned =
        |finding: &&Value| finding["violated"].as_array().unwrap().iter().any(|id| section_of(id) == SECTION);
    let expected = findings.iter().filter(concerned).count();
    assert!(0 < expected && expected < findings.len(), "{expected} of {}", findings.len());
    assert_eq!(filtered.shown("finding").len(), expected);
    assert_eq!(filtered.shown("part").len(), 1);
    let plural = if expected == 1 { "" } else { "s" };
    let line = format!("{} checks, {expected} finding{plural}, 0 deviations</output>", ids.len());
    assert!(filtered.dom.contains(&line), "{line}");
    // Without its script there is no filter, and everything is there.
    let text = fs::read_to_string(&page).unwrap();
    let (markup, _) = text.rsplit_once("<script>").unwrap();
    let without = directory.path().join("plain.html");
    fs::write(&without, markup).unwrap();
    let plain = browse(&without, &format!("#section={SECTION}"), &[]).unwrap();
    assert!(plain.dom.contains("<form id=\"filter\" hidden"));
    assert_eq!((plain.shown("part").len(), plain.shown("finding").len()), (15, findings.len()));
    // A heading stands for what is below it.
    assert_eq!(browse(&page, "#section=27.2", &[]).unwrap().shown("part").len(), 6);
}

#[test]
fn causes_stand_for_their_cases() {
    let directory = tempfile::tempdir().unwrap();
    let mut reports = report_with_findings(directory.path());
    let cause = |violated: Value, model: Value, observed: &str| {
        json!({
            "format": "vmcs case 1", "cause": "vmlaunch Entered instead of VMfailValid(7)", "count": 40, "minimal": true,
            "implementation": reports[0]["implementation"], "program": reports[0]["findings"][0]["program"], "step": 4,
            "instruction": "vmlaunch", "observed": observed, "permitted": ["VMfailValid(7)"], "violated": violated,
            "base": "plain", "model": model, "machine": "it entered the guest",
            "changes": [{"field": "vm_entry_controls", "from": "0x1", "to": "0x401", "bits": "bit 10 “entry to SMM”"}]
        })
    };
    let explanation = "ctl.vpid.nonzero: VMfailValid(7)\n  The rule.\n  a value";
    reports[0]["causes"] = json!([
        cause(json!(["ctl.vpid.nonzero"]), json!([explanation]), "Entered"),
        cause(json!([]), json!(["No check is violated: the entry succeeds."]), "VMfailValid(7)"),
    ]);
    let Some(seen) = browse(&page(directory.path(), &reports), "", &[]) else { return };
    assert_eq!(seen.shown("finding").len(), 2);
    for text in [
        "step 4; 40 cases</span>",
        "<li>The rule.</li><li>a value</li>",
        "<p>No check is violated: the entry succeeds.</p>",
        "<p>it entered the guest.</p>",
        "<p>The case changes the plain image:</p>",
        "<code>vm_entry_controls: 0x1 → 0x401 (bit 10 “entry to SMM”)</code>",
    ] {
        assert!(seen.dom.contains(text), "{text}");
    }
}

#[test]
fn the_page_asks_nobody_and_fits_a_narrow_window() {
    let directory = tempfile::tempdir().unwrap();
    let page = page(directory.path(), &report_with_findings(directory.path()));
    let text = fs::read_to_string(&page).unwrap();
    let measure = "<script>document.title = `${document.documentElement.scrollWidth - document.documentElement.clientWidth} too wide`</script>";
    fs::write(&page, text.replace("</body>", &format!("{measure}</body>"))).unwrap();
    let Some(narrow) = browse(&page, "", &["--window-size=500,900"]) else { return };
    assert!(
        narrow.dom.contains("<title>0 too wide</title>"),
        "{:?}",
        narrow.dom.lines().find(|l| l.contains("<title>"))
    );

    // The policy of the page refuses what would go out, and the browser says so: silence above means something.
    fs::write(&page, text.replace("</body>", "<img src=\"http://192.0.2.1/a.png\" alt=\"\"></body>")).unwrap();
    let refused = browse(&page, "", &[]).unwrap().console;
    assert!(refused.iter().any(|line| line.contains("192.0.2.1")), "{refused:?}");
}

#[test]
fn files_that_are_no_reports_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.json");
    let path = file.to_str().unwrap();
    for (text, expected) in [("[", "EOF"), ("[{}]", "missing field"), ("{\"a\": 1}", "expected")] {
        fs::write(&file, text).unwrap();
        vmcs(&["report", path]).refused(&[path, expected]);
        vmcs(&["validation", path]).refused(&[path, "expected"]);
    }
    vmcs(&["report", "/nonexistent"]).refused(&["/nonexistent"]);
    fs::write(&file, "[]").unwrap();
    vmcs(&["report", path, "-o", "/nonexistent/x.html"]).refused(&["/nonexistent/x.html"]);
}
