//! Reading a log of any size: a small one as a whole, of a large one the neighbourhood of the lines that a reader of dumps
//! wants.

use std::io::{self, BufReader, Read};

use aho_corasick::AhoCorasick;
use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use memchr::{memchr_iter, memrchr};

use crate::dump::{self, Dump};
use crate::image::Syntax;
use crate::log::{self, Line};

/// A log of at most so many bytes is kept as a whole, whatever it holds.
const WHOLE: usize = 4 << 20;
/// An image, unlike a log, is read as a whole if it has at most so many bytes.
const IMAGE: u64 = 256 << 20;
/// So many lines are kept behind each line that a reader wants.
const BEHIND: usize = 100;
/// So many bytes of the lines of a large log are kept.
const KEPT: usize = 8 << 20;

/// What was read of a log.
///
/// ```
/// use vmcs_texts::input::Log;
///
/// let log = Log::read("[ 12.1] kvm_intel: CR3 = 0x1000\n".as_bytes())?;
/// assert_eq!(log.lines[0].text, "CR3 = 0x1000");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The lines that may matter. Of a log of at most 4 MiB these are all.
    pub lines: Vec<Line>,
    /// What is no text: VMCSs that software keeps in pages of memory.
    pub pages: Vec<Dump>,
    /// The text is so large, and so full of what matters, that the lines end before it does.
    pub truncated: bool,
    text: Option<String>,
}

impl Log {
    /// The log that an input holds, as it is or compressed by gzip or xz. It takes little memory, however large the log is.
    ///
    /// # Errors
    ///
    /// The input cannot be read, or is damaged within compressed data.
    pub fn read(input: impl Read) -> io::Result<Self> {
        let mut input = input;
        let mut magic = Vec::new();
        input.by_ref().take(6).read_to_end(&mut magic)?;
        let gzip = magic.starts_with(&[0x1F, 0x8B]);
        let xz = magic.starts_with(&[0xFD, b'7', b'z', b'X', b'Z', 0]);
        let input = io::Cursor::new(magic).chain(input);
        if gzip {
            Self::plain(MultiGzDecoder::new(BufReader::new(input)))
        } else if xz {
            Self::plain(XzReader::new(BufReader::new(input), true))
        } else {
            Self::plain(input)
        }
    }

    /// The text, unless it is a log in JSON or a large text that begins like none of the files that hold an image.
    #[must_use]
    pub fn image(&self) -> Option<&str> {
        self.text.as_deref().filter(|text| !log::is_json_log(text))
    }

    /// That of an input that is not compressed.
    fn plain(mut input: impl Read) -> io::Result<Self> {
        let mut buffer = Vec::new();
        input.by_ref().take(WHOLE as u64 + 1).read_to_end(&mut buffer)?;
        if buffer.len() > WHOLE {
            let head = String::from_utf8_lossy(&buffer[..1 << 16]).into_owned();
            if Syntax::of_text(&head).is_none() || log::is_json_log(&head) {
                return Self::large(buffer, input);
            }
            input.take(IMAGE).read_to_end(&mut buffer)?;
        }
        let pages = if buffer.contains(&0) { dump::find_in_bytes(&buffer) } else { Vec::new() };
        let text = String::from_utf8_lossy(&buffer).into_owned();
        drop(buffer);
        Ok(Self { lines: log::lines(&text), pages, truncated: false, text: Some(text) })
    }

    /// That of a large input, of which the begin was read.
    fn large(mut buffer: Vec<u8>, mut input: impl Read) -> io::Result<Self> {
        let wanted = AhoCorasick::builder().ascii_case_insensitive(true).build(dump::markers());
        let wanted = wanted.map_err(io::Error::other)?;
        let mut kept = Kept::default();
        let mut filled = buffer.len();
        let mut ends_with_newline;
        loop {
            ends_with_newline = buffer[..filled].ends_with(b"\n");
            // A line that fills the whole buffer is taken in pieces.
            let end = memrchr(b'\n', &buffer[..filled]).map_or(filled, |at| at + 1);
            kept.block(&buffer[..end], &wanted);
            buffer.copy_within(end..filled, 0);
            filled -= end;
            let read = loop {
                match input.read(&mut buffer[filled..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read?,
                }
            };
            if read == 0 {
                break;
            }
            filled += read;
        }
        kept.block(&buffer[..filled], &wanted);
        drop(buffer);
        let lines = kept.lines.iter().map(|(number, line)| (*number, line.as_str()));
        let whole = ends_with_newline || kept.lines.last().is_some_and(|(number, _)| *number != kept.number);
        Ok(Self { lines: log::numbered_lines(lines, whole), pages: Vec::new(), truncated: kept.truncated, text: None })
    }
}

/// The lines that are kept of a large log.
#[derive(Default)]
struct Kept {
    lines: Vec<(usize, String)>,
    bytes: usize,
    /// How many lines were seen.
    number: usize,
    /// The last line that is kept behind one that was wanted.
    until: usize,
    truncated: bool,
}

impl Kept {
    /// Looks at whole lines of the log.
    fn block(&mut self, mut block: &[u8], wanted: &AhoCorasick) {
        while !block.is_empty() {
            let next = if self.until > self.number { Some(0) } else { wanted.find(block).map(|found| found.start()) };
            let Some(next) = next else {
                self.number += memchr_iter(b'\n', block).count();
                return;
            };
            let begin = memrchr(b'\n', &block[..next]).map_or(0, |at| at + 1);
            self.number += memchr_iter(b'\n', &block[..begin]).count() + 1;
            let end = memchr::memchr(b'\n', &block[begin..]).map_or(block.len(), |at| begin + at);
            let line = &block[begin..end];
            if self.until < self.number || wanted.is_match(line) {
                self.until = self.number + BEHIND;
            }
            self.keep(line);
            block = block.get(end + 1..).unwrap_or_default();
        }
    }

    fn keep(&mut self, line: &[u8]) {
        if self.bytes > KEPT {
            self.truncated = true;
            self.until = 0;
            return;
        }
        // A line this long is no line of a dump.
        let line = &line[..line.len().min(1 << 12)];
        self.bytes += line.len();
        self.lines.push((self.number, String::from_utf8_lossy(line).trim_end_matches('\r').to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const DUMP: &str = "[ 7.1] kvm_intel: *** Guest State ***\n[ 7.1] kvm_intel: CR3 = 0x0000000000001000\n";

    /// A log that is too large to be kept as a whole, with a dump in its middle and half a line at its end.
    fn large() -> String {
        let noise = "[ 6.000000] usb 1-1: new high-speed USB device number 2 using xhci_hcd\n".repeat(2 * WHOLE / 70);
        noise.clone() + DUMP + &noise + "[ 8.1] kvm_intel: RIP = 0x00"
    }

    #[test]
    fn a_page_of_memory_is_no_text() {
        let mut page = vec![0; 4096];
        page[..4].copy_from_slice(&0x11E5_7ED0_u32.to_le_bytes());
        let image = [vec![1; 4096], page].concat();
        let log = Log::read(&image[..]).unwrap();
        assert_eq!(log.pages.iter().map(|dump| dump.format).collect::<Vec<_>>(), ["KVM vmcs12"]);
        // Many files begin like an enlightened VMCS.
        let other = [vec![1, 0, 0, 0], vec![0; 8188]].concat();
        assert!(Log::read(&other[..]).unwrap().pages.is_empty());
    }

    #[test]
    fn of_a_large_log_what_matters_is_kept() {
        let text = large();
        let log = Log::read(text.as_bytes()).unwrap();
        assert!(log.lines.len() < 1000 && !log.truncated && log.image().is_none());
        let whole = log::lines(&text);
        let find = |lines: &[Line], text| lines.iter().find(|line| line.text.starts_with(text)).cloned();
        for text in ["CR3", "RIP"] {
            assert_eq!(find(&log.lines, text), find(&whole, text));
        }
        assert!(log.lines.last().unwrap().cut);
        // Blocks of any size are put together.
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let length = buffer.len().min(self.0.len()).min(7777);
                self.0.split_off(..length).expect("it is that long").read(buffer)
            }
        }
        let slow = Log::read(Slow(text.as_bytes())).unwrap();
        assert_eq!(slow.lines, log.lines);
    }

    #[test]
    fn a_log_of_nothing_but_dumps_is_cut() {
        let log = Log::read(DUMP.repeat(300_000).as_bytes()).unwrap();
        assert!(log.truncated && log.lines.len() > 100_000);
        assert!(log.lines.len() * DUMP.len() / 2 < 2 * KEPT);
    }

    #[test]
    fn compressed_logs_are_read() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(DUMP.as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
        xz.write_all(DUMP.as_bytes()).unwrap();
        let xz = xz.finish().unwrap();
        let plain = Log::read(DUMP.as_bytes()).unwrap();
        assert_eq!(plain.lines.len(), 2);
        for compressed in [&gzip, &xz] {
            assert_eq!(Log::read(&compressed[..]).unwrap().lines, plain.lines);
            assert!(Log::read(&compressed[..compressed.len() / 2]).is_err());
        }
        assert!(Log::read(&[0x1F][..]).unwrap().lines.len() <= 1);
    }

    #[test]
    fn logs_in_json_are_no_images() {
        for (text, image) in [
            ("{\"fields\": {}}", true),
            ("{\n  \"fields\": {}\n}", true),
            ("{\"MESSAGE\": \"a\"}\n{\"MESSAGE\": \"b\"}\n", false),
            ("{\n   \"dmesg\": [\n", false),
            ("{\"log\":\"a\\n\",\"stream\":\"stderr\"}\n", false),
            ("[fields]\n", true),
        ] {
            assert_eq!(Log::read(text.as_bytes()).unwrap().image().is_some(), image, "{text}");
        }
    }
}
