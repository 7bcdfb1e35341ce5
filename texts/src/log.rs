//! The lines of a log: undoing what loggers, consoles, mail programs and web pages have done to them, and removing what they
//! put in front.

mod decode;
mod line;
mod prefix;

pub(crate) use decode::{is_json_log, lines as numbered_lines};
pub use line::Line;

/// The lines of a log that are not blank.
#[must_use]
pub fn lines(log: &str) -> Vec<Line> {
    decode::lines(log.lines().zip(1..).map(|(line, number)| (number, line.trim_end_matches('\r'))), log.ends_with('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_to_lines_is_undone() {
        let read =
            |log| -> Vec<_> { lines(log).into_iter().map(|line| (line.text, line.prefixed, line.cut)).collect() };
        let line = |text: &str, prefixed, cut| (text.to_owned(), prefixed, cut);
        assert_eq!(read("(XEN) a\nb\n"), [line("a", true, false), line("b", false, false)]);
        assert_eq!(read("RSP = 0x1"), [line("RSP = 0x1", false, true)]);
        for (log, text) in [
            ("RSP =3D 0x=\n1\n", "RSP = 0x1"),
            ("RSP =3D=20\n", "RSP ="),
            ("RSP =3D=C2=A00x1\n", "RSP = 0x1"),
            ("RSP=00\n", "RSP=00"),
            ("RSP = 0x[00000](tel:00000)1\n", "RSP = 0x000001"),
            ("&gt; RSP&nbsp;&#61; 0x1 &lt;a&gt; &quot;b&quot; &#x3d; &amp;\n", "RSP = 0x1 <a> \"b\" = &"),
            ("\u{1b}[32m[  12.5] \u{1b}[0m\u{1b}[31mRSP = 0x1\u{1b}[0m\r\n", "RSP = 0x1"),
            ("#033[31mRSP = 0x1#033[0m\n", "RSP = 0x1"),
            ("RSP\u{a0}=\t0x1\u{200b}\n", "RSP =\t0x1"),
            ("RSP = 0x1<br>\n", "RSP = 0x1"),
            (r#"{"MESSAGE":"kvm_intel: RSP = 0x1","_TRANSPORT":"kernel"}"#, "RSP = 0x1"),
            (r#"{"MESSAGE":[82,83,80]}"#, "RSP"),
            (r#"{"log":"RSP = 0x1\n","stream":"stderr"}"#, "RSP = 0x1"),
            ("         \"msg\": \"kvm_intel: RSP = 0x1\"\n", "RSP = 0x1"),
            ("\t\"MESSAGE\" : \"RSP = 0x1\",\n", "RSP = 0x1"),
            ("MESSAGE=kvm_intel: RSP = 0x1\n", "RSP = 0x1"),
        ] {
            let texts: Vec<_> = lines(log).into_iter().map(|line| line.text).collect();
            assert_eq!(texts, [text], "{log}");
        }
        let log = "\"caller\": \"T77\",\n\"msg\": \"a\"\n";
        assert_eq!(lines(log).last().and_then(|line| line.writer.as_deref()), Some("T77"));
        let log = "> [ 2311.499051] [T1234]\n> kvm_intel: RSP = 0x1\n";
        assert_eq!(lines(log).last().and_then(|line| line.writer.as_deref()), Some("T1234"));
        let numbers: Vec<_> = lines("a\n\nb =3D=\n c\nd\n").iter().map(|line| line.number).collect();
        assert_eq!(numbers, [1, 3, 5]);
    }
}
