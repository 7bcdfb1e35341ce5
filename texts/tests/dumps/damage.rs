//! What loggers, consoles, mail programs, web pages and people do to a log.

use std::fmt::Write;

use serde_json::json;

type Damage = (&'static str, fn(&str) -> String);

/// What leaves every value readable.
pub(crate) const HARMLESS: &[Damage] = &[
    ("carriage returns", |text| text.replace('\n', "\r\n")),
    ("tabs", |text| text.replace("  ", "\t")),
    ("indented", |text| each(text, |line| format!("    {line}"))),
    ("quoted", |text| each(text, |line| format!("> {line}"))),
    ("quoted twice", |text| each(text, |line| format!("> >{line}"))),
    ("blank lines", |text| each(text, |line| format!("{line}\n"))),
    ("quoted-printable", quoted_printable),
    ("entities", |text| text.replace('&', "&amp;").replace('<', "&lt;").replace('=', "&#61;").replace("  ", "&nbsp; ")),
    ("colours", |text| each(text, |line| format!("\u{1b}[32m{line}\u{1b}[0m"))),
    ("links", links),
    ("a web page", |text| format!("<pre><code>{text}</code></pre>\n")),
    ("line breaks of HTML", |text| text.replace('\n', "<br>\n")),
    ("a fence", |text| format!("```\n{text}```\n")),
    ("no prefix", |text| each(text, |line| bare(line).to_owned())),
    ("the kernel's log", |text| each(text, |line| format!("[ 2311.499051] {}", bare(line)))),
    ("threads", |text| each(text, |line| format!("[ 2311.499051][ T1234] {}", bare(line)))),
    ("times", |text| each(text, |line| format!("[Thu Jan  1 00:00:00 2026] {}", bare(line)))),
    ("facilities", |text| each(text, |line| format!("kern  :err   : [   12.345678] {}", bare(line)))),
    ("levels", |text| each(text, |line| format!("<3>[   12.345678] {}", bare(line)))),
    ("the system log", |text| each(text, |line| format!("Jun 24 17:25:51 host kernel: {}", bare(line)))),
    ("a hosted runner", |text| each(text, |line| format!("2022-06-24T17:25:51.1234567Z {}", bare(line)))),
    ("a container", |text| each(text, |line| format!("2022-06-24T17:25:51.123456789Z stderr F {}", bare(line)))),
    ("netconsole", |text| each(text, |line| format!("6,1234,12345678,-;{}", bare(line)))),
    ("a trace", |text| {
        each(text, |line| format!("       CPU 0/KVM-1234    [003] ...1.  1234.567890: dump_vmcs: {}", bare(line)))
    }),
    ("journald in JSON", |text| {
        each(text, |line| json!({"_TRANSPORT": "kernel", "MESSAGE": bare(line), "PRIORITY": "3"}).to_string())
    }),
    ("Docker", |text| each(text, |line| json!({"log": format!("{}\n", bare(line)), "stream": "stderr"}).to_string())),
    ("dmesg in JSON", |text| {
        let entry = |line: &str| {
            format!(
                "      {{\n         \"pri\": 3,\n         \"time\":    12.345678,\n         \"msg\": {}\n      }},",
                json!(bare(line))
            )
        };
        format!("{{\n   \"dmesg\": [\n{}   ]\n}}\n", each(text, entry))
    }),
    ("a mail program", |text| broken(text, 72)),
    ("a mail program, quoted", |text| each(&broken(text, 72), |line| format!("> {line}"))),
    ("a mail program, quoted, with blank lines", |text| each(&broken(text, 76), |line| format!("> {line}\n>"))),
];

/// What may make values unreadable.
pub(crate) const LOSSY: &[Damage] = &[
    ("cut in the middle", |text| text[..text.len() / 2].to_owned()),
    ("folded at 80", |text| folded(text, 80)),
    ("folded at 60", |text| folded(text, 60)),
    ("folded at 41, quoted", |text| each(&folded(text, 41), |line| format!("> {line}"))),
    ("without its spaces", |text| text.replace("  ", " ").replace(": ", ":")),
    ("broken at 30", |text| broken(text, 30)),
    ("half of the prefixes", |text| {
        let mut n = 0;
        each(text, |line| {
            n += 7;
            line.chars().skip(n % 40).collect()
        })
    }),
    ("unreadable digits", |text| text.replace("05", "0?").replace("9b", "9o")),
    ("stars", |text| text.replace("000000000", "0*0")),
    ("every third line missing", |text| {
        let mut n = 0;
        each(text, |line| {
            n += 1;
            if n % 3 == 0 { String::new() } else { line.to_owned() }
        })
    }),
    ("messages dropped", |text| {
        let lines: Vec<_> = text.lines().collect();
        let (begin, end) = (lines.len() / 3, lines.len() / 2);
        [&lines[..begin], &["** 12 printk messages dropped **"], &lines[end..]].concat().join("\n") + "\n"
    }),
    ("times where a mail program broke lines", |text| {
        each(&broken(text, 60), |line| format!("2022-06-24T17:25:51Z {line}"))
    }),
];

fn each(text: &str, mut change: impl FnMut(&str) -> String) -> String {
    text.lines().map(|line| change(line) + "\n").collect()
}

/// The line without the prefix that a printer of this test gives it, unless it says who printed it.
fn bare(line: &str) -> &str {
    ["kvm_intel: ", "kernel: ", "haxm_warning: ", "[ 2311.499051] "]
        .iter()
        .find_map(|prefix| line.split_once(prefix))
        .map_or(line, |(_, line)| line)
}

/// Broken at spaces, so that no line is longer if that is possible.
pub(crate) fn broken(text: &str, width: usize) -> String {
    each(text, |line| {
        let mut lines = vec![String::new()];
        for word in line.split_inclusive(' ') {
            let last = lines.last_mut().expect("there is one");
            if last.len() + word.trim_end().len() > width && !last.trim().is_empty() {
                lines.push(word.to_owned());
            } else {
                *last += word;
            }
        }
        lines.join("\n")
    })
}

/// Broken at a width, be it in the middle of a number.
fn folded(text: &str, width: usize) -> String {
    each(text, |line| {
        let line: Vec<_> = line.chars().collect();
        line.chunks(width).map(|chunk| chunk.iter().collect::<String>()).collect::<Vec<_>>().join("\n")
    })
}

/// Encoded as mail programs do it, with soft breaks.
fn quoted_printable(text: &str) -> String {
    let mut encoded = String::new();
    let mut column = 0;
    for c in text.chars() {
        let code = if c == '=' { "=3D".to_owned() } else { c.to_string() };
        if c == '\n' {
            column = 0;
        } else if column + code.len() > 75 {
            encoded += "=\n";
            column = 0;
        }
        if c != '\n' {
            column += code.len();
        }
        encoded += &code;
    }
    encoded
}

/// Long numbers as links, as web mail makes them of what it takes for telephone numbers.
fn links(text: &str) -> String {
    let mut linked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("00000000") {
        let digits = rest[at..].find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len() - at);
        let number = &rest[at..at + digits];
        let begin = at + digits / 3;
        write!(linked, "{}[{}](tel:{})", &rest[..begin], &rest[begin..at + digits], number).expect("it is a string");
        rest = &rest[at + digits..];
    }
    linked + rest
}
