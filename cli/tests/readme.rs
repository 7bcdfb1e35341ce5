//! Tests that README.md, CONTRIBUTING.md, the pages in docs/ and the front page of the probe are right: their first commands run
//! as they stand there and print what the page shows, and their links lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A fenced block of a page: its language and its text.
struct Block {
    language: String,
    text: String,
}

/// The fenced blocks of a page, in their order.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
            blocks.push(Block { language: language.to_owned(), text });
        }
    }
    blocks
}

/// The part of a page before its first section.
fn first_screen(page: &str) -> &str {
    page.split_once("\n## ").map_or(page, |(first, _)| first)
}

/// Runs the commands of a page's blocks, and compares what they print with the blocks that follow.
#[cfg(unix)]
fn print_what_is_shown(page: &str) {
    use std::process::Command;

    let command = Path::new(env!("CARGO_BIN_EXE_vmcs"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    // Pages name files of the repository as somebody sees them who stands in a clone.
    std::os::unix::fs::symlink(root().join("cli"), directory.path().join("cli")).expect("a link");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path =
        std::env::join_paths(command.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&path)))
            .expect("a search path");
    let mut printed = String::new();
    let (mut run, mut shown) = (0, 0);
    for Block { language, text } in blocks(page) {
        match &language[..] {
            // Installing the command takes minutes, and here it is on the path already.
            "sh" if text == "cargo install --path cli\n" => {}
            "sh" => {
                let output = Command::new("sh")
                    .args(["-c", &text])
                    .current_dir(&directory)
                    .env("PATH", &path)
                    .output()
                    .expect("there is a shell");
                assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
                printed = String::from_utf8(output.stdout).expect("UTF-8");
                run += 1;
            }
            "text" => {
                assert_eq!(printed, text, "the page shows something else than its commands print");
                shown += 1;
            }
            other => panic!("a block of {other:?} among commands and what they print"),
        }
    }
    assert!(run > 0 && shown > 0, "{run} blocks of commands and {shown} of their output");
}

#[cfg(unix)]
#[test]
fn the_commands_of_the_first_screen_print_what_it_shows() {
    print_what_is_shown(first_screen(&read(&root().join("README.md"))));
}

#[cfg(unix)]
#[test]
fn the_command_of_the_probes_front_page_prints_what_it_shows() {
    if vmcs_hw::bochs::installs().expect("an installed Bochs is usable").is_empty() {
        println!("skipped: there is no Bochs here");
        return;
    }
    let source = read(&root().join("vmcs-hw/probe/src/main.rs"));
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let page: String = lines.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect();
    print_what_is_shown(&page);
}

/// Where the links of a page lead, without those inside of code.
fn links(page: &str) -> Vec<String> {
    let mut in_code = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        }
        if !in_code {
            let ends = line.match_indices("](").map(|(at, start)| at + start.len());
            found.extend(ends.filter_map(|at| Some(line[at..].split_once(')')?.0.to_owned())));
        }
    }
    found
}

/// What a heading is called in links: as GitHub does it.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings
        .map(|heading| heading.to_lowercase().chars().filter(|c| kept(*c)).collect::<String>().replace(' ', "-"))
        .collect()
}

#[test]
fn every_link_leads_to_something() {
    let mut pages = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    let documents = fs::read_dir(root().join("docs")).expect("the documents");
    pages.extend(
        documents
            .map(|entry| entry.expect("an entry").path())
            .filter(|file| file.extension().is_some_and(|e| e == "md")),
    );
    let mut followed = 0;
    for page in pages {
        for link in links(&read(&page)) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').map_or((&link[..], None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { page.clone() } else { page.parent().expect("a directory").join(file) };
            assert!(target.exists(), "{} links to {link}, which does not exist", page.display());
            if let Some(anchor) = anchor {
                let exists = anchors(&read(&target)).iter().any(|other| other == anchor);
                assert!(exists, "{} links to {link}, and there is no such heading", page.display());
            }
            followed += 1;
        }
    }
    assert!(followed > 20, "only {followed} links");
}
