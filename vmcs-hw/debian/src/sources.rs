//! The machine's configured apt sources, and the mirrors among them that may serve another suite.
//! Formats: sources.list(5).

/// Options of a source that decide whether its signature is trusted; they hold for every suite of a mirror.
const CARRIED: [&str; 4] = ["Signed-By", "Trusted", "Allow-Insecure", "Allow-Weak"];
/// Suites that are not named by a release.
const ALIASES: [&str; 5] = ["stable", "testing", "unstable", "sid", "oldstable"];
/// Components that are asked: Debian's and Ubuntu's.
const COMPONENTS: [&str; 2] = ["main", "universe"];

/// One source of binary packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AptSource {
    uris: String,
    suites: Vec<String>,
    components: Vec<String>,
    /// Those of [`CARRIED`].
    options: Vec<(&'static str, String)>,
}

impl AptSource {
    /// Fields of a deb822 stanza; `None` if it is no enabled source of binary packages.
    fn from_fields(fields: &[(String, String)]) -> Option<Self> {
        let field = |name: &str| {
            let mut found = fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
            found.next().map(|(_, value)| value.as_str())
        };
        let words = |name| field(name).map(|value| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        if field("Enabled").is_some_and(|value| matches!(value.trim(), "no" | "false" | "0")) {
            return None;
        }
        if !words("Types")?.iter().any(|kind| kind == "deb") {
            return None;
        }
        let options = CARRIED.into_iter().filter_map(|name| Some((name, field(name)?.to_owned()))).collect();
        Some(Self {
            uris: words("URIs")?.join(" "),
            suites: words("Suites")?,
            components: words("Components").unwrap_or_default(),
            options,
        })
    }

    /// A stanza that asks this mirror for `suite`.
    pub(super) fn stanza(&self, suite: &str) -> String {
        let components: Vec<_> = COMPONENTS.into_iter().filter(|name| self.has(name)).collect();
        let mut text =
            format!("Types: deb\nURIs: {}\nSuites: {suite}\nComponents: {}\n", self.uris, components.join(" "));
        for (name, value) in &self.options {
            text += &format!("{name}:{value}\n");
        }
        text
    }

    fn has(&self, component: &str) -> bool {
        self.components.iter().any(|name| name == component)
    }

    /// How likely this is the distribution's own archive, the best first; `None` if it is something else: a
    /// third party's packages, security updates, a medium.
    fn rank(&self, suite: &str, codename: Option<&str>) -> Option<u8> {
        if !self.has("main") || self.uris.starts_with("cdrom:") {
            return None;
        }
        let serves = |wanted: &str| self.suites.iter().any(|name| name == wanted);
        if serves(suite) {
            Some(0)
        } else if codename.is_some_and(serves) {
            Some(1)
        } else {
            ALIASES.into_iter().any(serves).then_some(2)
        }
    }
}

/// The mirrors to ask for `suite`, the most likely first. `codename` names the release that the machine runs.
pub(super) fn mirrors(sources: Vec<AptSource>, suite: &str, codename: Option<&str>) -> Vec<AptSource> {
    let ranked = sources.into_iter().filter_map(|source| Some((source.rank(suite, codename)?, source)));
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    let mut mirrors: Vec<AptSource> = Vec::new();
    for (_, source) in ranked {
        if !mirrors.iter().any(|known| known.uris == source.uris) {
            mirrors.push(source);
        }
    }
    mirrors
}

/// Reads a file of one-line entries (`.list`). Lines that are no entry are skipped, as apt itself reports them.
pub(super) fn parse_list(text: &str) -> Vec<AptSource> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<AptSource> {
    let entry = line.split('#').next()?.trim();
    let rest = entry.strip_prefix("deb")?;
    let rest = rest.strip_prefix(|c: char| c.is_whitespace() || c == '[').map(|_| rest.trim_start())?;
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let mut fields = vec![("Types".to_owned(), "deb".to_owned())];
    fields.push(("URIs".to_owned(), words.next()?.to_owned()));
    fields.push(("Suites".to_owned(), words.next()?.to_owned()));
    fields.push(("Components".to_owned(), words.collect::<Vec<_>>().join(" ")));
    for (name, value) in options.split_whitespace().filter_map(|option| option.split_once('=')) {
        fields.push((name.to_owned(), format!(" {}", value.replace(',', " "))));
    }
    AptSource::from_fields(&fields)
}

/// Reads a file of deb822 stanzas (`.sources`).
pub(super) fn parse_deb822(text: &str) -> Vec<AptSource> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.trim().is_empty() {
            sources.extend(AptSource::from_fields(&fields));
            fields.clear();
        } else if line.starts_with('#') {
            // A comment, even within a value.
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                *value += "\n";
                *value += line;
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_owned(), value.to_owned()));
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "\
Types: deb deb-src
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
# another
 abc=

types: deb
uris: http://mirror.example/debian-security
suites: bookworm-security
components: main

Types: deb
URIs: http://off.example/
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://src.example/
Suites: bookworm
Components: main
";

    fn uris(sources: &[AptSource]) -> Vec<&str> {
        sources.iter().map(|source| source.uris.as_str()).collect()
    }

    #[test]
    fn deb822_stanzas() {
        let sources = parse_deb822(DEB822);
        assert_eq!(uris(&sources), ["http://mirror.example/debian", "http://mirror.example/debian-security"]);
        let mirrors = mirrors(sources, "sid", Some("bookworm"));
        assert_eq!(uris(&mirrors), ["http://mirror.example/debian"]);
        assert_eq!(
            mirrors[0].stanza("sid"),
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: sid\nComponents: main\n\
             Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc=\n"
        );
    }

    #[test]
    fn one_line_entries() {
        let sources = parse_list(
            "# deb http://comment.example bookworm main\n\
             deb-src http://src.example bookworm main\n\
             deb cdrom:[Debian]/ bookworm main\n\
             deb http://a.example/debian bookworm main non-free # why\n\
             deb [ arch=amd64 signed-by=/k/a.gpg,/k/b.gpg ] https://b.example/debian bookworm main\n\
             deb[trusted=yes] file:/srv/c bookworm main\n\
             deb http://short.example\n",
        );
        let mirrors = mirrors(sources, "sid", Some("bookworm"));
        assert_eq!(uris(&mirrors), ["http://a.example/debian", "https://b.example/debian", "file:/srv/c"]);
        assert!(mirrors[1].stanza("sid").ends_with("Suites: sid\nComponents: main\nSigned-By: /k/a.gpg /k/b.gpg\n"));
        assert!(mirrors[2].stanza("sid").ends_with("Trusted: yes\n"));
    }

    #[test]
    fn the_archive_comes_before_others() {
        let sources = || {
            parse_list(
                "deb http://third.example/x nodistro main\n\
                 deb http://flat.example ./\n\
                 deb http://alias.example/debian stable main\n\
                 deb http://own.example/debian trixie main universe\n\
                 deb http://own.example/debian trixie-updates main\n\
                 deb http://other.example/apt trixie stable\n\
                 deb http://sid.example/debian sid main\n",
            )
        };
        let found = mirrors(sources(), "sid", Some("trixie"));
        assert_eq!(
            uris(&found),
            ["http://sid.example/debian", "http://own.example/debian", "http://alias.example/debian"]
        );
        assert!(found[1].stanza("sid").contains("Components: main universe\n"));
        assert_eq!(
            uris(&mirrors(sources(), "bookworm", None)),
            ["http://alias.example/debian", "http://sid.example/debian"]
        );
    }
}
