//! The page in a browser: it is built, opened from a file, and asked about dumps out of bug reports.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

use vmcs_page::{PageError, module, page, toolchain};

/// A text as a part of an address.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// What the browser makes of the page with that behind `#`, and what it complains of; `None` if there is no browser.
fn opened(page: &Path, fragment: &str) -> Option<String> {
    let profile = tempfile::tempdir().expect("a directory");
    // A browser that hangs fails the test instead of holding it up.
    let output = Command::new("timeout")
        .args(["--kill-after=5", "120", "chromium", "--headless", "--no-sandbox", "--disable-gpu"])
        .args(["--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run"])
        .args(["--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}#{fragment}", page.display()))
        .output()
        .expect("`timeout` of coreutils runs");
    if output.status.code() == Some(127) {
        eprintln!("skipped: there is no chromium here (test.sh installs it)");
        return None;
    }
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let complaints: Vec<_> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    Some(String::from_utf8(output.stdout).expect("a page is UTF-8"))
}

/// The answer of the page.
fn answer(dom: &str) -> &str {
    let (_, answer) = dom.split_once("<section id=\"answer\"").expect("there is a place for it");
    answer.split_once("</section>").expect("it ends").0
}

#[test]
fn the_page_explains_what_it_is_given() {
    let toolchain = match toolchain::find(&mut |_| ControlFlow::Continue(())) {
        Ok(toolchain) => toolchain,
        Err(error @ (PageError::Packages(_) | PageError::NoLinker(_))) => {
            eprintln!("skipped: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("page.html");
    fs::write(&file, page::render(&module::compile(&toolchain).expect("it compiles"))).expect("it is written");

    let dumps = module::workspace().join("cli/tests/dumps");
    for (name, class, words) in [
        ("kvm-smm-sti-shadow.txt", "violated", "there is blocking by STI although RFLAGS.IF is 0"),
        ("xen-error7-injection.txt", "unexplained", "The control fields were refused (VM-instruction error 7)"),
        ("kvm-6.9-healthy-ve-autoload.txt", "healthy", "violate no check"),
        ("haxm-guest-part.txt", "healthy", "violate no check"),
    ] {
        let text = fs::read_to_string(dumps.join(name)).expect("it is there");
        let Some(dom) = opened(&file, &format!("text={}", encoded(&text))) else { return };
        let answer = answer(&dom);
        assert!(answer.contains(&format!("<article class=\"{class}\">")), "{name}: {answer}");
        assert!(answer.contains(words), "{name}: {answer}");
        assert!(!answer.contains("--"), "{name}: the page has no options: {answer}");
    }

    // What hangs on the processor is decided if it is named.
    let text = fs::read_to_string(dumps.join("xen-error7-injection.txt")).expect("it is there");
    let dom = opened(&file, &format!("text={}&processor=broadwell-h", encoded(&text))).expect("it ran before");
    assert!(answer(&dom).contains("<a href=\"#ctl.inject.errcode-required\">"), "{}", answer(&dom));

    for (text, words) in [
        ("hardware error 0x0: nothing of the sort", "there is no VMCS dump in it"),
        ("KVM: entry failed, hardware error 0x80000021", "The guest state was refused"),
    ] {
        let dom = opened(&file, &format!("text={}", encoded(text))).expect("it ran before");
        assert!(answer(&dom).contains(words), "{}", answer(&dom));
    }

    let dom = opened(&file, "guest.seg.tr.usable").expect("it ran before");
    let section = dom.split("<details").find(|section| section.contains("id=\"guest.seg.tr.usable\"")).expect("a rule");
    assert!(section.starts_with(" class=\"section\" open"), "the section of a rule that is linked to is open");
}
